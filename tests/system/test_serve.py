"""podium serve as people and programs meet it: the real binary, real HTTP, real kills."""
import concurrent.futures
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import uuid

import pytest
import requests

from conftest import podium_bin
from serving import UI, Server, wait_for


def new_id():
    return str(uuid.uuid4())


def make_dataset(ui, name="pairs", template="pairwise", n=6, answers=None, more=""):
    """A published dataset of n records, whose answers end in `more`; returns its id."""
    body = {"id": new_id(), "name": name, "template": template}
    if answers:
        body["answers"] = answers
    ds = ui.post("/datasets", body, 201)
    rows = [{"prompt": f"Question {i}?", "answers": [{"text": f"answer {c} of {i}" + "." * k + more, "model": "m"}
                                                      for k, c in enumerate("abcdefg"[:answers or 2])]} for i in range(n)]
    data = "".join(json.dumps(r) + "\n" for r in rows)
    if n:
        done = ui.call("POST", f"/datasets/{ds['id']}/import?name=a.jsonl", data=data.encode(),
                       headers={"Content-Type": "application/octet-stream"}, status=200).json()
        assert done["records"] == n and done["shape"], done
    return ds["id"]


def judgment(task, winner="a", **more):
    loser = "b" if winner == "a" else "a"
    return {"id": new_id(), "record": task["record"]["id"], "lease": task["lease"] and task["lease"]["id"],
            "status": "submitted", "shown": task["order"], "seconds": 4.5, "guideline": None, "why": None,
            "reason": None, "flag": None, "at": "2026-01-01T00:00:00Z",
            "values": {"preference": {"value": [[winner], [loser]], "strength": 2, "both_bad": False}}, **more}


def annotator(server, owner, name, workspace="podium"):
    user = owner.post("/users", {"username": name, "role": "annotator", "workspaces": [workspace],
                                 "password": "password-" + name}, 201)
    ui = server.ui()
    ui.sign_in(username=name, password="password-" + name)
    ui.user = user
    return ui


# ------------------------------------------------------------------ coming in

def test_first_start_prints_a_link_that_works_once(server):
    token = server.link.split("#")[1]
    ui = server.ui()
    assert ui.call("GET", "/me").status_code == 401
    me = ui.sign_in(token=token)
    assert me["user"]["role"] == "owner" and me["user"]["has_password"] is False
    assert ui.get("/me")["user"]["username"] == "owner"
    again = server.ui().call("POST", "/session", {"token": token}, 401)
    assert again.json()["error"]["code"] == "link_used"
    cookie = next(c for c in ui.http.cookies if c.name == "podium_session")
    assert cookie.path == "/ui" and cookie.has_nonstandard_attr("HttpOnly")
    ui.call("DELETE", "/session", None, 204)
    assert ui.call("GET", "/me").status_code == 401


def test_passwords_and_the_limit_on_guesses(server):
    owner = server.owner()
    owner.call("PUT", "/me/password", {"new": "short"}, 422)
    owner.call("PUT", "/me/password", {"old": "wrong one", "new": "a better one"}, 422)
    server.ui().sign_in(username="owner", password="correct horse")
    guesser = server.ui()
    codes = [guesser.call("POST", "/session", {"username": "owner", "password": "guess"}).status_code
             for _ in range(12)]
    assert codes[0] == 401 and codes[-1] == 429
    last = guesser.call("POST", "/session", {"username": "owner", "password": "correct horse"})
    assert last.status_code == 429 and int(last.headers["Retry-After"]) > 0


