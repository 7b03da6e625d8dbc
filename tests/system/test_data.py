"""The data-folder verbs: files in, status, agreement, snapshots, files out. No server but where it says so."""
import csv
import gzip
import io
import json
import math
import random
import subprocess

import pytest
from conftest import podium_bin, read_jsonl, write_jsonl


@pytest.fixture
def folder(tmp_path, podium):
    """verb("import", ...) on a fresh data folder -> stdout; .err(...) -> (code, stderr)."""

    class Folder:
        path = tmp_path / "data"

        def __call__(self, *args, **kw):
            return podium(*args, "--data", self.path, **kw)

        def json(self, *args):
            return json.loads(self(*args, "--json"))

        def err(self, *args):
            done = subprocess.run([podium_bin(), *map(str, args), "--data", str(self.path)],
                                  capture_output=True, text=True, timeout=120)
            return done.returncode, done.stderr

    return Folder()


def answers(n, k=2):
    return [{"id": f"p{i}", "prompt": f"Say something about number {i}.",
             "answers": [{"text": f"{i} is number {c} of mine", "model": f"model-{c}"} for c in range(k)],
             "params": {"temperature": 1}, "seed": 7} for i in range(n)]


def label_studio(n=6, skipped=()):
    """An annotation export in Label Studio's shape: odd tasks say right, even ones left."""
    out = []
    for i in range(n):
        result = [{"id": f"r{i}", "from_name": "comparison", "to_name": "comparison", "type": "pairwise", "origin": "manual",
                   "value": {"selected": "right" if i % 2 else "left"}}]
        out.append({"id": 1000 + i, "file_upload": "x-tasks.json", "drafts": [], "predictions": [], "meta": {}, "inner_id": i + 1,
                    "data": {"prompt": f"Prompt {i}?", "answer1": f"first of {i}", "answer2": f"second of {i}"},
                    "annotations": [{"id": 50 + i, "completed_by": 2, "result": [] if i in skipped else result,
                                     "was_cancelled": i in skipped, "ground_truth": False, "result_count": 0,
                                     "created_at": "2023-04-17T21:54:20.457543Z", "updated_at": "2023-04-17T21:54:20.457580Z",
                                     "lead_time": 12.51, "task": 1000 + i}]})
    return out


def hh(i, turns=1):
    context = "".join(f"\n\nHuman: question {i}.{t}\n\nAssistant:" + (f" reply {t}" if t + 1 < turns else "") for t in range(turns))
    return {"chosen": f"{context} kind {i}", "rejected": f"{context} rude {i}"}


# ------------------------------------------------------------------ in

def test_label_studio_export_becomes_as_many_pairs(folder, tmp_path):
    rows = label_studio(32)
    path = tmp_path / "export.json"
    path.write_text(json.dumps(rows))
    got = folder.json("import", "ls", path)
    assert (got["shape"], got["records"], got["judgments"], got["created"]) == ("label-studio", 32, 32, True)
    folder("export", "ls", "--out", tmp_path / "pairs.jsonl")
    pairs = read_jsonl(tmp_path / "pairs.jsonl")
    assert len(pairs) == 32
    for i, pair in enumerate(pairs):
        best, worst = ("second", "first") if i % 2 else ("first", "second")
        assert pair == {"id": str(1000 + i), "prompt": f"Prompt {i}?", "chosen": f"{best} of {i}", "rejected": f"{worst} of {i}",
                        "votes": 1}
    raw = [json.loads(line) for line in folder("export", "ls", "--format", "raw").splitlines()]
    assert raw[1]["labeler"] == "label-studio-2" and raw[1]["value"] == [["answer2"], ["answer1"]]
    assert raw[1]["seconds"] == 12.51 and raw[1]["at"].startswith("2023-04-17T21:54:20")
    # again: the tasks are known by their ids
    assert folder.json("import", "ls", path)["existing"] == 32


def test_label_studio_skips_and_plain_tasks(folder, tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(label_studio(6, skipped={1, 4}), indent=1))
    assert folder.json("import", "ls", path)["judgments"] == 4
    assert folder.json("status", "ls")["discarded"] == 2
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([t["data"] for t in label_studio(4)]))
    assert folder.json("import", "tasks", tasks)["records"] == 4
    # into a dataset whose answers are called a and b
    folder("dataset", "create", "pairs", "--template", "pairwise", "--publish")
    assert folder.json("import", "pairs", path)["judgments"] == 4
    assert len(folder("export", "pairs", "--quiet").splitlines()) == 4


