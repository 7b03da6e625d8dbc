"""podium generate and logprobs as a user runs them, on the tiny models of tests/fixtures."""
import csv
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl

GPT2, LLAMA = FIXTURES / "models" / "tiny-gpt2", FIXTURES / "models" / "tiny-llama"
UNTIED = FIXTURES / "models" / "tiny-llama-untied"
WORDS = "What is the capital of Norway and how do I make a good cup of tea before the train leaves".split()


def make_prompts(n, seed=0):
    rng = random.Random(seed)
    return [{"prompt": " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))} for _ in range(n)]


def run(*args, env=None, stdin=None):
    return subprocess.run([podium_bin(), *map(str, args)], input=stdin, capture_output=True, text=True, timeout=300, env=env)


def prompt_tokens(podium, model, text):
    return len(json.loads(podium("tokenize", "--model", model, stdin=json.dumps(text) + "\n")))


@pytest.mark.parametrize("model", [GPT2, LLAMA], ids=lambda m: m.name)
@pytest.mark.parametrize(
    "flags,limit",
    [
        (["--n", 2, "--max-length", 50, "--seed", 42], 50),
        (["--n", 2, "--top-k", 10, "--max-length", 100], 100),
    ],
    ids=["gpt2-tutorial", "falcon-tutorial"],
)
def test_tutorial_jobs(podium, tmp_path, model, flags, limit):
    rows = make_prompts(12)
    given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
    podium("generate", "--model", model, "--prompts", given, "--out", out, "--chat", "off", *flags)
    answers = read_jsonl(out)
    eos = json.loads((model / "config.json").read_text())["eos_token_id"]
    assert [a["prompt"] for a in answers] == [r["prompt"] for r in rows]
    assert len({a["id"] for a in answers}) == len(rows)
    for row in answers:
        room = limit - prompt_tokens(podium, model, row["prompt"])
        assert len(row["answers"]) == 2
        assert row["answers"][0]["ids"] != row["answers"][1]["ids"]
        for a in row["answers"]:
            assert set(a) == {"text", "model", "tokens", "finish_reason", "logprob", "ids"}
            assert a["model"] == model.name
            assert a["tokens"] == len(a["ids"]) <= room
            assert a["finish_reason"] == ("stop" if a["ids"][-1] == eos else "length")
            assert a["tokens"] == room or a["ids"][-1] == eos
            assert eos not in a["ids"][:-1]
            assert not a["text"].startswith(row["prompt"])
            assert a["logprob"] < 0
        assert row["params"]["max_length"] == limit
        assert row["seed"] == (42 if limit == 50 else 0)


def test_same_seed_same_text(podium, tmp_path):
    """Whatever the batch, the threads and the order of the prompts; another seed says something else."""
    rows = make_prompts(20)
    rows[7] = dict(rows[3])  # a prompt that stands twice is answered twice

    def answers(rows, *flags):
        given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
        podium("generate", "--model", LLAMA, "--prompts", given, "--out", out, "--n", 3, "--max-new-tokens", 24,
               "--chat", "off", "--dtype", "fp32", *flags)
        return [(r["prompt"], [a["ids"] for a in r["answers"]]) for r in read_jsonl(out)]

    want = answers(rows, "--seed", 5)
    assert want[3][1] != want[7][1]
    for kept in ("fp32", "f16", "int8"):
        want = answers(rows, "--seed", 5, "--kv-dtype", kept)
        for flags in (["--batch", 1], ["--batch", 7], ["--threads", 1], ["--kv-memory", "1M"]):
            assert answers(rows, "--seed", 5, "--kv-dtype", kept, *flags) == want
    want = answers(rows, "--seed", 5)
    assert sorted(answers(rows[::-1], "--seed", 5)) == sorted(want)
    assert answers(rows, "--seed", 6) != want


def test_prompt_files(podium, tmp_path):
    texts = ["What is the capital?", 'He said, "tea, please"', "one"]
    (tmp_path / "p.txt").write_text("\n".join(texts) + "\n\n", encoding="utf-8")
    with open(tmp_path / "p.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["id", "prompt", "topic"], *[[f"c{i}", t, "tea"] for i, t in enumerate(texts)]])
    with gzip.open(tmp_path / "p.jsonl.gz", "wt", encoding="utf-8") as f:
        f.writelines(json.dumps({"id": i, "prompt": t, "metadata": {"k": [1]}}) + "\n" for i, t in enumerate(texts))
    got = {}
    for name in ("p.txt", "p.csv", "p.jsonl.gz"):
        out = podium("generate", "--model", GPT2, "--prompts", tmp_path / name, "--max-new-tokens", 6, "--quiet")
        got[name] = [json.loads(line) for line in out.splitlines()]
        assert [r["prompt"] for r in got[name]] == texts
    ids = {k: [[a["ids"] for a in r["answers"]] for r in v] for k, v in got.items()}
    assert ids["p.txt"] == ids["p.csv"] == ids["p.jsonl.gz"]
    assert [(r["id"], r["topic"]) for r in got["p.csv"]] == [("c0", "tea"), ("c1", "tea"), ("c2", "tea")]
    assert [(r["id"], r["metadata"]) for r in got["p.jsonl.gz"]] == [(i, {"k": [1]}) for i in range(3)]


def test_every_prompt_has_its_id(podium, tmp_path):
    given, out = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    rows = [{"id": "x"}, {"id": 7}, {}, {"id": "3"}, {"id": "x"}, {"id": "7"}, {"id": ""}, {"id": "3-2"}, {"id": None}]
    write_jsonl(given, [{**r, "prompt": f"tea {i}"} for i, r in enumerate(rows)])
    flags = ["generate", "--model", GPT2, "--prompts", given, "--out", out, "--max-new-tokens", 2, "--chat", "off", "--quiet"]
    done = run(*flags)
    assert done.returncode == 1 and not out.exists()
    assert f'{given}:5: the id "x" stands in line 1 already' in done.stderr
    assert f'{given}:6: the id "7" stands in line 2 already' in done.stderr and "2 bad rows" in done.stderr
    podium(*flags, "--skip-bad")
    assert [r["id"] for r in read_jsonl(out)] == ["x", 7, "3-3", "3", "5", "3-2", "7-2"]
    (tmp_path / "p.csv").write_text("id,prompt\n,one\n,two\n", encoding="utf-8")
    said = podium(*flags[:3], "--prompts", tmp_path / "p.csv", *flags[7:])
    assert [json.loads(line)["id"] for line in said.splitlines()] == ["1", "2"]


def test_bad_rows_are_named(podium, tmp_path):
    given, out = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    lines = ['{"prompt": "fine"}', '{"prompt": 7}', "nonsense", '{"text": "x"}', '{"prompt": " "}', '[1]',
             json.dumps({"prompt": "tea " * 400}), '{"prompt": [{"role": "user"}]}']
    given.write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["generate", "--model", GPT2, "--prompts", given, "--out", out, "--max-length", 64, "--chat", "off"]
    done = run(*flags)
    assert done.returncode == 1
    for line in range(2, 9):
        assert f"{given}:{line}: " in done.stderr, line
    assert f"{given}:1: " not in done.stderr
    assert not out.exists() and not (tmp_path / "a.jsonl.partial").exists()
    done = run(*flags, "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert "7 bad rows skipped" in done.stderr
    assert [r["prompt"] for r in read_jsonl(out)] == ["fine"]


@pytest.mark.parametrize(
    "args,code,says",
    [
        (["--model", "no/such/model"], 1, "no/such/model"),
        (["--temperature", "0"], 2, "temperature"),
        (["--top-p", "1.5"], 2, "top-p"),
        (["--stop", ""], 2, "--stop"),
        (["--top-kk", "3"], 2, "--top-k"),
        (["--out", "no/such/folder/a.jsonl"], 1, "no/such/folder"),
    ],
)
def test_wrong_usage(tmp_path, args, code, says):
    given = write_jsonl(tmp_path / "p.jsonl", make_prompts(1))
    base = [] if "--model" in args else ["--model", GPT2]
    done = run("generate", *base, "--prompts", given, "--max-new-tokens", 2, *args)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_reward_models_and_full_disks(tmp_path):
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "tea", "text": "time"}])
    for verb in (["generate", "--prompts"], ["logprobs", "--in"]):
        reward = FIXTURES / "models" / "tiny-llama-reward"
        done = run(*verb, given, "--out", tmp_path / "out", "--model", reward)
        assert done.returncode == 1
        assert "reward model" in done.stderr
        assert not (tmp_path / "out").exists()
        done = run(*verb, given, "--out", "/dev/full", "--model", GPT2, "--quiet")
        assert done.returncode == 1, verb
        assert "No space left" in done.stderr


def test_stop_texts(podium, tmp_path):
    """A stop text that no token holds whole cuts the answer exactly before it."""
    given, out = write_jsonl(tmp_path / "p.jsonl", make_prompts(12)), tmp_path / "a.jsonl"
    flags = ["generate", "--model", GPT2, "--prompts", given, "--out", out, "--n", 1, "--max-new-tokens", 40,
             "--seed", 3, "--chat", "off"]
    podium(*flags)
    free = [r["answers"][0] for r in read_jsonl(out)]
    tried = 0
    for i, a in enumerate(free):
        text = a["text"]
        tokens = [json.loads(x) for x in podium("tokenize", "--model", GPT2, "--decode",
                                                stdin="".join(f"[{t}]\n" for t in a["ids"])).splitlines()]
        spans = [text[at:at + 3] for at in range(len(text) // 3, len(text) - 6)]
        spans = [x for x in spans if "\ufffd" not in x and not any(x in t for t in tokens) and len(x.strip()) == 3]
        if not spans or tried == 3:
            continue
        stop = spans[0]
        tried += 1
        podium(*flags, "--stop", "never this", "--stop", stop)
        cut = read_jsonl(out)[i]["answers"][0]
        assert cut["text"] == text[:text.index(stop)]
        assert cut["finish_reason"] == "stop"
        assert cut["ids"] == a["ids"][:cut["tokens"]]
        assert cut["tokens"] < a["tokens"]
    assert tried == 3


def test_repeats_are_marked(tmp_path):
    given, out = write_jsonl(tmp_path / "p.jsonl", make_prompts(4)), tmp_path / "a.jsonl"
    done = run("generate", "--model", LLAMA, "--prompts", given, "--out", out, "--n", 2, "--greedy",
               "--max-new-tokens", 8, "--chat", "off")
    assert done.returncode == 0
    assert "4 answers repeat another one" in done.stderr
    for row in read_jsonl(out):
        assert [a.get("duplicate", False) for a in row["answers"]] == [False, True]
    # two likely tokens: repeats are drawn again until they differ, or marked
    done = run("generate", "--model", LLAMA, "--prompts", given, "--out", out, "--n", 4, "--top-k", 2,
               "--max-new-tokens", 2, "--chat", "off", "--json")
    summary = json.loads(done.stdout)
    rows = read_jsonl(out)
    for row in rows:
        kept = [a["text"] for a in row["answers"] if not a.get("duplicate")]
        assert len(kept) == len(set(kept))
    assert summary["redrawn"] > 0
    assert summary["duplicates"] == sum(a.get("duplicate", False) for r in rows for a in r["answers"])


def test_text_parts_are_one_text(podium, tmp_path):
    """Contents as lists of text parts, as chat APIs have them, are joined, and stand so in the answers."""
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": [{"role": "user", "content": c}]} for c in (parts, "Hello")])
    podium("generate", "--model", LLAMA, "--prompts", given, "--out", tmp_path / "a.jsonl", "--greedy", "--n", 1, "--max-new-tokens", 12)
    a, b = read_jsonl(tmp_path / "a.jsonl")
    assert a["prompt"] == b["prompt"] and a["answers"] == b["answers"]


def test_chat(podium, tmp_path):
    """tiny-llama has a ChatML template: text becomes a user's turn, a list of messages is taken as it is."""
    text, chat = [{"prompt": "Hello"}], [{"prompt": [{"role": "user", "content": "Hello"}]}]

    def first(rows, *flags):
        given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
        podium("generate", "--model", LLAMA, "--prompts", given, "--out", out, "--n", 1, "--max-new-tokens", 12, *flags)
        (row,) = read_jsonl(out)
        assert row["prompt"] == rows[0]["prompt"]
        return row["answers"][0]["ids"]

    auto = first(text)
    assert first(text, "--chat", "on") == auto == first(chat)
    assert first(text, "--chat", "off") != auto
    # typed by a user, a control token is letters; the operator may ask for more
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    rendered = [{"prompt": f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
                           "<|im_start|>assistant\n"}]
    assert first(rendered, "--chat", "off") != auto
    assert first(rendered, "--chat", "off", "--special") == auto


def start_long_job(tmp_path, model=LLAMA):
    given, out = write_jsonl(tmp_path / "p.jsonl", make_prompts(60)), tmp_path / "a.jsonl"
    cmd = ["generate", "--model", model, "--prompts", given, "--out", out, "--n", 2, "--max-new-tokens", 100,
           "--batch", 8, "--seed", 9, "--chat", "off", "--quiet", "--dtype", "fp32"]
    return cmd, out, tmp_path / "a.jsonl.partial"


def break_off(cmd, part, how=signal.SIGKILL, lines=4):
    """Starts a job and ends it once `part` has so many lines; what it said on stderr."""
    job = subprocess.Popen([podium_bin(), *map(str, cmd)], stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and (not part.exists() or part.read_bytes().count(b"\n") < lines):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.003)
    job.send_signal(how)
    said = job.communicate(timeout=60)[1]
    assert job.returncode == (3 if how == signal.SIGINT else -how), said
    return said


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupt_and_resume(podium, tmp_path, how):
    cmd, out, partial = start_long_job(tmp_path)
    podium(*cmd)
    want = read_jsonl(out)
    assert not partial.exists()
    out.unlink()

    said = break_off(cmd, partial, how)
    assert how == signal.SIGKILL or "--resume" in said
    assert not out.exists()
    done = partial.read_bytes().count(b"\n") - 1
    assert 0 < done < 60
    if how == signal.SIGKILL:  # a crash may cut the last line
        partial.write_bytes(partial.read_bytes()[:-20])

    refused = run(*cmd)
    assert refused.returncode == 1 and "--resume" in refused.stderr
    for change in (["--temperature", "0.5"], ["--logprobs", "2"], ["--resample", "1"], ["--dtype", "bf16"], ["--kv-dtype", "fp32"]):
        other = run(*cmd, "--resume", *change)
        assert other.returncode == 1 and "other settings" in other.stderr
    summary = json.loads(podium(*cmd, "--resume", "--json"))
    assert summary["resumed"] == done - (how == signal.SIGKILL)
    got = read_jsonl(out)
    # sums of floats: who runs beside whom may show in the last digit
    sums = [[a.pop("logprob") for row in rows for a in row["answers"]] for rows in (got, want)]
    assert sums[0] == pytest.approx(sums[1], abs=1e-3)
    assert got == want
    assert not partial.exists()


@pytest.mark.parametrize("more", [[], ["--temperature", "0.7,1.0", "--model", str(UNTIED)]], ids=["one", "variants"])
def test_resume_of_a_finished_job(podium, tmp_path, more):
    """Nothing is answered again; a file that is not this job's is refused, not replaced."""
    rows = [{**r, "metadata": {"k": i}} for i, r in enumerate(make_prompts(5))]
    given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
    cmd = ["generate", "--model", LLAMA, "--prompts", given, "--out", out, "--n", 2, "--max-new-tokens", 4, "--dtype", "fp32",
           "--seed", 3, *more]
    podium(*cmd)
    was, born = out.read_bytes(), out.stat().st_mtime_ns
    done = run(*cmd, "--resume", "--json")
    assert done.returncode == 0 and f"{out} has all answers already: nothing to do" in done.stderr
    assert "generating" not in done.stderr
    summary = json.loads(done.stdout)
    n = 4 if more else 1
    assert (summary["resumed"], summary["new_tokens"], summary["prompts"], summary["answers"]) == (5 * n, 0, 5, 10 * n)
    lines = was.splitlines(keepends=True)

    def refused(says, *flags):
        before = out.read_bytes()
        done = run(*cmd, *flags, "--resume", "--quiet")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        assert f"{out} is there and " in done.stderr and says in done.stderr and "without --resume" in done.stderr
        assert out.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "p.jsonl"]

    assert out.read_bytes() == was and out.stat().st_mtime_ns == born
    refused("the seed is another", "--seed", 4)
    refused("line 1: the number of answers is another", "--n", 3)
    refused("the model or a setting is another", "--min-p", "0.1")
    for at, damaged in ((slice(4, 5), "4 of 5 prompts"), (slice(1, 2), "4 of 5 prompts"), (slice(0, 4), "1 of 5 prompts")):
        out.write_bytes(b"".join(lines[:at.start] + lines[at.stop:]))
        refused(damaged)
    out.write_bytes(was + lines[0])
    refused("line 6: it is of no prompt")
    out.write_bytes(was[:-30])
    refused("line 5: it is no row")
    out.write_bytes(was)
    out.write_bytes(b"")  # as mktemp makes it: nothing is lost
    podium(*cmd, "--resume")
    assert [r["prompt"] for r in read_jsonl(out)] == [r["prompt"] for r in rows]
    write_jsonl(given, [*rows[:4], {**rows[4], "metadata": {"k": 9}}])
    refused("line 5: its prompt is another")
    write_jsonl(given, rows[::-1])
    refused("line 1: its prompt is another")
    podium(*cmd)
    assert [r["prompt"] for r in read_jsonl(out)] == [r["prompt"] for r in rows[::-1]]


def test_damaged_partial_loses_what_is_damaged(podium, tmp_path):
    cmd, out, partial = start_long_job(tmp_path)
    podium(*cmd)
    want = out.read_bytes().splitlines()
    out.unlink()
    break_off(cmd, partial, lines=9)
    lines = partial.read_bytes().splitlines()[:9]
    head, rows = lines[0], lines[1:]
    other = json.loads(rows[5])
    damage = [rows[0], rows[1][:-30], b"\0" * 40, rows[3], rows[4].replace(b'"index":', b'"index":7'),
              json.dumps({**other, "row": {**other["row"], "id": "of another"}}).encode(), rows[6]]
    partial.write_bytes(b"\n".join([head, *damage, rows[7][:50]]))
    done = run(*cmd, "--resume", "--json")
    assert done.returncode == 0 and done.stderr.splitlines() == [
        f"{partial}:3: 4 damaged lines, of which this is the first, are passed over; their prompts are answered again"]
    assert json.loads(done.stdout)["resumed"] == 3
    got = out.read_bytes().splitlines()
    kept = [json.loads(rows[i])["index"] for i in (0, 3, 6)]
    assert [r["id"] for r in map(json.loads, got)] == [r["id"] for r in map(json.loads, want)]
    for i in kept:
        assert b',"row":' + got[i] + b"}" in b"\n".join(rows)  # the bytes that were written
    for a, b in zip(map(json.loads, got), map(json.loads, want)):
        assert [x["text"] for x in a["answers"]] == [x["text"] for x in b["answers"]]


def train_a_little(model):
    """Other weights of the same name, shape and size."""
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start::2] = bytes(b ^ 1 for b in data[start::2])
    path.write_bytes(data)


@pytest.mark.parametrize("more", [[], ["--top-k", "20,30"]], ids=["one", "variants"])
def test_resume_wants_the_same_job(podium, tmp_path, more):
    """Weights, what else the model's folder says, and all of the prompts' rows; the same bytes put back are the same job."""
    model = tmp_path / "m"
    shutil.copytree(LLAMA, model)
    cmd, out, partial = start_long_job(tmp_path, model)
    cmd += more
    rows = [{**r, "metadata": {"k": i}} for i, r in enumerate(read_jsonl(tmp_path / "p.jsonl"))]
    write_jsonl(tmp_path / "p.jsonl", rows)
    break_off(cmd, tmp_path / "a.jsonl.variant-2.partial" if more else partial)

    def refused(word):
        done = run(*cmd, "--resume")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and not out.exists()
        assert f"{partial} was left by a run with {word}; use the same again, or remove it" in done.stderr

    for change in ({"metadata": {"k": 7}}, {"id": "p3"}, {"note": None}):
        write_jsonl(tmp_path / "p.jsonl", [*rows[:3], {**rows[3], **change}, *rows[4:]])
        refused("other prompts")
    write_jsonl(tmp_path / "p.jsonl", rows)
    shutil.copytree(model, tmp_path / "kept")
    train_a_little(model)
    refused("other weights")
    shutil.rmtree(model)
    shutil.copytree(tmp_path / "kept", model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "eos_token_id": 5}))
    refused("other weights")
    (model / "config.json").write_bytes((tmp_path / "kept" / "config.json").read_bytes())
    done = run(*cmd, "--resume", "--temperature", "0.5", "--n", 3)
    assert "other settings (n, temperature)" in done.stderr or "other settings (temperature, n)" in done.stderr
    podium(*cmd, "--resume")
    assert len(read_jsonl(out)) == 60


