"""A running server for the system tests, and a browser as far as a server can tell."""
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
import requests
from conftest import podium_bin


class UI:
    """A browser as far as the server can tell: cookies, and an Origin on every write."""

    def __init__(self, url):
        self.url, self.http = url, requests.Session()
        self.http.headers["Origin"] = url

    def call(self, method, path, body=None, status=None, **kw):
        if body is not None:
            kw["json"] = body
        r = self.http.request(method, self.url + "/ui" + path, timeout=30, **kw)
        if status is not None:
            assert r.status_code == status, f"{method} {path}: {r.status_code} {r.text}"
        return r

    def get(self, path, status=200, **kw):
        return self.call("GET", path, None, status, **kw).json()

    def post(self, path, body=None, status=200, **kw):
        r = self.call("POST", path, body if body is not None else {}, status, **kw)
        return r.json() if r.content else None

    def sign_in(self, **who):
        return self.post("/session", who)


class Server:
    """podium serve on a free port; the owner signs in through the printed link."""

    def __init__(self, data, *args, env=None):
        self.data, self.args, self.env = pathlib.Path(data), args, env
        self.process = self.url = self.link = None

    def start(self):
        self.log = open(self.data.parent / (self.data.name + ".log"), "a")
        printed = self.data.parent / (self.data.name + ".out")
        with open(printed, "w") as out:
            self.process = subprocess.Popen(
                [podium_bin(), "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", *self.args],
                stdout=out, stderr=self.log, text=True, env={**os.environ, **(self.env or {})})
        wait_for(lambda: "listening on" in printed.read_text() or self.process.poll() is not None, 60, 0.02)
        text = printed.read_text()
        match = re.match(r"listening on (http://\S+)", text)
        assert match, f"serve printed {text!r}; log: {self.tail()}"
        self.url = match.group(1)
        link = re.search(r"http\S+/sign-in#\S+", text)
        self.link = link.group(0) if link else None
        return self

    def tail(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()[-2000:]

    def stop(self, sig=signal.SIGTERM, timeout=60):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(timeout)
        code = self.process.returncode if self.process else None
        return code

    def ui(self):
        return UI(self.url)

    def owner(self):
        """A signed-in owner (the first time by the link, which then sets a password)."""
        ui = self.ui()
        if self.link:
            ui.sign_in(token=self.link.split("#")[1])
            ui.call("PUT", "/me/password", {"new": "correct horse"}, 204)
            self.link = None
        else:
            ui.sign_in(username="owner", password="correct horse")
        return ui


def wait_for(what, seconds=30, every=0.1):
    """The first true value of what(), or a failure."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(every)
    pytest.fail(f"not within {seconds} s: {what}")
