#!/usr/bin/env python3
"""Compare `podium tokenize` with Hugging Face's tokenizers on many random nasty strings.

    fuzz_tokenizer.py [-n 200000] [--seed S] [--podium PATH] [MODEL...]

MODEL is smollm2, gpt2, tiny-gpt2, tiny-llama or tiny-llama-untied (default: all five). Three passes each:
plain ids, --special, --special --add-special; then --decode of the ids that tokenizers gave. Exits 1 with the
first differences of each pass. Run with the environment that tests/oracle/remake makes.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import nasty
from goldens import tokenizer as golden
from goldens.common import MODELS, TINY, smollm2_gguf

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHOWN = 5


def podium(binary, model, flags, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdin:
        stdin.write(text)
        stdin.seek(0)
        done = subprocess.run([binary, "tokenize", "--model", str(model), *flags], stdin=stdin, capture_output=True)
    if done.returncode:
        raise SystemExit(f"podium tokenize {' '.join(flags)} exits {done.returncode}: {done.stderr.decode()[-500:]}")
    out = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    if len(out) != len(lines):
        raise SystemExit(f"podium tokenize {' '.join(flags)}: {len(lines)} lines in, {len(out)} out")
    return out


def compare(title, inputs, want, got):
    bad = [i for i in range(len(inputs)) if want[i] != got[i]]
    print(f"{title}: {len(inputs) - len(bad)} of {len(inputs)} equal")
    for i in bad[:SHOWN]:
        print(f"  {json.dumps(inputs[i])}\n    want {json.dumps(want[i])}\n    got  {json.dumps(got[i])}")
    return len(bad)


def check(binary, name, folder, texts):
    tok = golden.tokenizer(name)
    plain, special, added = golden.encode(tok, texts)
    bad = compare(f"{name} plain", texts, plain, podium(binary, folder, [], texts))
    bad += compare(f"{name} --special", texts, special, podium(binary, folder, ["--special"], texts))
    bad += compare(
        f"{name} --special --add-special", texts, added, podium(binary, folder, ["--special", "--add-special"], texts)
    )
    decoded = [tok.decode(ids, skip_special_tokens=False) for ids in special]
    return bad + compare(f"{name} --decode", special, decoded, podium(binary, folder, ["--decode"], special))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-n", type=int, default=200_000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--podium", default=os.environ.get("PODIUM_BIN", str(ROOT / "build/release/podium")))
    ap.add_argument("models", nargs="*", default=["smollm2", "gpt2", *TINY])
    args = ap.parse_args()
    texts = nasty.HAND + list(nasty.strings(max(args.n - len(nasty.HAND), 0), args.seed))
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        for name in args.models:
            folder = MODELS / name
            if name == "smollm2":
                folder = smollm2_gguf()
            elif name == "gpt2":
                folder = pathlib.Path(tmp) / "gpt2"
                golden.gpt2_folder(folder)
            bad += check(args.podium, name, folder, texts)
    print("equal" if not bad else f"{bad} differences (seed {args.seed})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
