"""Checkpoints as they come and go: torch files, shards, GGUF, folders, adapters."""
import fcntl
import json
import os
import resource
import shutil
import struct
import subprocess
import zipfile

import pytest
import torch_writer
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl

MODELS = FIXTURES / "models"
TEXTS = [{"prompt": "Once upon a time", "text": " there was a fox."}, {"text": "1 2 3"}]


def fails(*args, code=1):
    """Runs podium, which must exit with code; its one line on stderr."""
    done = subprocess.run([podium_bin(), *map(str, args)], capture_output=True, timeout=120)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert len(done.stderr.splitlines()) == (2 if code == 2 else 1), done.stderr
    return done.stderr.decode()


@pytest.fixture
def logprobs(podium, tmp_path):
    """What a model says of a few texts, as one comparable string."""
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps(p) + "\n" for p in TEXTS))
    return lambda model, *flags: podium(
        "logprobs", "--model", model, "--in", data, "--out", "-", "--dtype", "fp32", "--quiet", *flags
    )


# ---- torch files ----


@pytest.mark.parametrize("name, shards", [("tiny-gpt2", 1), ("tiny-llama", 1), ("tiny-llama-untied", 3)])
def test_a_torch_file_gives_the_same_numbers(podium, logprobs, tmp_path, name, shards):
    folder = tmp_path / name
    shutil.copytree(MODELS / name, folder)
    torch_writer.to_torch(folder, shards)
    info = json.loads(podium("model", "info", folder, "--json"))
    assert info["format"] == "torch" and info["files"] == shards
    assert logprobs(folder) == logprobs(MODELS / name)


def test_a_torch_file_that_calls_is_refused(tmp_path):
    folder = tmp_path / "evil"
    shutil.copytree(MODELS / "tiny-llama", folder)
    (folder / "model.safetensors").unlink()
    shutil.copy(FIXTURES / "torch" / "evil-system.bin", folder / "pytorch_model.bin")
    line = fails("model", "info", folder)
    assert "pytorch_model.bin" in line and "posix.system" in line and "refused" in line
    (folder / "pytorch_model.bin").unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in fails("model", "info", folder)


def test_a_torch_file_of_zip64(logprobs, tmp_path, monkeypatch):
    folder = tmp_path / "m"
    shutil.copytree(MODELS / "tiny-llama", folder)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # what a file of more than 4 GiB has, in a small one
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    torch_writer.to_torch(folder)
    assert b"PK\x06\x06" in (folder / "pytorch_model.bin").read_bytes()
    assert logprobs(folder) == logprobs(MODELS / "tiny-llama")


def local_header(name, size):
    return struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0, 0, size, size, len(name), 0) + name


def central(name, size, at, method=0):
    return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, method, 0, 0, 0, size, size, len(name), 0, 0, 0, 0, 0, at) + name


def raw_zip(data, entries):
    directory = b"".join(entries)
    return data + directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(entries), len(entries), len(directory), len(data), 0)


INNER = local_header(b"m/b", 4) + b"data"
OUTER = local_header(b"m/a", len(INNER)) + INNER
HOSTILE_ZIPS = {
    "over each other": raw_zip(OUTER, [central(b"m/a", len(INNER), 0), central(b"m/b", 4, len(OUTER) - len(INNER))]),
    "two members are called m/a": raw_zip(OUTER, [central(b"m/a", len(INNER), 0), central(b"m/a", len(INNER), 0)]),
    "compressed": raw_zip(OUTER, [central(b"m/a", len(INNER), 0, method=8)]),
    "reach past": raw_zip(OUTER, [central(b"m/a", 1 << 30, 0)]),
    "no local header": raw_zip(OUTER, [central(b"m/a", len(INNER), 1 << 30)]),
    "zip64 sizes are cut off": raw_zip(OUTER, [central(b"m/a", 0xFFFFFFFF, 0)]),
    "says something else": raw_zip(OUTER, [central(b"m/c", len(INNER), 0)]),
    "no data.pkl": raw_zip(OUTER, [central(b"m/a", len(INNER), 0)]),
}


