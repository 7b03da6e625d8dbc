"""Tokenizer, log-probs and greedy answers against tokenizers and transformers (tests/oracle/goldens)."""
import json

import pytest
from conftest import FIXTURES, read_jsonl, write_jsonl

TINY = ["tiny-gpt2", "tiny-llama", "tiny-llama-untied"]
MODELS = [*TINY, "smollm2"]
LOGPROB_TOLERANCE = 2e-4


def tokenize(podium, model, flags, values):
    out = podium("tokenize", "--model", model, *flags, stdin="".join(json.dumps(v) + "\n" for v in values))
    return [json.loads(line) for line in out.split("\n") if line]


@pytest.mark.parametrize("name", MODELS)
def test_ids_and_texts_equal_tokenizers(podium, model_path, name):
    rows, model = read_jsonl(FIXTURES / "tokenizer" / f"{name}.jsonl"), model_path(name)
    texts = [r for r in rows if "text" in r]
    assert len(texts) > 150
    inputs = [r["text"] for r in texts]
    for flags, keys in [
        ([], ["ids"]),
        (["--special"], ["special", "ids"]),
        (["--special", "--add-special"], ["add_special", "special", "ids"]),
    ]:
        for row, got in zip(texts, tokenize(podium, model, flags, inputs), strict=True):
            want = next(row[k] for k in keys if k in row)
            assert got == want, (row["text"], flags)
    for row, got in zip(rows, tokenize(podium, model, ["--decode"], [r["ids"] for r in rows]), strict=True):
        assert got == row.get("decoded", row.get("text")), row["ids"]


@pytest.mark.parametrize("name", MODELS)
def test_logprobs_equal_transformers(podium, model_path, tmp_path, name):
    rows = read_jsonl(FIXTURES / "logprobs" / f"{name}.jsonl")
    keep = ("prompt", "text", "prompt_len")
    inputs = [{k: r[k] for k in (keep if "text" in r else (*keep, "ids")) if k in r} for r in rows]
    given = write_jsonl(tmp_path / "in.jsonl", inputs)
    podium("logprobs", "--model", model_path(name), "--in", given, "--out", tmp_path / "out.jsonl", "--dtype", "fp32")
    for want, got in zip(rows, read_jsonl(tmp_path / "out.jsonl"), strict=True):
        assert got["ids"] == want["ids"]
        assert got["logprobs"][0] is None
        assert got["logprobs"][1:] == pytest.approx(want["logprobs"][1:], abs=LOGPROB_TOLERANCE)
        assert got["sum"] == pytest.approx(want["sum"], abs=LOGPROB_TOLERANCE * len(want["ids"]))


FLAGS = {"repetition_penalty": "--repetition-penalty", "no_repeat_ngram": "--no-repeat-ngram-size",
         "max_new_tokens": "--max-new-tokens", "max_length": "--max-length", "min_new_tokens": "--min-new-tokens",
         "bad_words": "--bad-words"}


@pytest.mark.parametrize("name", MODELS)
def test_greedy_answers_equal_transformers(podium, model_path, tmp_path, name):
    groups = {}  # one run for each setting, chats apart
    for row in read_jsonl(FIXTURES / "generate" / f"{name}.jsonl"):
        if "prompt" in row:
            chat = isinstance(row["prompt"], list)
            groups.setdefault((chat, json.dumps(row["settings"], sort_keys=True)), []).append(row)
    assert len(groups) >= 3
    for (chat, settings), rows in groups.items():
        flags = [x for k, v in json.loads(settings).items() for one in (v if isinstance(v, list) else [v]) for x in (FLAGS[k], one)]
        prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": r["prompt"]} for r in rows])
        out = tmp_path / "answers.jsonl"
        podium("generate", "--model", model_path(name), "--prompts", prompts, "--out", out, "--greedy", "--n", 1,
               "--chat", "on" if chat else "off", "--dtype", "fp32", *flags)
        for want, line in zip(rows, read_jsonl(out), strict=True):
            (got,) = line["answers"]
            assert got["ids"] == want["new_ids"], (want["prompt"], settings)
            assert got["tokens"] == len(want["new_ids"])
            assert got["finish_reason"] == want["finish"]
            assert got["logprob"] == pytest.approx(want["logprob"], abs=LOGPROB_TOLERANCE * len(want["new_ids"]))
            assert got["text"] == want.get("text", got["text"])