@pytest.mark.parametrize("more", [[], ["--top-k", "20,30"]], ids=["one", "variants"])
def test_one_process_at_a_time(podium, tmp_path, more):
    """The same command twice does not answer twice; the lock ends with its process, however that ends."""
    cmd, out, partial = start_long_job(tmp_path)
    cmd += more
    part = tmp_path / "a.jsonl.variant-1.partial" if more else partial
    job = subprocess.Popen([podium_bin(), *map(str, cmd)], stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and (not part.exists() or part.read_bytes().count(b"\n") < 3):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.005)
    job.send_signal(signal.SIGSTOP)
    for again in ([], ["--resume"]):
        done = run(*cmd, *again)
        assert done.returncode == 1 and f"another process is at work on {partial}" in done.stderr
        assert len(done.stderr.splitlines()) == 1 and part.read_bytes().count(b"\n") >= 3
    job.kill()
    job.communicate()
    jobs = [subprocess.Popen([podium_bin(), *map(str, cmd), "--resume"], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [j.communicate(timeout=120)[1] for j in jobs]
    assert 0 in [j.returncode for j in jobs]
    for j, s in zip(jobs, said):
        assert j.returncode == 0 or (j.returncode == 1 and "another process is at work" in s), s
    assert len(read_jsonl(out)) == 60
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "p.jsonl"]


# ---- logprobs ----


def is_mapped(process, path):
    with open(f"/proc/{process.pid}/maps") as maps:
        return str(path) in maps.read()


def test_a_model_that_is_cut_short_while_it_is_read_is_named(tmp_path):
    model = shutil.copytree(LLAMA, tmp_path / "model")
    weights = model / "model.safetensors"
    args = [podium_bin(), "logprobs", "--model", model, "--in", "-", "--out", tmp_path / "o.jsonl", "--quiet"]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not is_mapped(process, weights):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)  # until it waits for rows
        os.truncate(weights, 5000)
        _, err = process.communicate(json.dumps({"ids": [5, 6, 7]}) + "\n", timeout=60)
    assert process.returncode == 1 and not (tmp_path / "o.jsonl").exists()
    assert err.count("\n") == 1 and f"{weights} became shorter" in err