def test_answers_hide_their_models_and_report_equal_ones(folder, tmp_path):
    rows = answers(5)
    rows[2]["answers"][1]["text"] = rows[2]["answers"][0]["text"] + "  "
    rows[3]["answers"][0]["text"] = ""
    done = subprocess.run([podium_bin(), "import", "first", write_jsonl(tmp_path / "a.jsonl", rows), "--data", folder.path],
                          capture_output=True, text=True)
    assert done.returncode == 0 and "1 records have identical answers" in done.stderr and "empty answer" in done.stderr
    shown = folder.json("dataset", "show", "first")
    assert [f["name"] for f in shown["fields"]] == ["prompt", "a", "b"]
    assert shown["questions"][0]["settings"]["strength"] is True and shown["status"] == "ready"


def test_more_answers_make_a_ranking(folder, tmp_path):
    folder("import", "rank", write_jsonl(tmp_path / "a.jsonl", answers(3, k=4)))
    shown = folder.json("dataset", "show", "rank")
    assert shown["template"] == "ranking" and len(shown["questions"][0]["settings"]["options"]) == 4
    rows = answers(2, k=4) + answers(1, k=3)
    rows[2]["id"] = "odd"
    code, err = folder.err("import", "rank", write_jsonl(tmp_path / "b.jsonl", rows))
    assert code == 1 and "b.jsonl:3: 3 answers, the dataset compares 4" in err and "nothing was stored" in err


def test_transcripts_and_messages(folder, tmp_path):
    with gzip.open(tmp_path / "hh.jsonl.gz", "wt") as f:
        for i in range(30):
            f.write(json.dumps(hh(i, 1 + i % 3)) + "\n")
    got = folder.json("import", "hh", tmp_path / "hh.jsonl.gz")
    assert (got["shape"], got["records"], got["judgments"]) == ("pairs", 30, 30)
    pairs = [json.loads(line) for line in folder("export", "hh").splitlines()]
    assert [m["role"] for m in pairs[2]["prompt"]] == ["user", "assistant", "user", "assistant", "user"]
    assert pairs[2]["chosen"] == [{"role": "assistant", "content": "kind 2"}]
    # which of the two stands first must not give the answer away
    raw = [json.loads(line) for line in folder("export", "hh", "--format", "raw").splitlines()]
    first = sum(row["value"][0] == ["a"] for row in raw)
    assert 5 <= first <= 25
    # and back to transcripts, as they came
    again = [json.loads(line) for line in folder("export", "hh", "--format", "hh").splitlines()]
    assert again == [hh(i, 1 + i % 3) for i in range(30)]
    # message lists with the conversation inside
    chat = [{"chosen": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "good"}],
             "rejected": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "bad"}]} for i in range(3)]
    assert folder.json("import", "chat", write_jsonl(tmp_path / "c.jsonl", chat))["judgments"] == 3


def test_tables_and_plain_lines(folder, tmp_path):
    table = io.StringIO()
    w = csv.writer(table)
    w.writerow(["id", "prompt", "answer1", "answer2", "source"])
    w.writerow(["1", 'a "quoted", prompt', "one\nline two", "other", "web"])
    (tmp_path / "t.csv").write_text(table.getvalue())
    assert folder.json("import", "table", tmp_path / "t.csv")["records"] == 1
    (tmp_path / "p.txt").write_text("first prompt\nsecond prompt\n")
    got = folder.json("import", "prompts", tmp_path / "p.txt")
    assert (got["shape"], got["records"]) == ("prompts", 2)
    assert folder.json("dataset", "show", "prompts")["questions"][0]["settings"]["type"] == "text"


