"""podium generate --model http://.../v1 against an endpoint that behaves, and one that does not."""
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl
from serving import wait_for
from test_openai_server import ModelServer

KEY = "sk-very-secret-0123456789"


class Endpoint(ThreadingHTTPServer):
    """What happens is decided by the words of the prompt; `tries` counts the requests for each."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tries, self.bodies, self.headers, self.times = Counter(), [], [], []
        self.lock, self.at_once, self.most_at_once = threading.Lock(), 0, 0
        self.hold = threading.Event()
        self.taken = []  # when, of `limited`
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass  # clients hang up here


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def reply(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        self.wfile.write(data)

    def answer(self, text, finish="stop", usage=True):
        chat = self.path == "/v1/chat/completions"
        choice = {"index": 0, "finish_reason": finish}
        choice.update({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
        reply = {"id": "x", "choices": [choice]}
        if usage:
            reply["usage"] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        self.reply(200, reply)

    def do_POST(self):
        s = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        with s.lock:
            s.tries[prompt] += 1
            n = s.tries[prompt]
            s.bodies.append(body)
            s.headers.append(dict(self.headers))
            s.times.append(time.monotonic())
            s.at_once += 1
            s.most_at_once = max(s.most_at_once, s.at_once)
        try:
            getattr(self, prompt.split()[0], self.ok)(prompt, body, n)
        finally:
            with s.lock:
                s.at_once -= 1

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def ok(self, prompt, body, n):
        time.sleep(0.02)
        self.answer(f"answer {n} to {prompt}")

    def long(self, prompt, body, n):
        self.answer("cut off her", "length", usage=False)

    def busy(self, prompt, body, n):
        if n <= 2:
            return self.reply(429, {"error": {"message": "slow down"}}, Retry_After="1")
        self.answer("not busy any more")

    def limited(self, prompt, body, n):
        """Four requests in 0.4 s; who is sent away hears when to come back, in one of two ways."""
        s, now = self.server, time.monotonic()
        with s.lock:
            s.taken = [t for t in s.taken if t > now - 0.4]
            wait = s.taken[0] + 0.4 - now if len(s.taken) >= 4 else 0
            if not wait:
                s.taken.append(now)
        if wait:
            how = {"Retry_After": f"{wait + 0.001:.3f}"} if n % 2 else {"retry_after_ms": f"{1000 * wait + 1:.0f}", "Retry_After": "60"}
            return self.reply(429, {"error": {"message": "Rate limit reached"}}, **how)
        self.answer(prompt)

    def away(self, prompt, body, n):
        self.reply(429, {"error": {"message": "not you"}}, Retry_After="0.2")

    def later(self, prompt, body, n):
        self.reply(429, {"error": {"message": "come back tomorrow"}}, Retry_After="7200")

    def shaky(self, prompt, body, n):
        if n == 1:
            return self.reply(500, {"error": "boom"})
        if n == 2:  # the connection is cut in the middle of the body
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"mess')
            self.wfile.flush()
            return self.hang_up()
        if n == 3:
            return self.hang_up()
        self.answer("at last")

    def html(self, prompt, body, n):
        self.reply(200, b"<html>\x1b[31m\nnot what you want</html>", "text/html")

    def broken(self, prompt, body, n):
        self.reply(200, b'{"choices": [{"message": {"content": "half')

    def nochoices(self, prompt, body, n):
        self.reply(200, {"object": "list", "choices": []})

    def toldkey(self, prompt, body, n):
        self.reply(200, b"<html>" + b"." * 55 + self.headers["Authorization"].encode(), "text/html")  # cut inside the key

    def manytokens(self, prompt, body, n):
        self.reply(200, {"choices": [{"message": {"content": "told"}}],
                         "usage": {"prompt_tokens": 2**62, "completion_tokens": 2**62 if n % 2 else -3}})

    def empty(self, prompt, body, n):
        self.answer({"once": "", "blank": "  \n"}.get(prompt.split()[1], ""))

    def notext(self, prompt, body, n):
        """Replies without a text, for a reason that they give."""
        message, finish = NO_TEXT[prompt.split()[1]][:2]
        self.reply(200, {"choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}],
                         "usage": {"prompt_tokens": 11, "completion_tokens": 7}})

    def paid(self, prompt, body, n):
        """A reply that costs something and is of no use, then an answer."""
        if n > 1:
            return self.answer("at last")
        self.reply(200, {"choices": [{"message": {"content": None, "note": "nothing to see"}, "finish_reason": "stop"}],
                         "usage": {"prompt_tokens": 1000, "completion_tokens": 2000}})

    def wrongtype(self, prompt, body, n):
        self.reply(200, {"choices": [{"message": {"content": {"a": 1}}}]})

    def bytes(self, prompt, body, n):
        text = {"utf8": b"a\xff\xfeb", "cut": b"\xe4\xb8", "half": b"a\\ud83d", "swapped": b"\\ude00\\ud83d!",
                "whole": b"\\ud83d\\ude00", "escaped": b"\\\\ud83d \xff"}[prompt.split()[1]]
        self.reply(200, b'{"choices": [{"message": {"content": "' + text + b'"}}]}')

    def parts(self, prompt, body, n):
        self.reply(200, {"choices": [{"message": {"content": [{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]}}]})

    def created(self, prompt, body, n):
        self.reply(201, {"choices": [{"message": {"content": "made"}}]})

    def flagged(self, prompt, body, n):
        self.reply(403, {"error": {"message": "flagged by moderation"}})

    def huge(self, prompt, body, n):
        self.send_response(200)
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b"x" * (1 << 20))

    def refuse(self, prompt, body, n):
        self.reply(400, {"error": {"message": "this prompt is too long"}})

    def filtered(self, prompt, body, n):
        self.answer("", "content_filter")

    def stall(self, prompt, body, n):
        self.server.hold.wait(60)

    def silent(self, prompt, body, n):
        """Nothing for as long as the prompt says, after a byte of the body if it says so."""
        how, seconds = prompt.split()[1:]
        reply = json.dumps({"choices": [{"message": {"content": "at last"}}]}).encode()
        if how == "later":
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply[:1])
            self.wfile.flush()
            self.server.hold.wait(float(seconds))
            return self.wfile.write(reply[1:])
        self.server.hold.wait(float(seconds))
        self.reply(200, reply)

    def drip(self, prompt, body, n):
        reply = json.dumps({"choices": [{"message": {"content": "drops"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        for i in range(0, len(reply), 8):
            self.wfile.write(reply[i:i + 8])
            self.wfile.flush()
            time.sleep(0.5)

    def redirect(self, prompt, body, n):
        self.reply(302, b"", Location=self.server.url.replace("/v1", "/elsewhere"))

    def nokey(self, prompt, body, n):
        self.reply(401, {"error": {"message": "Incorrect API key provided: " + self.headers["Authorization"]}})

    def newname(self, prompt, body, n):
        if "max_tokens" in body:
            return self.reply(400, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}})
        self.answer("renamed")


NO_TEXT = {
    "reasoning": ({"content": None, "reasoning_content": "let me think"}, "length", "--max-new-tokens allows went into reasoning"),
    "reasoned": ({"content": "", "reasoning": "let me think"}, "length", "--max-new-tokens allows went into reasoning"),
    "budget": ({"content": None}, "length", "--max-new-tokens"),
    "refusal": ({"content": None, "refusal": "I can't help."}, "stop", "the model refuses to answer: I can't help."),
    "tool": ({"content": None, "tool_calls": []}, "tool_calls", "calls a tool"),
    "filter": ({"content": None}, "content_filter", "content filter"),
}


@pytest.fixture
def endpoint():
    s = Endpoint()
    yield s
    s.hold.set()
    s.shutdown()
    s.server_close()


def collect(endpoint, tmp_path, prompts, *args, out="a.jsonl", env=None, url=None, quiet=("--quiet",)):
    given = write_jsonl(tmp_path / "p.jsonl", [{"id": f"q{i}", "prompt": p} for i, p in enumerate(prompts)])
    return subprocess.run(
        [podium_bin(), "generate", "--model", url or endpoint.url, "--model-name", "big", "--prompts", given,
         "--out", tmp_path / out, *quiet, *map(str, args)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "OPENAI_API_KEY": KEY, **(env or {})})


def test_answers(endpoint, tmp_path):
    prompts = [f"ok {i}" for i in range(30)] + [[{"role": "system", "content": "be brief"}, {"role": "user", "content": "ok m"}], "long one"]
    done = collect(endpoint, tmp_path, prompts, "--n", 2, "--parallel", 8, "--temperature", 0.7, "--max-new-tokens", 33,
                   "--stop", "END", "--json", "--price-in", 2, "--price-out", 10)
    assert done.returncode == 0, done.stderr
    rows = read_jsonl(tmp_path / "a.jsonl")
    assert [r["prompt"] for r in rows] == prompts and [r["id"] for r in rows] == [f"q{i}" for i in range(32)]
    for row in rows[:-1]:
        assert [set(a) for a in row["answers"]] == [{"text", "model", "tokens", "finish_reason"}] * 2
        last = row["prompt"] if isinstance(row["prompt"], str) else "ok m"
        assert {a["text"] for a in row["answers"]} == {f"answer {n} to {last}" for n in (1, 2)}
        assert all(a["model"] == "big" and a["tokens"] == 7 and a["finish_reason"] == "stop" for a in row["answers"])
    assert [(a["tokens"], a["finish_reason"]) for a in rows[-1]["answers"]] == [(None, "length")] * 2
    assert rows[-1]["answers"][1]["duplicate"]
    body = endpoint.bodies[0]
    assert body == {"model": "big", "messages": body["messages"], "max_tokens": 33, "temperature": 0.7, "stop": ["END"]}
    assert all(h["Authorization"] == f"Bearer {KEY}" for h in endpoint.headers)
    assert 2 <= endpoint.most_at_once <= 8
    summary = json.loads(done.stdout)
    assert summary["answers"] == 64 and summary["prompt_tokens"] == 62 * 11 and summary["new_tokens"] == 62 * 7
    assert summary["cost"] == pytest.approx((62 * 11 * 2 + 62 * 7 * 10) / 1e6)
    assert "2 answers came without a count" in done.stderr
    assert KEY not in done.stdout + done.stderr and not (tmp_path / "a.jsonl.partial").exists()


def test_text_parts_are_joined(endpoint, tmp_path):
    parts = [{"role": "user", "content": [{"type": "text", "text": "ok "}, {"type": "text", "text": "parts"}]}]
    image = [{"role": "user", "content": [{"type": "text", "text": "ok"}, {"type": "image_url", "image_url": {"url": "x"}}]}]
    done = collect(endpoint, tmp_path, [parts, image], "--n", 1, "--skip-bad")
    assert done.returncode == 0 and 'p.jsonl:2: message 0: part 1 of its content is "image_url"' in done.stderr, done.stderr
    assert endpoint.bodies[0]["messages"] == [{"role": "user", "content": "ok parts"}]
    assert [r["answers"][0]["text"] for r in read_jsonl(tmp_path / "a.jsonl")] == ["answer 1 to ok parts"]


def test_what_is_sent(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["ok plain"], "--n", 2, "--chat", "off", "--greedy", "--top-k", 5, "--top-p", 0.5,
                   "--min-p", 0.1, "--seed", 40, "--repetition-penalty", 1.5, "--api-key-env", "OTHER", env={"OTHER": "k2"})
    assert done.returncode == 0, done.stderr
    bodies = sorted(endpoint.bodies, key=lambda b: b["seed"])
    assert bodies[0] == {"model": "big", "prompt": "ok plain", "max_tokens": 256, "temperature": 0, "top_p": 0.5, "top_k": 5,
                         "min_p": 0.1, "repetition_penalty": 1.5, "seed": 40}
    assert bodies[1]["seed"] == 41 and endpoint.headers[0]["Authorization"] == "Bearer k2"
    assert "in the clear" in done.stderr and "k2" not in done.stderr


def test_tries_again(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["busy", "shaky", "newname 1", "ok"], "--n", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert [r["answers"][0]["text"] for r in read_jsonl(tmp_path / "a.jsonl")] == [
        "not busy any more", "at last", "renamed", "answer 1 to ok"]
    assert endpoint.tries == {"busy": 3, "shaky": 4, "newname 1": 2, "ok": 1}
    assert json.loads(done.stdout)["retries"] == 5


def test_an_empty_text_is_an_answer(endpoint, tmp_path):
    """A model that ends at once has answered: podium generate writes such answers, too."""
    done = collect(endpoint, tmp_path, ["empty once", "empty blank"], "--n", 1, "--json")
    assert done.returncode == 0, done.stderr
    answers = [r["answers"][0] for r in read_jsonl(tmp_path / "a.jsonl")]
    assert [(a["text"], a["tokens"], a["finish_reason"]) for a in answers] == [("", 7, "stop"), ("  \n", 7, "stop")]
    assert json.loads(done.stdout)["retries"] == 0


def test_no_text_for_a_reason_is_not_asked_for_again(endpoint, tmp_path):
    prompts = ["ok"] + [f"notext {word}" for word in NO_TEXT]
    done = collect(endpoint, tmp_path, prompts, "--n", 1, "--json", "--skip-bad")
    assert done.returncode == 0 and set(endpoint.tries.values()) == {1}, done.stderr
    for i, (_, _, reason) in enumerate(NO_TEXT.values()):
        line = re.search(rf"^.*p\.jsonl:{i + 2}: (.*)$", done.stderr, re.M)
        assert line and endpoint.url in line.group(1) and reason in line.group(1), done.stderr
    assert json.loads(done.stdout)["new_tokens"] == 7 * len(prompts)


def test_replies_of_no_use_are_paid_for(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["paid"], "--n", 1, "--json", "--price-in", 1, "--price-out", 1)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["prompt_tokens"], summary["new_tokens"]) == (1011, 2007) and summary["cost"] == pytest.approx(3018 / 1e6)
    done = collect(endpoint, tmp_path, ["paid 2"], "--n", 1, "--retries", 0, out="b.jsonl")
    assert done.returncode == 1 and "has no text" in done.stderr and '"note":"nothing to see"' in done.stderr


def test_retry_after_holds_for_everybody(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["busy"] + [f"ok {i}" for i in range(3)], "--n", 1, "--parallel", 1)
    assert done.returncode == 0, done.stderr
    gaps = [b - a for a, b in zip(endpoint.times, endpoint.times[1:])]
    assert gaps[0] > 0.9 and gaps[1] > 0.9


def test_being_sent_away_spends_no_tries(endpoint, tmp_path):
    """16 askers share what an endpoint allows, in whatever order; those that come back do not all come at once."""
    prompts = [f"limited {i}" for i in range(60)]
    begin = time.monotonic()
    done = collect(endpoint, tmp_path, prompts, "--n", 1, "--parallel", 16, "--retries", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert [r["answers"][0]["text"] for r in read_jsonl(tmp_path / "a.jsonl")] == prompts
    assert time.monotonic() - begin < 30  # 6 s at the least
    assert sum(endpoint.tries.values()) < 180  # at most two in vain for one that is taken


def test_being_sent_away_has_an_end(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["away"], "--n", 1, "--retries", 1, "--max-pause", 1)
    assert done.returncode == 1 and "status 429: not you" in done.stderr, done.stderr
    assert 4 < endpoint.tries["away"] < 20


def test_pauses_are_said_and_bounded(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["busy"], "--n", 1, quiet=())
    assert done.returncode == 0 and "the endpoint asks for a pause: 1 s" in done.stderr, done.stderr
    endpoint.tries.clear()
    done = collect(endpoint, tmp_path, ["ok", "later"] + [f"ok {i}" for i in range(50)], "--n", 1, "--parallel", 1, out="b.jsonl")
    assert done.returncode == 1 and endpoint.tries == {"ok": 1, "later": 1}
    assert f"{endpoint.url} asks for a pause of 7200 s (Retry-After), longer than --max-pause 600; the same command with --resume" in done.stderr
    assert len(read_jsonl(tmp_path / "b.jsonl.partial")) == 2  # what was answered stays


REASONS = {
    "html": "is not a JSON object (text/html): <html>", "broken": "is not a JSON object",
    "nochoices": "has no choices", "wrongtype": "has no text", "huge": "too large", "refuse": "status 400: this prompt is too long", "filtered": "content filter",
    "stall": "", "shaky": "status 500: boom",
}


def test_rubbish_is_named_and_the_rest_is_kept(endpoint, tmp_path):
    """Host, line of the prompts and reason for each; what was paid for stays, and --resume asks for the others only."""
    prompts = [p for word in REASONS for p in (f"ok beside {word}", word)]
    args = ["--n", 1, "--retries", 0, "--timeout", 2]
    done = collect(endpoint, tmp_path, prompts, *args)
    assert done.returncode == 1 and not (tmp_path / "a.jsonl").exists()
    for i, (word, reason) in enumerate(REASONS.items()):
        line = re.search(rf"^.*p\.jsonl:{2 * i + 2}: (.*)$", done.stderr, re.M)
        assert line and endpoint.url in line.group(1) and reason in line.group(1), (word, done.stderr)
    assert "\x1b" not in done.stderr and KEY not in done.stderr
    assert f"{len(REASONS)} of {len(prompts)} prompts have no answer" in done.stderr and "--resume" in done.stderr
    before = Counter(endpoint.tries)
    endpoint.hold.set()
    Handler_stall, Handler.stall = Handler.stall, Handler.ok
    try:
        done = collect(endpoint, tmp_path, prompts, *args, "--resume", "--skip-bad", "--json")
    finally:
        Handler.stall = Handler_stall
    assert done.returncode == 0, done.stderr
    good = [p for p in prompts if p.startswith("ok") or p == "stall"]
    assert [r["prompt"] for r in read_jsonl(tmp_path / "a.jsonl")] == good
    assert json.loads(done.stdout)["resumed"] == len(REASONS) and json.loads(done.stdout)["failed"] == len(REASONS) - 1
    assert all(endpoint.tries[p] == before[p] for p in prompts if p.startswith("ok"))
    assert all(endpoint.tries[word] == 2 for word in REASONS)


def test_what_is_no_character_is_replaced(endpoint, tmp_path):
    """Models cut characters in two; that is no reason to pay again."""
    want = {"utf8": "a\ufffd\ufffdb", "cut": "\ufffd", "half": "a\ufffd", "swapped": "\ufffd\ufffd!", "whole": "\U0001f600",
            "escaped": "\\ud83d \ufffd"}
    done = collect(endpoint, tmp_path, [f"bytes {w}" for w in want], "--n", 1, "--retries", 0)
    assert done.returncode == 0, done.stderr
    assert [r["answers"][0]["text"] for r in read_jsonl(tmp_path / "a.jsonl")] == list(want.values())


def test_an_answer_may_have_parts(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["parts"], "--n", 1)
    assert done.returncode == 0 and read_jsonl(tmp_path / "a.jsonl")[0]["answers"][0]["text"] == "two parts", done.stderr


def test_created_is_an_answer(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["created"], "--n", 1)
    assert done.returncode == 0 and read_jsonl(tmp_path / "a.jsonl")[0]["answers"][0]["text"] == "made", done.stderr


def test_forbidden_is_one_prompt_once_others_are_answered(endpoint, tmp_path):
    args = ["--n", 1, "--parallel", 1, "--skip-bad"]
    done = collect(endpoint, tmp_path, ["ok 1", "flagged", "ok 2"], *args)
    assert done.returncode == 0 and "p.jsonl:2:" in done.stderr and "status 403: flagged by moderation" in done.stderr, done.stderr
    assert [r["prompt"] for r in read_jsonl(tmp_path / "a.jsonl")] == ["ok 1", "ok 2"] and endpoint.tries["flagged"] == 1
    done = collect(endpoint, tmp_path, ["flagged", "ok 1"], *args, out="b.jsonl")
    assert done.returncode == 1 and "status 403" in done.stderr and endpoint.tries["ok 1"] == 1  # as with a bad key
    done = collect(endpoint, tmp_path, ["ok 1"] + [f"flagged {i}" for i in range(30)], *args, out="c.jsonl")
    assert done.returncode == 1 and "10 prompts in a row have no answer" in done.stderr


@pytest.mark.parametrize("word,reason", [("nokey", "status 401: Incorrect API key"), ("redirect", "status 302")])
def test_what_no_try_can_mend_ends_it(endpoint, tmp_path, word, reason):
    done = collect(endpoint, tmp_path, [f"{word} {i}" for i in range(100)], "--parallel", 2)
    assert done.returncode == 1 and reason in done.stderr and endpoint.url in done.stderr
    assert sum(endpoint.tries.values()) <= 4 and len(done.stderr.splitlines()) <= 2
    assert KEY not in done.stderr


def test_what_an_endpoint_says_of_the_key_is_not_printed(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["toldkey"], "--n", 1, "--retries", 0)
    assert done.returncode == 1 and "is not a JSON object" in done.stderr and KEY[:6] not in done.stderr


def test_counts_that_cannot_be_are_none(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, [f"manytokens {i}" for i in range(4)], "--n", 1, "--json", "--token-rate", 1000)
    assert done.returncode == 0 and "4 answers came without a count" in done.stderr, done.stderr
    assert json.loads(done.stdout)["new_tokens"] == json.loads(done.stdout)["prompt_tokens"] == 0
    assert all(a["tokens"] is None for r in read_jsonl(tmp_path / "a.jsonl") for a in r["answers"])


@pytest.mark.parametrize("how", ["first", "later"])
def test_silence_ends_a_try(endpoint, tmp_path, how):
    begin = time.monotonic()
    done = collect(endpoint, tmp_path, [f"silent {how} 30"], "--n", 1, "--retries", 0, "--timeout", 1)
    took = time.monotonic() - begin
    assert done.returncode == 1 and "nothing came for 1 s" in done.stderr and 1 <= took < 4, (took, done.stderr)


def test_slow_is_not_silent(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, ["drip", "silent first 1", "silent later 1"], "--n", 1, "--retries", 0, "--timeout", 2)
    assert done.returncode == 0, done.stderr


def test_nobody_there(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, [f"ok {i}" for i in range(200)], "--retries", 0, url="http://127.0.0.1:9/v1")
    assert done.returncode == 1 and "10 prompts in a row have no answer" in done.stderr and "127.0.0.1:9" in done.stderr


def test_rates(endpoint, tmp_path):
    done = collect(endpoint, tmp_path, [f"ok {i}" for i in range(7)], "--n", 1, "--rate", 240)
    assert done.returncode == 0, done.stderr
    assert max(endpoint.times) - min(endpoint.times) > 1  # 1.5 s; without the limit a tenth of that
    endpoint.times.clear()
    done = collect(endpoint, tmp_path, [f"ok {i}" for i in range(6)], "--n", 1, "--parallel", 1, "--token-rate", 18 * 240, out="b.jsonl")
    assert done.returncode == 0, done.stderr
    assert max(endpoint.times) - min(endpoint.times) > 1


def test_interrupt_and_resume(endpoint, tmp_path):
    prompts = [f"ok {i}" for i in range(40)] + ["stall"]
    given = write_jsonl(tmp_path / "p.jsonl", [{"id": f"q{i}", "prompt": p} for i, p in enumerate(prompts)])
    p = subprocess.Popen([podium_bin(), "generate", "--model", endpoint.url, "--model-name", "big", "--prompts", given,
                          "--out", tmp_path / "a.jsonl", "--n", "1"], stderr=subprocess.PIPE, text=True)
    partial = tmp_path / "a.jsonl.partial"
    wait_for(lambda: partial.exists() and partial.read_text().count("\n") == 41 and endpoint.tries["stall"])
    p.send_signal(signal.SIGINT)
    assert p.wait(20) == 3 and "--resume" in p.stderr.read()
    endpoint.hold.set()
    Handler_stall, Handler.stall = Handler.stall, Handler.ok
    try:
        done = collect(endpoint, tmp_path, prompts, "--n", 1, "--resume")
    finally:
        Handler.stall = Handler_stall
    assert done.returncode == 0, done.stderr
    assert [r["prompt"] for r in read_jsonl(tmp_path / "a.jsonl")] == prompts
    again = collect(endpoint, tmp_path, prompts, "--n", 1, "--resume", quiet=())
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert max(endpoint.tries[f"ok {i}"] for i in range(40)) == 1


PRICES = ["--price-in", 2, "--price-out", 10, "--json"]


def spent(done, answers, job):
    s = json.loads(done.stdout)
    assert (s["prompt_tokens"], s["new_tokens"]) == (11 * answers, 7 * answers)
    assert s["cost"] == pytest.approx(answers * (11 * 2 + 7 * 10) / 1e6)
    assert (s["job_prompt_tokens"], s["job_new_tokens"]) == (11 * job, 7 * job)
    assert s["job_cost"] == pytest.approx(job * (11 * 2 + 7 * 10) / 1e6)


def test_what_was_paid_is_told_however_it_ends(endpoint, tmp_path, monkeypatch):
    """In this run, and in the whole job; half a prompt's answers count too."""
    def once(self, prompt, body, n):
        self.answer("the first one") if n == 1 else self.reply(400, {"error": {"message": "no more"}})

    monkeypatch.setattr(Handler, "once", once, raising=False)
    prompts = [f"ok {i}" for i in range(5)] + ["once"]
    done = collect(endpoint, tmp_path, prompts, "--n", 2, *PRICES, quiet=())
    assert done.returncode == 1 and "1 of 6 prompts have no answer" in done.stderr
    assert "121 prompt tokens, 0 retries, cost 0.001012" in done.stderr and "skipped" not in done.stderr
    spent(done, 11, 11)
    done = collect(endpoint, tmp_path, prompts, "--n", 2, *PRICES, "--resume")
    assert done.returncode == 1
    spent(done, 0, 11)
    monkeypatch.setattr(Handler, "once", Handler.ok)
    done = collect(endpoint, tmp_path, prompts, "--n", 2, *PRICES, "--resume", quiet=())
    assert done.returncode == 0 and "with its earlier runs: 143 prompt tokens, 91 of answers, cost 0.001196" in done.stderr
    spent(done, 2, 13)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("variants", [False, True])