def test_logprobs_rows(podium, tmp_path):
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"prompt": "What is the capital", "text": " of Norway", "note": {"kept": True}},
            {"prompt": "What is the capital", "text": " of tea"},
            {"text": "What is the capital of Norway"}]
    podium("logprobs", "--model", GPT2, "--in", write_jsonl(given, rows), "--out", out)
    a, b, c = read_jsonl(out)
    assert a["note"] == {"kept": True}
    assert a["ids"] == c["ids"]
    # a shared prompt computed once, or a row alone: the same numbers
    assert a["logprobs"][1:] == pytest.approx(c["logprobs"][1:], abs=1e-5)
    for row in (a, b, c):
        assert len(row["ids"]) == len(row["logprobs"])
        assert row["logprobs"][0] is None
        assert all(x < 0 for x in row["logprobs"][1:])
    n = prompt_tokens(podium, GPT2, "What is the capital")
    assert a["sum"] == pytest.approx(sum(a["logprobs"][n:]), abs=1e-6)
    assert c["sum"] == pytest.approx(sum(c["logprobs"][1:]), abs=1e-6)
    # ids with the prompt's length give the same; tiny streams change nothing
    again = [{"ids": a["ids"], "prompt_len": n}, {"ids": b["ids"]}, {"ids": [5]}]
    podium("logprobs", "--model", GPT2, "--in", write_jsonl(given, again), "--out", out, "--micro-batch-tokens", 1)
    d, e, f = read_jsonl(out)
    assert d["logprobs"][1:] == pytest.approx(a["logprobs"][1:], abs=1e-5)
    assert d["sum"] == pytest.approx(a["sum"], abs=1e-4)
    assert e["logprobs"][1:] == pytest.approx(b["logprobs"][1:], abs=1e-5)
    assert f == {"ids": [5], "logprobs": [None], "sum": 0}


