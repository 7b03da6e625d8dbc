"""Options of podium generate one by one: log-probs, bad words, long prompts, prompts as ids, damaged models."""
import json
import shutil
import signal
import struct
import subprocess
import time

import pytest
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl
from test_generate import GPT2, LLAMA, make_prompts, run

MODELS = pytest.mark.parametrize("model", [GPT2, LLAMA], ids=lambda m: m.name)


def tokenize(podium, model, text):
    return json.loads(podium("tokenize", "--model", model, "--special", "--add-special", stdin=json.dumps(text) + "\n"))


def generate(podium, tmp_path, model, rows, *flags):
    given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
    podium("generate", "--model", model, "--prompts", given, "--out", out, "--dtype", "fp32", "--quiet", *flags)
    return read_jsonl(out)


def context_of(model):
    config = json.loads((model / "config.json").read_text())
    return config.get("n_positions") or config["max_position_embeddings"]


# ---- settings that cannot be met ----


def test_settings_that_forbid_every_token(tmp_path):
    """That is no damage: the prompt and the options are named, and --skip-bad goes on without it."""
    context = context_of(LLAMA)
    rows = [{"id": "short", "ids": [5]}, {"id": "long", "ids": [5] * (context - 8)}]
    flags = ["--no-repeat-ngram-size", 1, "--min-new-tokens", context, "--max-new-tokens", context, "--n", 1, "--quiet"]
    given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
    done = run("generate", "--model", LLAMA, "--prompts", given, "--out", out, *flags)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "prompt short" in done.stderr and "overflow" not in done.stderr
    assert "every one is forbidden by --no-repeat-ngram-size --min-new-tokens" in done.stderr
    (tmp_path / "a.jsonl.partial").unlink(missing_ok=True)
    done = run("generate", "--model", LLAMA, "--prompts", given, "--out", out, "--skip-bad", *flags)
    assert done.returncode == 0 and f"{given}:1: no token is left" in done.stderr, done.stderr
    answers = [(r["id"], r["answers"][0]["tokens"]) for r in read_jsonl(out)]
    assert answers == [("long", 8)]


@pytest.mark.parametrize("x", [0, 0.001, 101, "1e38"])
def test_repetition_penalties_out_of_bounds(tmp_path, x):
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "tea"}])
    done = run("generate", "--model", LLAMA, "--prompts", given, "--out", tmp_path / "a", "--repetition-penalty", x)
    assert done.returncode != 0 and "from 0.01 to 100" in done.stderr


# ---- logprobs ----


@MODELS
def test_logprobs_are_those_of_the_verb(podium, tmp_path, model):
    rows = generate(podium, tmp_path, model, make_prompts(5), "--max-new-tokens", 20, "--chat", "off", "--temperature", 0.7,
                    "--top-k", 20, "--repetition-penalty", 1.3, "--logprobs", 4)
    asked, said = [], []
    for row in rows:
        prompt = tokenize(podium, model, row["prompt"])
        for a in row["answers"]:
            asked.append({"ids": prompt + a["ids"], "prompt_len": len(prompt)})
            said.append(a)
    lp = tmp_path / "lp.jsonl"
    podium("logprobs", "--model", model, "--in", write_jsonl(tmp_path / "in.jsonl", asked), "--out", lp, "--dtype", "fp32")
    for want, a in zip(read_jsonl(lp), said):
        assert len(a["logprobs"]) == len(a["top_logprobs"]) == a["tokens"]
        assert a["logprobs"] == pytest.approx(want["logprobs"][want["prompt_len"]:], abs=1e-4)
        assert sum(a["logprobs"]) == pytest.approx(a["logprob"], abs=1e-4)
        for token, logprob, top in zip(a["ids"], a["logprobs"], a["top_logprobs"]):
            ids, values = [i for i, _ in top], [x for _, x in top]
            assert len(set(ids)) == 4 and values == sorted(values, reverse=True)
            if token in ids:
                assert values[ids.index(token)] == pytest.approx(logprob, abs=1e-5)
            else:
                assert logprob <= values[-1] + 1e-5


