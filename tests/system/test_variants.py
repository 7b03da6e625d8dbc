"""Several models and settings in one run of podium generate, and what labelers may know of it."""
import json
import shutil
import signal
import subprocess
import time
import uuid

import pytest
import requests
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl
from test_endpoint import Handler, endpoint  # noqa: F401 (a fixture)
from test_generate import GPT2, LLAMA, make_prompts, run
from test_serve import annotator

UNTIED = FIXTURES / "models" / "tiny-llama-untied"
SHORT = ["--max-new-tokens", 10, "--chat", "off", "--dtype", "fp32", "--seed", 3]


def generate(podium, tmp_path, rows, *flags, name="a.jsonl"):
    given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / name
    podium("generate", "--prompts", given, "--out", out, "--quiet", *flags)
    return read_jsonl(out)


def by_variant(rows):
    """(prompt, model, temperature, top_k) -> ids of its answers, in no order."""
    found = {}
    for row in rows:
        for a in row["answers"]:
            p = {**row["params"], **a.get("params", {})}
            found.setdefault((row["prompt"], a["model"], p["temperature"], p["top_k"]), []).append(a["ids"])
    return {k: sorted(v) for k, v in found.items()}


def test_grid_of_models_and_settings(podium, tmp_path):
    prompts = make_prompts(6)
    flags = ["--model", GPT2, "--model", LLAMA, "--temperature", "0.7,1.5", "--top-k", "10,0", "--n", 2, *SHORT]
    rows = generate(podium, tmp_path, prompts, *flags)
    assert [r["prompt"] for r in rows] == [p["prompt"] for p in prompts]
    for row in rows:
        assert len(row["answers"]) == 2 * 2 * 2 * 2
        assert row["params"]["n"] == 2 and "temperature" not in row["params"]
        made_by = sorted((a["model"], a["params"]["temperature"], a["params"]["top_k"]) for a in row["answers"])
        assert made_by == sorted((m, t, k) for m in ("tiny-gpt2", "tiny-llama") for t in (0.7, 1.5) for k in (10, 0) for _ in "ab")
        assert all(set(a["params"]) == {"temperature", "top_k"} for a in row["answers"])
    # the place says nothing of the maker: every model stands first somewhere, and the same again next time
    assert {r["answers"][0]["model"] for r in rows} == {"tiny-gpt2", "tiny-llama"}
    assert generate(podium, tmp_path, prompts, *flags, name="b.jsonl") == rows
    # the first variant says what it says alone; the others draw from streams of their own
    alone = generate(podium, tmp_path, prompts, "--model", GPT2, "--temperature", 0.7, "--top-k", 10, "--n", 2, *SHORT)
    both = by_variant(rows)
    assert {k: v for k, v in both.items() if k[1:] == ("tiny-gpt2", 0.7, 10)} == by_variant(alone)
    one, other = (generate(podium, tmp_path, prompts, "--model", LLAMA, *x, "--n", 2, *SHORT) for x in ((), ("--top-k", "50,51")))
    drawn = by_variant(other)
    assert all(drawn[p, "tiny-llama", 1, 50] != drawn[p, "tiny-llama", 1, 51] for p in {r["prompt"] for r in one})
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.variant-*"))


def test_names_and_what_differs(podium, tmp_path):
    other = tmp_path / "deep" / "tiny-llama"
    shutil.copytree(UNTIED, other)
    (row,) = generate(podium, tmp_path, make_prompts(1), "--model", LLAMA, "--model", other, "--n", 1, *SHORT)
    assert {a["model"] for a in row["answers"]} == {str(LLAMA), str(other)}
    assert all("params" not in a for a in row["answers"]) and row["params"]["temperature"] == 1
    (row,) = generate(podium, tmp_path, make_prompts(1), "--model", LLAMA, "--model", other, "--model-name", "old",
                      "--model-name", "new", "--n", 1, *SHORT)
    assert {a["model"] for a in row["answers"]} == {"old", "new"}
    # a chat template that only one of them has is a setting that differs
    short = [x for x in SHORT if x not in ("--chat", "off")]
    (row,) = generate(podium, tmp_path, make_prompts(1), "--model", LLAMA, "--model", GPT2, "--n", 1, *short)
    assert {a["model"]: a["params"]["chat"] for a in row["answers"]} == {"tiny-llama": True, "tiny-gpt2": False}