def test_logprobs_bad_rows(tmp_path):
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = ['{"text": "fine"}', '{"ids": [1, -1]}', '{"ids": [1, 99999]}', '{"ids": "x"}', '{"ids": []}',
            '{"prompt": 3, "text": "x"}', "{}", '{"ids": [1, 2], "prompt_len": 3}', '{"ids": [1.5]}']
    given.write_text("\n".join(rows) + "\n", encoding="utf-8")
    cmd = ["logprobs", "--model", GPT2, "--in", given, "--out", out]
    done = run(*cmd)
    assert done.returncode == 1
    for line in range(2, 10):
        assert f"{given}:{line}: " in done.stderr, line
    assert not out.exists()
    assert run(*cmd, "--skip-bad").returncode == 0
    assert len(read_jsonl(out)) == 1


def test_answers_agree_with_logprobs(podium, tmp_path):
    """The log-prob of an answer is what `logprobs` says of its ids after the prompt's."""
    given, out, lp = write_jsonl(tmp_path / "p.jsonl", make_prompts(5)), tmp_path / "a.jsonl", tmp_path / "lp.jsonl"
    podium("generate", "--model", GPT2, "--prompts", given, "--out", out, "--max-new-tokens", 20, "--chat", "off",
           "--temperature", 0.8, "--repetition-penalty", 1.2, "--dtype", "fp32")
    rows, wants = [], []
    for row in read_jsonl(out):
        prompt = json.loads(podium("tokenize", "--model", GPT2, stdin=json.dumps(row["prompt"]) + "\n"))
        for a in row["answers"]:
            rows.append({"ids": prompt + a["ids"], "prompt_len": len(prompt)})
            wants.append(a["logprob"])
    podium("logprobs", "--model", GPT2, "--in", write_jsonl(tmp_path / "in.jsonl", rows), "--out", lp, "--dtype", "fp32")
    assert [r["sum"] for r in read_jsonl(lp)] == pytest.approx(wants, abs=2e-3)