def test_keys_of_ones_own(server):
    owner = server.owner()
    assert owner.call("GET", "/me").json()["keys"] == {}
    owner.call("PUT", "/me/keys", {"keys": {"skip": "q", "digit6": "w"}}, 204)
    assert owner.call("GET", "/me").json()["keys"] == {"skip": "q", "digit6": "w"}
    for bad in (None, [], "q", {"skip": 1}, {"skip": ""}, {"skip": "x" * 25}, {"x" * 33: "q"}, {f"c{i}": "q" for i in range(65)}):
        assert "keys" in owner.call("PUT", "/me/keys", {"keys": bad}, 422).json()["error"]["message"]
    assert owner.call("GET", "/me").json()["keys"] == {"skip": "q", "digit6": "w"}
    owner.call("PUT", "/me/keys", {"keys": {}}, 204)
    assert owner.call("GET", "/me").json()["keys"] == {}


def test_invite_and_roles(server):
    owner = server.owner()
    ann = annotator(server, owner, "ann")
    assert ann.get("/me")["user"]["role"] == "annotator"
    link = owner.post(f"/users/{ann.user['id']}/invite")
    assert link["url"].startswith(server.url + "/sign-in#")
    fresh = server.ui()
    assert fresh.sign_in(token=link["url"].split("#")[1])["user"]["username"] == "ann"
    names = [u["username"] for u in owner.get("/users")["users"]]
    assert names == ["owner", "ann"]
    owner.post("/users", {"username": "ann", "role": "annotator", "workspaces": ["podium"]}, 409)
    owner.call("DELETE", f"/users/{ann.user['id']}", None, 204)
    assert ann.call("GET", "/me").status_code == 401


def test_a_page_of_another_site_can_do_nothing(server):
    owner = server.owner()
    body = {"id": new_id(), "name": "x", "template": "pairwise"}
    for origin in ["http://evil.example", "null", server.url + ".evil.example", None]:
        r = owner.http.post(server.url + "/ui/datasets", json=body, headers={"Origin": origin})
        assert r.status_code == 403, origin
    r = owner.http.post(server.url + "/ui/datasets", data=json.dumps(body), headers={"Content-Type": "text/plain"})
    assert r.status_code == 415
    page = requests.get(server.url + "/sign-in")
    assert page.status_code == 200 and "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff" and page.headers["Referrer-Policy"] == "no-referrer"
    assert owner.call("GET", "/me").headers["Cache-Control"] == "no-store"


# who may: role -> expected status by (method, path); d = a dataset of workspace podium
MATRIX = [
    ("GET", "/ui/me", None, {"nobody": 401, "stranger": 200, "annotator": 200, "admin": 200, "owner": 200}),
    ("GET", "/ui/datasets/{d}", None, {"nobody": 401, "stranger": 403, "annotator": 200, "admin": 200, "owner": 200}),
    ("POST", "/ui/datasets/{d}/tasks", {"n": 1}, {"nobody": 401, "stranger": 403, "annotator": 200, "admin": 200, "owner": 200}),
    ("GET", "/ui/datasets/{d}/overview", None, {"nobody": 401, "stranger": 403, "annotator": 403, "admin": 200, "owner": 200}),
    ("GET", "/ui/datasets/{d}/export?format=trl", None, {"nobody": 401, "stranger": 403, "annotator": 403, "admin": 200, "owner": 200}),
    ("GET", "/ui/datasets/{d}/records", None, {"nobody": 401, "stranger": 403, "annotator": 403, "admin": 200, "owner": 200}),
    ("PUT", "/ui/datasets/{d}/guidelines", {"text": "g"}, {"nobody": 401, "stranger": 403, "annotator": 403, "admin": 200, "owner": 200}),
    ("GET", "/ui/datasets/{d}/jobs/form?kind=improve", None, {"nobody": 401, "stranger": 403, "annotator": 403, "admin": 200, "owner": 200}),
    ("GET", "/ui/users", None, {"nobody": 401, "stranger": 403, "annotator": 403, "admin": 200, "owner": 200}),
    ("GET", "/ui/runs?dataset={d}", None, {"nobody": 401, "stranger": 403, "annotator": 200, "admin": 200, "owner": 200}),
    ("GET", "/api/users", None, {"nobody": 401, "annotator": 401, "admin": 401, "owner": 401}),  # cookies serve /ui/ only
    ("POST", "/op/status", {}, {"nobody": 403, "owner": 403}),
]