@pytest.mark.parametrize("says", HOSTILE_ZIPS)
def test_hostile_archives(tmp_path, says):
    folder = tmp_path / "m"
    shutil.copytree(MODELS / "tiny-llama", folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(HOSTILE_ZIPS[says])
    line = fails("model", "info", folder)
    assert says in line and "pytorch_model.bin" in line


# ---- GGUF ----

FAMILIES = FIXTURES / "families"


def family_folder(name, tmp_path):
    """A tiny model of the families' goldens as a folder that opens."""
    golden = json.loads((FAMILIES / name / "golden.json").read_text())
    folder = tmp_path / name
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODELS / "tiny-llama-untied" / file, folder)
    shutil.copy(FAMILIES / name / "config.json", folder)
    shutil.copy(FAMILIES / golden["weights"] / "model.safetensors", folder)
    return folder


IN_GGUF = ["gpt2", "gptj", "neox", "falcon-7b", "falcon-untied", "falcon-40b", "falcon-11b", "llama", "llama-linear",
           "llama-llama3", "llama-yarn", "llama-biases", "qwen2", "qwen3", "mistral"]


@pytest.mark.parametrize("name", IN_GGUF)
def test_gguf_there_and_back(podium, logprobs, tmp_path, name):
    folder = family_folder(name, tmp_path)
    want = logprobs(folder)
    podium("model", "convert", folder, "--out", tmp_path / "m.gguf")
    assert logprobs(tmp_path / "m.gguf") == want
    podium("model", "convert", tmp_path / "m.gguf", "--out", tmp_path / "back", "--dtype", "fp32")
    assert logprobs(tmp_path / "back") == want


def rename_keys(path, names):
    """Keys of a GGUF file under other names, which together are as long."""
    data = path.read_bytes()
    for old, new in names.items():
        old, new = (struct.pack("<Q", len(x)) + x.encode() for x in (old, new))
        assert data.count(old) == 1, old
        data = data.replace(old, new)
    path.write_bytes(data)


OURS = {f"podium.rope.llama3.{k}": f"nobody.rope.llama3.{k}"
        for k in ("factor", "low_freq_factor", "high_freq_factor", "original_positions")}


def llama3_gguf(podium, tmp_path, **scaling):
    """A GGUF file of a Llama 3 as others write it: without the parameters that made its divisors."""
    folder = family_folder("llama-llama3", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] |= {"rope_theta": 500000.0} | scaling  # the longest waves are stretched whole
    (folder / "config.json").write_text(json.dumps(config))
    podium("model", "convert", folder, "--out", tmp_path / "l3.gguf")
    rename_keys(tmp_path / "l3.gguf", OURS)
    return folder, tmp_path / "l3.gguf"