def test_precisions_stay_near_fp32(podium, tmp_path, smollm2):
    """Over 4-bit weights `auto` rounds activations to 8 bits, at most, and keys and values; `bf16` to 16 or to bf16, and to halves: what
    that costs a token's log-prob."""
    given, out, lp = write_jsonl(tmp_path / "p.jsonl", make_prompts(8)), tmp_path / "a.jsonl", tmp_path / "lp.jsonl"
    for dtype, kept, least, limit in (("auto", "auto", 0, 0.15), ("bf16", "auto", 0, 0.15), ("fp32", "auto", 0, 1e-3), ("fp32", "f16", 1e-5, 5e-3),
                                      ("fp32", "int8", 1e-3, 0.05)):
        podium("generate", "--model", smollm2, "--prompts", given, "--out", out, "--n", 1, "--max-new-tokens", 12, "--chat", "off", "--top-k", 10,
               "--resample", 0, "--logprobs", "--dtype", dtype, "--kv-dtype", kept)
        rows, got = [], []
        for row in read_jsonl(out):
            prompt = json.loads(podium("tokenize", "--model", smollm2, stdin=json.dumps(row["prompt"]) + "\n"))
            rows.append({"ids": prompt + row["answers"][0]["ids"], "prompt_len": len(prompt)})
            got += row["answers"][0]["logprobs"]
        podium("logprobs", "--model", smollm2, "--in", write_jsonl(tmp_path / "in.jsonl", rows), "--out", lp, "--dtype", "fp32")
        want = [p for r, given_row in zip(read_jsonl(lp), rows) for p in r["logprobs"][given_row["prompt_len"]:]]
        assert len(want) == len(got) > 8
        assert least <= sum(abs(a - b) for a, b in zip(got, want)) / len(want) < limit, (dtype, kept)
    podium("logprobs", "--model", smollm2, "--in", tmp_path / "in.jsonl", "--out", lp, "--dtype", "q8_0")
    eight = [p for r, given_row in zip(read_jsonl(lp), rows) for p in r["logprobs"][given_row["prompt_len"]:]]
    assert 0 < sum(abs(a - b) for a, b in zip(eight, want)) / len(want) < 0.15