def test_policy_matrix(server):
    owner = server.owner()
    d = make_dataset(owner, n=2)
    owner.post("/users", {"username": "lead", "role": "admin", "workspaces": ["podium"], "password": "password-lead"}, 201)
    other = server.ui()
    subprocess.run([podium_bin(), "user", "add", "stranger", "--workspace", "elsewhere", "--password", "password-stranger",
                    "--role", "annotator", "--data", str(server.data)], check=True, capture_output=True)
    who = {"nobody": server.ui(), "owner": owner, "annotator": annotator(server, owner, "ann"), "stranger": other,
           "admin": server.ui()}
    who["admin"].sign_in(username="lead", password="password-lead")
    other.sign_in(username="stranger", password="password-stranger")
    for method, path, body, expected in MATRIX:
        for role, status in expected.items():
            r = who[role].http.request(method, server.url + path.format(d=d), json=body)
            assert r.status_code == status, f"{role} {method} {path}: {r.status_code} {r.text[:200]}"
    # a lead of one workspace gives out no more than they have
    who["admin"].post("/users", {"username": "boss", "role": "owner", "workspaces": ["podium"]}, 403)
    who["admin"].post("/users", {"username": "x", "role": "annotator", "workspaces": ["elsewhere"]}, 403)


# ------------------------------------------------------------------ bad requests

def test_bad_requests_get_a_reason(server):
    owner = server.owner()
    d = make_dataset(owner, n=2)
    r = owner.http.post(server.url + "/ui/judgments", data=b"{nonsense", headers={"Content-Type": "application/json"})
    assert r.status_code == 400 and "request body" in r.json()["error"]["message"]
    r = owner.http.post(server.url + "/ui/judgments", data=b'{"comment":"\\udc00"}', headers={"Content-Type": "application/json"})
    assert r.status_code == 400 and "byte 12: \\udc00 is half of a surrogate pair" in r.json()["error"]["message"]
    r = owner.call("POST", "/session", {"username": "x" * 70000, "password": "y"})
    assert r.status_code == 413 and "65536" in r.json()["error"]["message"]
    deep = "[" * 5000 + "]" * 5000
    r = owner.http.post(server.url + "/ui/judgments", data=deep, headers={"Content-Type": "application/json"})
    assert r.status_code == 400
    task = owner.post(f"/datasets/{d}/tasks", {"n": 1})["tasks"][0]
    for change, word in [({"values": {}}, "preference"), ({"status": "maybe"}, "status"), ({"id": "7"}, "uuid"),
                         ({"values": {"preference": {"value": [["a"], ["zebra"]]}}}, "preference"),
                         ({"values": {"preference": {"value": [["a"]]}}}, "preference"),
                         ({"flag": {"kind": "boring"}}, "flag"), ({"shown": "ab"}, "shown")]:
        r = owner.call("POST", "/judgments", {**judgment(task), **change}, 422)
        assert word in r.json()["error"]["message"], r.text
    assert owner.call("POST", "/judgments", {**judgment(task), "record": new_id()}).status_code == 404
    assert owner.call("GET", f"/datasets/{new_id()}").status_code == 404
    assert owner.call("GET", "/datasets/nonsense").status_code == 404
    assert owner.call("GET", "/nothing").status_code == 404
    assert owner.call("PATCH", f"/datasets/{d}", {}).status_code == 405
    bad = b'{"prompt": "p"}\n{"prompt": "q", "answers": "no list"}\n'
    r = owner.call("POST", f"/datasets/{d}/import?name=f.jsonl", data=bad,
                   headers={"Content-Type": "application/octet-stream"})
    assert r.status_code == 422, r.text


# ------------------------------------------------------------------ labeling

