#!/usr/bin/env python3
"""Do others open what `podium model convert` writes, and say the same? Prints a row for each family and format.

usage: files.py PODIUM [NAME...]        in the oracle environment; LLAMA_CPP=DIR (source/ and build/ with static libraries)

  gguf          the gguf package reads the file; every tensor dequantises to what the Hugging Face folder holds (fp32: exactly)
  transformers  AutoModelForCausalLM.from_pretrained(gguf_file=...): log-probs of the goldens, where it has a loader for the family
  llama.cpp     log-probs of the same ids by llama_logprobs.c, and the ids of a text
  folder        convert --out DIR in each dtype and shards: AutoModelForCausalLM opens it, log-probs as well

The largest difference of log-probs against Podium's on the same file in fp32 is printed; above the limit the row fails. What
another's loader cannot do with a shape is printed as it says it, and is no failure of the file.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from goldens.common import FIXTURES, torch

FAMILIES = FIXTURES / "families"
TOKENIZER = FIXTURES / "models" / "tiny-llama-untied"
LIMIT = 5e-4
# llama.cpp looks gelu up in a table of halves (and Falcon's and NeoX's is its tanh form), turns activations into the weights'
# format for f16 and bf16, and into 8-bit blocks for quantised weights: what it can agree to is limited by that
LLAMA_LIMIT = {"fp32": 1e-2, "f16": 1e-2, "bf16": 5e-2, "q8_0": 1.5e-1, "q4_0": 1.5e-1}
TEXT = "The lighthouse keeper's 12345 dogs\n\nsaid: naïve 👍  <|endoftext|> def f(x):\treturn x\r\n"
# transformers' own loader knows no other architecture of ours
TRANSFORMERS = {"llama", "mistral", "qwen2", "qwen3", "gpt2", "falcon"}

# where another's loader leaves out what the file says (llama.cpp agrees on the first four to 5e-6): reported, no failure
LEAVES_OUT = {
    ("llama-biases", "transformers"): "biases", ("llama-linear", "transformers"): "rope scaling",
    ("llama-llama3", "transformers"): "rope_freqs", ("llama-yarn", "transformers"): "rope scaling",
    ("mistral", "llama.cpp"): "the sliding window of architecture llama",
}


def folder_of(name, tmp):
    golden = json.loads((FAMILIES / name / "golden.json").read_text())
    folder = tmp / name
    folder.mkdir()
    for file in TOKENIZER.iterdir():
        if file.name.startswith(("tokenizer", "special", "chat")):
            shutil.copy(file, folder)
    shutil.copy(FAMILIES / name / "config.json", folder)
    shutil.copy(FAMILIES / golden["weights"] / "model.safetensors", folder)
    return folder, [r["ids"] for r in golden["logprobs"] if len(r["ids"]) > 1]


def run(*args, **more):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{args[0]} {args[1]}: {done.returncode} {done.stderr.strip()[-300:]}")
    return done.stdout


def podium_logprobs(podium, model, ids, tmp):
    given = tmp / "in.jsonl"
    given.write_text("".join(json.dumps({"ids": i}) + "\n" for i in ids))
    out = run(podium, "logprobs", "--model", model, "--in", given, "--out", "-", "--dtype", "fp32", "--quiet")
    return [json.loads(line)["logprobs"][1:] for line in out.splitlines()]


def llama_program(tmp):
    root = os.environ.get("LLAMA_CPP")
    if not root:
        return None
    root = pathlib.Path(root)
    lib = [root / "build" / p for p in ("src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a")]
    program = tmp / "llama_logprobs"
    run("g++", "-O2", "-x", "c", "-I", root / "source/include", "-I", root / "source/ggml/include",
        pathlib.Path(__file__).parent / "llama_logprobs.c", "-x", "none", "-o", program, *lib, "-fopenmp", "-lpthread", "-ldl", "-lm")
    return program


def llama_says(program, model, ids, text):
    out = run(program, model, text, input="".join(" ".join(map(str, i)) + "\n" for i in ids)).splitlines()
    return [[float(x) for x in line.split()] for line in out[:-1]], [int(x) for x in out[-1].split()]


def hf_logprobs(model, ids):
    rows = []
    for i in ids:
        with torch.no_grad():
            model(torch.tensor([[1]]))  # dynamic scaling forgets
            lp = torch.log_softmax(model(torch.tensor([i])).logits[0].float(), -1)[:-1]
        rows.append(lp.gather(1, torch.tensor(i[1:])[:, None])[:, 0].tolist())
    return rows


def farthest(a, b):
    return max(abs(x - y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))


def check_gguf_package(path):
    """Every tensor can be read by the gguf package; how many there are."""
    import gguf
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(path)
    for t in reader.tensors:
        assert np.isfinite(dequantize(t.data, t.tensor_type)).all(), t.name
    return len(reader.tensors)


def main(argv):
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    podium = argv[0]
    names = argv[1:] or sorted(p.parent.name for p in FAMILIES.glob("*/golden.json"))
    failed = rows = 0
    with tempfile.TemporaryDirectory() as t:
        tmp = pathlib.Path(t)
        program = llama_program(tmp)
        text = tmp / "text"
        text.write_bytes(TEXT.encode())
        for name in names:
            folder, ids = folder_of(name, tmp)
            kind = json.loads((folder / "config.json").read_text())["model_type"]
            for dtype in LLAMA_LIMIT:
                said = {}
                path = tmp / f"{name}.{dtype}.gguf"
                try:
                    run(podium, "model", "convert", folder, "--out", path, "--dtype", dtype)
                except RuntimeError as e:
                    if dtype == "fp32":
                        print(f"{name:20} gguf: refused: {str(e).split(': ', 3)[-1]}")
                    break
                ours = podium_logprobs(podium, path, ids, tmp)
                said["tensors"] = check_gguf_package(path)
                if dtype == "fp32":
                    said["podium"] = farthest(ours, podium_logprobs(podium, folder, ids, tmp))
                if program:
                    try:
                        theirs, tokens = llama_says(program, path, ids, text)
                    except RuntimeError as e:  # it has no GPT-J
                        said["llama.cpp"] = f"cannot: {str(e).split('error loading model: ')[-1].splitlines()[0]}"
                        tokens = None
                    else:
                        said["llama.cpp"] = farthest(ours, theirs)
                    mine = json.loads(run(podium, "tokenize", "--model", path, "--special", input=json.dumps(TEXT) + "\n"))
                    said["tokens"] = "not asked" if tokens is None else "same" if mine == tokens else f"differ {mine} {tokens}"
                if kind in TRANSFORMERS and dtype in ("fp32", "q8_0"):
                    try:
                        model = transformers.AutoModelForCausalLM.from_pretrained(tmp, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
                        said["transformers"] = farthest(ours, hf_logprobs(model, ids))
                    except Exception as e:  # its loader's own limits are reported, not hidden
                        said["transformers"] = f"{type(e).__name__}: {str(e)[:80]}"
                limits = {"podium": 0.0, "transformers": LIMIT, "llama.cpp": LLAMA_LIMIT[dtype]}
                for k in limits:
                    if (name, k) in LEAVES_OUT and isinstance(said.get(k), float):
                        said[k] = f"{said[k]:.1e} leaves out {LEAVES_OUT[name, k]}"
                bad = [k for k in limits if isinstance(said.get(k), float) and not said[k] <= limits[k]]
                bad += ["tokens"] if str(said.get("tokens", "")).startswith("differ") else []
                print(f"{name:20} {dtype:5}", *(f"{k} {v:.1e}" if isinstance(v, float) else f"{k} {v}" for k, v in said.items()), "FAILED " + " ".join(bad) if bad else "", flush=True)
                failed += bool(bad)
                rows += 1
            for dtype, shard in (("fp32", "0"), ("bf16", "0"), ("f16", "0")):
                out = tmp / f"{name}-{dtype}"
                run(podium, "model", "convert", folder, "--out", out, "--dtype", dtype, "--max-shard-size", shard)
                attention = "sdpa" if name.startswith("falcon-rw") else "eager"
                model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation=attention).eval()
                far = farthest(podium_logprobs(podium, out, ids, tmp), hf_logprobs(model, ids))
                bad = not far <= LIMIT
                print(f"{name:20} {dtype:5} folder, transformers {far:.1e}", "FAILED" if bad else "", flush=True)
                failed += bad
                rows += 1
    print(f"{rows - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