def test_logprobs_alone_and_greedy(podium, tmp_path):
    flags = ["--max-new-tokens", 8, "--chat", "off", "--n", 1, "--greedy", "--logprobs"]
    (plain,) = generate(podium, tmp_path, LLAMA, make_prompts(1), *flags)
    (one,) = generate(podium, tmp_path, LLAMA, make_prompts(1), *flags, 1)
    a, b = plain["answers"][0], one["answers"][0]
    assert "top_logprobs" not in a and len(a["logprobs"]) == 8
    assert [top for (top,) in b["top_logprobs"]] == [[i, pytest.approx(x, abs=1e-6)] for i, x in zip(b["ids"], b["logprobs"])]
    done = run("generate", "--model", LLAMA, "--prompts", tmp_path / "p.jsonl", "--logprobs", 1001)
    assert done.returncode == 2 and "--logprobs" in done.stderr


@MODELS
@pytest.mark.parametrize("flags,k,limit", [(["--seed", 42], 50, 50), (["--seed", 42, "--top-k", 10], 10, 50), (["--top-k", 10], 10, 100)],
                         ids=["label-studio", "both", "argilla"])
def test_tutorials_draw_from_the_top_k(podium, tmp_path, model, flags, k, limit):
    """The jobs of the tutorials: 2 answers, --max-length counts the prompt, every token one of the k likeliest."""
    rows = generate(podium, tmp_path, model, make_prompts(6), "--n", 2, "--max-length", limit, "--chat", "off", "--logprobs", k, *flags)
    ranks = []
    for row in rows:
        room = limit - len(tokenize(podium, model, row["prompt"]))
        assert len(row["answers"]) == 2 and row["answers"][0]["ids"] != row["answers"][1]["ids"]
        for a in row["answers"]:
            assert a["tokens"] == room if a["finish_reason"] == "length" else a["tokens"] <= room
            ranks += [[i for i, _ in top].index(token) for token, top in zip(a["ids"], a["top_logprobs"], strict=True)]
    assert 0 in ranks and max(ranks) > k // 2


# ---- bad words ----


@pytest.mark.parametrize("from_file", [False, True])
def test_bad_words(podium, tmp_path, from_file):
    """Greedy text without the words it would say; behind a space or not, they are other tokens."""
    flags = ["--max-new-tokens", 24, "--chat", "off", "--n", 1, "--greedy"]
    (row,) = generate(podium, tmp_path, GPT2, make_prompts(1), *flags)
    texts = [json.loads(x) for x in podium("tokenize", "--model", GPT2, "--decode",
                                           stdin="".join(f"[{t}]\n" for t in row["answers"][0]["ids"])).splitlines()]
    words = list(dict.fromkeys(t.strip() for t in texts if t.strip() and "\ufffd" not in t))[:3]
    assert words
    if from_file:
        (tmp_path / "words.txt").write_text("\n".join(words) + "\n\n", encoding="utf-8")
        bad = ["--bad-words", f"@{tmp_path / 'words.txt'}"]
    else:
        bad = [x for w in words for x in ("--bad-words", w)]
    (clean,) = generate(podium, tmp_path, GPT2, make_prompts(1), *flags, *bad)
    ids = clean["answers"][0]["ids"]
    for word in words:
        for form in (word, " " + word):
            seq = json.loads(podium("tokenize", "--model", GPT2, stdin=json.dumps(form) + "\n"))
            assert all(ids[i:i + len(seq)] != seq for i in range(len(ids)))
    assert clean["params"]["bad_words"]["n"] == len(words)


def test_bad_words_refused(tmp_path):
    given = write_jsonl(tmp_path / "p.jsonl", make_prompts(1))
    (tmp_path / "w.txt").write_bytes(b"fine\n\xff\n")
    for arg, code, says in ((" ", 2, "--bad-words"), ("@none.txt", 1, "none.txt"), (f"@{tmp_path}/w.txt", 1, "w.txt:2: not UTF-8")):
        done = run("generate", "--model", GPT2, "--prompts", given, "--bad-words", arg)
        assert done.returncode == code and says in done.stderr, done.stderr


# ---- prompts past the context ----