@pytest.mark.parametrize("factor, original", [(8.0, 8192), (32.0, 8192), (4.0, 16384)])
def test_llama3_scaling_is_recovered_from_its_divisors(podium, logprobs, tmp_path, factor, original):
    folder, gguf = llama3_gguf(podium, tmp_path, factor=factor, original_max_position_embeddings=original)
    podium("model", "convert", gguf, "--out", tmp_path / "back", "--dtype", "fp32")
    scaling = json.loads((tmp_path / "back" / "config.json").read_text())["rope_scaling"]
    assert scaling == {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": original}
    assert logprobs(tmp_path / "back") == logprobs(folder) == logprobs(gguf)


def test_divisors_of_no_known_kind_are_refused_at_once(podium, logprobs, tmp_path):
    folder, gguf = llama3_gguf(podium, tmp_path, low_freq_factor=2.0, high_freq_factor=7.0)
    flat = lambda text: [x for line in text.splitlines() for x in json.loads(line)["logprobs"][1:]]  # noqa: E731
    assert flat(logprobs(gguf)) == pytest.approx(flat(logprobs(folder)), abs=2e-5)
    assert "rope_freqs.weight" in fails("model", "convert", gguf, "--out", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": " b", "rejected": " c"}] * 4)
    line = fails("train", "reward", "--model", gguf, "--data", pairs, "--out", tmp_path / "run", "--quiet")
    assert "rope_freqs.weight" in line and "Hugging Face folder" in line
    assert not list(tmp_path.rglob("metrics.jsonl"))


@pytest.mark.parametrize("names", [
    {"llama.rope.scaling.type": "llama.rope.scaling.typX"},
    {"llama.rope.scaling.type": "llama.rope.scaling.typXXX", "llama.rope.scaling.factor": "llama.rope.scale_linear"},
])
def test_linear_scaling_as_older_gguf_files_say_it(podium, logprobs, tmp_path, names):
    folder = family_folder("llama-linear", tmp_path)
    podium("model", "convert", folder, "--out", tmp_path / "m.gguf")
    rename_keys(tmp_path / "m.gguf", names)
    assert logprobs(tmp_path / "m.gguf") == logprobs(folder)


@pytest.mark.parametrize("dtype, kinds", [("f16", {"F16"}), ("bf16", {"BF16"}), ("q8_0", {"Q8_0"}), ("q4_0", {"Q4_0", "Q8_0"})])
def test_gguf_formats(podium, tmp_path, dtype, kinds):
    folder = family_folder("llama", tmp_path)
    first, second = tmp_path / "a" / "m.gguf", tmp_path / "b" / "m.gguf"
    first.parent.mkdir(), second.parent.mkdir()
    podium("model", "convert", folder, "--out", first, "--dtype", dtype)
    info = json.loads(podium("model", "info", first, "--json"))
    assert set(info["dtypes"]) == kinds | {"F32"} and info["format"] == "gguf"
    assert info["tokenizer"] == json.loads(podium("model", "info", folder, "--json"))["tokenizer"]
    podium("model", "convert", first, "--out", second, "--dtype", dtype)
    head = lambda p: p.read_bytes().replace(b"m.gguf", b"").replace(b"llama", b"")  # noqa: E731
    assert second.stat().st_size > 0 and head(second)[-20000:] == head(first)[-20000:]  # not rounded twice
    assert not list(tmp_path.rglob(".*tmp*"))


@pytest.mark.parametrize("name, says", [("falcon-rw", "alibi"), ("llama-dynamic", "dynamic"), ("neox-sequential", "activation"),
                                         ("qwen2-window", "sliding window")])
def test_what_gguf_cannot_say(tmp_path, name, says):
    line = fails("model", "convert", family_folder(name, tmp_path), "--out", tmp_path / "m.gguf")
    assert says in line and not (tmp_path / "m.gguf").exists()


def test_gguf_needs_its_name_and_a_language_model(tmp_path):
    assert "--out OUT.gguf" in fails("model", "convert", MODELS / "tiny-llama", "--out", tmp_path / "d", "--dtype", "q8_0", code=2)
    assert "score.weight" in fails("model", "convert", MODELS / "tiny-llama-reward", "--out", tmp_path / "m.gguf")


@pytest.mark.parametrize("name", ["falcon", "llama2", "llama3", "mistral", "neox", "qwen2"])
def test_gguf_keeps_the_tokenizer(podium, tmp_path, name):
    pipeline = FIXTURES / "tokenizer" / "pipelines" / name
    texts = [r["text"] for r in read_jsonl(pipeline / "rows.jsonl") if isinstance(r.get("text"), str)]
    vocab = 1 + max(json.loads((pipeline / "tokenizer.json").read_text())["model"]["vocab"].values())
    config = json.loads((MODELS / "tiny-llama" / "config.json").read_text()) | {"vocab_size": vocab + 300}
    (tmp_path / "config.json").write_text(json.dumps(config))
    podium("model", "init", "--like", tmp_path / "config.json", "--out", tmp_path / "m", "--tokenizer", pipeline)
    podium("model", "convert", tmp_path / "m", "--out", tmp_path / "m.gguf", "--dtype", "f16")
    given = "".join(json.dumps(t) + "\n" for t in texts)
    want = podium("tokenize", "--model", pipeline, stdin=given).splitlines()
    got = podium("tokenize", "--model", tmp_path / "m.gguf", stdin=given).splitlines()
    differ = [t for t, w, g in zip(texts, want, got, strict=True) if w != g]
    if name == "mistral":  # Metaspace adds no space where one stands already; GGUF's add_space_prefix always does
        differ = [t for t in differ if not t.startswith(" ")]
    assert len(texts) > 20 and differ == []


def test_a_tokenizer_that_gguf_cannot_name(podium, tmp_path):
    pipeline = FIXTURES / "tokenizer" / "pipelines" / "own-regex"
    config = json.loads((MODELS / "tiny-llama" / "config.json").read_text()) | {"vocab_size": 4000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    podium("model", "init", "--like", tmp_path / "config.json", "--out", tmp_path / "m", "--tokenizer", pipeline)
    assert "how this tokenizer cuts words" in fails("model", "convert", tmp_path / "m", "--out", tmp_path / "m.gguf")


# ---- Hugging Face folders ----


def test_a_folder_in_shards(podium, logprobs, tmp_path):
    big = tmp_path / "big.json"
    config = json.loads((MODELS / "tiny-llama" / "config.json").read_text())
    big.write_text(json.dumps(config | {"hidden_size": 128, "intermediate_size": 1024, "vocab_size": 2000}))
    podium("model", "init", "--like", big, "--out", tmp_path / "one", "--tokenizer", MODELS / "tiny-llama", "--seed", "3")
    podium("model", "convert", tmp_path / "one", "--out", tmp_path / "many", "--max-shard-size", "1")
    shards = sorted((tmp_path / "many").glob("model-*.safetensors"))
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert len(shards) > 2 and {s.name for s in shards} == set(index["weight_map"].values())
    assert index["metadata"]["total_size"] == sum(
        len(t[2]) for s in shards for t in torch_writer.read_safetensors(s).values()
    )
    assert "lm_head.weight" not in index["weight_map"]  # tied: once
    assert logprobs(tmp_path / "many") == logprobs(tmp_path / "one")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "many" / file).read_bytes() == (MODELS / "tiny-llama" / file).read_bytes()


# ---- the folder that a model is written into ----


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def no_room(bytes_):
    """What a full disk does, on any machine: no file grows past this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))


def test_a_model_that_does_not_fit_leaves_the_old_one(tmp_path):
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    shutil.copytree(MODELS / "tiny-llama-untied", old)
    before = files(old)
    for out in (old, fresh):
        done = subprocess.run(
            [podium_bin(), "model", "convert", MODELS / "tiny-llama", "--out", out],
            capture_output=True, timeout=120, preexec_fn=no_room(100_000), restore_signals=False,
        )
        assert done.returncode == 1 and b"cannot write" in done.stderr, done.stderr
    assert files(old) == before
    assert not fresh.exists()


def test_a_new_model_replaces_the_old_one_whole(podium, logprobs, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    shutil.copytree(MODELS / "tiny-gpt2", out)
    for name in ("chat_template.json", "vocab.json", "merges.txt", "added_tokens.json", "pytorch_model.bin"):
        (out / name).write_text("of the old model")
    (out / "model-00001-of-00002.safetensors").write_text("of the old model")
    mine = {"notes.txt": b"mine", "model-card.safetensors.txt": b"mine", ".tokenizer.json.swp": b"mine"}
    for name, text in mine.items():
        (out / name).write_bytes(text)
    for name in (".model.safetensors.tmp.123", ".config.json.tmp.9"):
        (out / name).write_text("of a run that was killed")
    (out / ".podium.tmp.77").mkdir()
    (out / ".podium.tmp.77" / "model.safetensors").write_text("of a run that was killed")
    podium("model", "convert", MODELS / "tiny-llama", "--out", out)
    podium("model", "convert", MODELS / "tiny-llama", "--out", alone)
    assert files(out) == files(alone) | mine
    assert logprobs(out) == logprobs(MODELS / "tiny-llama")


def test_a_folder_with_an_adapter_takes_no_model(tmp_path):
    adapter = tmp_path / "a"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    line = fails("model", "convert", MODELS / "tiny-llama", "--out", adapter)
    assert "holds an adapter" in line and [p.name for p in adapter.iterdir()] == ["adapter_config.json"]


def test_two_writers_of_one_folder(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    held = os.open(out, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    line = fails("model", "convert", MODELS / "tiny-llama", "--out", out)
    os.close(held)
    assert "another process is writing a model there" in line and list(out.iterdir()) == []


def with_config(folder, source, **changes):
    """A copy of a model with other values in its config.json."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_plain_weights_are_not_called_quantised(podium, tmp_path):
    source = with_config(tmp_path / "m", MODELS / "tiny-llama", quantization_config={"quant_method": "gptq", "bits": 4})
    podium("model", "convert", source, "--out", tmp_path / "converted")
    podium("model", "init", "--like", source, "--out", tmp_path / "random")
    for out in ("converted", "random"):
        assert "quantization_config" not in json.loads((tmp_path / out / "config.json").read_text())


def test_only_families_that_know_it_rotate_part_of_a_head(logprobs, tmp_path):
    """As transformers 5.23: compute_default_rope_parameters of Llama takes no partial_rotary_factor."""
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    whole = with_config(tmp_path / "whole", MODELS / "tiny-llama", rope_parameters=rope, rope_scaling=None)
    part = with_config(tmp_path / "part", whole, rope_parameters=rope | {"partial_rotary_factor": 0.5})
    assert logprobs(part) == logprobs(whole)


@pytest.mark.parametrize("n", [1, 10, 15])
def test_every_end_token_counts_and_travels(podium, tmp_path, n):
    source, eos = tmp_path / "m", [7, *range(20, 19 + n)]
    with_config(source, MODELS / "tiny-llama", eos_token_id=7)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    podium("model", "convert", source, "--out", tmp_path / "m.gguf")
    podium("model", "convert", tmp_path / "m.gguf", "--out", tmp_path / "back")
    for model in (source, tmp_path / "m.gguf", tmp_path / "back"):
        assert json.loads(podium("model", "info", model, "--json"))["eos"] == eos
    for file in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "back" / file).read_text())["eos_token_id"] == (eos if n > 1 else eos[0])


