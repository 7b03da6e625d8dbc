#!/usr/bin/env python3
"""Every family x file format x dtype against transformers, on tiny random models made fresh (goldens/families.py).

    families.py [VARIANT...] [--podium PATH] [--formats A,B] [--tolerance 2e-4]

A case writes the model in one format and dtype, runs `podium logprobs` and `podium generate --greedy` on it in fp32, and compares
with transformers on the same weights: rounded to the dtype, or quantised and dequantised by the gguf package. Formats:

  safetensors, shards, bin, bin-shards   written by transformers, or torch.save where it no longer writes
  gguf      written by the gguf package (write_gguf.py) in F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1, and in Q4_K Q5_K Q6_K on a
            wider shape of the family (k_quants.py makes those blocks; the package says what they hold)
  own-gguf  written by `podium model convert`; its tensors are read back by the gguf package
  saved     written by `podium model convert` from safetensors; opened by transformers, nothing missing, the same log-probs
  from-gguf the same from the F32 GGUF file
  reward    the family's sequence classifier in safetensors: `podium score`; saved by podium, opened by transformers, scored again
  reward-bin  the same from a torch file
  labels    a classifier of three labels: each one's logit by `podium score --reward-label`, and again as saved by podium

A cell is the largest difference of a log-prob (or score), "-" what the format cannot hold, FAIL what differs; reasons stand below the
table. Exits 1 when a case fails. Run with the environment that tests/oracle/remake makes.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import write_gguf
from goldens import families as F
from goldens.common import MODELS, load_tokenizer, torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Skip(Exception):
    pass


class Suite:
    def __init__(self, podium, tolerance):
        self.podium, self.tolerance = podium, tolerance
        self.tok = load_tokenizer(F.TOKENIZER)

    def run(self, *args):
        done = subprocess.run([self.podium, *map(str, args)], capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"podium {args[0]} exits {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def rows(self, verb, model, rows, tmp, *flags):
        (tmp / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        where = "--prompts" if verb == "generate" else "--in"
        self.run(verb, "--model", model, where, tmp / "in.jsonl", "--out", tmp / "out.jsonl", "--dtype", "fp32", *flags)
        return [json.loads(line) for line in (tmp / "out.jsonl").read_text().splitlines()]

    # ---- what transformers says ----

    def folder(self, name, tmp, dtype=torch.float32, heads=1, wide=False, labels=("LABEL_0",), **how):
        """The model as transformers saves it, with the shared tokenizer."""
        folder = tmp / "hf"
        F.build(name, heads=heads, dtype=dtype, wide=wide, labels=labels).to(dtype).save_pretrained(folder, **how)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(MODELS / F.TOKENIZER / file, folder)
        return folder

    def open(self, name, folder, cls=1):
        model, info = F.classes(name)[cls].from_pretrained(
            folder, dtype=torch.float32, attn_implementation=F.attention(name), output_loading_info=True)
        bad = {k: v for k, v in info.items() if v}
        assert not bad, f"transformers: {bad}"
        return model.eval()

    def reference(self, name, dtype=torch.float32):
        return F.build(name, dtype=dtype)

    # ---- comparisons ----

    def same_logprobs(self, got, model):
        worst = 0
        for ids, row in zip(F.id_rows(), got, strict=True):
            want = F.logprobs(model, ids)
            worst = max([worst, *(abs(a - b) for a, b in zip(row[1:], want[1:], strict=True))])
        assert worst <= self.tolerance, f"log-probs differ by {worst:.2e}"
        return worst

    def compare(self, model_path, model, tmp):
        got = self.rows("logprobs", model_path, [{"ids": i} for i in F.id_rows()], tmp)
        worst = self.same_logprobs([r["logprobs"] for r in got], model)
        prompts = F.PROMPTS[:2]
        answers = self.rows("generate", model_path, [{"prompt": p} for p in prompts], tmp, "--greedy", "--n", 1, "--chat", "off",
                            "--max-new-tokens", 24)
        for prompt, row in zip(prompts, answers, strict=True):
            want = F.greedy(model, self.tok, prompt)["new_ids"]  # ends before a choice that is too close
            got = row["answers"][0]["ids"][: len(want)]
            assert got == want, f"greedy: {got}, transformers {want}"
        return worst

    # ---- the formats ----

    def safetensors(self, name, kind, tmp):
        return self.compare(self.folder(name, tmp, DTYPES[kind]), self.reference(name, DTYPES[kind]), tmp)

    def shards(self, name, kind, tmp):
        folder = self.folder(name, tmp, DTYPES[kind], max_shard_size="20KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 1
        return self.compare(folder, self.reference(name, DTYPES[kind]), tmp)

    def tensors(self, folder):
        from safetensors.torch import load_file

        return load_file(folder / "model.safetensors")

    def to_torch(self, folder):
        """model.safetensors becomes the pytorch_model.bin that transformers wrote before it."""
        state = self.tensors(folder)
        config = json.loads((folder / "config.json").read_text())
        if config["tie_word_embeddings"] and "score.weight" not in state:  # torch.save keeps both names of one storage
            embed = next(k for k in state if "wte" in k or "embed" in k)
            state["embed_out.weight" if config["model_type"] == "gpt_neox" else "lm_head.weight"] = state[embed]
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()

    def bin(self, name, kind, tmp):
        folder = self.folder(name, tmp, DTYPES[kind])
        self.to_torch(folder)
        return self.compare(folder, self.reference(name, DTYPES[kind]), tmp)

    def bin_shards(self, name, kind, tmp):
        folder = self.folder(name, tmp, DTYPES[kind])
        state = list(self.tensors(folder).items())
        half, where = len(state) // 2, {}
        for i, part in enumerate((state[:half], state[half:])):
            file = f"pytorch_model-{i + 1:05}-of-00002.bin"
            torch.save(dict(part), folder / file)
            where |= {k: file for k, _ in part}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
        (folder / "model.safetensors").unlink()
        return self.compare(folder, self.reference(name, DTYPES[kind]), tmp)

    def make_gguf(self, name, kind, tmp):
        """The file, and the model that transformers makes of the same values."""
        from safetensors.torch import save_file

        reason = write_gguf.cannot(F.config_of(name))
        if reason:
            raise Skip(reason)
        folder = self.folder(name, tmp, wide=kind in write_gguf.K_TYPES)
        config = F.classes(name)[0].from_pretrained(folder)
        tensors, path = self.tensors(folder), tmp / f"{kind}.gguf"
        types = write_gguf.types(kind, tensors)
        write_gguf.write(path, config, tensors, types, self.tok)
        save_file(write_gguf.rounded(config, tensors, types), folder / "model.safetensors", metadata={"format": "pt"})
        return path, self.open(name, folder)

    def gguf(self, name, kind, tmp):
        return self.compare(*self.make_gguf(name, kind, tmp), tmp)

    def own_gguf(self, name, kind, tmp):
        from safetensors.torch import save_file

        folder, path = self.folder(name, tmp), tmp / "own.gguf"
        config = F.classes(name)[0].from_pretrained(folder)
        convert = ["model", "convert", folder, "--out", path, "--dtype", {"F32": "fp32"}.get(kind, kind.lower())]
        reason = write_gguf.cannot(config)
        if reason:
            done = subprocess.run(list(map(str, [self.podium, *convert])), capture_output=True)
            assert done.returncode == 1 and not path.exists(), f"podium writes it, but {reason}"
            raise Skip(f"{reason}; podium says so")
        self.run(*convert)
        types = self.read_back(config, self.tensors(folder), path)
        save_file(write_gguf.rounded(config, self.tensors(folder), types), folder / "model.safetensors", metadata={"format": "pt"})
        return self.compare(path, self.open(name, folder), tmp)

    def read_back(self, config, tensors, path):
        """Names, shapes and values are those that the gguf package writes in the same types; returns these."""
        import gguf

        got = {t.name: t for t in gguf.GGUFReader(path).tensors}
        names = write_gguf.gguf_names(config, tensors)
        types = {name: got[to].tensor_type for name, to in names.items()}
        types = {name: types.get(name, types[next(iter(types))]) for name in tensors}
        write_gguf.write(path.with_suffix(".want"), config, tensors, types, self.tok)
        want = {t.name: t for t in gguf.GGUFReader(path.with_suffix(".want")).tensors}
        assert want.keys() == got.keys(), sorted(want.keys() ^ got.keys())
        for name, t in want.items():
            assert t.shape.tolist() == got[name].shape.tolist(), name
            a, b = (gguf.quants.dequantize(x.data, x.tensor_type).reshape(-1) for x in (t, got[name]))
            assert abs(a - b).max() <= 1e-6, f"{name} differs by {abs(a - b).max()}"
        return types

    def saved(self, name, kind, tmp):
        folder = self.folder(name, tmp)
        self.run("model", "convert", folder, "--out", tmp / "out", "--dtype", {"fp16": "f16"}.get(kind, kind))
        return self.compare(folder if kind == "fp32" else tmp / "out", self.open(name, tmp / "out"), tmp)

    def from_gguf(self, name, kind, tmp):
        path, model = self.make_gguf(name, kind, tmp)
        if (getattr(model.config, "rope_parameters", None) or {}).get("rope_type") == "llama3":
            raise Skip("config.json has no words for a tensor of divisors")
        self.run("model", "convert", path, "--out", tmp / "out", "--dtype", "fp32")
        again = self.open(name, tmp / "out")
        return self.same_logprobs([F.logprobs(model, i) for i in F.id_rows()], again)

    def scores(self, folder, model, tmp, label=0, *flags):
        rows = [{"text": t} for t in F.TEXTS]
        want = [F.reward(model, self.tok, t, label) for t in F.TEXTS]
        got = [r["reward"] for r in self.rows("score", folder, rows, tmp, *flags)]
        worst = max(abs(a - b) for a, b in zip(got, want))
        assert worst <= self.tolerance, f"scores differ by {worst:.2e}"
        return worst

    def reward(self, name, kind, tmp):
        """Read; written again, it is what transformers opens, and says the same there."""
        folder, model = self.folder(name, tmp, DTYPES[kind], heads=2), F.build(name, heads=2, dtype=DTYPES[kind])
        worst = self.scores(folder, model, tmp)
        self.run("model", "convert", folder, "--out", tmp / "out", "--dtype", {"fp16": "f16"}.get(kind, kind))
        return max(worst, self.scores(tmp / "out", self.open(name, tmp / "out", 2), tmp))

    def reward_bin(self, name, kind, tmp):
        folder = self.folder(name, tmp, DTYPES[kind], heads=2)
        self.to_torch(folder)
        return self.scores(folder, F.build(name, heads=2, dtype=DTYPES[kind]), tmp)

    def labels(self, name, kind, tmp):
        names = ("NEGATIVE", "NEUTRAL", "POSITIVE")
        folder, model = self.folder(name, tmp, DTYPES[kind], heads=2, labels=names), F.build(name, heads=2, dtype=DTYPES[kind], labels=names)
        self.run("model", "convert", folder, "--out", tmp / "out", "--dtype", {"fp16": "f16"}.get(kind, kind))
        again = self.open(name, tmp / "out", 2)
        assert again.config.id2label == dict(enumerate(names)), again.config.id2label
        return max(self.scores(path, m, tmp, i, "--reward-label", label)
                   for path, m in ((folder, model), (tmp / "out", again)) for i, label in enumerate(names))


CASES = [
    *(("safetensors", k) for k in DTYPES), ("shards", "bf16"),
    *(("bin", k) for k in DTYPES), ("bin-shards", "fp32"),
    *(("gguf", k) for k in write_gguf.TYPES),
    *(("own-gguf", k) for k in ("F32", "F16", "BF16", "Q8_0", "Q4_0")),
    *(("saved", k) for k in DTYPES), ("from-gguf", "F32"),
    *(("reward", k) for k in DTYPES), ("reward-bin", "bf16"),
    ("labels", "fp32"), ("labels", "bf16"),
]


SHORT = {"safetensors": "safet.", "bin-shards": "bin-sh", "own-gguf": "own", "from-gguf": "f-gguf", "reward-bin": "rew-b.", "labels": "label"}


def run_case(suite, name, fmt, kind):
    """(cell, reason): the cell is a difference, "-" or "FAIL"."""
    with tempfile.TemporaryDirectory() as tmp:
        try:
            return f"{getattr(suite, fmt.replace('-', '_'))(name, kind, pathlib.Path(tmp)):.0e}", None
        except Skip as e:
            return "-", str(e)
        except AssertionError as e:
            return "FAIL", str(e)
        except Exception:
            return "FAIL", traceback.format_exc(limit=-2)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("variants", nargs="*", metavar="VARIANT", help=" ".join(F.VARIANTS))
    ap.add_argument("--podium", default=os.environ.get("PODIUM_BIN", str(ROOT / "build/release/podium")))
    ap.add_argument("--formats")
    ap.add_argument("--tolerance", type=float, default=2e-4)
    args = ap.parse_args()
    unknown = set(args.variants) - set(F.VARIANTS)
    if unknown:
        ap.error(f"no variant {sorted(unknown)}; there are {' '.join(F.VARIANTS)}")
    wanted = args.formats.split(",") if args.formats else None
    cases = [c for c in CASES if not wanted or c[0] in wanted]

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    suite, reasons, count = Suite(args.podium, args.tolerance), {}, {"passed": 0, "FAIL": 0, "-": 0}
    width = max(map(len, F.VARIANTS)) + 1
    for line in (0, 1):
        print(" " * width + " ".join(f"{SHORT.get(c[line], c[line]):>6}" for c in cases))
    for name in args.variants or F.VARIANTS:
        cells = []
        for fmt, kind in cases:
            cell, reason = run_case(suite, name, fmt, kind)
            count[cell if cell in count else "passed"] += 1
            cells.append(cell)
            if reason:
                reasons.setdefault((cell, reason), []).append(f"{name}/{fmt}/{kind}")
        print(f"{name:{width}}" + " ".join(f"{c:>6}" for c in cells), flush=True)
    for (cell, reason), where in reasons.items():
        shown = ", ".join(where[:4]) + (f" and {len(where) - 4} more" if len(where) > 4 else "")
        print(f"{'skipped' if cell == '-' else cell} {shown}: {reason}")
    print(f"{count['passed']} passed, {count['FAIL']} failed, {count['-']} skipped")
    return 1 if count["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
