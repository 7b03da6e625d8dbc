"""The one button: jobs of a server with a worker, on a tiny model, seen as the run page sees them."""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from conftest import FIXTURES, podium_bin
from serving import Server, wait_for
from test_serve import judgment, make_dataset, new_id

REWARD = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "freeze_layers": 0.0, "max_length": 512}
LONG = {**REWARD, "epochs": 100, "batch_size": 2}  # below the 2,000 steps from which on the server thins their rows
lengthy = pytest.mark.parametrize("loop", [" and so on" * 30], indirect=True)  # and each takes its time
IMPROVE = {"max_steps": 4, "rollout_batch": 4, "response_length": 8, "learning_rate": 1e-3}


@pytest.fixture
def loop(tmp_path, request):
    """A server with its worker, a tiny model to choose, and a labeled dataset (its answers end in the parameter)."""
    models = tmp_path / "models"
    models.mkdir()
    shutil.copytree(FIXTURES / "models" / "tiny-llama", models / "tiny-llama")
    s = Server(tmp_path / "data", "--models", str(models)).start()
    s.ui_owner = s.owner()
    s.dataset = make_dataset(s.ui_owner, "tiny", n=48, more=getattr(request, "param", ""))
    while tasks := s.ui_owner.post(f"/datasets/{s.dataset}/tasks", {"n": 16})["tasks"]:
        for t in tasks:
            s.ui_owner.post("/judgments", judgment(t, "b"), 201)
    yield s
    s.stop()


def start(s, kind, args, **more):
    body = {"id": new_id(), "kind": kind, "dataset": s.dataset, "snapshot": None, "model": "tiny-llama",
            "args": args, **more}
    job = s.ui_owner.post("/jobs", body, 201)
    assert job["id"] == body["id"] and s.ui_owner.post("/jobs", body, 200)["id"] == body["id"]
    return job["id"]


def ended(s, run, seconds=120):
    def look():
        r = s.ui_owner.get(f"/runs/{run}")
        return r if r["state"] in ("done", "failed", "interrupted") else None
    return wait_for(look, seconds, 0.3)


def log_of(s, run):
    path = s.data / "jobs" / run / "log.txt"
    return path.read_text()[-2000:] if path.exists() else "(no log)"


def test_train_improve_compare_send_back(loop):
    ui = loop.ui_owner
    form = wait_for(lambda: (f := ui.get(f"/datasets/{loop.dataset}/jobs/form?kind=train_reward"))["blocked"] is None and f)
    assert form["pairs"] == 48 and form["models"][0]["id"] == "tiny-llama" and form["args"]["freeze_layers"] == 0.7
    assert ui.get(f"/datasets/{loop.dataset}/jobs/form?kind=improve")["blocked"]["code"] == "no_reward"
    r = ui.call("POST", "/jobs", {"id": new_id(), "kind": "train_reward", "dataset": loop.dataset, "snapshot": None,
                                  "model": "tiny-llama", "args": {"epochs": 1, "command": "rm -rf /"}}, 422)
    assert r.json()["error"]["field"] == "command"
    ui.post("/jobs", {"id": new_id(), "kind": "train_reward", "dataset": loop.dataset, "snapshot": None,
                      "model": "../../etc", "args": {}}, 422)

    reward = start(loop, "train_reward", REWARD)
    with ui.http.get(f"{loop.url}/ui/runs/{reward}/events", stream=True, timeout=120) as live:
        assert live.headers["Content-Type"] == "text/event-stream"
        text = "".join(live.iter_content(decode_unicode=True, chunk_size=None))  # until the server ends it
    run = ended(loop, reward)
    assert run["state"] == "done", run["error"] + log_of(loop, reward)
    events = [dict(line.split(": ", 1) for line in e.split("\n")) for e in text.strip().split("\n\n") if not e.startswith(":")]
    rows = [row for e in events if e["event"] == "metrics" for row in json.loads(e["data"])["rows"]]
    assert [r["step"] for r in rows] == list(range(1, len(rows) + 1)) and "loss" in rows[0]
    assert json.loads(events[-1]["data"]) == {"state": "done"} and events[-1]["event"] == "end"
    assert run["total_steps"] == len(rows) and run["step"] == len(rows)
    assert run["snapshot"]["hash"] and run["config"]["learning-rate"] == 1e-3 and run["dataset"]["name"] == "tiny"
    got = ui.get(f"/runs/{reward}/metrics?since=2")
    assert got["rows"][0]["step"] == 3 and got["last"] == len(rows)
    ev = ui.get(f"/runs/{reward}/eval")
    assert ev["kind"] == "reward" and 0 <= ev["accuracy"] <= 1 and run["headline"]["key"] == "eval_accuracy"
    assert ui.call("GET", f"/runs/{reward}/report").text.lstrip().startswith("<!doctype html>")

    policy = start(loop, "improve", IMPROVE, reward=reward)
    run = ended(loop, policy)
    assert run["state"] == "done", run["error"] + log_of(loop, policy)
    assert run["has"] == {"samples": True, "eval": True, "report": True} and run["can"]["send"]
    samples = ui.get(f"/runs/{policy}/samples")
    assert samples["samples"][0]["policy"]["text"] is not None and samples["step"] == samples["steps"][-1]
    ev = ui.get(f"/runs/{policy}/eval")
    assert ev["kind"] == "policy" and ev["wins"] + ev["losses"] + ev["ties"] == ev["n"] == len(ev["items"])
    sent = ui.post(f"/runs/{policy}/send", {"id": new_id(), "name": "round two", "n": 10}, 201)
    task = ui.post(f"/datasets/{sent['dataset']['id']}/tasks", {"n": 1})["tasks"][0]
    assert sent["records"] >= 1 and {"prompt", "a", "b"} <= set(task["record"]["fields"])
    over = ui.get(f"/datasets/{loop.dataset}/overview")
    assert over["steps"]["reward"]["state"] == over["steps"]["policy"]["state"] == "done" and over["next"] == "send"
    assert [r["id"] for r in ui.get(f"/runs?dataset={loop.dataset}")["runs"]] == [policy, reward]


