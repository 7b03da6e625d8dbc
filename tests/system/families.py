"""Folders of the tiny models of tests/fixtures/families, as policies and as reward models."""
import json
import shutil
import struct

from conftest import FIXTURES

FAMILIES = FIXTURES / "families"
NAMES = sorted(f.parent.name for f in FAMILIES.glob("*/golden.json"))
TOKENIZER = FIXTURES / "models" / "tiny-llama-untied"


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    data = path.read_bytes()
    n = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:n])
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[n + v["data_offsets"][0] : n + v["data_offsets"][1]]) for k, v in header.items()}


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def edit(model, **changes):
    """Keys of config.json; "gone" takes one out."""
    path = model / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))


def policy(name, folder):
    """Writes a folder that opens; returns its golden."""
    golden = json.loads((FAMILIES / name / "golden.json").read_text())
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)
    shutil.copy(FAMILIES / name / "config.json", folder)
    shutil.copy(FAMILIES / golden["weights"] / "model.safetensors", folder)
    return golden


def reward_model(name, folder):
    """The family's sequence classifier: the trunk and the score head of the golden."""
    golden = policy(name, folder)
    tensors = read_safetensors(folder / "model.safetensors")
    weight = golden["score"]["weight"]
    for head in ("lm_head.weight", "lm_head.bias", "embed_out.weight"):
        tensors.pop(head, None)
    tensors["score.weight"] = ("F32", [1, len(weight)], struct.pack(f"<{len(weight)}f", *weight))
    write_safetensors(folder / "model.safetensors", tensors)
    (lm,) = json.loads((folder / "config.json").read_text())["architectures"]
    cls = lm.replace("ForCausalLM", "").replace("LMHeadModel", "") + "ForSequenceClassification"
    edit(folder, architectures=[cls], id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
    return golden
