#!/usr/bin/env python3
"""As fuzz_tokenizer.py, for pipelines that no tiny model ships: Llama 3's and Qwen 2's words, NFC, a prefix space,
ignore_merges, and added tokens with every flag. Each is tiny-llama's vocabulary with another pipeline.

    fuzz_tokenizer_variants.py [-n 20000] [--seed S] [--podium PATH]
"""
import argparse
import copy
import json
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import nasty
from fuzz_tokenizer import ROOT, compare, podium
from goldens import tokenizer as golden
from goldens.common import MODELS

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
NFC = {"type": "NFC"}


def byte_level(regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(regex):
    step = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [step, byte_level(False)]}


VARIANTS = {
    "llama3": {"pre_tokenizer": split(LLAMA3), "ignore_merges": True},
    "qwen2": {"pre_tokenizer": split(QWEN2), "normalizer": NFC},
    "gpt2-nfc": {"pre_tokenizer": byte_level(True), "normalizer": NFC},
    "gpt2-prefix": {"pre_tokenizer": byte_level(True, prefix=True)},
}


def added(token_id, content, **flags):
    plain = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)
    return {"id": token_id, "content": content, **plain, **flags}


def variant(base, change):
    made = copy.deepcopy(base)
    made["pre_tokenizer"] = change["pre_tokenizer"]
    made["normalizer"] = change.get("normalizer")
    made["model"]["ignore_merges"] = change.get("ignore_merges", False)
    made["added_tokens"] += [
        added(384, "<ne\u0301>", lstrip=True, normalized=True),
        added(385, "answer", single_word=True, rstrip=True),  # a word that the model alone cannot give
    ]
    return made


def main():
    from tokenizers import Tokenizer

    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-n", type=int, default=20_000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--podium", default=os.environ.get("PODIUM_BIN", str(ROOT / "build/release/podium")))
    args = ap.parse_args()
    base = json.loads((MODELS / "tiny-llama" / "tokenizer.json").read_text(encoding="utf-8"))
    texts = nasty.HAND + list(nasty.strings(args.n, args.seed))
    bad = 0
    for name, change in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "tokenizer.json"
            path.write_text(json.dumps(variant(base, change)), encoding="utf-8")
            plain, _, whole = golden.encode(Tokenizer.from_file(str(path)), texts)
            bad += compare(f"{name} plain", texts, plain, podium(args.podium, folder, [], texts))
            got = podium(args.podium, folder, ["--special", "--add-special"], texts)
            bad += compare(f"{name} --special --add-special", texts, whole, got)
    print("equal" if not bad else f"{bad} differences (seed {args.seed})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
