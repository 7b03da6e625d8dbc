#!/usr/bin/env python3
"""Compare podium's chat templates with transformers'.

    chat_templates.py [-n 200] [--seed S] [--podium PATH]

Templates: every one that the installed TRL ships, and those of the families' shapes under ../fixtures/chat. Each is
given, with a tokenizer that knows its control tokens, to `podium tokenize --chat` and to apply_chat_template, over
message lists that no one has typed control tokens into; the ids must be equal, and where one refuses a list the other
must too. The last line is `N passed, N failed`; a template podium cannot read is a failure that names the reason.
"""
import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import nasty
import pipelines

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "chat"
WORDS = [t for t in nasty.HAND if "<|" not in t and "<s>" not in t and "[INST]" not in t and "\0" not in t] + [
    "  leading", "trailing \n", "<think>\nwhy\n</think>\n\nso", "a</think>b", "{{ x }}", "{% if %}", "multi\nline\n\ntext", '{"a": 1}']


def templates():
    import trl

    for path in [*sorted((pathlib.Path(trl.__file__).parent / "chat_templates").glob("*.jinja")), *sorted(FIXTURES.glob("*.jinja"))]:
        yield path.stem, path.read_text(encoding="utf-8")


def conversations(n, seed):
    rng = random.Random(seed)
    yield [{"role": "user", "content": "hi"}]
    yield [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "bye"}]
    yield [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    yield [{"role": "assistant", "content": "x"}]
    yield [{"role": "tool", "content": "x"}]
    for _ in range(n):
        rows = [{"role": "system", "content": rng.choice(WORDS)}] if rng.random() < 0.4 else []
        for i in range(rng.randint(1, 5)):
            rows.append({"role": ["user", "assistant"][i % 2], "content": rng.choice(WORDS)})
        if rng.random() < 0.1:
            rows.append({"role": rng.choice(["user", "assistant", "tool", "other"]), "content": rng.choice(WORDS)})
        yield rows


def tokenizer(folder, name, source):
    """A SmolLM-like tokenizer that has the template's own control tokens."""
    from transformers import PreTrainedTokenizerFast

    marks = sorted(set(re.findall(r"<\|[^|<>\s]+\|>|\[/?[A-Z_]+\]", source)))
    spec = {"pre": pipelines.byte_level(True), "added": [pipelines.special(t) for t in ["<s>", "</s>", *[m for m in marks if m not in ("<s>", "</s>")]]]}
    made = pipelines.tokenizer_json(spec, False, 300) if not hasattr(tokenizer, "base") else None
    if made:
        tokenizer.base = made
    base = json.loads(json.dumps(tokenizer.base))
    base["added_tokens"] = [{"id": 300 + i, **t} for i, t in enumerate(spec["added"])]
    (folder / "tokenizer.json").write_text(json.dumps(base), encoding="utf-8")
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
    fast.chat_template = source
    fast.save_pretrained(folder)
    return fast


def want(fast, rows):
    try:
        return fast.apply_chat_template(rows, add_generation_prompt=rows[-1]["role"] != "assistant", tokenize=True, return_dict=False)
    except Exception as e:  # whatever a template makes Python raise
        return f"{type(e).__name__}: {e}"


def got(binary, folder, lists):
    text = "".join(json.dumps(rows) + "\n" for rows in lists)
    done = subprocess.run([binary, "tokenize", "--model", str(folder), "--chat", "--skip-bad"], input=text.encode(), capture_output=True)
    if done.returncode:
        raise SystemExit(f"podium tokenize --chat exits {done.returncode}: {done.stderr.decode()[-600:]}")
    return [json.loads(line) for line in done.stdout.split(b"\n") if line]


def differs(a, b):
    refused = isinstance(a, str) or isinstance(b, dict)
    return not (isinstance(a, str) and isinstance(b, dict)) if refused else a != b


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-n", type=int, default=200)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--podium", default=os.environ.get("PODIUM_BIN", str(ROOT / "build/release/podium")))
    args = ap.parse_args()
    lists = list(conversations(args.n, args.seed))
    passed = failed = 0
    for name, source in templates():
        with tempfile.TemporaryDirectory() as tmp:
            folder = pathlib.Path(tmp)
            fast = tokenizer(folder, name, source)
            wants, gots = [want(fast, rows) for rows in lists], got(args.podium, folder, lists)
            bad = [i for i in range(len(lists)) if differs(wants[i], gots[i])]
            refused = sum(isinstance(w, str) for w in wants)
            print(f"{name}: {len(lists) - len(bad)} of {len(lists)} equal ({refused} refused by both)" if not bad else f"{name}: {len(bad)} of {len(lists)} DIFFER")
            for i in bad[:2]:
                show = [fast.decode(x) if isinstance(x, list) else x for x in (wants[i], gots[i])]
                print(f"  {json.dumps(lists[i])}\n    want {json.dumps(show[0])}\n    got  {json.dumps(show[1])}")
            passed, failed = passed + (not bad), failed + bool(bad)
    print(f"{len(lists)} lists a template, seed {args.seed}: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