@MODELS
def test_truncate_left_keeps_the_last_tokens(podium, tmp_path, model):
    """A plain prompt answers as its last tokens would; a short one is left alone."""
    new, context = 16, context_of(model)
    long = " ".join(make_prompts(1)[0]["prompt"].split() * context)
    flags = ["--max-new-tokens", new, "--chat", "off", "--seed", 4]
    done = run("generate", "--model", model, "--prompts", write_jsonl(tmp_path / "p.jsonl", [{"prompt": long}]), *flags)
    assert done.returncode == 1 and "no room is left" in done.stderr
    short = {"prompt": "What is tea"}
    cut = generate(podium, tmp_path, model, [{"prompt": long}, short], *flags, "--too-long", "truncate-left")
    ids = tokenize(podium, model, long)
    rows = generate(podium, tmp_path, model, [{"ids": ids[-(context - new):]}, {"ids": tokenize(podium, model, short["prompt"])}], *flags)
    assert [[a["ids"] for a in r["answers"]] for r in cut] == [[a["ids"] for a in r["answers"]] for r in rows]
    assert cut[0]["prompt"] == long and cut[0]["params"]["too_long"] == "truncate-left"
    assert all(a["tokens"] == new or a["finish_reason"] == "stop" for r in cut for a in r["answers"])


def test_truncate_left_keeps_the_template(podium, tmp_path):
    """Of a chat the oldest turns go first; of its last message the left, and the template stays whole."""
    new, context = 16, context_of(LLAMA)
    system, last = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "And tea?"}
    turns = [{"role": r, "content": f"{w} tea " * 20} for w in ("old", "new") for r in ("user", "assistant")]
    while len(tokenize(podium, LLAMA, turns[0]["content"])) < context // 3:
        turns = [dict(t, content=t["content"] + " more of it") for t in turns]
    flags = ["--max-new-tokens", new, "--n", 1, "--seed", 4]

    def answer(messages, *more):
        (row,) = generate(podium, tmp_path, LLAMA, [{"prompt": messages}], *flags, *more)
        assert row["prompt"] == messages
        return row["answers"][0]["ids"]

    cut = ["--too-long", "truncate-left"]
    assert answer([system, *turns, last], *cut) == answer([system, *turns[2:], last])
    assert answer([*turns, last], *cut) == answer([*turns[2:], last])
    assert answer([system, last], *cut) == answer([system, last])
    # one message alone is too long: what is left of it is its end, in an unbroken template
    ids = tokenize(podium, LLAMA, " ".join(f"word{i}" for i in range(context)))
    ends = [json.loads(x) for x in podium("tokenize", "--model", LLAMA, "--decode",
                                          stdin="".join(f"{ids[-k:]}\n" for k in range(context - 90, context))).splitlines()]
    rows = [{"prompt": [system, {"role": "user", "content": x}]} for x in ends]
    got = answer([system, {"role": "user", "content": "the beginning of " + ends[-1]}], *cut)
    fits = generate(podium, tmp_path, LLAMA, rows, *flags, "--skip-bad")
    assert 0 < len(fits) < len(rows)
    assert got in [r["answers"][0]["ids"] for r in fits]


def test_truncate_left_of_a_long_chat_is_quick(podium, tmp_path):
    """Where what is left begins is searched for, not walked to: as much as one dropped turn less would not fit."""
    turns = [{"role": r, "content": f"{w} tea {i} " * 4} for i in range(2000) for r, w in (("user", "what"), ("assistant", "that"))]
    flags = ["--max-new-tokens", 16, "--n", 1, "--seed", 4]
    begin = time.monotonic()
    (row,) = generate(podium, tmp_path, LLAMA, [{"prompt": turns[:-1]}], *flags, "--too-long", "truncate-left")
    assert time.monotonic() - begin < 10  # walked to: a minute
    rows = [{"id": str(k), "prompt": turns[-k:-1]} for k in range(2, 40, 2)]
    fits = generate(podium, tmp_path, LLAMA, rows, *flags, "--skip-bad", "--too-long", "error")
    longest = [r for r in fits if r["answers"][0]["tokens"] == 16 or r["answers"][0]["finish_reason"] == "stop"][-1]
    assert row["answers"] == longest["answers"] and len(fits) < len(rows)