def test_bad_rows_are_named_and_nothing_is_stored(folder, tmp_path):
    rows = [json.dumps(r) for r in answers(3)]
    text = "\n".join([rows[0], "{not json", rows[1], '{"prompt":"x"}', rows[2], '{"prompt":"x","answers":[{"text":"a"},{}]}',
                      r'{"prompt":"\udfff"}'])
    (tmp_path / "bad.jsonl").write_text(text + "\n")
    code, err = folder.err("import", "new", tmp_path / "bad.jsonl")
    assert code == 1
    for where in ("bad.jsonl:2: ", "bad.jsonl:4: 0 answers", "bad.jsonl:6: answer 2 has no", "bad.jsonl:7: not Unicode at byte 11"):
        assert where in err, err
    assert folder.json("dataset", "list") == []
    assert folder.json("import", "new", tmp_path / "bad.jsonl", "--skip-bad")["records"] == 3
    for name, text, said in [("empty.jsonl", "", "empty"), ("no.jsonl", '{"foo":1}\n', "cannot tell what to ask")]:
        (tmp_path / name).write_text(text)
        code, err = folder.err("import", "x", tmp_path / name)
        assert code == 1 and said in err, err
    code, err = folder.err("import", "x", tmp_path / "missing.jsonl")
    assert code == 1 and "missing.jsonl" in err and err.count("\n") == 1
    assert folder.err("import", "x", tmp_path / "no.jsonl", "--as", "parquet")[0] == 2


def test_argilla_records_with_responses(folder, tmp_path):
    folder("dataset", "create", "pairs", "--publish")
    rows = [{"fields": {"prompt": "p", "a": "x", "b": "y"}, "external_id": "1", "metadata": {"k": 1},
             "responses": [{"user_id": "11111111-2222-3333-4444-555555555555", "status": "submitted", "values": {
                 "preference": {"value": [{"value": "a", "rank": 2}, {"value": "b", "rank": 1}]}}}],
             "suggestions": [{"question_name": "preference", "value": [{"value": "a", "rank": 1}, {"value": "b", "rank": 2}], "agent": "m"}]}]
    got = folder.json("import", "pairs", write_jsonl(tmp_path / "r.jsonl", rows))
    assert (got["shape"], got["judgments"], got["suggestions"]) == ("argilla", 1, 1)
    pair = json.loads(folder("export", "pairs"))
    assert (pair["chosen"], pair["rejected"]) == ("y", "x")


# ------------------------------------------------------------------ out

def responses(values, n=1):
    """Argilla rows: per record the list of (labeler, best, strength, both_bad); best None = tie."""
    rows = []
    for i, said in enumerate(values):
        rs = []
        for who, best, strength, bad in said:
            ranks = {"a": 1, "b": 1} if best is None else {best: 1, "b" if best == "a" else "a": 2}
            entry = {"value": [{"value": k, "rank": r} for k, r in ranks.items()]}
            if strength is not None:
                entry["strength"] = strength
            if bad:
                entry["both_bad"] = True
            rs.append({"user_id": who, "status": "submitted", "values": {"preference": entry}})
        rows.append({"fields": {"prompt": f"p{i}", "a": f"a{i}", "b": f"b{i}"}, "external_id": f"{n}-{i}", "responses": rs})
    return rows


def test_majority_ties_and_both_bad_are_told(folder, tmp_path):
    folder("dataset", "create", "pairs", "--publish", "--overlap", "3")
    said = [[("u1", "a", 3, 0), ("u2", "a", 1, 0), ("u3", "b", 2, 0)],        # a, strength 2
            [("u1", "a", 1, 0), ("u2", "b", 3, 0)],                          # level: the stronger side
            [("u1", None, None, 0), ("u2", None, None, 0)],                  # tie
            [("u1", None, None, 1), ("u2", None, None, 1)],                  # both bad
            [("u1", "a", 2, 0), ("u2", "b", 2, 0)],                          # undecided
            [("u1", "b", 2, 0), ("u2", "b", 2, 0)]]
    folder("import", "pairs", write_jsonl(tmp_path / "r.jsonl", responses(said)))
    done = subprocess.run([podium_bin(), "export", "pairs", "--data", folder.path], capture_output=True, text=True)
    pairs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(p["chosen"], p["strength"], p["votes"]) for p in pairs] == [("a0", 2, 3), ("b1", 3, 2), ("b5", 2, 2)]
    assert "2 ties" in done.stderr and "1 both bad" in done.stderr
    report = json.loads(folder.err("export", "pairs", "--json", "--out", tmp_path / "x.jsonl")[1])
    assert (report["rows"], report["ties"], report["both_bad"], report["judgments"]) == (3, 2, 1, 13)
    assert "margin" not in pairs[0]
    assert len(folder("export", "pairs", "--min-margin", "0.9", "--quiet").splitlines()) == 1
    assert len(folder("export", "pairs", "--all-votes", "--quiet").splitlines()) == 9
    assert json.loads(folder("export", "pairs", "--margin").splitlines()[0])["margin"] == 2
    labels = [json.loads(line) for line in folder("export", "pairs", "--format", "trl-unpaired").splitlines()]
    assert {(r["completion"], r["label"]) for r in labels} == {
        ("a0", True), ("b0", False), ("b1", True), ("a1", False), ("a3", False), ("b3", False), ("b5", True), ("a5", False)}
    table = list(csv.DictReader(io.StringIO(folder("export", "pairs", "--format", "csv"))))
    assert len(table) == 13 and table[0]["labeler"] == "u1" and json.loads(table[0]["value"]) == [["a"], ["b"]]


