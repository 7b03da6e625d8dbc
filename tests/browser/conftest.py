"""Chromium against the screens. The mock of ui/dev stands in for the server wherever a test is about the screens alone;
test_loop.py runs the real binary. Every page fails its test when it logs an error or moves what was already drawn."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
UI = ROOT / "ui"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Layout shifts and long waits between a key and its paint, as the browser itself measures them.
WATCH = """
window.__shift = 0; window.__shifts = []; window.__inp = [];
new PerformanceObserver((l) => { for (const e of l.getEntries()) if (!e.hadRecentInput) { window.__shift += e.value; window.__shifts.push(location.pathname.slice(0, 12), e.sources.map((s) => s.node && `${s.node.nodeName}.${s.node.className?.baseVal ?? s.node.className ?? ''} “${(s.node.textContent ?? '').slice(0, 30)}” ${s.previousRect.x},${s.previousRect.y} to ${s.currentRect.x},${s.currentRect.y}`)); } }).observe({type: 'layout-shift', buffered: true});
new PerformanceObserver((l) => { for (const e of l.getEntries()) if (e.name === 'keydown') window.__inp.push(e.duration); }).observe({type: 'event', durationThreshold: 16, buffered: true});
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def newest(*paths):
    return max((p.stat().st_mtime for root in paths for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file()), default=0)


@pytest.fixture(scope="session")
def dist():
    """ui/dist, built when it is missing or older than its sources."""
    index = UI / "dist" / "index.html"
    if not index.exists() or index.stat().st_mtime < newest(UI / "src", UI / "build.mjs"):
        if not (UI / "node_modules").exists():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=UI, check=True)
        subprocess.run(["node", "build.mjs"], cwd=UI, check=True)
    return UI / "dist"


class Mock:
    def __init__(self, base):
        self.base = base

    def tell(self, what, **body):
        request = urllib.request.Request(f"{self.base}/mock/{what}", data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=5) as r:
            return json.load(r)

    def log(self, prefix="", method=None):
        return [e for e in self.tell("log") if e["path"].startswith(prefix) and method in (None, e["method"])]

    def judgments(self):
        return [e["body"] for e in self.log("/judgments", "POST") if not e["path"].endswith("/undo")]


@pytest.fixture
def mock(dist):
    port = free_port()
    process = subprocess.Popen(["node", str(UI / "dev" / "mock.mjs"), "--port", str(port), "--quick"], stdout=subprocess.PIPE, text=True)
    assert "sign-in" in process.stdout.readline()
    yield Mock(f"http://127.0.0.1:{port}")
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def chromium():
    if not CHROMIUM:
        pytest.fail("no Chromium: install Debian's package chromium, or name one in CHROMIUM")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else []))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """open_page(base, scheme=..., width=...) -> a page whose errors and shifts are checked when the test ends."""
    contexts, watched = [], []

    def make(scheme="light", width=1440, height=900, **more):
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 700, **more)
        context.add_init_script(WATCH)
        context.set_default_timeout(30_000)
        page = context.new_page()
        errors = []
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.errors = errors
        page.expected_errors = ("401 (Unauthorized)",)  # asking who is signed in before anybody is
        contexts.append(context)
        watched.append(page)
        return page

    yield make
    problems = []
    for page in watched:
        problems += [e for e in page.errors if not any(x in e for x in page.expected_errors)]
        shift = page.evaluate("[window.__shift, JSON.stringify(window.__shifts)]")
        if shift[0] > 0:
            problems.append(f"layout shift {shift[0]} of {shift[1]} on {page.url}")
    for c in contexts:
        c.close()
    assert not problems, problems


@pytest.fixture
def signed_in(mock, open_page):
    """signed_in(**page options) -> (page, ids of the mock's datasets by name), signed in through a link."""

    def make(**options):
        page = open_page(**options)
        page.goto(f"{mock.base}/sign-in#demo")
        page.wait_for_url(f"{mock.base}/")
        found = page.evaluate("fetch('/ui/datasets').then((r) => r.json())")
        return page, {d["name"]: d["id"] for d in found["datasets"]}

    return make


@pytest.fixture
def labeling(mock, signed_in):
    """labeling(dataset name, **page options) -> a page with its first task in front."""

    def make(name="First comparisons", **options):
        page, ids = signed_in(**options)
        page.goto(f"{mock.base}/datasets/{ids[name]}/label")
        page.wait_for_selector(".task:not([inert]) .reader")
        settle(page)
        return page

    return make


def settle(page):
    """Until the guard that holds keys back after a new task is over."""
    page.wait_for_selector("html:not([data-guarded])", state="attached")


def prompt_of(page):
    return page.inner_text(".task:not([inert]) .context .reader")


def until(what, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"still {what()!r} after {seconds} s")