def test_answers_alike_across_variants_are_marked(podium, tmp_path):
    """A copy of a model says the same when greedy: marked, and counted, but not drawn again."""
    shutil.copytree(LLAMA, tmp_path / "copy")
    given = write_jsonl(tmp_path / "p.jsonl", make_prompts(4))
    done = run("generate", "--model", LLAMA, "--model", tmp_path / "copy", "--prompts", given, "--out", tmp_path / "a.jsonl",
               "--n", 1, "--greedy", *SHORT, "--json", "--quiet")
    assert json.loads(done.stdout)["duplicates"] == 4
    for row in read_jsonl(tmp_path / "a.jsonl"):
        assert sorted(a.get("duplicate", False) for a in row["answers"]) == [False, True]
        assert row["answers"][0]["ids"] == row["answers"][1]["ids"]


def test_rows_pass_through_and_stdout(podium, tmp_path):
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "tea", "id": 7, "metadata": {"k": 1}, "note": "x"}, {"ids": [5, 6, 7]}])
    out = podium("generate", "--model", LLAMA, "--model", UNTIED, "--prompts", given, "--n", 1, *SHORT, "--quiet")
    a, b = [json.loads(line) for line in out.splitlines()]
    assert (a["id"], a["metadata"], a["note"], len(a["answers"])) == (7, {"k": 1}, "x", 2)
    assert b["ids"] == [5, 6, 7] and isinstance(b["prompt"], str) and len(b["answers"]) == 2


def test_answers_stand_under_their_prompt(endpoint, tmp_path, monkeypatch):  # noqa: F811
    """A variant that lacks a prompt shifts nothing, whatever the ids: given twice, or as an automatic one."""
    def half(self, prompt, body, n):
        if body["temperature"] == 0.5:
            return self.reply(400, {"error": {"message": "not at this temperature"}})
        self.answer("only warm to " + prompt)

    monkeypatch.setattr(Handler, "half", half, raising=False)
    ids = [(None, "1"), ("x", "x"), ("7", 7), (None, None)]
    for first, second in ids:
        given = [{"prompt": "half one", "id": first}, {"prompt": "ok two", "id": second}, {"prompt": "ok three"}]
        prompts, out = write_jsonl(tmp_path / "p.jsonl", given), tmp_path / "a.jsonl"
        done = run("generate", "--model", endpoint.url, "--model-name", "big", "--prompts", prompts, "--out", out, "--n", 1,
                   "--temperature", "0.9,0.5", "--skip-bad", "--quiet")
        assert done.returncode == 0, done.stderr
        rows = read_jsonl(out)
        assert rows and "ok three" in [r["prompt"] for r in rows]
        for row in rows:
            assert len(row["answers"]) == 2
            assert all(a["text"].endswith(" to " + row["prompt"]) for a in row["answers"]), row
        assert len({str(r["id"]) for r in rows}) == len(rows)


@pytest.mark.parametrize(
    "flags,code,says",
    [
        (["--temperature", "0.7,x"], 2, "--temperature"),
        (["--temperature", "0.7,0.7"], 2, "stands twice"),
        (["--temperature", "1,0"], 2, "temperature"),
        (["--top-k", "1.5"], 2, "--top-k"),
        (["--model", str(GPT2)], 2, "given twice"),
        (["--model-name", "a", "--model-name", "b"], 2, "--model-name"),
        (["--greedy", "--top-k", "1,2"], 2, "--greedy"),
        (["--model", "no/such/model"], 1, "no/such/model"),
        (["--temperature", ",".join(str(x) for x in range(1, 33)), "--top-k", "1,2,3,4,5,6,7,8,9"], 2, "variants"),
    ],
)
def test_wrong_grids(tmp_path, flags, code, says):
    given, out = write_jsonl(tmp_path / "p.jsonl", make_prompts(1)), tmp_path / "a.jsonl"
    done = run("generate", "--model", GPT2, "--prompts", given, "--out", out, *SHORT, *flags)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]


