"""The models of bench/generate, in every form that podium and its peers read.

SmolLM2-135M is real; the others are random weights at a real shape (bench/shapes/*.json), which cost the same arithmetic and
memory as trained ones. All carry SmolLM2's tokenizer. What is made here is kept in build/bench/models (--models elsewhere);
both sides open the same GGUF where podium reads it.
"""
import json
import pathlib
import struct
from typing import NamedTuple

from harness import ROOT, model_path, run, say

BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 34 * 8 / 32, "q4_0": 18 * 8 / 32, "q4_1": 20 * 8 / 32}  # with the scale of each block of 32


class Model(NamedTuple):
    name: str
    folder: pathlib.Path  # Hugging Face
    weights: int  # that one token passes: all but an embedding that is not also the head

    def bytes_per_token(self, precision):
        return self.weights * BITS[precision] / 8


def safetensors_sizes(folder):
    """name -> number of weights, from the headers."""
    sizes = {}
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        for name, tensor in header.items():
            if name != "__metadata__":
                sizes[name] = 1
                for n in tensor["shape"]:
                    sizes[name] *= n
    return sizes


def passed_weights(folder):
    sizes = safetensors_sizes(folder)
    embeddings = {n for n in sizes if "embed_tokens" in n or "wte" in n or "word_embeddings" in n or "wpe" in n}
    tied = not any(n.startswith("lm_head") for n in sizes)
    return sum(n for name, n in sizes.items() if name not in embeddings or (tied and "wpe" not in name))


def make(args, name, dtype="fp32"):
    """The model as a Hugging Face folder, written once."""
    folder = args.models / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        say(f"making {folder}")
        real = model_path(args)
        if name == "smollm2-135m":
            run([args.podium, "model", "convert", real, "--out", folder, "--dtype", dtype])
        else:
            run([args.podium, "model", "init", "--like", ROOT / "bench" / "shapes" / f"{name}.json", "--tokenizer", real, "--out", folder,
                 "--dtype", dtype])
    return Model(name, folder, passed_weights(folder))
