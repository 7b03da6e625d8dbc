"""podium generate --serve as any OpenAI-compatible client sees it, over raw HTTP."""
import json
import os
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl
from serving import wait_for

TINY = FIXTURES / "models" / "tiny-llama"


class ModelServer:
    def __init__(self, folder, model, *args, env=None):
        printed = folder / "serve-model.out"
        self.log = open(folder / "serve-model.log", "w")
        with open(printed, "w") as out:
            self.process = subprocess.Popen(
                [podium_bin(), "generate", "--serve", "--model", str(model), "--listen", "127.0.0.1:0",
                 "--dtype", "fp32", *map(str, args)],
                stdout=out, stderr=self.log, env={**os.environ, **(env or {})})
        wait_for(lambda: "listening on" in printed.read_text() or self.process.poll() is not None, 60, 0.02)
        match = re.match(r"listening on (http://\S+)", printed.read_text())
        assert match, (folder / "serve-model.log").read_text()
        self.url = match.group(1)

    def post(self, what, body, status=200, **kw):
        r = requests.post(f"{self.url}/v1/{what}", json=body, timeout=120, **kw)
        assert r.status_code == status, f"{r.status_code} {r.text}"
        return r.json()

    def text(self, prompt, **kw):
        return self.post("completions", {"prompt": prompt, **kw})

    def chat(self, content, **kw):
        return self.post("chat/completions", {"messages": [{"role": "user", "content": content}], **kw})

    def events(self, what, body):
        """The JSON of a stream's events; its bytes are checked on the way."""
        r = requests.post(f"{self.url}/v1/{what}", json={**body, "stream": True}, stream=True, timeout=120)
        assert r.status_code == 200 and r.headers["Content-Type"] == "text/event-stream"
        raw = r.content.decode("utf-8")  # whole characters, so each event is valid by itself too
        parts = raw.split("\n\n")
        assert parts[-1] == "" and parts[-2] == "data: [DONE]"
        assert all(p.startswith("data: {") for p in parts[:-2])
        return [json.loads(p[6:]) for p in parts[:-2]]

    def health(self):
        return requests.get(self.url + "/healthz", timeout=30).json()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    s = ModelServer(tmp_path_factory.mktemp("tiny"), TINY)
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def small(tmp_path_factory, smollm2):
    s = ModelServer(tmp_path_factory.mktemp("small"), smollm2, "--model-name", "small")
    yield s
    assert s.stop() == 0


def joined(events, index, chat):
    pick = (lambda c: c["delta"].get("content", "")) if chat else (lambda c: c["text"])
    return "".join(pick(c) for e in events for c in e["choices"] if c["index"] == index)


def test_models(tiny):
    models = requests.get(tiny.url + "/v1/models", timeout=30).json()
    assert models["object"] == "list" and [m["id"] for m in models["data"]] == ["tiny-llama"]
    assert requests.get(tiny.url + "/v1/models/tiny-llama", timeout=30).json()["id"] == "tiny-llama"
    assert requests.get(tiny.url + "/v1/models/x", timeout=30).status_code == 404
    assert tiny.health()["status"] == "ok"


