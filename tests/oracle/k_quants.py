"""Blocks of the K formats, 256 values each, which the gguf package reads and does not write. Plain rounding: what a block's values
are is what gguf.quants.dequantize says of it, so nothing hangs on how well they are chosen."""
import numpy as np

BLOCK = 256


def half(x):
    return x.astype(np.float16).view(np.uint8).reshape(len(x), 2)


def divide(a, b):
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def pack_sixes(scales, mins):
    """Eight 6-bit scales and minimums in 12 bytes: the low four of each, with the upper bits of the high four above them."""
    s, m = scales.astype(np.uint8), mins.astype(np.uint8)
    return np.concatenate([s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4], axis=1)


def nibbles(q):
    """(n, 8, 32) -> (n, 128): 32 bytes hold a sub-block in their low halves, the next in their high ones."""
    q = (q & 15).reshape(-1, 4, 2, 32)
    return (q[:, :, 0] | q[:, :, 1] << 4).reshape(-1, 128)


def four_or_five(blocks, bits):
    """x = d scale q - dmin min, in sub-blocks of 32; of five bits the last stand together, a bit of a byte a sub-block."""
    x = blocks.reshape(-1, 8, 32)
    low = np.minimum(x.min(2), 0)
    step = (x.max(2) - low) / ((1 << bits) - 1)
    d = (step.max(1) / 63).astype(np.float16).astype(np.float32)
    dmin = (-low.min(1) / 63).astype(np.float16).astype(np.float32)
    scales = np.clip(np.rint(divide(step, d[:, None].repeat(8, 1))), 0, 63)
    mins = np.clip(np.rint(divide(-low, dmin[:, None].repeat(8, 1))), 0, 63)
    unit = (d[:, None] * scales)[:, :, None].repeat(32, 2)
    q = np.clip(np.rint(divide(x + (dmin[:, None] * mins)[:, :, None], unit)), 0, (1 << bits) - 1).astype(np.uint8)
    high = [] if bits == 4 else [np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[None, :, None], axis=1)]
    return np.concatenate([half(d), half(dmin), pack_sixes(scales, mins), *high, nibbles(q)], axis=1)


def six(blocks):
    """x = d scale (q - 32), in sub-blocks of 16; the low four bits and the high two stand apart."""
    x = blocks.reshape(-1, 16, 16)
    step = np.abs(x).max(2) / 31
    d = (step.max(1) / 127).astype(np.float16).astype(np.float32)
    scales = np.clip(np.rint(divide(step, d[:, None].repeat(16, 1))), 0, 127)
    unit = (d[:, None] * scales)[:, :, None].repeat(16, 2)
    q = (np.clip(np.rint(divide(x, unit)), -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = (q[:, :, :2] & 15 | (q[:, :, 2:] & 15) << 4).reshape(-1, 128)
    high = np.bitwise_or.reduce((q >> 4) << np.array([0, 2, 4, 6], dtype=np.uint8)[None, None, :, None], axis=2).reshape(-1, 64)
    return np.concatenate([low, high, scales.astype(np.int8).view(np.uint8), half(d)], axis=1)


def quantize(w, kind):
    """Rows of whole blocks -> rows of bytes."""
    blocks = np.ascontiguousarray(w, dtype=np.float32).reshape(-1, BLOCK)
    out = six(blocks) if kind == "Q6_K" else four_or_five(blocks, {"Q4_K": 4, "Q5_K": 5}[kind])
    return out.reshape(*w.shape[:-1], -1)