def test_label_undo_draft_history(server):
    owner = server.owner()
    d = make_dataset(owner, n=4)
    shown = owner.get(f"/datasets/{d}")
    assert shown["answers"] == ["a", "b"] and shown["questions"][0]["type"] == "pairwise"
    got = owner.post(f"/datasets/{d}/tasks", {"n": 3, "have": []})
    assert len(got["tasks"]) == 3 and got["counts"]["in_hand"] == 3 and got["empty"] is None
    task = got["tasks"][0]
    assert sorted(task["order"]) == ["a", "b"] and task["record"]["fields"]["prompt"].startswith("Question")
    assert "hidden" not in json.dumps(task) and "models" not in json.dumps(task)

    # idempotency: the same judgment twice is one; the same id with another body is refused
    j = judgment(task, "b", why="clearer", flag={"kind": "harmful", "text": "hm"})
    first = owner.post("/judgments", j, 201)
    assert first["surplus"] is False and first["mine"]["submitted"] == 1
    assert owner.post("/judgments", j, 200)["mine"]["submitted"] == 1
    owner.post("/judgments", {**j, "values": judgment(task, "a")["values"]}, 409)
    more = owner.post(f"/datasets/{d}/tasks", {"n": 2, "have": [t["lease"]["id"] for t in got["tasks"][1:]]})
    assert len(more["tasks"]) == 1 and more["empty"]["reason"] == "mine_done"
    assert more["tasks"][0]["record"]["id"] not in [t["record"]["id"] for t in got["tasks"]]

    # undo crosses the submit: the values come back as a draft, with a lease
    back = owner.post(f"/judgments/{j['id']}/undo", {"id": new_id()})["task"]
    assert back["status"] == "draft" and back["lease"] and back["draft"]["why"] == "clearer"
    assert back["draft"]["values"]["preference"] == {"value": [["b"], ["a"]], "strength": 2}
    owner.call("POST", f"/judgments/{new_id()}/undo", {"id": new_id()}, 404)
    tie = judgment(task)
    tie["values"]["preference"] = {"value": [["a", "b"]], "strength": 0, "both_bad": True}
    owner.post("/judgments", tie, 201)
    owner.call("POST", f"/judgments/{j['id']}/undo", {"id": new_id()}, 409)

    # drafts: autosaved, never over an answer
    second = got["tasks"][1]["record"]["id"]
    draft = {"values": {"preference": {"value": [["a"]]}}, "why": "not sure", "flag": None, "seconds": 12.5}
    owner.call("PUT", f"/records/{second}/draft", draft, 204)
    seen = owner.get(f"/records/{second}/task")
    assert seen["status"] == "draft" and seen["draft"]["seconds"] == 12.5 and seen["draft"]["why"] == "not sure"
    assert owner.get(f"/datasets/{d}")["counts"]["drafts"] == 1
    owner.call("PUT", f"/records/{task['record']['id']}/draft", draft, 409)
    skip = {**judgment(got["tasks"][2]), "status": "discarded", "values": {}, "reason": "unclear"}
    owner.post("/judgments", skip, 201)

    mine = owner.get(f"/datasets/{d}/mine?limit=2")
    assert len(mine["items"]) == 2 and mine["items"][0]["status"] == "discarded" and mine["next"]
    rest = owner.get(f"/datasets/{d}/mine?limit=2&before={mine['next']}")
    assert rest["items"][0]["values"]["preference"]["value"] == [["a", "b"]]
    records = owner.get(f"/datasets/{d}/records?filter=skipped")["records"]
    assert len(records) == 1 and records[0]["judgments"][-1]["reason"] == "unclear"
    assert records[0]["judgments"][-1]["user"]["username"] == "owner"
    counts = owner.get(f"/datasets/{d}")["counts"]
    assert counts["submitted"] == 1 and counts["discarded"] == 1 and counts["done"] == 1
    assert counts["waiting"] + counts["in_hand"] + counts["done"] == counts["records"] == 4


