"""Blocks of every number format as the gguf package reads and writes them: tests/fixtures/quants/blocks.txt.

A line is `read TYPE BYTES F32` (dequantise) or `write TYPE BYTES F32` (quantise the floats), bytes and
little-endian float32 as hexadecimal. Reading: random bits, with scales that are finite. Writing: normal values, a block of
zeros, one of equal magnitudes and mixed signs, one whose halves fall between two quants. Both are exact.
"""
import numpy as np
import gguf
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

from .common import FIXTURES

READ = [T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q4_K, T.Q5_K, T.Q6_K]
WRITE = [T.F16, T.BF16, T.Q8_0, T.Q4_0]
SCALES_AT = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def raw_blocks(kind, rng):
    block, size = gguf.GGML_QUANT_SIZES[kind]
    n = 3 if block == 256 else 8 if block == 32 else 32
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in SCALES_AT.get(kind, []):
        raw[:, at:at + 2] = rng.normal(0, 0.1, n).astype("<f2").view(np.uint8).reshape(n, 2)
    if block == 1:
        raw = rng.normal(0, 1, n).astype("<f4").view("<u4").astype("<u4")
        raw = (raw >> 16).astype("<u2") if kind == T.BF16 else raw.view("<f4").astype("<f2")
        raw = raw.view(np.uint8).reshape(1, -1)
    return raw.reshape(1, -1)


def values(rng):
    v = rng.normal(0, 0.05, (8, 32)).astype(np.float32)
    v[1] = 0
    v[2] = np.where(rng.random(32) < 0.5, -0.25, 0.25)
    v[3] = (np.arange(32) - 16) / 2  # halves of the Q4_0 step, 16 of the Q8_0's
    v[4] = np.concatenate([[127], np.arange(31) + 0.5])
    v[5] *= 1e-4
    v[6] *= 1e4
    return v.reshape(1, -1)


def line(verb, kind, raw, f32):
    return f"{verb} {kind.name} {raw.tobytes().hex()} {f32.astype('<f4').tobytes().hex()}\n"


def make():
    rng = np.random.default_rng(11)
    path = FIXTURES / "quants" / "blocks.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="ascii", newline="\n") as f:
        for kind in READ:
            raw = raw_blocks(kind, rng)
            f.write(line("read", kind, raw, dequantize(raw.view("<f2") if kind == T.F16 else raw, kind)))
        for kind in WRITE:
            v = values(rng)
            f.write(line("write", kind, quantize(v, kind), v))
    print(f"   quants/blocks.txt  {path.stat().st_size} bytes")