def test_what_podium_generate_says(tiny, podium, tmp_path):
    """A seed names the same answers here and in the verb, chat and plain, alone or among twenty others."""
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": p} for p in ("What is the capital", "a cup of tea")])
    flags = ["--n", 2, "--seed", 7, "--resample", 0, "--dtype", "fp32", "--top-k", 0, "--top-p", 0.9,
             "--temperature", 0.8, "--max-new-tokens", 30]
    want = {}
    for chat in ("on", "off"):
        out = tmp_path / f"{chat}.jsonl"
        podium("generate", "--model", TINY, "--prompts", given, "--out", out, "--chat", chat, *flags)
        want[chat] = read_jsonl(out)
    body = {"n": 2, "seed": 7, "top_p": 0.9, "temperature": 0.8, "max_tokens": 30}

    def check(_=None):
        for row in want["on"]:
            got = tiny.chat(row["prompt"], **body)
            assert [c["message"]["content"] for c in got["choices"]] == [a["text"] for a in row["answers"]]
            assert [c["finish_reason"] for c in got["choices"]] == [a["finish_reason"] for a in row["answers"]]
            assert got["usage"]["completion_tokens"] == sum(a["tokens"] for a in row["answers"])
        got = tiny.text([row["prompt"] for row in want["off"]], logprobs=0, **body)
        answers = [a for row in want["off"] for a in row["answers"]]
        assert [c["text"] for c in got["choices"]] == [a["text"] for a in answers]
        for c, a in zip(got["choices"], answers):
            assert sum(c["logprobs"]["token_logprobs"]) == pytest.approx(a["logprob"], abs=1e-3)
            assert len(c["logprobs"]["tokens"]) == a["tokens"]

    check()
    with ThreadPoolExecutor(20) as pool:
        others = [pool.submit(tiny.text, f"other {i}", n=1 + i % 5, temperature=i % 3, max_tokens=40, top_k=i % 4,
                              presence_penalty=i % 2, stop=["e"] * (i % 2)) for i in range(40)]
        list(pool.map(check, range(8)))
        assert all(len(o.result()["choices"]) == 1 + i % 5 for i, o in enumerate(others))


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
@pytest.mark.parametrize("extra", [{}, {"stop": ["e", "th", "\n"]}, {"n": 3}], ids=["plain", "stop", "n"])
def test_a_stream_is_the_answer_in_pieces(tiny, chat, extra):
    what = "chat/completions" if chat else "completions"
    ask = {"messages": [{"role": "user", "content": "tea"}]} if chat else {"prompt": "tea"}
    seen_bad = 0
    for seed in range(6):  # a random model draws parts of characters all the time
        body = {**ask, "seed": seed, "max_tokens": 40, "logprobs": True if chat else 2, **extra}
        whole = tiny.post(what, body)
        events = tiny.events(what, {**body, "stream_options": {"include_usage": True}})
        assert events[-1]["choices"] == [] and events[-1]["usage"] == whole["usage"]
        assert all(e["usage"] is None for e in events[:-1])
        assert len({e["id"] for e in events}) == 1
        for c in whole["choices"]:
            text = c["message"]["content"] if chat else c["text"]
            assert joined(events, c["index"], chat) == text
            assert not any(stop in text for stop in extra.get("stop", []))
            seen_bad += "\ufffd" in text
            mine = [x for e in events for x in e["choices"] if x["index"] == c["index"]]
            assert [x["finish_reason"] for x in mine if x["finish_reason"]] == [c["finish_reason"]]
            key = "content" if chat else "token_logprobs"
            got = [lp for x in mine if x["logprobs"] for lp in x["logprobs"][key]]
            assert got == c["logprobs"][key]
            if chat:
                assert mine[0]["delta"] == {"role": "assistant", "content": ""} and mine[-1]["delta"] == {}
    assert seen_bad or "stop" in extra


def test_text_offsets_count_characters(tiny):
    wide = 0
    for seed in range(20):  # a random model draws characters of several bytes all the time
        for c in (tiny.text("a cup", seed=seed, max_tokens=40, logprobs=0)["choices"][0],
                  *(e["choices"][0] for e in tiny.events("completions", {"prompt": "a cup", "seed": seed, "max_tokens": 1, "logprobs": 0}))):
            lp, text = c["logprobs"], c["text"]
            if lp is None:
                continue
            offsets = lp["text_offset"] + [len(text)]
            assert offsets == sorted(offsets), (offsets, text)
            for token, begin, end in zip(lp["tokens"], offsets, offsets[1:]):
                if token.isascii() and token.isalpha():
                    assert text[begin:end].endswith(token)  # behind what the bytes before it became
                    wide += not text[:begin].isascii()
    assert wide > 20


def test_stop_ends_before_the_text(small):
    ask = {"prompt": "1 2 3 4 5 6 7 8 9 10 11 12", "temperature": 0, "max_tokens": 24}
    free = small.text(**ask)["choices"][0]["text"]
    stop = free[6:9]
    held = small.text(stop=stop, **ask)["choices"][0]
    assert held["text"] == free[:free.index(stop)] and held["finish_reason"] == "stop"
    events = small.events("completions", {**ask, "stop": [stop, "never there"]})
    assert joined(events, 0, False) == held["text"]


def test_prompts_of_every_kind(tiny, podium):
    ids = json.loads(podium("tokenize", "--model", TINY, stdin='"a cup"\n'))
    ask = {"seed": 3, "max_tokens": 8, "temperature": 0.7}
    by_text, by_ids = tiny.text("a cup", **ask), tiny.text(ids, **ask)
    both = tiny.text(["a cup", "of tea"], n=2, **ask)
    lists = tiny.text([ids, ids], **ask)
    assert by_text["choices"] == by_ids["choices"]
    assert both["choices"][0]["text"] == by_text["choices"][0]["text"]
    assert [c["index"] for c in both["choices"]] == [0, 1, 2, 3]
    assert lists["choices"][0]["text"] == by_text["choices"][0]["text"] != lists["choices"][1]["text"]
    assert lists["usage"]["prompt_tokens"] == 2 * len(ids)
    echo = tiny.text("a cup", echo=True, **ask)["choices"][0]["text"]
    assert echo == "a cup" + by_text["choices"][0]["text"] == tiny.text(ids, echo=True, **ask)["choices"][0]["text"]
    assert joined(tiny.events("completions", {"prompt": "a cup", "echo": True, **ask}), 0, False) == echo
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "cup"}]
    assert tiny.chat(parts, **ask)["choices"] == tiny.chat("a cup", **ask)["choices"]