def test_rankings_give_all_their_pairs(folder, tmp_path):
    folder("dataset", "create", "rank", "--template", "ranking", "--answers", "4", "--publish")
    value = [{"value": "c", "rank": 1}, {"value": "a", "rank": 2}, {"value": "d", "rank": 2}, {"value": "b", "rank": 4}]
    row = {"fields": {"prompt": "p", "a": "A", "b": "B", "c": "C", "d": "D"}, "responses": [
        {"user_id": "u1", "status": "submitted", "values": {"preference": {"value": value}}}]}
    folder("import", "rank", write_jsonl(tmp_path / "r.jsonl", [row]))
    pairs = [json.loads(line) for line in folder("export", "rank").splitlines()]
    assert [(p["chosen"], p["rejected"]) for p in pairs] == [("A", "B"), ("C", "A"), ("C", "B"), ("D", "B"), ("C", "D")]
    assert all(math.isclose(p["weight"], 1 / 6) for p in pairs)


def test_ratings_that_name_positions_are_pairs(folder, tmp_path):
    """The comparison as a rating: 1 = the first answer, 2 = the second."""
    xml = tmp_path / "config.xml"
    xml.write_text("""<View><Text name="p" value="$prompt"/><Text name="x" value="$response-1"/><Text name="y" value="$response-2"/>
        <Rating name="best" toName="x" maxRating="2"/></View>""")
    folder("dataset", "create", "rated", "--template", f"label-studio:{xml}", "--publish")
    rows = [{"fields": {"prompt": "p", "response-1": "one", "response-2": "two"}, "external_id": str(i), "responses": [
        {"user_id": "u1", "status": "submitted", "values": {"best": {"value": best}}}]} for i, best in enumerate((1, 2, 2))]
    folder("import", "rated", write_jsonl(tmp_path / "r.jsonl", rows))
    assert [json.loads(line)["chosen"] for line in folder("export", "rated").splitlines()] == ["one", "two", "two"]


def test_datasets_of_several_labelers_are_merged(folder, tmp_path):
    for who, best in (("u1", "a"), ("u2", "a"), ("u3", "b")):
        folder("dataset", "create", f"{who}/pairs", "--publish")
        folder("import", f"{who}/pairs", write_jsonl(tmp_path / f"{who}.jsonl", responses([[(who, best, 1, 0)]] * 2)))
    pairs = [json.loads(line) for line in folder("export", "u1/pairs", "u2/pairs", "u3/pairs").splitlines()]
    assert [(p["chosen"], p["votes"]) for p in pairs] == [("a0", 3), ("a1", 3)]
    code, err = folder.err("export", "pairs")
    assert code == 1 and "several workspaces" in err


def test_one_sided_answers_warn(folder, tmp_path):
    folder("dataset", "create", "pairs", "--publish")
    folder("import", "pairs", write_jsonl(tmp_path / "r.jsonl", responses([[("u1", "a", 1, 0)]] * 25)))
    assert "one and the same order" in folder.err("export", "pairs")[1]


# ------------------------------------------------------------------ snapshots