def test_leases_never_exceed_the_cap(server):
    owner = server.owner()
    d = make_dataset(owner, n=6)
    people = [annotator(server, owner, f"p{i}") for i in range(4)]
    seen = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda p: p.post(f"/datasets/{d}/tasks", {"n": 2}), people):
            seen += [t["record"]["id"] for t in got["tasks"]]
    assert len(seen) == len(set(seen)) == 6
    waiting = next(p for p in people if not p.post(f"/datasets/{d}/tasks", {"n": 2, "have": []})["tasks"])
    empty = waiting.post(f"/datasets/{d}/tasks", {"n": 2})["empty"]
    assert empty["reason"] == "reserved" and empty["retry_at"]
    holder = next(p for p in people if p is not waiting)
    mine = [t["lease"]["id"] for t in holder.post(f"/datasets/{d}/tasks", {"n": 2})["tasks"]]
    renewed = holder.post("/leases/renew", {"leases": mine + [new_id()]})
    assert len(renewed["leases"]) == len(mine) and len(renewed["lost"]) == 1
    holder.call("POST", "/leases/release", {"leases": mine}, 204)
    assert len(waiting.post(f"/datasets/{d}/tasks", {"n": 2})["tasks"]) == 2
    # an answer without a lease, beyond the cap, is kept and says so
    task = waiting.post(f"/datasets/{d}/tasks", {"n": 2})["tasks"][0]
    assert waiting.post("/judgments", judgment(task), 201)["surplus"] is False
    assert holder.post("/judgments", judgment({**task, "lease": None}, "b"), 201)["surplus"] is True


def test_ranking_of_three(server):
    owner = server.owner()
    d = make_dataset(owner, "three", "ranking", 2, answers=3)
    task = owner.post(f"/datasets/{d}/tasks", {"n": 1})["tasks"][0]
    assert sorted(task["order"]) == ["a", "b", "c"]
    j = judgment(task)
    j["values"] = {"preference": {"value": [["c"], ["a", "b"]]}}
    owner.post("/judgments", j, 201)
    assert owner.get(f"/records/{task['record']['id']}/task")["draft"]["values"]["preference"]["value"] == [["c"], ["a", "b"]]
    j["values"], j["id"] = {"preference": {"value": [["c"], ["a"]]}}, new_id()
    owner.post("/judgments", j, 422)


def test_counters_live(server):
    owner = server.owner()
    d = make_dataset(owner, n=3)
    task = owner.post(f"/datasets/{d}/tasks", {"n": 1})["tasks"][0]
    with owner.http.get(f"{server.url}/ui/datasets/{d}/events", stream=True, timeout=30) as live:
        lines = live.iter_lines(decode_unicode=True)
        following = lambda: json.loads(next(line for line in lines if line.startswith("data: "))[6:])
        first = following()
        assert first["records"] == 3 and first["in_hand"] == 1 and first["submitted"] == 0
        owner.post("/judgments", judgment(task), 201)
        second = following()
        assert second["submitted"] == second["done"] == 1 and second["in_hand"] == 0


def test_a_dataset_made_twice_is_one(server):
    owner = server.owner()
    body = {"id": new_id(), "name": "once", "template": "pairwise"}
    assert owner.post("/datasets", body, 201)["id"] == owner.post("/datasets", body, 200)["id"] == body["id"]
    owner.post("/datasets", {**body, "id": new_id()}, 409)
    owner.post("/datasets", {**body, "name": "other"}, 409)


# ------------------------------------------------------------------ numbers, exports, snapshots