def test_greedy_and_top_logprobs(tiny):
    a = tiny.chat("tea", temperature=0, max_tokens=12, logprobs=True, top_logprobs=3)["choices"][0]
    b = tiny.chat("tea", temperature=1.3, top_k=1, max_tokens=12)["choices"][0]
    assert a["message"] == b["message"]
    for token in a["logprobs"]["content"]:
        top = token["top_logprobs"]
        assert len(top) == 3 and top[0]["token"] == token["token"] and top[0]["logprob"] == token["logprob"]
        assert top[0]["logprob"] >= top[1]["logprob"] >= top[2]["logprob"]
    assert tiny.chat("tea", seed=1)["choices"] != tiny.chat("tea", seed=2)["choices"]
    drawn = tiny.text("tea", temperature=2, logprobs=2, max_tokens=5, seed=1)["choices"][0]["logprobs"]
    for token, lp, top in zip(drawn["tokens"], drawn["token_logprobs"], drawn["top_logprobs"]):
        assert top[token] >= lp and 2 <= len(top) <= 3


BAD = [
    ({"messages": []}, 400, "messages"),
    ({"messages": "hello"}, 400, "messages"),
    ({"messages": [{"role": "user"}]}, 400, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400, "messages"),
    ({"model": "gpt-4"}, 404, "model"),
    ({"temperature": -1}, 400, "temperature"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"temperature": True}, 400, "temperature"),
    ({"top_p": 1.5}, 400, "top_p"),
    ({"min_p": 1}, 400, "min_p"),
    ({"n": 0}, 400, "n"),
    ({"n": 1000}, 400, "n"),
    ({"n": 1.5}, 400, "n"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_completion_tokens": -5}, 400, "max_completion_tokens"),
    ({"stop": ""}, 400, "stop"),
    ({"stop": [1]}, 400, "stop"),
    ({"stop": ["x"] * 17}, 400, "stop"),
    ({"seed": "x"}, 400, "seed"),
    ({"seed": 2**70}, 400, None),
    ({"logprobs": 3}, 400, "logprobs"),
    ({"top_logprobs": 3}, 400, "top_logprobs"),
    ({"top_logprobs": 30, "logprobs": True}, 400, "top_logprobs"),
    ({"presence_penalty": 3}, 400, "presence_penalty"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools"),
    ({"tool_choice": "required"}, 400, "tool_choice"),
    ({"modalities": ["text", "audio"]}, 400, "modalities"),
    ({"seed": 1.5}, 400, "seed"),
    ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}]}, 400, "messages"),
    ({"logit_bias": {"5": 1}}, 400, "logit_bias"),
    ({"temprature": 1}, 400, "temprature"),
    ({"messages": [{"role": "user", "content": "long " * 500}]}, 400, "messages"),
]


@pytest.mark.parametrize("change,status,param", BAD, ids=lambda v: str(v)[:40])
def test_bad_chats(tiny, change, status, param):
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, **change}
    error = tiny.post("chat/completions", body, status)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["param"] == param
    assert error["type"] == "invalid_request_error" and error["message"]
    assert (error["code"] == "model_not_found") == (status == 404)


@pytest.mark.parametrize("change,param", [
    ({"prompt": None}, "prompt"), ({"prompt": [[]]}, "prompt"), ({"prompt": [["a"]]}, "prompt"), ({"prompt": []}, "prompt"),
    ({"prompt": [1, 10**9]}, "prompt"), ({"prompt": [-1]}, "prompt"), ({"best_of": 3}, "best_of"),
    ({"suffix": "x"}, "suffix"), ({"echo": True, "logprobs": 1}, "echo"), ({"logprobs": True}, "logprobs"),
    ({"prompt": ["a"] * 1025}, "prompt"), ({"prompt": ["a"] * 20, "n": 100}, "prompt")])
def test_bad_texts(tiny, change, param):
    error = tiny.post("completions", {"prompt": "hi", "max_tokens": 2, **change}, 400)["error"]
    assert error["param"] == param