def test_every_model_sees_the_prompts_first(tmp_path):
    """A prompt too long for the second model stops the job before the first one answers."""
    rows = [{"prompt": "fine"}, {"prompt": "tea " * 300}]
    given, out = write_jsonl(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
    cmd = ["generate", "--model", LLAMA, "--model", GPT2, "--prompts", given, "--out", out, "--n", 1, *SHORT, "--quiet"]
    done = run(*cmd)
    assert done.returncode == 1 and f"{given}:2: " in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]
    done = run(*cmd, "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert [(r["prompt"], len(r["answers"])) for r in read_jsonl(out)] == [("fine", 2)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("variant", [1, 2])
def test_interrupt_and_resume(podium, tmp_path, how, variant):
    given, out = write_jsonl(tmp_path / "p.jsonl", make_prompts(40)), tmp_path / "a.jsonl"
    cmd = ["generate", "--model", LLAMA, "--model", UNTIED, "--prompts", given, "--out", out, "--n", 2, "--max-new-tokens", 80,
           "--batch", 8, "--seed", 9, "--chat", "off", "--quiet", "--dtype", "fp32"]
    podium(*cmd)
    want = read_jsonl(out)
    out.unlink()
    part = tmp_path / f"a.jsonl.variant-{variant}.partial"
    job = subprocess.Popen([podium_bin(), *map(str, cmd)], stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and (not part.exists() or part.read_bytes().count(b"\n") < 4):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.003)
    job.send_signal(how)
    said = job.communicate(timeout=60)[1]
    assert not out.exists()
    assert (tmp_path / "a.jsonl.variant-1").exists() == (variant == 2)
    if how == signal.SIGINT:
        assert job.returncode == 3 and "--resume" in said
    refused = run(*cmd)
    assert refused.returncode == 1 and "--resume" in refused.stderr
    other = run(*cmd, "--resume", "--top-p", "0.5")
    assert other.returncode == 1 and "other settings (top_p)" in other.stderr
    assert json.loads(podium(*cmd, "--resume", "--json"))["resumed"] > 0
    assert read_jsonl(out) == want
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "p.jsonl"]


def test_settings_of_one_model_share_its_prompts(podium, tmp_path):
    """A prompt is computed once for all settings, and each says what it says beside others; interrupted, each goes on."""
    given, out = write_jsonl(tmp_path / "p.jsonl", make_prompts(40)), tmp_path / "a.jsonl"
    cmd = ["generate", "--model", LLAMA, "--prompts", given, "--out", out, "--n", 2, "--max-new-tokens", 60, "--seed", 4,
           "--chat", "off", "--quiet", "--dtype", "fp32", "--resample", 0, "--batch", 8, "--json"]
    once = json.loads(podium(*cmd))
    settings = ["--temperature", "0.7,1.0", "--top-k", "10,0"]
    summary = json.loads(podium(*cmd, *settings))
    assert summary["prompt_tokens"] == once["prompt_tokens"] and summary["answers"] == 4 * once["answers"]
    want = read_jsonl(out)
    podium(*cmd, "--temperature", "0.7", "--top-k", 10)
    first = by_variant(read_jsonl(out))
    assert {k: v for k, v in by_variant(want).items() if k[2:] == (0.7, 10)} == first
    out.unlink()
    parts = [tmp_path / f"a.jsonl.variant-{i}.partial" for i in (1, 2, 3, 4)]
    job = subprocess.Popen([podium_bin(), *map(str, cmd), *settings], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and not all(p.exists() and p.read_bytes().count(b"\n") >= 3 for p in parts):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.003)
    job.send_signal(signal.SIGINT)
    assert "--resume" in job.communicate(timeout=60)[1] and job.returncode == 3
    assert json.loads(podium(*cmd, *settings, "--resume"))["resumed"] >= 8
    assert read_jsonl(out) == want
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "p.jsonl"]


