"""Training and scoring end to end on tiny models: resuming, refusing, micro-batches, the toy task of PPO."""
import gzip
import json
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl

GPT2 = FIXTURES / "models" / "tiny-gpt2"
LLAMA = FIXTURES / "models" / "tiny-llama"
REWARD = FIXTURES / "models" / "tiny-gpt2-reward"
CHANGING = {"time", "tokens_per_second", "unique_tokens_per_second", "pairs_per_second", "peak_rss_bytes", "eps"}


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {"prompt": f"Question {i}: which is better?", "chosen": f" good answer number {i}", "rejected": f" bad {i * i}"}
        for i in range(40)
    ]
    return write_jsonl(tmp_path / "pairs.jsonl", rows)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("What is it?\nTell me about tea\nCount to ten\nSay a word\nThe first\nWhy\nHello there\nOne more\n")
    return path


def metrics(run):
    """metrics.jsonl without what the clock decides."""
    rows = read_jsonl(run / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k not in CHANGING and not k.startswith("seconds/")} for r in rows]


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


def fails(*args, code=1):
    done = subprocess.run([podium_bin(), *map(str, args)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stderr


def reward(data, run, *more):
    return ["train", "reward", "--model", GPT2, "--data", data, "--out", run, "--threads", 1, "--quiet", "--epochs", 2,
            "--learning-rate", "1e-3", *more]


def ppo(data, run, *more):
    return ["train", "ppo", "--model", GPT2, "--data", data, "--out", run, "--threads", 1, "--quiet", "--reward-model",
            "toy:100-200", "--rollout-batch", 4, "--response-length", 8, "--learning-rate", "1e-3", *more]


def interrupt(args, run, lines, sig):
    """Starts it, waits until so many steps are written, sends the signal; returns the exit code."""
    child = subprocess.Popen([podium_bin(), *map(str, args)], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    file, deadline = run / "metrics.jsonl", time.monotonic() + 120
    while not file.exists() or file.read_text().count("\n") < lines:
        assert child.poll() is None and time.monotonic() < deadline, child.stderr.read()
        time.sleep(0.002)
    child.send_signal(sig)
    child.communicate(timeout=120)
    return child.returncode


# ---- resuming ----


@pytest.mark.parametrize("kind", ["reward", "reward-frozen", "ppo", "ppo-frozen"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_resumed_run_is_the_straight_run(podium, tmp_path, pairs, prompts, kind, sig):
    frozen = ["--freeze-layers", 0.5] if "frozen" in kind else []
    if kind.startswith("reward"):
        make = lambda run, *m: reward(pairs, run, "--epochs", 16, "--save-every", 3, *frozen, *m)  # noqa: E731
    else:
        more = ["--max-steps", 40, "--save-every", 3, "--mini-batches", 2, "--adaptive-kl", 1, "--sample-every", 4]
        make = lambda run, *m: ppo(prompts, run, *more, *frozen, *m)  # noqa: E731
    podium(*make(tmp_path / "straight"))
    code = interrupt(make(tmp_path / "broken"), tmp_path / "broken", 8, sig)
    state = json.loads(podium("run", "show", tmp_path / "broken", "--json"))["state"]
    if code != 0:  # it may have finished before the signal came
        assert code == (3 if sig == signal.SIGTERM else -signal.SIGKILL)
        assert state == "interrupted"
        podium(*make(tmp_path / "broken", "--resume"))
    assert metrics(tmp_path / "broken") == metrics(tmp_path / "straight")
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")
    if kind.startswith("ppo"):
        assert read_jsonl(tmp_path / "broken" / "samples.jsonl") == read_jsonl(tmp_path / "straight" / "samples.jsonl")


def test_resume_has_two_ends(podium, tmp_path, pairs):
    """Before the first step it is a start; after the last it is nothing."""
    run = tmp_path / "run"
    podium(*reward(pairs, run, "--resume"))
    before = (run / "metrics.jsonl").read_bytes(), (run / "run.json").read_bytes()
    assert "finished already" in podium(*reward(pairs, run, "--resume"))
    assert ((run / "metrics.jsonl").read_bytes(), (run / "run.json").read_bytes()) == before


def test_stop_file_saves_and_ends(podium, tmp_path, pairs):
    run = tmp_path / "run"
    args = reward(pairs, run, "--epochs", 400)
    child = subprocess.Popen([podium_bin(), *map(str, args)], stderr=subprocess.PIPE, text=True)
    while not (run / "metrics.jsonl").exists():
        assert child.poll() is None
        time.sleep(0.01)
    podium("run", "stop", run)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 3 and "--resume" in err
    assert any(p.name.startswith("checkpoint-") for p in run.iterdir())
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"


def test_only_the_last_checkpoints_stay(podium, tmp_path, pairs):
    podium(*reward(pairs, tmp_path / "run", "--save-every", 2, "--keep-checkpoints", 2))
    kept = sorted(p.name for p in (tmp_path / "run").glob("checkpoint-*"))
    assert kept == ["checkpoint-6", "checkpoint-8"]


# ---- what the run does not depend on ----


@pytest.mark.parametrize("dtype, loss, norm", [("fp32", 2e-5, 1e-3), ("bf16", 1e-3, 3e-2)])
@pytest.mark.parametrize("more", [["--micro-batch-tokens", 1], ["--threads", 2], ["--micro-batch-tokens", 70]])
def test_micro_batches_and_threads_change_rounding_only(podium, tmp_path, pairs, more, dtype, loss, norm):
    """`auto` is one of the two, as the CPU has it."""
    podium(*reward(pairs, tmp_path / "a", "--dtype", dtype))
    podium(*reward(pairs, tmp_path / "b", "--dtype", dtype, *more))
    for a, b in zip(metrics(tmp_path / "a"), metrics(tmp_path / "b"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=loss)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=norm)


def test_frozen_cache_changes_rounding_only(podium, tmp_path, pairs):
    podium(*reward(pairs, tmp_path / "a", "--freeze-layers", 0.5))
    podium(*reward(pairs, tmp_path / "b", "--freeze-layers", 0.5, "--frozen-cache", 0))
    for a, b in zip(metrics(tmp_path / "a"), metrics(tmp_path / "b"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=2e-5)


def test_shapes_of_pairs_mean_the_same(podium, tmp_path):
    rows = read_jsonl(FIXTURES / "reward" / "pairs.jsonl")
    rows = [{k: r[k] for k in ("prompt", "chosen", "rejected")} for r in rows]
    plain = write_jsonl(tmp_path / "plain.jsonl", rows)
    whole = tmp_path / "whole.jsonl.gz"
    with gzip.open(whole, "wt", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps({k: r["prompt"] + r[k] for k in ("chosen", "rejected")}) + "\n")
    podium(*reward(plain, tmp_path / "a", "--no-shuffle"))
    podium(*reward(whole, tmp_path / "b", "--no-shuffle"))
    assert [m["loss"] for m in metrics(tmp_path / "a")] == [m["loss"] for m in metrics(tmp_path / "b")]


def test_message_lists_go_through_the_template(podium, tmp_path):
    text = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    text += "<|im_start|>user\nIs tea good?<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
    row = {"prompt": [{"role": "user", "content": "Is tea good?"}], "chosen": [{"role": "assistant", "content": "Yes."}],
           "rejected": [{"role": "assistant", "content": "No."}]}
    chat = write_jsonl(tmp_path / "chat.jsonl", [row] * 4)
    model = FIXTURES / "models" / "tiny-llama"
    rendered = [json.loads(line) for line in podium(
        "tokenize", "--model", model, "--special",
        stdin="".join(json.dumps(text.format(a)) + "\n" for a in ("Yes.", "No."))).splitlines()]
    ids = write_jsonl(tmp_path / "ids.jsonl", [{"chosen_ids": rendered[0], "rejected_ids": rendered[1]}] * 4)
    for name, data in (("a", chat), ("b", ids)):
        podium("train", "reward", "--model", model, "--data", data, "--out", tmp_path / name, "--quiet", "--epochs", 1)
    assert metrics(tmp_path / "a")[0]["loss"] == metrics(tmp_path / "b")[0]["loss"]
    assert metrics(tmp_path / "a")[0]["num_tokens"] == metrics(tmp_path / "b")[0]["num_tokens"]


# ---- bad input ----


def test_bad_rows_are_named_and_nothing_is_written(podium, tmp_path):
    data = tmp_path / "bad.jsonl"
    data.write_text(
        '{"chosen":"a","rejected":"b"}\n{"chosen":"a"}\n[1]\n{"chosen":"a","rejected":3}\nnot json\n'
        '{"prompt":"x","chosen":[{"role":"user","content":"y"}],"rejected":"z"}\n{"chosen":"c","rejected":"d","margin":-1}\n'
        '{"chosen":"\\ud800","rejected":"d"}\n'
    )
    run = tmp_path / "run"
    err = fails(*reward(data, run))
    for line, words in ((2, '"rejected"'), (3, "expected a JSON object"), (4, "rejected"), (5, ""), (6, "both"), (7, "margin"), (8, "half of a surrogate pair")):
        assert any(row.startswith(f"{data}:{line}: ") and words in row for row in err.splitlines()), (line, err)
    assert "--skip-bad" in err and not run.exists()
    podium(*reward(data, run, "--skip-bad"))
    assert metrics(run)[0]["step"] == 1


def test_long_and_identical_pairs_are_counted(podium, tmp_path):
    shared = "word " * 30
    rows = [{"prompt": shared, "chosen": " yes", "rejected": " no"}, {"chosen": "same", "rejected": "same"},
            {"chosen": "short", "rejected": "other"}]
    data = write_jsonl(tmp_path / "p.jsonl", rows)
    for how, dropped, cut in (("drop", 1, 0), ("truncate-prompt", 0, 1)):
        run = tmp_path / how
        podium(*reward(data, run, "--max-length", 20, "--too-long", how))
        about = json.loads((run / "run.json").read_text())
        assert about["pairs_dropped_too_long"] == dropped
        assert about["pairs_truncated"] == cut
        assert about["pairs_dropped_identical"] == 1
        assert about["inputs"]["data"]["rows"] == 2 - dropped


def test_refusals(podium, tmp_path, pairs, prompts):
    run = tmp_path / "run"
    podium(*reward(pairs, run, "--max-steps", 1))
    assert "holds a run already" in fails(*reward(pairs, run, "--max-steps", 1))
    assert "--learning-rate" in fails(*reward(pairs, run, "--max-steps", 1, "--learning-rate", "5", "--resume"))
    other = write_jsonl(tmp_path / "other.jsonl", [{"chosen": "a", "rejected": "b"}])
    swapped = reward(pairs, run, "--max-steps", 1, "--resume")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "state": "interrupted"}))
    pairs.write_text(other.read_text())
    assert "is not the file" in fails(*swapped)
    assert "is no reward model" in fails("score", "--model", GPT2, "--in", pairs, "--out", tmp_path / "o")
    assert "toy:5-" in fails(*ppo(prompts, tmp_path / "q", "--reward-model", "toy:5-"), code=2)
    assert "did you mean" in fails(*reward(pairs, tmp_path / "q", "--learning-rat", "1"), code=2)
    assert fails("train", code=2) and fails("train", "sft", code=2)
    assert not (tmp_path / "q").exists()


def with_nan(tmp_path, tensor):
    """A copy of the tiny GPT-2 with one weight that is no number."""
    copy = tmp_path / "broken-model"
    shutil.copytree(GPT2, copy)
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    header = struct.unpack_from("<Q", data)[0]
    at = 8 + header + json.loads(data[8 : 8 + header])[tensor]["data_offsets"][0]
    data[at : at + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(data)
    return copy


def test_nan_stops_training_and_is_named(podium, tmp_path, pairs):
    tensor = "transformer.h.1.mlp.c_fc.weight"
    run = tmp_path / "run"
    err = fails("train", "reward", "--model", with_nan(tmp_path, tensor), "--data", pairs, "--out", run, "--quiet")
    assert tensor in err and "step 1" in err, err
    assert json.loads((run / "run.json").read_text())["state"] == "failed"
    assert not (run / "model").exists()


def test_nan_stops_ppo_and_is_named(podium, tmp_path, prompts):
    tensor = "transformer.h.1.mlp.c_fc.weight"
    err = fails("train", "ppo", "--model", with_nan(tmp_path, tensor), "--data", prompts, "--out", tmp_path / "run",
                "--reward-model", "toy:100-200", "--rollout-batch", 4, "--response-length", 8, "--quiet")
    assert tensor in err and "step 1" in err, err


def test_logprobs_refuses_nan(podium, tmp_path):
    rows = write_jsonl(tmp_path / "ids.jsonl", [{"ids": [5, 6, 7]}])
    model = with_nan(tmp_path, "transformer.h.1.mlp.c_fc.weight")
    err = fails("logprobs", "--model", model, "--in", rows, "--out", tmp_path / "o.jsonl", "--quiet")
    assert "ids.jsonl:1: " in err and "not a finite number" in err and not (tmp_path / "o.jsonl").exists()
    assert f"{model}: weight transformer.h.1.mlp.c_fc.weight is NaN" in err


def test_ppo_memory_limit_counts_every_model(podium, tmp_path, prompts):
    err = fails(*ppo(prompts, tmp_path / "run", "--memory-limit", "1M"))
    assert "--memory-limit allows 1 MB" in err
    assert not (tmp_path / "run" / "run.json").exists()


# ---- outputs ----


def test_run_folder_holds_what_was_promised(podium, tmp_path, pairs):
    run = tmp_path / "run"
    out = json.loads(podium(*reward(pairs, run, "--eval", pairs, "--eval-every", 3, "--save-every", 2, "--json")))
    assert {"accuracy", "ci", "longer_wins", "shorter_wins", "ece"} <= out["eval"].keys()
    assert out["eval"]["longer_wins"] + out["eval"]["shorter_wins"] == pytest.approx(1)
    lo, hi = out["eval"]["ci"]
    assert lo <= out["eval"]["accuracy"] <= hi
    about = json.loads((run / "run.json").read_text())
    assert about["state"] == "done" and about["verb"] == "train reward" and about["config"]["learning-rate"] == 1e-3
    assert about["inputs"]["model"]["sha256"] and about["inputs"]["data"]["rows"] == 40
    rows = read_jsonl(run / "metrics.jsonl")
    assert [r["step"] for r in rows] == list(range(1, 11))
    assert [r["step"] for r in rows if "eval_accuracy" in r] == [3, 6, 9, 10]
    assert {"loss", "accuracy", "margin", "grad_norm", "num_tokens", "unique_tokens", "peak_rss_bytes"} <= rows[0].keys()
    assert list((run / "tb").glob("events.out.tfevents.*"))
    page = (run / "report.html").read_text()
    assert "<polyline" in page and "<script" not in page and "http://" not in page
    listed = podium("run", "list", tmp_path)
    assert "train reward" in listed and "done" in listed
    assert podium("run", "compare", run, run)


def test_saved_model_scores_as_it_was_trained(podium, tmp_path, pairs):
    run = tmp_path / "run"
    podium(*reward(pairs, run, "--eval", pairs, "--dtype", "fp32"))
    trained = metrics(run)[-1]
    summary = json.loads(podium("score", "--model", run, "--in", pairs, "--out", tmp_path / "s.jsonl", "--json", "--dtype", "fp32"))
    assert summary["accuracy"] == trained["eval_accuracy"]
    assert summary["margin"] == pytest.approx(trained["eval_margin"], abs=1e-5)
    evaluated = json.loads(podium("eval", "reward", "--model", run, "--data", pairs, "--json", "--dtype", "fp32"))
    assert evaluated == summary


def test_score_keeps_rows_and_does_not_depend_on_the_pack(podium, tmp_path):
    rows = [{"id": i, "prompt": "Tell me: ", "text": f"answer {'very ' * (i % 7)}{i}", "note": {"k": i}} for i in range(50)]
    data = write_jsonl(tmp_path / "in.jsonl", rows)
    podium("score", "--model", REWARD, "--in", data, "--out", tmp_path / "a.jsonl", "--quiet")
    podium("score", "--model", REWARD, "--in", data, "--out", tmp_path / "b.jsonl", "--micro-batch-tokens", 1, "--quiet")
    for row, a, b in zip(rows, read_jsonl(tmp_path / "a.jsonl"), read_jsonl(tmp_path / "b.jsonl"), strict=True):
        assert {k: a[k] for k in row} == row
        assert a["reward"] == pytest.approx(b["reward"], abs=2e-5)
    text = podium("score", "--model", REWARD, "--in", "-", "--out", "-", stdin=json.dumps(rows[3]) + "\n")
    assert json.loads(text)["reward"] == pytest.approx(read_jsonl(tmp_path / "a.jsonl")[3]["reward"], abs=2e-5)


def test_by_strength(podium, tmp_path):
    rows = [{"chosen": f"a {i}", "rejected": f"b {i}", "strength": i % 3} for i in range(12)]
    data = write_jsonl(tmp_path / "p.jsonl", rows)
    out = json.loads(podium("eval", "reward", "--model", REWARD, "--data", data, "--json"))
    assert list(out["by_strength"]) == ["0", "1", "2"]
    assert all(s["n"] == 4 for s in out["by_strength"].values())


# ---- PPO ----


def test_ppo_starts_at_the_reference(podium, tmp_path, prompts):
    for head in (["--value-head", "shared"], ["--value-head", "model", "--reward-model", REWARD]):
        run = tmp_path / head[1]
        podium(*ppo(prompts, run, "--max-steps", 2, "--ppo-epochs", 1, *head))
        first = metrics(run)[0]
        assert first["objective/kl"] == pytest.approx(0, abs=1e-4)
        assert first["val/ratio"] == pytest.approx(1, abs=1e-5)
        assert first["policy/approxkl_avg"] == pytest.approx(0, abs=1e-8)


def test_ppo_shares_the_frozen_trunk_without_changing_anything(podium, tmp_path, prompts):
    """--ref-model as a copy of the model keeps the two apart; the numbers must stay."""
    copy = tmp_path / "copy"
    os.symlink(GPT2, copy)
    podium(*ppo(prompts, tmp_path / "a", "--max-steps", 3, "--freeze-layers", 0.5))
    podium(*ppo(prompts, tmp_path / "b", "--max-steps", 3, "--freeze-layers", 0.5, "--ref-model", copy))
    for a, b in zip(metrics(tmp_path / "a"), metrics(tmp_path / "b"), strict=True):
        assert a["objective/kl"] == pytest.approx(b["objective/kl"], abs=1e-4)
        assert a["loss/policy_avg"] == pytest.approx(b["loss/policy_avg"], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_ppo_learns_the_toy_task(podium, tmp_path, prompts, seed):
    """Reward: share of tokens in a class. The last 20 updates are at least 0.2 above the first 20."""
    run = tmp_path / "run"
    podium(*ppo(prompts, run, "--rollout-batch", 16, "--max-steps", 80, "--learning-rate", "3e-4", "--temperature", 1,
                "--response-length", 12, "--sample-every", 0, "--seed", seed))
    scores = [r["objective/scores"] for r in metrics(run)]
    first, last = sum(scores[:20]) / 20, sum(scores[-20:]) / 20
    assert last - first >= 0.2, (first, last)


def test_eval_policy_sees_the_improvement(podium, tmp_path, prompts):
    run, out = tmp_path / "run", tmp_path / "answers.jsonl"
    podium(*ppo(prompts, run, "--rollout-batch", 16, "--max-steps", 30, "--temperature", 1, "--sample-every", 0))
    result = json.loads(podium(
        "eval", "policy", "--model", run, "--against", GPT2, "--reward-model", "toy:100-200", "--prompts", prompts,
        "--max-new-tokens", 12, "--temperature", 1, "--n", 4, "--json", "--quiet", "--out", out))
    assert result["n"] == 8 and result["answers"] == 32
    assert result["win_rate"] > 0.8 and result["difference_ci"][0] > 0.2
    rows = read_jsonl(out)
    assert len(rows) == 8
    makers = [[a["model"] for a in row["answers"]] for row in rows]
    assert all(sorted(m) == sorted([str(run), str(GPT2)]) for m in makers)
    assert len({m[0] for m in makers}) == 2  # the order is drawn for each prompt


def test_answers_go_before_people(podium, tmp_path, prompts):
    podium("eval", "policy", "--model", GPT2, "--against", LLAMA, "--reward-model", "toy:100-200", "--prompts", prompts,
           "--max-new-tokens", 5, "--quiet", "--to-dataset", "round-2", "--data", tmp_path / "data")
    status = podium("status", "round-2", "--data", tmp_path / "data")
    assert "round-2" in status and "8" in status


def test_a_model_without_tokenizer_takes_ids_only(podium, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GPT2 / name, bare / name)
    texts = write_jsonl(tmp_path / "texts.jsonl", [{"text": "tea"}])
    said = fails("logprobs", "--model", bare, "--in", texts, "--out", "-", "--quiet")
    assert "no tokenizer" in said
    prompts = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "tea"}])
    said = fails("generate", "--model", bare, "--prompts", prompts, "--out", tmp_path / "a.jsonl", "--quiet")
    assert "no tokenizer" in said
    ids = write_jsonl(tmp_path / "ids.jsonl", [{"ids": [5, 6, 7]}])
    podium("logprobs", "--model", bare, "--in", ids, "--out", tmp_path / "o.jsonl", "--quiet")
    assert len(read_jsonl(tmp_path / "o.jsonl")[0]["logprobs"]) == 3