@pytest.mark.parametrize("prompt", ["x" * 400_000, "x " * 200_000])
def test_more_than_the_context_is_not_counted(tiny, prompt):
    for what, body, param in [("completions", {"prompt": prompt}, "prompt"),
                              ("chat/completions", {"messages": [{"role": "user", "content": prompt}]}, "messages")]:
        error = tiny.post(what, body, status=400)["error"]
        assert re.search(r"no room in the model's context of (\d+): the text has more than \1 tokens", error["message"])
        assert error["param"] == param


def test_what_asks_for_nothing(tiny):
    """Clients send their defaults along; those of what is not supported change nothing."""
    idle = {"logit_bias": {}, "seed": 1.0, "n": 1.0}
    chat = tiny.chat("hi", max_tokens=8, tools=[], tool_choice="none", parallel_tool_calls=False, modalities=["text"], **idle)
    assert chat["choices"] == tiny.chat("hi", max_tokens=8, seed=1)["choices"]
    text = tiny.text("hi", max_tokens=8, suffix="", logprobs=False, **idle)
    assert text["choices"] == tiny.text("hi", max_tokens=8, seed=1)["choices"] and text["choices"][0]["logprobs"] is None


def test_an_empty_prompt_begins_a_text(tiny):
    bos = json.loads((TINY / "config.json").read_text())["bos_token_id"]
    begun = tiny.text("", seed=4, max_tokens=8, echo=True)
    assert begun["choices"] == tiny.text([bos], seed=4, max_tokens=8)["choices"] and begun["usage"]["prompt_tokens"] == 1


def test_tool_calls_are_refused_by_name(tiny):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}]
    error = tiny.post("chat/completions", {"messages": messages}, 400)["error"]
    assert "messages[1] calls tools" in error["message"]


def test_what_is_ignored_and_null_is_absent(tiny):
    body = {"max_tokens": 3, "user": "me", "best_of": 1, "temperature": None, "stop": None, "logit_bias": None}
    assert tiny.text("hi", **body)["choices"]
    assert tiny.chat("hi", max_tokens=3, metadata={"a": "b"}, response_format={"type": "text"})["choices"]


def test_nonsense_and_size(tiny):
    url = tiny.url + "/v1/chat/completions"
    for body in (b"", b"{", b"[]", b"\xff\xfe", b'{"messages": NaN}', b'{"messages": [{"role": "user", "content": "\\ud800"}]}'):
        r = requests.post(url, data=body, timeout=30)
        assert r.status_code == 400 and r.json()["error"]["type"] == "invalid_request_error"
    r = requests.post(url, data=b'{"messages":"' + b"x" * (5 << 20) + b'"}', timeout=30)
    assert r.status_code == 413 and "error" in r.json()
    assert requests.get(url, timeout=30).status_code == 405
    assert requests.get(tiny.url + "/v1/nothing", timeout=30).json()["error"]["code"] == "not_found"
    r = requests.post(url, json={"messages": []}, headers={"Origin": "http://evil.example"}, timeout=30)
    assert r.status_code == 403


def test_a_page_whose_name_points_here_is_refused(tiny):
    """DNS rebinding: Origin and Host agree, and are another site's."""
    def status(host):
        head = {"Origin": f"http://{host}", "Host": host}
        return requests.post(tiny.url + "/v1/completions", json={"prompt": "a", "max_tokens": 1}, headers=head, timeout=30).status_code

    assert status("evil.example:6901") == status("1.evil.example") == 403
    assert status("localhost:6901") == status("127.0.0.1:6901") == status("[::1]:6901") == 200


def test_key(tmp_path):
    s = ModelServer(tmp_path, TINY, env={"PODIUM_API_KEY": "secret-key"})
    try:
        ask = {"prompt": "a", "max_tokens": 1}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret-key"}):
            assert s.post("completions", ask, 401, headers=headers)["error"]["code"] == "invalid_api_key"
            assert requests.get(s.url + "/v1/models", headers=headers, timeout=30).status_code == 401
        assert s.post("completions", ask, 200, headers={"Authorization": "Bearer secret-key"})
        assert s.health()["status"] == "ok"
    finally:
        assert s.stop() == 0
    assert "secret-key" not in (tmp_path / "serve-model.log").read_text()