def test_too_many_end_tokens_are_refused(tmp_path):
    source = with_config(tmp_path / "m", MODELS / "tiny-llama", eos_token_id=list(range(16)))
    assert "config.json: 16 eos_token_ids, at most 15" in fails("model", "info", source)
    source = with_config(tmp_path / "g", MODELS / "tiny-llama")
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(16))}))
    assert "generation_config.json: eos_token_id" in fails("model", "info", source)


# ---- LoRA adapters ----

LORA = FIXTURES / "lora"


def adapter_copy(tmp_path, name, **config):
    folder = tmp_path / "adapter"
    shutil.copytree(LORA / name, folder)
    file = folder / "adapter_config.json"
    base = {"base_model_name_or_path": str(MODELS / json.loads((LORA / name / "golden.json").read_text())["base"])}
    file.write_text(json.dumps(json.loads(file.read_text()) | base | config))
    return folder


def check_logprobs(podium, model, golden, tmp_path):
    given = write_jsonl(tmp_path / "ids.jsonl", [{"ids": r["ids"]} for r in golden["logprobs"]])
    out = podium("logprobs", "--model", model, "--in", given, "--out", "-", "--dtype", "fp32", "--quiet")
    for want, got in zip(golden["logprobs"], map(json.loads, out.splitlines()), strict=True):
        assert got["logprobs"][1:] == pytest.approx(want["logprobs"][1:], abs=2e-4)


