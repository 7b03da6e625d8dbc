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
import resource
import subprocess
import sys
import time

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


def run(command, **kw):
    """Runs to the end; returns (stdout, wall seconds, peak resident bytes of the largest child so far)."""
    start = time.monotonic()
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:4]))} ... exits {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def peer_python():
    venv, _, _ = run([ROOT / "tests/oracle/venv"])
    return pathlib.Path(venv.strip()) / "bin" / "python"


def peer(script, settings, threads):
    """Runs bench/peers/SCRIPT with settings as JSON on its command line; returns the JSON it prints last."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    out, _, _ = run([peer_python(), PEERS / script, json.dumps(settings)], env=env)
    return json.loads(out.strip().split("\n")[-1])


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
        version, _, _ = run([args.podium, "--version"])
        self.log = args.log
        self.line = {"bench": bench, "podium": version.strip(), "cpu": cpu_name(), "cores": os.cpu_count(),
                     "quick": args.quick, "config": config, "results": {}, "ratios": {}}

    def add(self, name, **figures):
        self.line["results"][name] = figures
        say(f"  {name:34} " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()))

    def ratio(self, name, value):
        self.line["ratios"][name] = round(value, 3)
        say(f"  {name:34} {value:.2f}x")

    def done(self):
        self.line["load"] = [round(self.start_load, 2), round(os.getloadavg()[0], 2)]
        text = json.dumps(self.line)
        print(text)
        if self.log:
            with open(self.log, "a", encoding="utf-8") as f:
                f.write(text + "\n")