def test_overview_exports_snapshots(server):
    owner = server.owner()
    d = make_dataset(owner, n=10)
    ann = annotator(server, owner, "ann")
    for ui, winner in [(owner, "a"), (ann, "b")]:
        while tasks := ui.post(f"/datasets/{d}/tasks", {"n": 5})["tasks"]:
            for t in tasks[:5] if ui is ann else tasks[:3]:
                ui.post("/judgments", judgment(t, winner), 201)
            if ui is owner:
                ui.call("POST", "/leases/release", {"leases": [t["lease"]["id"] for t in tasks[3:]]}, 204)
                break
    over = owner.get(f"/datasets/{d}/overview?tz=60")
    assert over["counts"]["done"] == 10 and over["steps"]["label"]["state"] == "done"
    assert over["facts"]["judgments"] == 10 and over["facts"]["left"]["n"] == 10 and over["facts"]["longer"]["n"] == 10
    assert over["next"] == "train_reward" and over["steps"]["reward"] == {"state": "empty", "run": None, "runs": 0}
    assert {l["username"]: l["submitted"] for l in over["labelers"]} == {"owner": 3, "ann": 7}
    assert over["agreement"][0]["value"] is None and over["agreement"][0]["question"] == "preference"
    again = owner.call("GET", f"/datasets/{d}/overview?tz=60")
    assert owner.call("GET", f"/datasets/{d}/overview?tz=60", headers={"If-None-Match": again.headers["ETag"]}).status_code == 304

    pairs = owner.get(f"/datasets/{d}/pairs")
    assert pairs["pairs"] == 10 and pairs["ties"] == 0
    snap = owner.post(f"/datasets/{d}/snapshots", {"id": new_id(), "split": {"train": 0.7, "test": 0.3}}, 201)
    assert sum(snap["splits"].values()) == 10 and len(snap["hash"]) == 64
    assert owner.post(f"/datasets/{d}/snapshots", {"id": new_id(), "split": {"train": 0.7, "test": 0.3}}, 201)["hash"] == snap["hash"]
    listed = owner.get(f"/datasets/{d}/snapshots")["snapshots"]
    assert {s["hash"] for s in listed} == {snap["hash"]} and listed[0]["pairs"] == 10
    out = owner.call("GET", f"/datasets/{d}/export?format=trl&snapshot={snap['id']}&split=train", status=200)
    rows = [json.loads(line) for line in out.text.splitlines()]
    assert len(rows) == snap["splits"]["train"] and {"prompt", "chosen", "rejected"} <= set(rows[0])
    assert "attachment" in out.headers["Content-Disposition"]
    whole = owner.call("GET", f"/datasets/{d}/export?format=trl", status=200).text
    verb = subprocess.run([podium_bin(), "export", "pairs", "--format", "trl", "--data", str(server.data)],
                          capture_output=True, text=True, check=True).stdout
    assert whole == verb
    assert [f["name"] for f in owner.get("/export-formats")["formats"]][0] == "trl"
    owner.call("GET", f"/datasets/{d}/export?format=nonsense", status=422)


def test_verbs_work_while_the_server_has_the_folder(server, tmp_path):
    owner = server.owner()
    run = lambda *a, **k: subprocess.run([podium_bin(), *a, "--data", str(server.data)], capture_output=True,
                                         text=True, **k)
    made = json.loads(run("user", "add", "bea", "--role", "annotator", "--workspace", "podium", "--json", check=True).stdout)
    assert requests.get(server.url + "/api/me", headers={"X-Argilla-Api-Key": made["api_key"]}).json()["username"] == "bea"
    link = run("user", "invite", "bea", check=True).stdout.split()[-1]
    assert link.startswith(server.url) and server.ui().sign_in(token=link.split("#")[1])["user"]["username"] == "bea"
    big = tmp_path / "prompts.jsonl"
    big.write_text("".join(json.dumps({"prompt": f"p{i}", "answers": [{"text": "x" * 900}, {"text": f"y{i}" * 40}]}) + "\n"
                           for i in range(4000)))
    assert big.stat().st_size > 4 << 20
    run("import", "big", str(big), check=True)
    assert next(d for d in owner.get("/datasets")["datasets"] if d["name"] == "big")["counts"]["records"] == 4000
    bad = run("export", "nothing-of-this-name")
    assert bad.returncode == 1 and "nothing-of-this-name" in bad.stderr
    assert oct(os.stat(server.data / "podium.sock").st_mode & 0o777) == "0o600"


