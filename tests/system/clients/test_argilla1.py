"""The client of Argilla 1.29.1, unmodified, against podium serve."""
import os
import pathlib
import subprocess

import pytest
import requests

from conftest import podium_bin

HERE = pathlib.Path(__file__).parent


def client_python():
    venv = os.environ.get("PD_ARGILLA1_VENV")
    python = pathlib.Path(venv or "/nowhere") / "bin/python"
    if not python.exists():
        pytest.skip("set PD_ARGILLA1_VENV to a virtual environment with tests/system/clients/argilla1.txt")
    return str(python)


def owner_key(server):
    """The owner's key, as a verb of the same machine reads it."""
    ui = server.owner()
    assert ui.get("/me")["user"]["role"] == "owner"
    out = subprocess.run([podium_bin(), "user", "key", "owner", "--data", str(server.data)], text=True,
                         capture_output=True, check=True)
    return out.stdout.split()[-1]


@pytest.mark.parametrize("prefix", ["", "/argilla"])
def test_tutorial(server, prefix):
    python, key = client_python(), owner_key(server)
    done = subprocess.run([python, str(HERE / "argilla1_tutorial.py"), server.url + prefix, key], text=True,
                          capture_output=True, timeout=300, cwd=server.data.parent,
                          env={**os.environ, "ARGILLA_HOME": str(server.data.parent), "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0 and "ok" in done.stdout, done.stdout + done.stderr + server.tail()


def test_errors_have_the_clients_shape(server):
    key = owner_key(server)
    head = {"X-Argilla-Api-Key": key}
    r = requests.get(server.url + "/api/me")
    assert r.status_code == 401 and r.json()["detail"]["code"].endswith("UnauthorizedError")
    r = requests.get(server.url + "/api/me", headers={"Authorization": "Bearer " + key})
    assert r.status_code == 200 and r.json()["username"] == "owner"
    r = requests.get(server.url + "/api/v1/datasets/7f4c7c1c-0f7c-4f6f-9a55-2ad1a0c3b001", headers=head)
    assert r.status_code == 404 and isinstance(r.json()["detail"], str)
    r = requests.post(server.url + "/api/v1/datasets", headers=head, data="{nonsense")
    assert r.status_code == 422
    r = requests.get(server.url + "/api/v1/workspaces/nonsense", headers=head)
    assert r.status_code == 422