@pytest.mark.parametrize("name", ["llama", "llama-all", "llama-embedding", "gpt2"])
def test_an_adapter_is_a_model(podium, tmp_path, name):
    golden = json.loads((LORA / name / "golden.json").read_text())
    check_logprobs(podium, LORA / name, golden, tmp_path)  # its base stands relative to it
    podium("model", "merge", MODELS / golden["base"], "--adapter", LORA / name, "--out", tmp_path / "merged", "--max-shard-size", 1)
    check_logprobs(podium, tmp_path / "merged", golden, tmp_path)
    podium("model", "merge", MODELS / golden["base"], "--adapter", LORA / name, "--out", tmp_path / "merged.gguf")
    check_logprobs(podium, tmp_path / "merged.gguf", golden, tmp_path)


def test_a_reward_adapter_brings_its_head(podium, tmp_path):
    golden = json.loads((LORA / "reward" / "golden.json").read_text())
    given = write_jsonl(tmp_path / "texts.jsonl", [{"text": r["text"]} for r in golden["rewards"]])
    for model in (LORA / "reward", tmp_path / "merged"):
        out = podium("score", "--model", model, "--in", given, "--out", "-", "--dtype", "fp32", "--quiet")
        got = [json.loads(line)["reward"] for line in out.splitlines()]
        assert got == pytest.approx([r["reward"] for r in golden["rewards"]], abs=2e-4)
        if model != tmp_path / "merged":
            podium("model", "merge", MODELS / golden["base"], "--adapter", model, "--out", tmp_path / "merged")