# ------------------------------------------------------------------ start, stop, kill

def test_port_in_use_and_bad_address(server):
    port = server.url.rsplit(":", 1)[1]
    run = lambda *a: subprocess.run([podium_bin(), "serve", "--no-worker", *a], capture_output=True, text=True, timeout=30)
    taken = run("--data", str(server.data.parent / "other"), "--listen", f"127.0.0.1:{port}")
    assert taken.returncode == 1 and "in use" in taken.stderr and taken.stderr.count("\n") == 1
    bad = run("--data", str(server.data.parent / "other"), "--listen", "nonsense:port")
    assert bad.returncode == 2 and "HOST:PORT" in bad.stderr
    same = run("--data", str(server.data), "--listen", "127.0.0.1:0")
    assert same.returncode == 1 and same.stderr.count("\n") == 1, same.stderr


def test_graceful_stop_and_restart(tmp_path):
    s = Server(tmp_path / "data", "--no-worker").start()
    owner = s.owner()
    d = make_dataset(owner, n=3)
    t = owner.post(f"/datasets/{d}/tasks", {"n": 1})["tasks"][0]
    owner.post("/judgments", judgment(t), 201)
    began = time.monotonic()
    assert s.stop() == 0 and time.monotonic() - began < 5
    assert not (s.data / "podium.sock").exists()
    s.start()
    owner.url, owner.http.headers["Origin"] = s.url, s.url  # the session outlives the process
    assert owner.get(f"/datasets/{d}")["counts"]["submitted"] == 1
    s.stop()


def test_kill_under_load_loses_nothing_acknowledged(tmp_path):
    s = Server(tmp_path / "data", "--no-worker").start()
    owner = s.owner()
    d = make_dataset(owner, n=400)
    people = [annotator(s, owner, f"p{i}") for i in range(6)]
    acknowledged, stop = [], threading.Event()

    def label(ui):
        n = 0
        while not stop.is_set():
            try:
                for t in ui.post(f"/datasets/{d}/tasks", {"n": 2})["tasks"]:
                    j = judgment(t, "b" if n % 2 else "a")
                    ui.post("/judgments", j, 201)
                    acknowledged.append(j["id"])
                    n += 1
            except (requests.RequestException, AssertionError):
                break

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(label, p) for p in people]
        end = time.monotonic() + 60
        while len(acknowledged) < 60 and time.monotonic() < end:  # in the middle of it, on a machine of any speed
            time.sleep(0.01)
        s.process.send_signal(signal.SIGKILL)
        s.process.wait()
        stop.set()
        for job in jobs:
            job.result()
    assert len(acknowledged) >= 60
    s.start()
    db = sqlite3.connect(f"file:{s.data}/podium.db?mode=ro", uri=True)
    kept = {row[0] for row in db.execute("SELECT uuid FROM judgment")}
    assert not set(acknowledged) - kept
    counts = UI(s.url)
    counts.sign_in(username="owner", password="correct horse")
    c = counts.get(f"/datasets/{d}")["counts"]
    assert c["submitted"] == len(kept) and c["done"] + c["waiting"] + c["in_hand"] == 400
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    s.stop()


def test_plain_socket_nonsense(server):
    host, port = server.url.split("//")[1].split(":")
    for junk in [b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /ui/session HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                 b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET /ui/%00%zz?%%%=&&==&a HTTP/1.1\r\nHost: x\r\n\r\n"]:
        with socket.create_connection((host, int(port)), 5) as c:
            c.sendall(junk)
            c.settimeout(10)
            try:  # the server may have hung up by now
                c.shutdown(socket.SHUT_WR)
                c.recv(4096)
            except OSError:
                pass
    assert requests.get(server.url + "/healthz").json()["status"] == "ok"
    text = requests.get(server.url + "/metrics").text
    assert 'podium_http_requests_total{class="2xx"}' in text and "podium_http_request_seconds_bucket" in text
