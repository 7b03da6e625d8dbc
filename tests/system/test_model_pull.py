"""podium model pull hf://owner/name, against a stand-in for the hub on this machine."""
import fcntl
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse

import pytest
from conftest import FIXTURES, podium_bin

TINY = FIXTURES / "models" / "tiny-llama"
COMMIT = "c0ffee" + "0" * 34


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """Serves files as a hub does, and misbehaves as told."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.seen = {}, []  # name -> bytes; (path, headers)
        self.cut = {}  # name -> list of bytes to send before the connection breaks
        self.lie = {}  # name -> other bytes to send
        self.redirect = None  # base URL that large files are fetched from
        self.token = None
        self.no_range = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listing(self):
        rows = []
        for name, data in self.files.items():
            row = {"rfilename": name, "size": len(data), "blobId": git_id(data)}
            if name.endswith((".safetensors", ".bin", ".gguf")):
                row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            rows.append(row)
        return {"id": "owner/name", "sha": COMMIT, "siblings": rows}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        hub = self.server
        path = urllib.parse.unquote(self.path.split("?")[0])
        hub.seen.append((self.path, dict(self.headers)))
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}" and not path.startswith("/cdn/"):
            return self.answer(401, b'{"error":"Invalid username or password."}')
        if path.startswith("/api/models/owner/name/revision/"):
            revision = path.rsplit("/revision/")[1]
            ok = revision in ("main", "refs/pr/1")
            return self.answer(200 if ok else 404, json.dumps(hub.listing()).encode() if ok else b"{}")
        name = path.rsplit("/", 1)[1]
        if not path.startswith((f"/owner/name/resolve/{COMMIT}/", "/cdn/")) or name not in hub.files:
            return self.answer(404)
        if hub.redirect and name.endswith(".safetensors") and not path.startswith("/cdn/"):
            return self.answer(302, b"Found. Redirecting", Location=f"{hub.redirect}/cdn/{name}?sig=1")
        data = hub.lie.get(name, hub.files[name])
        start = 0
        if not hub.no_range and self.headers.get("Range", "").startswith("bytes="):
            start = int(self.headers["Range"][6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = hub.cut.get(name)
        if cut:
            self.wfile.write(data[start : start + cut.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        self.wfile.write(data[start:])
        return None


@pytest.fixture
def hub():
    server = Hub()
    for file in TINY.iterdir():
        server.files[file.name] = file.read_bytes()
    server.files["pytorch_model.bin"] = b"not wanted"
    server.files["model.onnx"] = b"not wanted"
    server.files["chat_template.json"] = b"not wanted: a processor's"
    server.files[".gitattributes"] = b"*.bin filter=lfs"
    server.files["small.gguf"] = b"GGUF" + bytes(5000)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def pull(hub, tmp_path):
    def run(url="hf://owner/name", *flags, code=0, token=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "http", "HTTP"))}
        env |= {"HF_ENDPOINT": hub.url + "/", "PODIUM_MODELS": str(tmp_path / "models")}
        if token:
            env["HF_TOKEN"] = token
        done = subprocess.run([podium_bin(), "model", "pull", url, *map(str, flags)], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        return done.stdout.strip() if code == 0 else done.stderr

    return run


def gets(hub, name):
    return [headers for path, headers in hub.seen if path.split("?")[0].endswith("/" + name)]


def test_what_is_needed_comes_and_opens(podium, hub, pull, tmp_path):
    path = pull()
    assert path == str(tmp_path / "models" / "owner" / "name")
    assert sorted(os.listdir(path)) == sorted([f.name for f in TINY.iterdir()] + ["podium-pull.json"])
    for file in TINY.iterdir():
        assert (tmp_path / "models/owner/name" / file.name).read_bytes() == file.read_bytes()
    assert json.loads(podium("model", "info", path, "--json"))["family"] == "llama"
    before = len(hub.seen)
    assert pull() == path and len(hub.seen) == before + 1  # the listing only
    hub.files["config.json"] += b"\n"
    assert pull() == path  # another size: fetched again
    assert (tmp_path / "models/owner/name/config.json").read_bytes() == hub.files["config.json"]
    assert sorted(os.listdir(tmp_path / "models" / "owner")) == ["name"]


def test_a_broken_transfer_goes_on(hub, pull):
    size = len(hub.files["model.safetensors"])
    hub.cut["model.safetensors"] = [1000, 70000, 0]
    assert pull()
    starts = [h.get("Range") for h in gets(hub, "model.safetensors")]
    assert starts == [None, "bytes=1000-", "bytes=71000-", "bytes=71000-"] and size > 71000


def test_it_goes_on_in_another_run_too(hub, pull, tmp_path):
    hub.cut["model.safetensors"] = [5000] + [0] * 20
    assert "model.safetensors" in pull(code=1)
    owner = tmp_path / "models" / "owner"
    assert os.listdir(owner) == ["name.partial"]  # nothing looks whole
    assert (owner / "name.partial" / "model.safetensors.part").stat().st_size == 5000
    hub.cut.clear()
    hub.seen.clear()
    assert pull()
    assert [h.get("Range") for h in gets(hub, "model.safetensors")] == ["bytes=5000-"]
    assert not gets(hub, "tokenizer.json")  # was whole
    assert os.listdir(owner) == ["name"]


def test_a_hub_without_ranges_sends_it_whole(hub, pull, tmp_path):
    hub.no_range = True
    hub.cut["model.safetensors"] = [1000]
    path = pull()
    assert (tmp_path / path / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_wrong_checksum_is_thrown_away(hub, pull, tmp_path, name):
    data = bytearray(hub.files[name])
    data[100] ^= 1
    hub.lie[name] = bytes(data)
    assert f"{name} of owner/name" in pull(code=1) and not (tmp_path / "models/owner/name").exists()
    assert not list(tmp_path.rglob(name + "*"))
    hub.lie[name] = hub.files[name] + b"more"
    assert "more than its" in pull(code=1)
    hub.lie.clear()
    assert pull()


def test_tokens_and_refusals(hub, pull):
    hub.token = "hf_secret"
    assert "HF_TOKEN" in pull(code=1)
    assert "HF_TOKEN does not open it" in pull(code=1, token="hf_wrong")
    assert pull(token="hf_secret")
    hub.token = None
    assert "has no /api/models/owner/name/revision/gone" in pull("hf://owner/name@gone", code=1)
    assert "hf://owner/name" in pull("hf://owner", code=2)
    assert "hf://owner/name" in pull("hf://../name", code=2)
    assert "characters that no token has" in pull(code=2, token="a\r\nX: y")


def test_the_token_stays_with_the_hub(hub, pull):
    other = Hub()
    other.files = hub.files
    hub.redirect, hub.token = other.url, "hf_secret"
    assert pull(token="hf_secret")
    assert gets(hub, "model.safetensors")[0]["Authorization"] == "Bearer hf_secret"
    assert len(other.seen) == 1 and "Authorization" not in other.seen[0][1]
    other.shutdown()
    other.server_close()


def test_redirects_elsewhere_are_refused(hub, pull, tmp_path):
    hub.redirect = "file:///etc"
    assert "302" in pull(code=1) or "rotocol" in pull(code=1)
    hub.redirect = hub.url + "/owner/name/resolve/nowhere"
    assert pull(code=1)
    assert not (tmp_path / "models/owner/name").exists()


def test_a_revision_and_one_file(hub, pull, tmp_path):
    assert pull("hf://owner/name@refs/pr/1") == str(tmp_path / "models" / "owner" / "name@refs-pr-1")
    assert any("refs%2Fpr%2F1" in path for path, _ in hub.seen)
    one = pull("hf://owner/name/small.gguf")
    assert open(one, "rb").read() == hub.files["small.gguf"] and one.endswith("/small.gguf")
    out = pull("hf://owner/name/small.gguf", "--out", tmp_path / "x.gguf")
    assert out == str(tmp_path / "x.gguf") and (tmp_path / "x.gguf").exists() and not (tmp_path / "x.gguf.pull").exists()


def test_torch_weights_where_there_are_no_others(hub, pull):
    del hub.files["model.safetensors"]
    path = pull()
    assert "pytorch_model.bin" in os.listdir(path) and "model.onnx" not in os.listdir(path)
    shutil.rmtree(path)
    del hub.files["pytorch_model.bin"]
    assert "hf://owner/name/FILE" in pull(code=1)


def test_what_is_not_ours_is_left_alone(hub, pull, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    assert "was not fetched from a hub" in pull("hf://owner/name", "--out", tmp_path / "mine", code=1)
    assert "is a folder; --out names the file" in pull("hf://owner/name/small.gguf", "--out", tmp_path / "mine", code=1)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep"
    assert not hub.seen  # said before anything is asked for


def test_one_pull_at_a_time(pull, tmp_path):
    partial = tmp_path / "model.partial"
    partial.mkdir()
    other = os.open(partial, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert "another pull is writing into" in pull("hf://owner/name", "--out", tmp_path / "model", code=1)
    assert os.listdir(partial) == []
    os.close(other)
    assert pull("hf://owner/name", "--out", tmp_path / "model") and not partial.exists()


def test_what_stands_beside_is_left_alone(hub, pull, tmp_path, monkeypatch):
    """A newer commit replaces the folder, not a copy that someone made of it."""
    place = tmp_path / "place"
    pull("hf://owner/name", "--out", place / "model")
    shutil.copytree(place / "model", place / "model.old")
    newer = COMMIT[::-1]
    monkeypatch.setitem(globals(), "COMMIT", newer)
    pull("hf://owner/name", "--out", place / "model")
    assert newer in (place / "model" / "podium-pull.json").read_text()
    assert newer not in (place / "model.old" / "podium-pull.json").read_text()
    assert sorted(os.listdir(place)) == ["model", "model.old"]
    (place / "other.partial").mkdir()
    (place / "other.partial" / "thesis.txt").write_text("keep")
    assert "in the way" in pull("hf://owner/name", "--out", place / "other", code=1)
    assert (place / "other.partial" / "thesis.txt").read_text() == "keep"


def test_a_listing_that_lies(hub, pull, tmp_path, monkeypatch):
    rows = hub.listing()["siblings"]
    for bad in ({"sha": COMMIT}, {"sha": "x", "siblings": rows}, {"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}):
        monkeypatch.setattr(hub, "listing", lambda bad=bad: bad)
        assert len(pull(code=1).splitlines()) == 1
    escape = [{**rows[0], "rfilename": "../../escape.json"}, *rows]
    monkeypatch.setattr(hub, "listing", lambda: {"sha": COMMIT, "siblings": escape})
    assert pull() and not list(tmp_path.rglob("escape.json"))
