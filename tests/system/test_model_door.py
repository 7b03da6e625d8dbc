"""podium serve --model M: the model behind the collecting server's accounts."""
import json
import os
import pathlib
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl
from serving import Server, wait_for

TINY = FIXTURES / "models" / "tiny-llama"


def add_user(server, name, role):
    args = [podium_bin(), "user", "add", name, "--role", role, "--data", str(server.data), "--json"]
    return json.loads(subprocess.run(args, capture_output=True, text=True, check=True).stdout)["api_key"]


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def children(server):
    """Pids of the server's children that serve a model."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            stat = (p / "stat").read_text().rsplit(")", 1)[1].split()
            if int(stat[1]) == server.process.pid and stat[0] != "Z" and b"generate" in (p / "cmdline").read_bytes():
                found.append(int(p.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


class Door:
    def __init__(self, server):
        self.server, self.url = server, server.url + "/v1"
        self.keys = {role: add_user(server, role + "1", role) for role in ("owner", "admin", "annotator")}

    def post(self, what, body, status=200, key="admin", **kw):
        r = requests.post(f"{self.url}/{what}", json=body, headers=bearer(self.keys[key]), timeout=60, **kw)
        assert status is None or r.status_code == status, f"{r.status_code} {r.text} {self.server.tail()}"
        return r

    def ready(self):
        wait_for(lambda: requests.get(self.url + "/models", headers=bearer(self.keys["owner"]), timeout=30).status_code == 200, 30)
        return self


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    # a key meant for a model server on its own is nothing to the one behind these accounts
    s = Server(tmp_path_factory.mktemp("door") / "data", "--no-worker", "--model", TINY, "--model-dtype", "fp32",
               "--model-name", "policy", env={"PODIUM_API_KEY": "of-another-server"}).start()
    yield Door(s).ready()
    assert s.stop() == 0 and not children(s)


ASK = {"messages": [{"role": "user", "content": "tea"}], "seed": 4, "max_tokens": 30}


def test_who_may(door):
    for role in ("owner", "admin"):
        r = requests.get(door.url + "/models", headers=bearer(door.keys[role]), timeout=30)
        assert r.status_code == 200 and r.json()["data"][0]["id"] == "policy"
        assert door.post("chat/completions", ASK, key=role).json()["choices"]
    r = door.post("chat/completions", ASK, 403, key="annotator")
    assert r.json()["error"]["type"] == "permission_error"
    for headers in ({}, bearer("owner.apikey"), bearer("")):
        r = requests.post(door.url + "/chat/completions", json=ASK, headers=headers, timeout=30)
        assert r.status_code == 401 and set(r.json()["error"]) == {"message", "type", "param", "code"}
        assert requests.get(door.url + "/models", headers=headers, timeout=30).status_code == 401
    ui = door.server.owner()  # a browser's cookie is for the pages alone
    assert ui.http.post(door.url + "/chat/completions", json=ASK, timeout=30).status_code == 401


def test_same_as_without_the_server(door):
    sock = door.server.data / "model.sock"
    assert sock.stat().st_mode & 0o777 == 0o600
    out = subprocess.run(["curl", "-sS", "--unix-socket", str(sock), "http://x/v1/chat/completions", "-d", json.dumps(ASK)],
                         capture_output=True, text=True, timeout=60, check=True)
    direct, through = json.loads(out.stdout), door.post("chat/completions", ASK).json()
    assert direct["choices"] == through["choices"] and direct["usage"] == through["usage"]
    r = door.post("chat/completions", {**ASK, "stream": True}, stream=True)
    assert r.headers["Content-Type"] == "text/event-stream" and r.headers["X-Accel-Buffering"] == "no"
    events = r.content.decode().split("\n\n")
    assert events[-2] == "data: [DONE]"
    text = "".join(c["delta"].get("content", "") for e in events[:-2] for c in json.loads(e[6:])["choices"])
    assert text == through["choices"][0]["message"]["content"]


def test_refusals_pass_through(door):
    assert door.post("chat/completions", {**ASK, "temperature": -1}, 400).json()["error"]["param"] == "temperature"
    assert door.post("chat/completions", {**ASK, "model": "gpt-4"}, 404).json()["error"]["code"] == "model_not_found"
    r = requests.post(door.url + "/completions", data=b"{", headers=bearer(door.keys["admin"]), timeout=30)
    assert r.status_code == 400
    r = requests.post(door.url + "/completions", data=b"x" * (5 << 20), headers=bearer(door.keys["admin"]), timeout=30)
    assert r.status_code == 413 and r.json()["error"]["type"] == "invalid_request_error"


def test_twenty_at_once(door):
    want = door.post("chat/completions", ASK).json()["choices"]
    with ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda i: door.post("chat/completions", ASK).json()["choices"], range(60)))
    assert all(g == want for g in got)


def test_killed_and_back(door):
    (pid,) = children(door.server)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in children(door.server))
    r = door.post("chat/completions", ASK, None)
    assert r.status_code == 200 or (r.status_code == 503 and int(r.headers["Retry-After"]) >= 1)
    assert requests.get(door.server.url + "/healthz", timeout=30).status_code == 200
    door.ready()
    assert children(door.server) != [pid] and door.post("chat/completions", ASK).json()["choices"]
    assert "the model ended (signal 9)" in door.server.tail()


def test_who_hangs_up_is_forgotten_there_too(tmp_path, smollm2):
    s = Server(tmp_path / "data", "--no-worker", "--model", smollm2).start()
    try:
        door = Door(s).ready()
        sock = str(s.data / "model.sock")

        def running():
            out = subprocess.run(["curl", "-sS", "--unix-socket", sock, "http://x/healthz"], capture_output=True, text=True, timeout=30)
            return json.loads(out.stdout)["running"]

        body = {"prompt": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,", "max_tokens": 6000, "temperature": 0, "stream": True}
        r = door.post("completions", body, stream=True)
        lines = r.iter_lines()
        assert next(lines).startswith(b"data: {")  # the first token, long before the last
        wait_for(lambda: running() == 1)
        r.close()
        wait_for(lambda: running() == 0)
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(door.url + "/completions", json={**body, "stream": False}, headers=bearer(door.keys["admin"]), timeout=1.5)
        wait_for(lambda: running() == 0)
    finally:
        assert s.stop() == 0


def test_how_keys_and_values_are_kept(tmp_path, podium):
    """The log-probs are those of `podium generate` with the same --kv-dtype, and not those with another; what needs more memory than
    there may be is refused."""
    given, want = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "a cup of tea"}]), {}
    for kept in ("auto", "int8"):
        out = tmp_path / f"{kept}.jsonl"
        podium("generate", "--model", TINY, "--prompts", given, "--out", out, "--n", 1, "--greedy", "--max-new-tokens", 20,
               "--chat", "off", "--logprobs", "--dtype", "fp32", "--kv-dtype", kept)
        want[kept] = read_jsonl(out)[0]["answers"][0]["logprobs"]
    s = Server(tmp_path / "data", "--no-worker", "--model", TINY, "--model-dtype", "fp32", "--model-kv-dtype", "int8",
               "--model-kv-memory", "10k").start()
    try:
        body = {"prompt": "a cup of tea", "max_tokens": 20, "temperature": 0, "logprobs": 0}
        door = Door(s).ready()
        got = door.post("completions", body).json()["choices"][0]["logprobs"]["token_logprobs"]
        refused = door.post("completions", {**body, "max_tokens": 90}, status=400)
        assert "of KV cache, more than the 0.0 MB there are" in refused.json()["error"]["message"]
    finally:
        assert s.stop() == 0
    assert got == pytest.approx(want["int8"], abs=1e-5) and got != pytest.approx(want["auto"], abs=1e-4)


def test_no_model(server):
    key = add_user(server, "admin1", "admin")
    r = requests.get(server.url + "/v1/models", headers=bearer(key), timeout=30)
    assert r.status_code == 404 and "--model" in r.json()["error"]["message"]


def test_a_model_that_is_not_there(tmp_path):
    done = subprocess.run([podium_bin(), "serve", "--data", tmp_path / "d", "--listen", "127.0.0.1:0", "--model", tmp_path / "none"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "none" in done.stderr and not done.stdout


def test_a_model_that_cannot_be_opened(tmp_path):
    """The server collects on; the model's requests say that it is not there."""
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    s = Server(tmp_path / "data", "--no-worker", "--model", tmp_path / "bad.gguf").start()
    try:
        wait_for(lambda: "the model ended (code 1)" in s.tail())
        r = requests.get(s.url + "/v1/models", headers=bearer(add_user(s, "admin1", "admin")), timeout=30)
        assert r.status_code == 503 and r.json()["error"]["type"] == "server_error"
        assert requests.get(s.url + "/healthz", timeout=30).status_code == 200
    finally:
        assert s.stop() == 0


@pytest.mark.parametrize("args, word", [
    (["--model", TINY, "--model-dtype", "int3"], "--model-dtype"),
    (["--model", TINY, "--model-kv-dtype", "int4"], "--model-kv-dtype"),
    (["--model-name", "policy"], "--model"),
    (["--model-threads", "1"], "--model"),
    (["--model-kv-dtype", "int8"], "need --model M"),
    (["--model-kv-memory", "1G"], "need --model M"),
])
def test_usage(tmp_path, args, word):
    data = tmp_path / "data"
    r = subprocess.run([podium_bin(), "serve", "--data", data, "--listen", "127.0.0.1:0", *args], capture_output=True,
                       text=True, timeout=60)
    assert r.returncode == 2 and word in r.stderr and not data.exists(), r.stderr


@pytest.mark.parametrize("args,says", [
    (["--model", "https://host/v1"], "--model https://host/v1 is an address"), (["--listen", "unix:x"], "--listen unix:x: people come in by HOST:PORT"),
])
def test_what_the_server_does_not_take(tmp_path, args, says):
    done = subprocess.run([podium_bin(), "serve", "--data", tmp_path / "data", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert not (tmp_path / "data").exists()