def test_cache_that_auto_takes(podium, tmp_path, smollm2, monkeypatch):
    """8 bits where weights of 4 meet activations of 8: with AVX2, and in panels with AVX-512 VNNI."""
    given, ran = write_jsonl(tmp_path / "p.jsonl", make_prompts(2)), 0

    def peak(dtype, kept):
        done = run("generate", "--model", smollm2, "--prompts", given, "--out", tmp_path / "a.jsonl", "--greedy", "--n", 1, "--max-new-tokens", 1,
                   "--chat", "off", "--dtype", dtype, "--kv-dtype", kept, "--quiet", "--json")
        return json.loads(done.stdout)["peak_kv_bytes"] if done.returncode == 0 else None

    for isa, coarse in (("ref", False), ("avx2", True), ("avx512", False), ("vnni", True)):
        monkeypatch.setenv("PD_ISA", isa)
        whole = peak("fp32", "auto")
        if whole is None:
            continue  # not of this CPU
        ran += 1
        for dtype, eight in (("auto", coarse), ("q8_0", coarse), ("q4_0", coarse), ("bf16", False)):
            assert peak(dtype, "auto") * 256 == whole * (68 if eight else 128), (isa, dtype)
        assert peak("auto", "f16") * 2 == whole and peak("fp32", "int8") * 256 == whole * 68
    assert ran >= 1


