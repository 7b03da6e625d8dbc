"""Files of torch.save and what stands in them: tests/fixtures/torch.

  views.bin    a state dict with every kind of tensor that matters: contiguous, transposed, a slice with an offset, expanded
               (stride 0), a scalar, empty, two names of one storage, nn.Parameter, F32 F16 BF16 F64 I64 BOOL
  views.jsonl  a row for each: {"name", "dtype", "shape", "values": float32, row-major; null where no weight}
  old.bin      the same two tensors with pickle protocol 4 (FRAME, MEMOIZE, STACK_GLOBAL)
  evil-*.bin   a pickle that calls os.system, and what else must be refused; they are run by no one
"""
import collections
import io
import os
import pathlib
import pickle
import zipfile

from .common import FIXTURES, torch, write_jsonl

OUT = FIXTURES / "torch"
CORPUS = FIXTURES.parent / "fuzz" / "corpus" / "lm_torch"


def state():
    torch.manual_seed(5)
    base = torch.randn(4, 6)
    sd = collections.OrderedDict()
    sd["plain"] = base
    sd["tied"] = base
    sd["transposed"] = base.t()
    sd["slice"] = base[1:3, 2:5]
    sd["expanded"] = torch.randn(1, 3).expand(4, 3)
    sd["scalar"] = torch.tensor(0.625)
    sd["empty"] = torch.zeros(0, 3)
    sd["parameter"] = torch.nn.Parameter(torch.randn(2, 3))
    sd["half"] = torch.randn(3, 2).half()
    sd["bfloat"] = torch.randn(3, 2).bfloat16().t()
    sd["double"] = torch.randn(2, 2, dtype=torch.float64)
    sd["ids"] = torch.arange(3)
    sd["mask"] = torch.tensor([True, False])
    sd["note"] = "not a tensor"
    return sd


NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}


def rows(sd):
    for name, t in sd.items():
        if isinstance(t, torch.Tensor):
            values = t.detach().float().reshape(-1).tolist() if t.is_floating_point() else None
            yield {"name": name, "dtype": NAMES[t.dtype], "shape": list(t.shape), "values": values}


def archive(path, pickled, members=(), method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as z:
        z.writestr("archive/data.pkl", pickled)
        for name, data in members:
            z.writestr(f"archive/{name}", data)


class Shout:
    def __reduce__(self):
        return os.system, ("echo a pickle was run",)


def evil():
    archive(OUT / "evil-system.bin", pickle.dumps({"w": Shout()}, protocol=2))
    archive(OUT / "evil-builtin.bin", b"\x80\x02cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.")
    archive(OUT / "evil-compressed.bin", b"\x80\x02}." + bytes(4096), method=zipfile.ZIP_DEFLATED)
    good = io.BytesIO()
    torch.save(collections.OrderedDict(w=torch.ones(2, 2)), good)
    raw = good.getvalue()
    (OUT / "evil-cut.bin").write_bytes(raw[:-30])
    # the shape is 2x2, the pickle is made to say 2x9
    with zipfile.ZipFile(io.BytesIO(raw)) as z:
        members = {i.filename.split("/", 1)[1]: z.read(i) for i in z.infolist()}
    pickled = members.pop("data.pkl").replace(b"K\x02K\x02\x86", b"K\x02K\x09\x86", 1)
    archive(OUT / "evil-shape.bin", pickled, members.items())
    archive(OUT / "evil-loop.bin", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01h\x00s.")  # a dict that holds itself


def make():
    OUT.mkdir(parents=True, exist_ok=True)
    CORPUS.mkdir(parents=True, exist_ok=True)
    sd = state()
    torch.save(sd, OUT / "views.bin")
    torch.save(collections.OrderedDict((k, sd[k]) for k in ("plain", "transposed")), OUT / "old.bin", pickle_protocol=4)
    write_jsonl(pathlib.Path("torch/views.jsonl"), rows(sd))
    evil()
    for path in OUT.glob("*.bin"):
        (CORPUS / path.name).write_bytes(path.read_bytes())
        print(f"   torch/{path.name}  {path.stat().st_size} bytes")