@pytest.mark.parametrize(
    "config, says",
    [
        ({"peft_type": "LOHA"}, 'peft_type "LOHA"'),
        ({"init_lora_weights": "lora_ga"}, 'adapter_config.json: init_lora_weights "lora_ga" changes the base weights'),
        ({"trainable_token_indices": [3]}, "adapter_config.json: trainable_token_indices is set"),
        ({"lora_alpha": "999"}, 'adapter_config.json: "lora_alpha" is a string; expected a number'),
        ({"lora_alpha": None}, 'adapter_config.json: "lora_alpha" is null; expected a number'),
        ({"lora_alpha": 1e300}, 'adapter_config.json: "lora_alpha" is 1e+300, which is out of range'),
        ({"r": [4]}, 'adapter_config.json: "r" is an array; expected a number'),
        ({"use_rslora": "true"}, 'adapter_config.json: "use_rslora" is a string; expected true or false'),
        ({"alpha_pattern": {"q_proj": 1e39}}, 'adapter_config.json: alpha_pattern: "q_proj" is 1e+39, which is out of range'),
        ({"rank_pattern": [3]}, "adapter_config.json: rank_pattern is an array; expected an object"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"r": 5}, "rank 4"),
        ({"rank_pattern": {"q_proj": 4, "layers.(0": 4}}, 'rank_pattern: "layers.(0" is no regular expression: '),
        ({"alpha_pattern": {"q_proj": "8"}}, 'alpha_pattern: "q_proj" is a string; expected a number'),
        ({"alpha_pattern": {"(?:.|..)+[!?]": 8}}, 'adapter_config.json: alpha_pattern: pattern "(?:.|..)+[!?]" on module model.layers.0.'),
        ({"base_model_name_or_path": "nobody/nothing"}, "hf://nobody/nothing"),
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": str(MODELS / "tiny-gpt2")}, "no place in the model"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(tmp_path, config, says):
    assert says in fails("model", "info", adapter_copy(tmp_path, "llama", **config))


Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


@pytest.mark.parametrize("rank", [1 << 40, 1 << 62])
def test_adapters_of_huge_rank_are_refused(tmp_path, rank):
    """A view of stride 0 has any shape for a few bytes: nothing may be sized by it."""
    folder = adapter_copy(tmp_path, "llama", r=rank)
    old = torch_writer.read_safetensors(folder / "adapter_model.safetensors")
    inputs, outputs = old[Q_PROJ.format("A")][1][1], old[Q_PROJ.format("B")][1][0]
    (folder / "adapter_model.safetensors").unlink()
    torch_writer.write(
        folder / "adapter_model.bin",
        {
            Q_PROJ.format("A"): ("F32", [rank, inputs], bytes(4 * inputs)),
            Q_PROJ.format("B"): ("F32", [outputs, rank], bytes(4 * outputs)),
        },
        strides={Q_PROJ.format("A"): [0, 1], Q_PROJ.format("B"): [1, 0]},
    )
    assert "adapter_model.bin" in fails("score", "--model", folder, "--in", "-", "--out", "-")


@pytest.mark.parametrize("name", ["lora_A.weight", "lora_embedding_A", "lora_B.weight", "lora_E"])
def test_an_adapter_of_no_module_is_refused(tmp_path, name):
    folder = adapter_copy(tmp_path, "llama")
    (folder / "adapter_model.safetensors").unlink()
    torch_writer.write(folder / "adapter_model.bin", {f"base_model.model.{name}": ("F32", [4, 4], bytes(64))})
    assert f"base_model.model.{name} has no place" in fails("score", "--model", folder, "--in", "-", "--out", "-")


EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def adapter_with(tmp_path, tensors):
    """An adapter of tiny-llama, whose embedding and output matrix are tied, with these tensors alone."""
    folder = adapter_copy(tmp_path, "llama", base_model_name_or_path=str(MODELS / "tiny-llama"), r=4)
    (folder / "adapter_model.safetensors").unlink()
    torch_writer.write(folder / "adapter_model.bin", {"base_model.model." + k: v for k, v in tensors.items()})
    return folder


def test_an_adapter_with_both_of_two_tied_matrices_unties_them(podium, logprobs, tmp_path):
    old = torch_writer.read_safetensors(MODELS / "tiny-llama" / "model.safetensors")
    dtype, shape, data = old[EMBED]
    half = len(data) // 2
    new = {EMBED: (dtype, shape, data[half:] + data[:half]), HEAD: (dtype, shape, data[half // 4 :] + data[: half // 4])}
    want = tmp_path / "want"
    shutil.copytree(MODELS / "tiny-llama", want)
    (want / "model.safetensors").unlink()
    config = json.loads((want / "config.json").read_text()) | {"tie_word_embeddings": False}
    (want / "config.json").write_text(json.dumps(config))
    torch_writer.write(want / "pytorch_model.bin", old | new)
    adapter = adapter_with(tmp_path, new)
    assert logprobs(adapter) == logprobs(want)
    for out in ("merged", "merged.gguf"):
        podium("model", "merge", MODELS / "tiny-llama", "--adapter", adapter, "--out", tmp_path / out)
        assert logprobs(tmp_path / out) == logprobs(want)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("names", [(EMBED,), (HEAD,), ("lm_head.lora_A.weight", "lm_head.lora_B.weight")])
def test_an_adapter_on_one_of_two_tied_matrices_is_refused(tmp_path, names):
    dtype, shape, data = torch_writer.read_safetensors(MODELS / "tiny-llama" / "model.safetensors")[EMBED]
    line = fails("model", "info", adapter_with(tmp_path, {name: (dtype, shape, data) for name in names}))
    assert "tied in this base model" in line and names[0] in line


def test_an_adapter_of_an_adapter_is_refused(tmp_path):
    line = fails("model", "info", adapter_copy(tmp_path, "llama", base_model_name_or_path=str(LORA / "llama")))
    assert "is an adapter, and another one is to be added to it; merge it first" in line


# ---- values ----


@pytest.mark.parametrize("bits, says", [(b"\x00\x00\xc0\x7f", "NaN"), (b"\x00\x00\x80\xff", "infinite")])
def test_weights_that_are_not_finite_are_named_on_demand(podium, tmp_path, bits, says):
    folder = tmp_path / "m"
    shutil.copytree(MODELS / "tiny-llama", folder)
    assert "parameters" in podium("model", "info", folder, "--check")
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-4:] = bits  # the last value of the tensor that lies last
    (folder / "model.safetensors").write_bytes(raw)
    line = fails("model", "info", folder, "--check")
    assert f"is {says} at value" in line and "model." in line
    assert "parameters" in podium("model", "info", folder)
