"""The loop against the real binary: label by keyboard, press both buttons on a tiny model, watch the runs finish, send the new answers back."""

import json
import os
import pathlib
import signal
import subprocess

import pytest

from conftest import ROOT, prompt_of, settle

TINY = ROOT / "tests" / "fixtures" / "models" / "tiny-llama"


def podium_bin():
    named = os.environ.get("PODIUM_BIN")
    for p in [named] if named else [ROOT / "build/release/podium", ROOT / "build/dev/podium"]:
        if pathlib.Path(p).exists():
            return str(p)
    pytest.fail("no podium binary: build one, or name it in PODIUM_BIN")


@pytest.fixture
def server(dist, tmp_path):
    """A server on a free port with a tiny model that jobs may start from -> (base, sign-in link, run a verb on its folder)."""
    data, models = tmp_path / "data", tmp_path / "models"
    models.mkdir()
    subprocess.run([podium_bin(), "model", "init", "--like", TINY, "--tokenizer", TINY, "--out", models / "tiny", "--seed", "7"], check=True)
    log = open(tmp_path / "serve.log", "w")
    process = subprocess.Popen([podium_bin(), "serve", "--data", data, "--listen", "127.0.0.1:0", "--models", models], stdout=subprocess.PIPE, stderr=log, text=True)
    base = process.stdout.readline().split()[-1]
    link = process.stdout.readline().split()[-1]

    def verb(*args):
        return subprocess.run([podium_bin(), *args, "--data", data], check=True, capture_output=True, text=True, timeout=60).stdout

    yield base, link, verb
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, (tmp_path / "serve.log").read_text()[-2000:]


def answers(path, n):
    subjects = ["bread", "the sea", "trains", "winter", "chess", "tea", "maps", "owls", "paper", "clocks", "rivers", "salt", "glass", "wool"]
    with open(path, "w") as f:
        for s in subjects[:n]:
            f.write(json.dumps({"prompt": f"Tell me about {s}.", "answers": [{"text": f"People have known {s} for a long time.", "model": "x"}, {"text": f"I do not know {s}.", "model": "x"}]}) + "\n")


def finished(page):
    page.wait_for_function("() => /Done|Failed|Stopped/.test(document.querySelector('.titles .state')?.innerText)", timeout=120_000)
    return page.inner_text(".titles .state")


def press_the_button(page, name, **fields):
    page.click(f"button.primary:has-text('{name}')")
    page.wait_for_selector("dialog select[name=model]")
    page.click("dialog summary")
    for k, v in fields.items():
        page.fill(f"dialog input[name={k}]", str(v))
    page.click("dialog .actions .primary")
    page.wait_for_url("**/runs/*")


def test_the_loop(server, open_page, tmp_path):
    base, link, verb = server
    answers(tmp_path / "answers.jsonl", 12)
    verb("import", "first-comparisons", tmp_path / "answers.jsonl")
    page = open_page()
    page.goto(link)
    page.wait_for_selector("text=first-comparisons")
    page.goto(base + "/")  # a second visit is answered from the browser's store
    page.click("a.primary")

    # label 12 by keyboard: whichever side does not begin with "I do not know" is better
    for i in range(12):
        page.wait_for_selector(".task:not([inert]) .reader")
        settle(page)
        before = prompt_of(page)
        left = page.inner_text(".task:not([inert]) .answer:nth-child(1) .reader")
        page.keyboard.press("6" if left.startswith("I do not know") else "2")
        page.keyboard.press("Enter")
        page.wait_for_function("(b) => document.querySelector('.nothing h2') || (document.querySelector('.task:not([inert]) .context .reader')?.innerText ?? b) !== b", arg=before)
    page.wait_for_selector("text=Everything here is labeled")

    # what was pressed is what is stored
    rows = [json.loads(line) for line in verb("export", "first-comparisons", "--format", "trl").splitlines()]
    assert len(rows) == 12
    assert all(r["rejected"].startswith("I do not know") for r in rows)

    page.click(".nothing .primary")
    page.wait_for_selector("text=12 of 12")
    press_the_button(page, "Train reward model", epochs=2, freeze_layers=0, batch_size=4)
    assert finished(page) == "Done"
    page.wait_for_selector(".chart canvas")
    page.wait_for_selector(".facts >> text=Accuracy, held out")
    page.click("summary >> text=What made this run")
    page.click(".details a >> text=first-comparisons")

    press_the_button(page, "Improve the model", max_steps=8, rollout_batch=8, response_length=12, learning_rate=0.02)
    assert finished(page) == "Done"
    page.wait_for_selector(".samples .side")
    assert page.locator(".chart").count() >= 6

    page.click("button.primary:has-text('Send to labeling')")
    page.fill("dialog input[name=n]", "5")
    page.fill("dialog input[name=name]", "second-round")
    page.click("dialog .actions .primary")
    page.wait_for_url("**/datasets/*")
    page.wait_for_selector("h1 >> text=second-round")
    assert "second-round" in verb("dataset", "list")


def test_a_run_stops_and_goes_on(server, open_page, tmp_path):
    base, link, verb = server
    answers(tmp_path / "answers.jsonl", 12)
    verb("import", "d", tmp_path / "answers.jsonl")
    page = open_page()
    page.goto(link)
    page.wait_for_selector("a.primary")
    page.evaluate("""async () => {
        const d = (await (await fetch('/ui/datasets')).json()).datasets[0];
        for (;;) {
            const t = (await (await fetch(`/ui/datasets/${d.id}/tasks`, {method: 'POST', headers: {'content-type': 'application/json'}, body: '{"n":4,"have":[],"tz":0}'})).json()).tasks;
            if (!t.length) break;
            for (const x of t) await fetch('/ui/judgments', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify({id: crypto.randomUUID(), record: x.record.id, lease: x.lease.id,
                status: 'submitted', values: {preference: {value: [[x.order[0]], [x.order[1]]], strength: 2}}, shown: x.order, seconds: 1, guideline: null, why: null, reason: null, flag: null, at: new Date().toISOString()})});
        }
    }""")
    page.click("a >> text=Open")
    page.wait_for_selector("text=12 of 12")
    press_the_button(page, "Train reward model")
    assert finished(page) == "Done"
    page.click("summary >> text=What made this run")
    page.click(".details a >> text=d")
    press_the_button(page, "Improve the model", max_steps=20_000, rollout_batch=4, response_length=8)
    page.wait_for_function("() => /step [1-9]/.test((document.querySelector('.titles')?.innerText ?? ''))", timeout=60_000)
    page.click("text=Stop and keep")
    assert finished(page) == "Stopped"
    at = page.evaluate("fetch('/ui' + location.pathname).then((r) => r.json())")["step"]
    assert at > 0
    page.click("text=Resume")
    page.wait_for_function("(at) => { const m = /step ([\\d,]+)/.exec((document.querySelector('.titles')?.innerText ?? '')); return m && Number(m[1].replace(',', '')) > at; }", arg=at, timeout=60_000)
    page.click("text=Stop and keep")
    assert finished(page) == "Stopped"
    steps = page.evaluate("fetch('/ui' + location.pathname + '/metrics?since=0').then((r) => r.json())")["rows"]
    numbers = [r["step"] for r in steps]
    assert numbers == sorted(set(numbers)), "a step was counted twice"