LONG = {"prompt": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,", "max_tokens": 6000, "temperature": 0, "n": 2}  # counts on and on


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_who_hangs_up_is_forgotten(small, stream):
    r = None
    if stream:
        r = requests.post(small.url + "/v1/completions", json={**LONG, "stream": True}, stream=True, timeout=60)
        lines = r.iter_lines()
        next(lines)
    else:
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(small.url + "/v1/completions", json=LONG, timeout=1.5)
    if stream:
        wait_for(lambda: small.health()["running"] == 2)
        r.close()
    wait_for(lambda: small.health()["running"] == 0 and small.health()["requests"] == 0, 20)
    assert small.text("hi", max_tokens=2)["choices"]


def test_full(tmp_path, smollm2):
    s = ModelServer(tmp_path, smollm2, "--max-requests", 2)
    try:
        held = [requests.post(s.url + "/v1/completions", json={**LONG, "stream": True}, stream=True, timeout=60)
                for _ in range(2)]
        streams = [r.iter_lines() for r in held]
        for lines in streams:
            next(lines)
        r = requests.post(s.url + "/v1/completions", json={"prompt": "a"}, timeout=30)
        assert r.status_code == 503 and int(r.headers["Retry-After"]) >= 1
        assert r.json()["error"]["type"] == "server_error"
        wait_for(lambda: s.health()["requests"] == 2)  # looking is still possible
        for r in held:
            r.close()
        wait_for(lambda: requests.post(s.url + "/v1/completions", json={"prompt": "a"}, timeout=30).status_code == 200, 20)
    finally:
        s.stop()


def test_stopping_finishes_what_was_begun(tmp_path, smollm2):
    s = ModelServer(tmp_path, smollm2)
    got = []
    t = threading.Thread(target=lambda: got.append(s.text("Once upon", max_tokens=40, temperature=0)))
    t.start()
    wait_for(lambda: s.health()["running"] == 1, 30, 0.01)
    assert s.stop() == 0
    t.join(30)
    assert got and got[0]["usage"]["completion_tokens"] == 40


def test_one_stop_is_enough(tmp_path, smollm2):
    """What would go on for minutes is cut after the grace time."""
    s = ModelServer(tmp_path, smollm2)
    r = requests.post(s.url + "/v1/completions", json={**LONG, "stream": True}, stream=True, timeout=60)
    lines = r.iter_lines()
    next(lines)
    assert s.stop() == 0
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(lines)


def test_a_socket_of_ones_own(tmp_path):
    path = tmp_path / "m.sock"
    p = subprocess.Popen([podium_bin(), "generate", "--serve", "--model", str(TINY), "--listen", f"unix:{path}"],
                         stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == f"listening on unix:{path}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        out = subprocess.run(["curl", "-sS", "--unix-socket", str(path), "http://localhost/v1/models"], text=True,
                             capture_output=True, timeout=30)
        assert json.loads(out.stdout)["data"][0]["id"] == "tiny-llama", out.stderr
    finally:
        p.send_signal(signal.SIGTERM)
        assert p.wait(30) == 0
    assert not path.exists()


@pytest.mark.parametrize("listen,code,says", [
    ("unix:", 2, "--listen unix:: a path is missing"), ("UNIX:x", 2, "--listen HOST:PORT or unix:PATH: 'UNIX:x' is not"),
    ("unix:no/such/folder/s", 1, "cannot listen on unix:no/such/folder/s: No such file"),
    ("unix:" + "x" * 200, 1, "choose a shorter one"), ("unix:notes", 1, "which is no socket"),
])
def test_sockets_that_cannot_be(tmp_path, listen, code, says):
    (tmp_path / "notes").write_text("mine")
    done = subprocess.run([podium_bin(), "generate", "--serve", "--model", str(TINY), "--listen", listen], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == code and says in done.stderr, done.stderr
    assert done.stdout == "" and (tmp_path / "notes").read_text() == "mine"


def test_usage_errors(podium):
    podium("generate", "--model", TINY, code=2)
    podium("generate", "--model", TINY, "--serve", "--prompts", "x.jsonl", code=2)
    podium("generate", "--model", TINY, "--serve", "--listen", "nowhere:x", code=2)


@pytest.mark.parametrize("args", [["--temperature", "0.5"], ["--n", "3"], ["--stop", "x"], ["--out", "a.jsonl"], ["--greedy"],
                                  ["--seed", "1"], ["--resume"]])
def test_what_serving_has_no_use_for(args):
    done = subprocess.run([podium_bin(), "generate", "--model", TINY, "--serve", "--listen", "nowhere:x", *args],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and args[0] in done.stderr, done.stderr


def test_what_needs_serving(tmp_path):
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "x"}])
    done = subprocess.run([podium_bin(), "generate", "--model", TINY, "--prompts", given, "--max-new-tokens", "1", "--listen",
                           "127.0.0.1:0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--listen needs --serve" in done.stderr
