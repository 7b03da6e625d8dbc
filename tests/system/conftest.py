"""What the system tests share. They run the real binary: $PODIUM_BIN, else build/release, else build/dev."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"


def podium_bin():
    given = os.environ.get("PODIUM_BIN")
    found = [given] if given else [str(ROOT / "build" / p / "podium") for p in ("release", "dev")]
    for path in found:
        if os.access(path, os.X_OK):
            return path
    pytest.exit(f"no podium binary: built none of {found}; set PODIUM_BIN")


@pytest.fixture(scope="session")
def podium():
    """podium("verb", "--flag", ..., stdin="text", code=0) -> stdout; the exit code must be `code`."""
    binary = podium_bin()

    def run(*args, stdin=None, code=0, timeout=300):
        done = subprocess.run(
            [binary, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == code, f"podium {args[0]} exits {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def smollm2():
    """The path of SmolLM2-135M-Instruct.Q4_1.gguf; ./check pulls it."""
    path = os.environ.get("PODIUM_TEST_MODEL")
    if not path:
        pytest.skip("PODIUM_TEST_MODEL is not set (podium model pull smollm2-135m-instruct prints it)")
    return path


def read_jsonl(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").split("\n") if line]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def model_path(request):
    """A golden's name to a model: a folder of tests/fixtures/models, or the real SmolLM2."""
    return lambda name: request.getfixturevalue("smollm2") if name == "smollm2" else FIXTURES / "models" / name


@pytest.fixture
def server(tmp_path):
    """podium serve on a free port with an empty data folder, without a worker."""
    from serving import Server

    s = Server(tmp_path / "data", "--no-worker").start()
    yield s
    s.stop()