@lengthy
def test_stop_and_resume(loop):
    ui = loop.ui_owner
    wait_for(lambda: ui.get(f"/datasets/{loop.dataset}/jobs/form?kind=train_reward")["blocked"] is None)
    run = start(loop, "train_reward", LONG)
    wait_for(lambda: ui.get(f"/runs/{run}")["step"] >= 3, 60)
    ui.post(f"/jobs/{run}/stop", {}, 202)
    stopped = ended(loop, run)
    assert stopped["state"] == "interrupted" and stopped["can"]["resume"], log_of(loop, run)
    before = ui.get(f"/runs/{run}/metrics")["last"]
    ui.post(f"/jobs/{run}/stop", {}, 409)
    ui.post(f"/jobs/{run}/resume", {}, 202)
    wait_for(lambda: ui.get(f"/runs/{run}")["step"] > before + 2, 60)
    rows = ui.get(f"/runs/{run}/metrics")["rows"]
    assert [r["step"] for r in rows] == list(range(1, len(rows) + 1))
    ui.post(f"/jobs/{run}/stop", {}, 202)
    ended(loop, run)


def children(pid):
    out = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {int(line.split()[0]): line.split(None, 1)[1] for line in out.splitlines()}


@lengthy
def test_killed_worker(loop):
    """Its trainer dies with it, the server starts another, and after 30 s of silence the job goes on."""
    ui = loop.ui_owner
    wait_for(lambda: ui.get(f"/datasets/{loop.dataset}/jobs/form?kind=train_reward")["blocked"] is None)
    run = start(loop, "train_reward", LONG)
    wait_for(lambda: ui.get(f"/runs/{run}")["step"] >= 25, 90)  # a checkpoint is written every 20 steps
    worker = next(p for p, a in children(loop.process.pid).items() if " worker " in a)
    trainer = next(p for p, a in children(worker).items() if "train reward" in a)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{trainer}") or "(zombie)" in open(f"/proc/{trainer}/status").read(), 30)
    wait_for(lambda: any(" worker " in a for a in children(loop.process.pid).values()), 20)
    before = ui.get(f"/runs/{run}/metrics")["last"]
    wait_for(lambda: ui.get(f"/runs/{run}/metrics")["last"] > before, 90)
    rows = ui.get(f"/runs/{run}/metrics")["rows"]
    steps = [r["step"] for r in rows]
    assert steps == sorted(set(steps)), "resuming wrote steps twice"
    ui.post(f"/jobs/{run}/stop", {}, 202)
    ended(loop, run)


@lengthy
def test_worker_on_its_own_without_a_server(loop, tmp_path):
    ui = loop.ui_owner
    wait_for(lambda: ui.get(f"/datasets/{loop.dataset}/jobs/form?kind=train_reward")["blocked"] is None)
    run = start(loop, "train_reward", LONG)
    wait_for(lambda: ui.get(f"/runs/{run}")["step"] >= 1, 60)
    assert loop.stop() == 0  # the trainer saves its state, the job waits
    assert json.loads((loop.data / "runs" / run / "run.json").read_text())["state"] == "interrupted"