def test_what_was_paid_before_an_interruption(endpoint, tmp_path, monkeypatch, how, variants):
    prompts = [f"ok {i}" for i in range(8)] + ["wait"]
    held = threading.Event()

    def wait(self, prompt, body, n):
        if body["temperature"] == 0.5:
            held.wait(60)
        self.answer("go")

    monkeypatch.setattr(Handler, "wait", wait, raising=False)
    given = write_jsonl(tmp_path / "p.jsonl", [{"id": f"q{i}", "prompt": p} for i, p in enumerate(prompts)])
    more = ["--n", "1", "--temperature", "0.9,0.5" if variants else "0.5", *map(str, PRICES)]
    p = subprocess.Popen([podium_bin(), "generate", "--model", endpoint.url, "--model-name", "big", "--prompts", given, *more,
                          "--out", tmp_path / "a.jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / ("a.jsonl.variant-2.partial" if variants else "a.jsonl.partial")
    wait_for(lambda: part.exists() and part.read_text().count("\n") == 9)
    p.send_signal(how)
    out = p.communicate(timeout=30)[0]
    assert p.returncode == (3 if how == signal.SIGINT else -how)
    first = 17 if variants else 8
    if how == signal.SIGINT:
        spent(subprocess.CompletedProcess([], 3, stdout=out), first, first)
    held.set()
    done = collect(endpoint, tmp_path, prompts, *more, "--resume")
    assert done.returncode == 0, done.stderr
    spent(done, 1, first + 1)


def test_certificates_are_verified(endpoint, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "k", "-out", tmp_path / "c",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c", tmp_path / "k")
    endpoint.socket = context.wrap_socket(endpoint.socket, server_side=True)
    url = f"https://localhost:{endpoint.server_port}/v1"
    done = collect(endpoint, tmp_path, ["ok"], "--n", 1, "--retries", 0, url=url)
    assert done.returncode == 1 and "certificate" in done.stderr and not endpoint.tries


@pytest.mark.parametrize("args,word", [
    (["--model", "http://h/v1"], "--model-name"), (["--model", "https://u:p@h/v1", "--model-name", "m"], "name and password"),
    (["--model", "https:///v1", "--model-name", "m"], "not an address"),
    (["--model", "http://h/v1", "--model-name", "m", "--typical-p", "0.5"], "--typical-p"),
    (["--model", "http://h/v1", "--model-name", "m", "--api-key-env", "PD_NOT_THERE"], "PD_NOT_THERE")])
def test_usage(tmp_path, args, word):
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "x"}])
    done = subprocess.run([podium_bin(), "generate", "--prompts", given, *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and word in done.stderr and "u:p" not in done.stderr


@pytest.mark.parametrize("chat", ["on", "off"])
def test_our_own_server(tmp_path, chat):
    """Answers collected from podium generate --serve are those of podium generate itself."""
    model = FIXTURES / "models" / "tiny-llama"
    prompts = ["What is the capital", "a cup of tea", "before the train"]
    given = write_jsonl(tmp_path / "p.jsonl", [{"prompt": p} for p in prompts])
    common = ["--prompts", given, "--chat", chat, "--max-new-tokens", 20, "--out"]

    def generate(out, *args):
        done = subprocess.run([podium_bin(), "generate", *map(str, [*common, tmp_path / out, *args])], capture_output=True,
                              text=True, timeout=60, env={**os.environ, "OPENAI_API_KEY": ""})
        return done, read_jsonl(tmp_path / out) if done.returncode == 0 else None

    def alone(seed):
        rows = generate(f"{seed}.jsonl", "--model", model, "--n", 1, "--seed", seed, "--top-k", 0, "--dtype", "fp32")[1]
        return [r["answers"][0] for r in rows]

    seed = 1
    s = ModelServer(tmp_path, model)
    try:
        done, _ = generate("x.jsonl", "--model", s.url + "/v1", "--model-name", "big")
        assert done.returncode == 1 and "'tiny-llama'" in done.stderr
        done, rows = generate("a.jsonl", "--model", s.url + "/v1", "--model-name", "tiny-llama", "--n", 2, "--seed", seed)
        assert done.returncode == 0, done.stderr
    finally:
        s.stop()
    for k in range(2):  # one request an answer, each with a seed of its own
        same = [[(a["text"], a["tokens"], a["finish_reason"]) for a in answers]
                for answers in ([r["answers"][k] for r in rows], alone(seed + k))]
        assert same[0] == same[1]
