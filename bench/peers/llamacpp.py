"""llama.cpp as a peer: built by bench/peers/llama-cpp, driven by its own benchmark programs, with its defaults
(flash attention where it chooses so, weights repacked at load, llamafile's matmuls); batched decoding with keys and values in f16, its
default, or in q8_0."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import PEERS, run

PRECISIONS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1")


class LlamaCpp:
    def __init__(self, podium, threads):
        self.home = pathlib.Path(run([PEERS / "llama-cpp"]).stdout.strip())
        self.podium, self.threads = podium, threads

    def tool(self, name):
        return self.home / "bin" / name

    def gguf(self, folder, precision):
        """FOLDER, a Hugging Face folder, as FOLDER.PRECISION.gguf beside it: in f32 by podium, then quantised by llama.cpp itself. Every matrix
        in the one precision (`--pure`): by default some stay wider, which is slower."""
        whole = folder.with_name(f"{folder.name}.f32.gguf")
        if not whole.exists():
            run([self.podium, "model", "convert", folder, "--out", whole, "--dtype", "fp32"])
        if precision == "f32":
            return whole
        out = folder.with_name(f"{folder.name}.{precision}.gguf")
        if not out.exists():
            made = out.with_suffix(".partial")
            run([self.tool("llama-quantize"), "--pure", whole, made, precision.upper(), self.threads])
            made.rename(out)
        return out

    def bench(self, gguf, prompt=0, new=0, repeat=1):
        """Tokens a second of the best of `repeat` runs of `prompt` tokens read at once, or of `new` made one after another."""
        out = run([self.tool("llama-bench"), "-m", gguf, "-t", self.threads, "-p", prompt, "-n", new, "-r", repeat, "-o", "json"])
        return max(json.loads(out.stdout)[0]["samples_ts"]), out

    def batched(self, gguf, prompt, new, answers, at_once, of=None, cache="f16"):
        """`at_once` sequences in step, each with its own prompt. -> generated tokens a second of a job with `answers` answers a prompt:
        as this program has no shared prompts, its prompt time is divided by `answers`, as if it had. It draws no tokens either
        (they are given), and no sequence ends early: both are to its advantage. `of`: new tokens of the real job, when `new` are only
        a sample of them."""
        cells = at_once * (prompt + new)
        out = run([self.tool("llama-batched-bench"), "-m", gguf, "-t", self.threads, "-tb", self.threads, "-c", cells, "-b", 2048,
                   "-npp", prompt, "-ntg", new, "-npl", at_once, "-ctk", cache, "-ctv", cache, "--output-format", "jsonl"])
        row = next(json.loads(line) for line in reversed(out.stdout.split("\n")) if line.startswith("{"))
        of = of or new
        return at_once * of / (row["t_pp"] / answers + row["t_tg"] * of / new), out
