"""What the benches share: the two sides' programs, the data, the machine, and one result line.

A bench is one claim and one command. It runs podium and its peer in one go on the same machine, prints every figure
and the ratio on stderr, and one JSON object on stdout, with the configuration that gave them. Figures of a shared
machine move; a ratio from one run means more, and the load is noted beside it. Standard library only: the peers run in
the environment that tests/oracle/venv makes.
"""
import argparse
import datetime
import gzip
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEERS = ROOT / "bench" / "peers"


def parser(doc):
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--podium", default=os.environ.get("PODIUM_BIN", str(ROOT / "build/release/podium")))
    ap.add_argument("--quick", action="store_true", help="a smaller job: minutes become seconds, figures get rougher")
    ap.add_argument("--log", type=pathlib.Path, help="append the result line to this file as well")
    return ap


def peer_options(ap):
    ap.add_argument("--model", help="GGUF or folder (default: podium model pull smollm2-135m-instruct)")
    ap.add_argument("--data", type=pathlib.Path, default=os.environ.get("PODIUM_DATA"),
                    help="folder with hh-harmless-1800.jsonl.gz and alpaca-eval-prompts.jsonl (default $PODIUM_DATA)")
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--no-peer", action="store_true", help="podium's side only")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Ran(NamedTuple):
    """A command that ran to its end. Compare `others` before believing a figure: on a quiet machine it is near 0."""

    stdout: str
    seconds: float  # wall time
    peak: int  # resident bytes at most
    others: float  # cores that everything else on the machine kept busy meanwhile


def busy_seconds():
    """Processor time since boot that was not idle."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, open("/proc/stat").readline().split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def used_seconds(pid):
    """Processor time of a running process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid):
    """The most memory that a running process has held."""
    return int(pathlib.Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def run(command, **kw):
    command = [str(c) for c in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start, busy = time.monotonic(), busy_seconds()
        process = subprocess.Popen(command, stdout=out, stderr=err, **kw)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        others = (busy_seconds() - busy - used.ru_utime - used.ru_stime) / seconds
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command[:4])} ... exits {process.returncode}:\n{err.read().decode(errors='replace')[-3000:]}")
        return Ran(out.read().decode(), seconds, used.ru_maxrss * 1024, max(0.0, others))


def peer_python():
    return pathlib.Path(run([ROOT / "tests/oracle/venv"]).stdout.strip()) / "bin" / "python"


def peer(script, settings, threads):
    """Runs bench/peers/SCRIPT with settings as JSON on its command line; returns the JSON it prints last."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    out = run([peer_python(), PEERS / script, json.dumps(settings)], env=env).stdout
    return json.loads(out.strip().split("\n")[-1])


def built(name):
    """bench/NAME.c as a program for this very machine."""
    source, program = ROOT / "bench" / f"{name}.c", ROOT / "build" / "bench" / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        run(["cc", "-O3", "-march=native", "-fopenmp", "-o", program, source])
    return program


def bandwidth(threads, mib=512, limit=1.0):
    """Bytes a second that all threads together read from memory: the best pass, and the median one (what it sustains)."""
    out = run([built("bandwidth"), mib, limit], env={**os.environ, "OMP_NUM_THREADS": str(threads)}).stdout
    best, median = (float(x) * 1e9 for x in out.split())
    return best, median


def model_path(args):
    return args.model or run([args.podium, "model", "pull", "smollm2-135m-instruct"])[0].strip()


def peer_model(args, model, tmp):
    """The same weights and the same tokenizer as a Hugging Face folder: transformers' own GGUF loader loses the digit split."""
    folder = tmp / "peer-model"
    run([args.podium, "model", "convert", model, "--out", folder, "--dtype", "fp32"])
    return str(folder)


def data_file(args, name):
    if not args.data or not (pathlib.Path(args.data) / name).exists():
        raise SystemExit(f"{name} is missing: set PODIUM_DATA or --data to its folder (bench/README.md says where to get it)")
    return pathlib.Path(args.data) / name


def read_jsonl(path):
    opened = gzip.open(path, "rt", encoding="utf-8") if str(path).endswith(".gz") else open(path, encoding="utf-8")
    with opened as f:
        return [json.loads(line) for line in f if line.strip()]


def seconds(stamp):
    """A metrics line's "time" as seconds."""
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().split("\n")
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


class Result:
    """Collects one bench's figures; `done` prints the line."""

    def __init__(self, bench, args, **config):
        self.start_load = os.getloadavg()[0]
        version = run([args.podium, "--version"]).stdout
        self.log = args.log
        self.line = {"bench": bench, "podium": version.strip(), "cpu": cpu_name(), "cores": os.cpu_count(),
                     "quick": args.quick, "config": config, "results": {}, "ratios": {}}

    def add(self, name, **figures):
        self.line["results"][name] = figures
        say(f"  {name:34} " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()))

    def ratio(self, name, value, claim=None):
        """A ratio that should be at least `claim`."""
        self.line["ratios"][name] = round(value, 3)
        if claim is not None:
            self.line.setdefault("claims", {})[name] = {"claim": claim, "holds": value >= claim}
        verdict = "" if claim is None else f"  (claim {claim:g}: {'holds' if value >= claim else 'MISSED'})"
        say(f"  {name:34} {value:.2f}x{verdict}")

    def memory(self, name, **figures):
        """What a process took at most; only what does not hold is worth a line on the terminal."""
        self.line.setdefault("memory", {})[name] = {k: round(v, 1) if isinstance(v, float) else v for k, v in figures.items()}
        if not figures["holds"]:
            say(f"  {name:34} MISSED memory: " + "  ".join(f"{k} {v:.0f}" for k, v in figures.items() if isinstance(v, float)))

    def done(self):
        self.line["load"] = [round(self.start_load, 2), round(os.getloadavg()[0], 2)]
        text = json.dumps(self.line)
        print(text)
        if self.log:
            with open(self.log, "a", encoding="utf-8") as f:
                f.write(text + "\n")