def test_snapshots_are_stable_and_split_by_prompt(folder, tmp_path):
    random.seed(5)
    words = [f"word{i}" for i in range(300)]
    prompts = [" ".join(random.choices(words, k=40)) for _ in range(60)]
    near = [p + " please" for p in prompts[:10]]                     # near-duplicates
    twins = [p.upper() + "!" for p in prompts[10:20]]                # the same but for case
    rows = [{"id": f"r{i}", "prompt": p, "chosen": f"good {i}", "rejected": f"bad {i}"} for i, p in enumerate(prompts + near + twins)]
    folder("import", "pairs", write_jsonl(tmp_path / "p.jsonl", rows))
    one = folder.json("snapshot", "create", "pairs", "--split", "train=0.75,test=0.25")
    two = folder.json("snapshot", "create", "pairs", "--split", "train=0.75,test=0.25")
    assert one["hash"] == two["hash"] and one["snapshot"] == "pairs@1" and two["snapshot"] == "pairs@2"
    split = {}
    for name in ("train", "test"):
        text = folder("export", "pairs@1", "--split", name, "--quiet")
        assert text == folder("export", one["hash"][:12], "--split", name, "--quiet")
        for line in text.splitlines():
            split[json.loads(line)["id"]] = name
    assert len(split) == 80 and abs(sum(v == "train" for v in split.values()) - 60) <= 2
    for i in range(10):
        assert split[f"r{i}"] == split[f"r{60 + i}"], "near-duplicates stay together"
        assert split[f"r{10 + i}"] == split[f"r{70 + i}"], "equal prompts stay together"
    # a growing dataset keeps most records where they were; the old snapshot does not change
    more = [{"id": f"n{i}", "prompt": " ".join(random.choices(words, k=40)), "chosen": "x", "rejected": f"y{i}"} for i in range(8)]
    folder("import", "pairs", write_jsonl(tmp_path / "m.jsonl", more))
    three = folder.json("snapshot", "create", "pairs", "--split", "train=0.75,test=0.25")
    diff = folder.json("snapshot", "diff", "pairs@1", "pairs@3")
    assert three["hash"] != one["hash"] and diff["added"] == 8 and diff["removed"] == 0 and diff["moved"] <= 8
    assert folder.json("snapshot", "show", "pairs@1")["counts"]["records"] == 80
    folder("dataset", "delete", "pairs")
    assert len(folder("export", "pairs@1", "--quiet").splitlines()) == 80
    for args, said in ((("export", "pairs@1", "--split", "dev"), "no split 'dev'"), (("export", "nothing"), "no dataset or snapshot")):
        code, err = folder.err(*args)
        assert code == 1 and said in err
    assert folder.err("snapshot", "create", "pairs", "--split", "train=0.9,test=0.2")[0] != 0


# ------------------------------------------------------------------ agreement

FOUR = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def test_agreement_of_a_judgments_file(podium, tmp_path):
    rows = [{"record": u, "labeler": f"coder{r}", "question": "q", "value": int(c)}
            for r, line in enumerate(FOUR) for u, c in enumerate(line) if c != "."]
    path = write_jsonl(tmp_path / "j.jsonl", rows)
    got = json.loads(podium("agree", path, "--json"))["questions"][0]
    alpha = got["krippendorff_alpha"]
    assert [round(alpha[k], 6) for k in ("nominal", "ordinal", "interval")] == [0.743421, 0.815388, 0.849107]
    assert (got["kind"], got["records"], got["labelers"], got["judgments"]) == ("rating", 12, 4, 41)
    for name, (low, high) in got["ci"].items():
        assert low < high, name
    assert got["ci"]["krippendorff_alpha.nominal"][0] < 0.743421 < got["ci"]["krippendorff_alpha.nominal"][1]
    assert len(got["pairs"]) == 6 and "cohen_kappa" not in got
    assert podium("agree", path, "--json") == podium("agree", path, "--json")


def test_agreement_of_pairs_and_of_one_labeler(podium, folder, tmp_path):
    table = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    tiers = {"a": [["a"], ["b"]], "b": [["b"], ["a"]]}
    rows = [{"record": i, "labeler": who, "question": "p", "value": tiers[v]} for i, pair in enumerate(table) for who, v in zip("xy", pair)]
    got = json.loads(podium("agree", write_jsonl(tmp_path / "j.jsonl", rows), "--json", "--bootstrap", "200"))["questions"][0]
    assert got["kind"] == "pairwise" and math.isclose(got["cohen_kappa"], 0.4) and math.isclose(got["percent"], 0.7)
    assert got["krippendorff_alpha"]["ordinal"] is None
    folder("import", "ls", write_jsonl(tmp_path / "p.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}]))
    alone = folder.json("agree", "ls")["questions"][0]
    assert alone["percent"] is None and alone["krippendorff_alpha"]["nominal"] is None and alone["labelers"] == 1
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"record": 1, "value": 2}])
    assert "bad.jsonl:1" in subprocess.run([podium_bin(), "agree", bad], capture_output=True, text=True).stderr