def test_truncate_left_can_be_interrupted(tmp_path):
    turns = [{"role": "user", "content": f"what tea {i} " * 40} for i in range(2000)]
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": turns}] * 40)
    p = subprocess.Popen([podium_bin(), "generate", "--model", LLAMA, "--prompts", given, "--out", tmp_path / "a.jsonl",
                          "--max-new-tokens", "16", "--too-long", "truncate-left"], stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        assert p.poll() is None, p.stderr.read()
        p.send_signal(signal.SIGTERM)
        assert p.wait(10) == 3 and "interrupted while prompts were read" in p.stderr.read()
    finally:
        p.kill()


def test_truncate_left_refusals(tmp_path):
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": [{"role": "system", "content": "tea " * 2000}, {"role": "user", "content": "x"}]}])
    base = ["generate", "--model", LLAMA, "--prompts", given, "--too-long", "truncate-left"]
    done = run(*base, "--max-length", 50)
    assert done.returncode == 2 and "--max-new-tokens" in done.stderr
    done = run(*base, "--max-new-tokens", 8)
    assert done.returncode == 1 and f"{given}:1: nothing would be left" in done.stderr
    done = run(*base, "--max-new-tokens", context_of(LLAMA))
    assert done.returncode == 1 and "no room" in done.stderr


# ---- prompts as ids ----


@MODELS
def test_ids_are_a_prompt(podium, tmp_path, model):
    rows = make_prompts(3)
    flags = ["--max-new-tokens", 12, "--chat", "off", "--seed", 8]
    want = generate(podium, tmp_path, model, rows, *flags)
    ids = [{"ids": tokenize(podium, model, r["prompt"]), "id": i} for i, r in enumerate(rows)]
    got = generate(podium, tmp_path, model, ids, *flags)
    for g, w, i in zip(got, want, ids):
        assert g["answers"] == w["answers"]
        assert (g["id"], g["ids"]) == (i["id"], i["ids"])
        assert g["prompt"].endswith(w["prompt"])  # special tokens are spelt out in front


def test_bad_ids_are_named(tmp_path):
    rows = [{"ids": [5]}, {"ids": [1, 10**6]}, {"ids": [-1]}, {"ids": []}, {"ids": "x"}, {"ids": [1.5]}]
    given = write_jsonl(tmp_path / "p.jsonl", rows)
    done = run("generate", "--model", GPT2, "--prompts", given, "--max-new-tokens", 2)
    assert done.returncode == 1
    for line in range(2, 7):
        assert f"{given}:{line}: \"ids\"" in done.stderr
    assert f"{given}:1: " not in done.stderr


# ---- models that are broken ----


def test_overflow_is_told_from_damage(tmp_path):
    """A weight that is finite and far too large: no tensor is to blame."""
    model = tmp_path / "huge"
    shutil.copytree(LLAMA, model)
    (model / "model.safetensors").chmod(0o600)
    poke(model, "model.norm.weight", 3e38)
    poke(model, "model.embed_tokens.weight", 3e38)
    given = write_jsonl(tmp_path / "p.jsonl", [{"ids": [0, 5]}])
    done = run("generate", "--model", model, "--prompts", given, "--max-new-tokens", 4, "--quiet", "--dtype", "fp32")
    assert done.returncode == 1
    assert "prompt 1" in done.stderr and "all weights are finite" in done.stderr


def poke(model, tensor, value):
    """Writes a float over the first number of a tensor of model.safetensors."""
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    (n,) = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8:8 + n])[tensor]
    assert entry["dtype"] == "F32"
    at = 8 + n + entry["data_offsets"][0]
    data[at:at + 4] = struct.pack("<f", value)
    path.write_bytes(data)


@pytest.mark.parametrize("value,word", [(float("nan"), "NaN"), (float("inf"), "infinite")])
@pytest.mark.parametrize("tensor", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_damaged_weights_are_named(tmp_path, tensor, value, word):
    model = tmp_path / "broken"
    shutil.copytree(LLAMA, model)
    (model / "model.safetensors").chmod(0o600)
    poke(model, tensor, value)
    given, out = write_jsonl(tmp_path / "p.jsonl", [{"id": "q7", "prompt": "tea"}]), tmp_path / "a.jsonl"
    done = run("generate", "--model", model, "--prompts", given, "--out", out, "--max-new-tokens", 4, "--quiet")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    for part in ("broken", "prompt q7", f"weight {tensor} is {word} at index 0"):
        assert part in done.stderr
    assert not out.exists()
