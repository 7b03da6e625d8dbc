"""Writes pytorch_model.bin as torch.save does, without torch: a state dict of arrays from a safetensors file."""
import json
import struct
import zipfile

STORAGES = {"F32": ("FloatStorage", 4), "F16": ("HalfStorage", 2), "BF16": ("BFloat16Storage", 2)}


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    raw = path.read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + n])
    return {
        name: (t["dtype"], t["shape"], raw[8 + n + t["data_offsets"][0] : 8 + n + t["data_offsets"][1]])
        for name, t in header.items()
        if name != "__metadata__"
    }


def text(s):
    s = s.encode()
    return b"X" + struct.pack("<I", len(s)) + s


def integer(i):
    return b"\x8a\x08" + struct.pack("<q", i)


def numbers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(key, dtype, shape, offset=0, strides=None):
    storage, size = STORAGES[dtype]
    if strides is None:
        strides = [1] * len(shape)
        for d in range(len(shape) - 2, -1, -1):
            strides[d] = strides[d + 1] * shape[d + 1]
    count = 1  # values that the storage holds: a stride of 0 takes none
    for d, stride in zip(shape, strides):
        count *= d if stride else 1
    persistent = b"(" + text("storage") + b"ctorch\n" + storage.encode() + b"\n" + text(key) + text("cpu") + integer(count) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + integer(offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks + b"tR"


def write(path, tensors, strides=None):
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R("
    with zipfile.ZipFile(path, "w") as z:
        for i, (name, (dtype, shape, data)) in enumerate(tensors.items()):
            pickled += text(name) + tensor(str(i), dtype, shape, strides=(strides or {}).get(name))
            z.writestr(f"m/data/{i}", data)
        z.writestr("m/data.pkl", pickled + b"u.")


def to_torch(folder, shards=1):
    """model.safetensors of a folder becomes pytorch_model.bin, or shards of it."""
    path = folder / "model.safetensors"
    tensors = list(read_safetensors(path).items())
    path.unlink()
    if shards == 1:
        write(folder / "pytorch_model.bin", dict(tensors))
        return
    names = [f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin" for i in range(shards)]
    for i, name in enumerate(names):
        write(folder / name, dict(tensors[i::shards]))
    index = {t: names[i % shards] for i, (t, _) in enumerate(tensors)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
