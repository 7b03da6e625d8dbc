#!/usr/bin/env python3
"""Open what podium wrote with transformers, and hold podium's own figures against it.

    open_with_transformers.py MODEL [--podium PATH] [--texts FILE] [--tolerance 2e-4] [--dtype fp32]

MODEL is a Hugging Face folder, or a run folder (its model/ is opened). Its config.json says whether it is opened as
AutoModelForCausalLM (compared: log-probs of texts) or AutoModelForSequenceClassification (scores), with
AutoTokenizer (ids). Nothing may be missing, unexpected or of another shape. --texts: JSON lines {"text"}; default a few
of our own. Exits 1 on any difference. Run with the environment that tests/oracle/remake makes.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from goldens.common import torch
from goldens.logprobs import TEXTS

ROOT = pathlib.Path(__file__).resolve().parents[2]


def podium(binary, verb, folder, rows, dtype):
    """What `podium VERB` adds to the rows."""
    with tempfile.TemporaryDirectory() as tmp:
        given, made = pathlib.Path(tmp) / "in.jsonl", pathlib.Path(tmp) / "out.jsonl"
        given.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        command = [binary, verb, "--model", folder, "--in", given, "--out", made, "--dtype", dtype]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"podium {verb} exits {done.returncode}: {done.stderr[-1000:]}")
        return [json.loads(line) for line in made.read_text(encoding="utf-8").split("\n") if line]


def check_loading(info):
    bad = {k: sorted(map(str, v)) for k, v in info.items() if v}
    print("weights: every one found its place" if not bad else f"weights: {bad}")
    return len(bad)


def compare_logprobs(model, tok, rows, answers, tolerance):
    worst = bad = 0
    for row, answer in zip(rows, answers, strict=True):
        ids = tok(row["text"])["input_ids"]
        if ids != answer["ids"]:
            print(f"ids differ for {row['text']!r}:\n  transformers {ids}\n  podium       {answer['ids']}")
            bad += 1
            continue
        with torch.no_grad():
            lp = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)[:-1]
        lp = lp.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        worst = max([worst, *(abs(a - b) for a, b in zip(lp, answer["logprobs"][1:], strict=True))])
    print(f"log-probs: {len(rows)} texts, largest difference {worst:.2e}")
    return bad + (worst > tolerance)


def compare_scores(model, tok, rows, answers, tolerance):
    worst = 0
    for row, answer in zip(rows, answers, strict=True):
        text = row["text"] if row["text"].endswith(tok.eos_token) else row["text"] + tok.eos_token
        with torch.no_grad():
            score = model(torch.tensor([tok(text)["input_ids"]])).logits[0, 0].item()
        worst = max(worst, abs(score - answer["reward"]) / max(1, abs(score)))
    print(f"scores: {len(rows)} texts, largest difference {worst:.2e}")
    return int(worst > tolerance)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=pathlib.Path)
    ap.add_argument("--podium", default=os.environ.get("PODIUM_BIN", str(ROOT / "build/release/podium")))
    ap.add_argument("--texts", type=pathlib.Path)
    ap.add_argument("--tolerance", type=float, default=2e-4)
    ap.add_argument("--dtype", default="fp32")
    args = ap.parse_args()

    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    folder = args.model / "model" if (args.model / "model" / "config.json").exists() else args.model
    rows = TEXTS
    if args.texts:
        rows = [json.loads(line) for line in args.texts.read_text(encoding="utf-8").split("\n") if line]
    rows = [{"text": r.get("prompt", "") + r["text"]} for r in rows]
    config = json.loads((folder / "config.json").read_text())
    is_reward = config["architectures"][0].endswith("ForSequenceClassification")
    cls = AutoModelForSequenceClassification if is_reward else AutoModelForCausalLM
    model, info = cls.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    tok = AutoTokenizer.from_pretrained(folder)
    print(f"{folder}: {type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters, {type(tok).__name__}")
    verb, compare = ("score", compare_scores) if is_reward else ("logprobs", compare_logprobs)
    bad = check_loading(info)
    bad += compare(model.eval(), tok, rows, podium(args.podium, verb, folder, rows, args.dtype), args.tolerance)
    print("equal" if not bad else "DIFFERENT")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