def test_labelers_do_not_learn_who_answered(podium, tmp_path, server):
    """From generate over import to the labeler's task and back: only leads and exports name the maker."""
    rows = generate(podium, tmp_path, make_prompts(5), "--model", GPT2, "--model", LLAMA, "--temperature", "0.75,1.25", "--n", 1,
                    *SHORT)
    podium("import", "variants", tmp_path / "a.jsonl", "--data", server.data)
    owner = server.owner()
    (d,) = [x["id"] for x in owner.get("/datasets")["datasets"] if x["name"] == "variants"]
    names = ["tiny-gpt2", "tiny-llama", "temperature", "0.75", "logprob", "duplicate"]
    labeler = annotator(server, owner, "ann")
    task = labeler.post(f"/datasets/{d}/tasks", {"n": 5, "have": []})["tasks"][0]
    record = task["record"]["id"]
    key = json.loads(podium("user", "key", "ann", "--data", server.data, "--json"))["api_key"]
    head = {"X-Argilla-Api-Key": key}
    seen = {path: labeler.call("GET", path).text for path in (f"/datasets/{d}", f"/records/{record}/task", "/datasets", "/me")}
    seen["tasks"] = json.dumps(task)
    for path in ("/api/v1/me/datasets", f"/api/v1/me/datasets/{d}/records?include=responses&include=suggestions", f"/api/v1/datasets/{d}"):
        got = requests.get(server.url + path, headers=head, timeout=30)
        assert got.status_code == 200, (path, got.text)
        seen[path] = got.text
    for path in (f"/datasets/{d}/records", f"/datasets/{d}/overview", f"/datasets/{d}/export?format=raw"):
        assert labeler.call("GET", path).status_code == 403
    assert requests.get(f"{server.url}/api/v1/records/{record}", headers=head, timeout=30).status_code == 403
    texts = [a["text"] for r in rows for a in r["answers"]]
    assert any(json.dumps(t)[1:-1] in seen["tasks"] for t in texts if len(t) > 8)
    for path, text in seen.items():
        for name in names:
            assert name not in text, (path, name)

    fields = sorted(task["order"])
    assert fields == ["a", "b", "c", "d"]
    answer = {"id": str(uuid.uuid4()), "record": record, "lease": task["lease"]["id"], "status": "submitted", "shown": task["order"],
              "seconds": 3.0, "guideline": None, "why": None, "reason": None, "flag": None, "at": "2026-01-01T00:00:00Z",
              "values": {labeler.get(f"/datasets/{d}")["questions"][0]["name"]: {"value": [["c"], ["a", "b"], ["d"]]}}}
    said = labeler.post("/judgments", answer, 201)
    assert not any(name in json.dumps(said) for name in names)

    # the export names who made which answer, as answers.jsonl has it
    (judged,) = [json.loads(line) for line in podium("export", "variants", "--format", "raw", "--data", server.data).splitlines()]
    (row,) = [r for r in rows if r["prompt"] == task["record"]["fields"]["prompt"]]
    assert judged["models"] == {f: f"{a['model']} temperature={a['params']['temperature']}" for f, a in zip(fields, row["answers"])}
    assert sorted(judged["models"].values()) == sorted(f"{m} temperature={t}" for m in ("tiny-gpt2", "tiny-llama") for t in (0.75, 1.25))
    assert "tiny-gpt2 temperature=0.75" in owner.call("GET", f"/datasets/{d}/overview").text