# ------------------------------------------------------------------ accounts, datasets, help

def test_accounts(folder):
    made = folder.json("user", "add", "ann", "--role", "owner")
    assert made["role"] == "owner" and len(made["api_key"]) > 20 and len(made["password"]) >= 8
    assert folder("user", "key", "ann").strip() == made["api_key"]
    assert folder("user", "key", "ann", "--renew").strip() != made["api_key"]
    folder("user", "role", "ann", "--role", "admin")
    assert folder.json("user", "list")[0] == {"username": "ann", "role": "admin", "id": made["id"], "placeholder": False,
                                              "workspaces": ["podium"]}
    assert "/sign-in#" in folder("user", "invite", "ann", "--url", "https://rank.example.org/")
    code, err = folder.err("user", "add", "ann")
    assert code == 1 and "exists already" in err
    assert folder.err("user", "add", "bob", "--password", "short")[0] == 1
    folder("user", "remove", "ann")
    assert folder.json("user", "list") == []
    assert folder.err("user", "key", "ann")[0] == 1


def test_label_studio_config_makes_a_dataset(folder, tmp_path):
    xml = tmp_path / "config.xml"
    xml.write_text("""<View><!-- side by side --><Header value="$prompt"/><Text name="prompt" value="$prompt"/>
        <Text name="one" value="$answer1"/><Text name="two" value="$answer2"/>
        <Pairwise name="comparison" toName="one,two"/>
        <Choices name="tone" toName="one" choice="multiple"><Choice value="kind"/><Choice value="Rude" alias="rude"/></Choices>
        <Rating name="quality" toName="one" maxRating="7"/><TextArea name="why" toName="one"/></View>""")
    folder("dataset", "create", "ls", "--template", f"label-studio:{xml}", "--publish")
    shown = folder.json("dataset", "show", "ls")
    assert [f["name"] for f in shown["fields"]] == ["prompt", "answer1", "answer2"]
    kinds = {q["name"]: q["settings"] for q in shown["questions"]}
    assert [o["value"] for o in kinds["comparison"]["options"]] == ["answer1", "answer2"]
    assert [o["value"] for o in kinds["tone"]["options"]] == ["kind", "rude"]
    assert len(kinds["quality"]["options"]) == 7 and kinds["why"]["type"] == "text"
    for bad, said in (("<View><Brush name='b' toName='x'/></View>", "<Brush> is not supported"), ("<View>", "line 1"),
                      ("<!DOCTYPE x><View/>", "DOCTYPE"), ("<View/>", "at least one")):
        xml.write_text(bad)
        code, err = folder.err("dataset", "create", "bad", "--template", f"label-studio:{xml}")
        assert code == 1 and said in err, err


def test_help_and_usage(podium, folder):
    for verb in ("user", "dataset", "import", "export", "snapshot", "status", "agree"):
        assert f"podium {verb}" in podium(verb, "--help")
    assert "--role" in podium("user", "add", "--help")
    assert folder.err("user", "fly")[0] == 2
    assert folder.err("export")[0] == 2
    assert folder.err("status", "nothing")[0] == 1


def test_the_same_through_a_running_server(tmp_path, podium):
    """A server holds the folder: the verbs reach it through its socket, with the same results."""
    from serving import Server

    s = Server(tmp_path / "data", "--no-worker").start()
    try:
        path = tmp_path / "export.json"
        path.write_text(json.dumps(label_studio(5)))
        podium("import", "ls", path, "--data", s.data)
        pairs = podium("export", "ls", "--data", s.data)
        assert len(pairs.splitlines()) == 5
        snap = json.loads(podium("snapshot", "create", "ls", "--json", "--data", s.data))
    finally:
        s.stop()
    assert podium("export", snap["snapshot"], "--data", tmp_path / "data") == pairs