def test_training_refuses_few_bits(tmp_path):
    pairs = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    done = run("train", "reward", "--model", GPT2, "--data", pairs, "--out", tmp_path / "r", "--dtype", "q8_0")
    assert done.returncode == 2 and "--dtype" in done.stderr


def test_stdout_is_clean(podium, tmp_path):
    given = write_jsonl(tmp_path / "p.jsonl", make_prompts(2))
    out = podium("generate", "--model", GPT2, "--prompts", given, "--max-new-tokens", 3, "--n", 1)
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["1", "2"]
    assert os.listdir(tmp_path) == ["p.jsonl"]


# ---- what a stranger types ----


@pytest.mark.parametrize("args,code,says", [
    (["--out", "{dir}"], 1, "is a folder, not a file"),
    (["--kv-memory", "10"], 1, "--kv-memory is too small: a prompt of"),
    (["--model", "hf://owner/name"], 1, "`podium model pull hf://owner/name` fetches it"),
])
def test_generate_says_what_to_do(tmp_path, args, code, says):
    given = write_jsonl(tmp_path / "p.jsonl", make_prompts(1))
    done = run("generate", "--prompts", given, "--quiet", *([] if "--model" in args else ["--model", LLAMA]),
               *[a.replace("{dir}", str(tmp_path)) for a in args])
    assert done.returncode == code and says in done.stderr, done.stderr
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_other_verbs_say_what_to_do(tmp_path):
    rows = write_jsonl(tmp_path / "t.jsonl", [{"text": "tea"}])
    done = run("logprobs", "--model", "https://host/v1", "--in", rows, "--out", "-")
    assert done.returncode == 1 and "the address of an endpoint, which can only be asked for answers" in done.stderr
    done = run("logprobs", "--model", LLAMA, "--in", "-", "--out", "-", stdin='{"text": 5}\n')
    assert done.returncode == 1 and done.stderr.startswith("stdin:1: ")
    done = run("generate", "--model", LLAMA, "--prompts", "-", stdin='{"text": 5}\n')
    assert done.returncode == 1 and done.stderr.startswith("stdin:1: ")
    done = run("tokenize", "--model", LLAMA, "--decode", stdin="[5, 99999]\n")
    assert done.returncode == 1 and "stdin:1: entry 1 of the list is 99999; ids are below" in done.stderr
    done = run("model", "pull", "https://huggingface.co/owner/name")
    assert done.returncode == 2 and "write hf://owner/name" in done.stderr


@pytest.mark.parametrize("dtype", ["auto", "fp32", "q8_0"])
def test_weights_at_odd_places_give_the_same_answers(podium, tmp_path, dtype):
    """A safetensors header of odd length puts fp32 values where they cannot be read in place: the loader makes copies, and panels
    take their place; but not that of embeddings that are also the output matrix."""
    odd = tmp_path / "odd"
    shutil.copytree(LLAMA, odd)
    (odd / "model.safetensors").chmod(0o600)
    data = (odd / "model.safetensors").read_bytes()
    n = int.from_bytes(data[:8], "little")
    (odd / "model.safetensors").write_bytes((n + 1).to_bytes(8, "little") + data[8 : 8 + n] + b" " + data[8 + n :])
    write_jsonl(tmp_path / "p.jsonl", make_prompts(5))
    answers = []
    for i, model in enumerate((LLAMA, odd)):
        out = tmp_path / f"{i}.jsonl"
        podium("generate", "--model", model, "--prompts", tmp_path / "p.jsonl", "--out", out, "--greedy", "--max-new-tokens", 8, "--dtype", dtype, "--model-name", "m")
        answers.append(read_jsonl(out))
    assert answers[0] == answers[1]
