"""Checkpoints as they come and go: torch files, shards, GGUF, folders, adapters."""
import json
import shutil
import subprocess

import pytest
import torch_writer
from conftest import FIXTURES, podium_bin

MODELS = FIXTURES / "models"
TEXTS = [{"prompt": "Once upon a time", "text": " there was a fox."}, {"text": "1 2 3"}]


def fails(*args, code=1):
    """Runs podium, which must exit with code; its one line on stderr."""
    done = subprocess.run([podium_bin(), *map(str, args)], capture_output=True, timeout=120)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert len(done.stderr.splitlines()) == 1, done.stderr
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
