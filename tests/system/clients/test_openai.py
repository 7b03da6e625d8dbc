"""OpenAI's client, unmodified, against podium generate --serve and against podium serve --model."""
import os
import pathlib
import subprocess

import pytest
from conftest import FIXTURES
from serving import Server
from test_model_door import Door
from test_openai_server import ModelServer

HERE = pathlib.Path(__file__).parent
TINY = FIXTURES / "models" / "tiny-llama"


def run_client(url, key, model):
    python = pathlib.Path(os.environ.get("PD_OPENAI_VENV") or "/nowhere") / "bin/python"
    if not python.exists():
        pytest.skip("set PD_OPENAI_VENV to a virtual environment with tests/system/clients/openai.txt")
    done = subprocess.run([str(python), str(HERE / "openai_client.py"), url, key, model], text=True, capture_output=True, timeout=300)
    assert done.returncode == 0 and "ok" in done.stdout, done.stdout + done.stderr


def test_the_model_alone(tmp_path):
    s = ModelServer(tmp_path, TINY, env={"PODIUM_API_KEY": "k-123"})
    try:
        run_client(s.url + "/v1", "k-123", "tiny-llama")
    finally:
        assert s.stop() == 0


def test_behind_the_server(tmp_path):
    s = Server(tmp_path / "data", "--no-worker", "--model", TINY, "--model-dtype", "fp32").start()
    try:
        door = Door(s).ready()
        run_client(door.url, door.keys["admin"], "tiny-llama")
    finally:
        assert s.stop() == 0
