#!/usr/bin/env python3
"""Compare podium's tokenizers with Hugging Face's tokenizers and SentencePiece on many random nasty strings.

    tokenizers_all.py [-n 200000] [--seed S] [--podium PATH] [--keep DIR] [--log FILE] [PIPELINE...]

Every pipeline of pipelines.py, those of GGUF keys, SmolLM2's and GPT-2's real vocabularies, and those of the tiny models. For each: plain
ids, ids with special tokens read, with the post-processor, and the decoded text of ids. SentencePiece, which reads no
special tokens, is compared on plain ids, with bos before them, and decoded. The last line is `N passed, N failed`; a
pass is one (pipeline, way). --keep keeps the trained vocabularies for the next run. --log notes each part of 50,000
strings that is done: a run that was cut short goes on behind it (with the same podium; remove FILE for another).
Environment: tests/oracle/venv.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import nasty
import pipelines

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHOWN = 5
PART = 50_000  # strings at a time


def podium(binary, model, flags, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdin:
        stdin.write(text)
        stdin.seek(0)
        done = subprocess.run([binary, "tokenize", "--model", str(model), *flags], stdin=stdin, capture_output=True)
    if done.returncode:
        raise SystemExit(f"podium tokenize {' '.join(flags)} exits {done.returncode}: {done.stderr.decode()[-500:]}")
    out = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    if len(out) != len(lines):
        raise SystemExit(f"podium tokenize {' '.join(flags)}: {len(lines)} lines in, {len(out)} out")
    return out


def compare(title, inputs, want, got):
    bad = [i for i in range(len(inputs)) if want[i] != got[i]]
    print(f"{time.strftime('%H:%M:%S')} {title}: {len(inputs) - len(bad)} of {len(inputs)} equal", flush=True)
    for i in bad[:SHOWN]:
        print(f"  {json.dumps(inputs[i])}\n    want {json.dumps(want[i])}\n    got  {json.dumps(got[i])}")
    return len(bad)


REAL = ["real-smollm2", "real-gpt2", "tiny-gpt2", "tiny-llama", "tiny-llama-untied"]


# a GGUF file's keys: name -> the pipeline whose vocabulary it carries, tokenizer.ggml.pre
GGUF = {
    "gguf-gpt2": ("gpt2", "gpt-2"), "gguf-smollm": ("smollm2", "smollm"), "gguf-falcon": ("falcon", "falcon"),
    "gguf-llama3": ("llama3", "llama-bpe"), "gguf-qwen2": ("qwen2", "qwen2"), "gguf-neox": ("neox", "olmo"), "gguf-llama": ("spm-llama", None),
}


def write_gguf(path, ref, folder, pre):
    """A file with the keys of a tokenizer and nothing else."""
    import gguf

    w = gguf.GGUFWriter(path, "llama")
    if pre is None:
        sp, normal, unknown, control, byte = ref.sp, 1, 2, 3, 6
        ids = range(sp.get_piece_size())
        w.add_tokenizer_model("llama")
        w.add_token_list([sp.id_to_piece(i) for i in ids])
        w.add_token_scores([sp.get_score(i) for i in ids])
        w.add_token_types([unknown if sp.is_unknown(i) else control if sp.is_control(i) else byte if sp.is_byte(i) else normal for i in ids])
        w.add_bos_token_id(sp.bos_id())
    else:
        made = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        tokens = {i: t for t, i in made["model"]["vocab"].items()} | {a["id"]: a["content"] for a in made["added_tokens"]}
        kinds = {a["id"]: 3 if a["special"] else 4 for a in made["added_tokens"]}
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre(pre)
        w.add_token_list([tokens[i] for i in range(len(tokens))])
        w.add_token_types([kinds.get(i, 1) for i in range(len(tokens))])
        w.add_token_merges([" ".join(m) for m in made["model"]["merges"]])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


class WithoutPost:
    """A GGUF file does not carry a post-processor's template."""

    def __init__(self, ref):
        self.ref, self.sp, self.decode = ref, getattr(ref, "sp", None), ref.decode

    def encode(self, texts):
        plain, special, added = self.ref.encode(texts)
        return plain, special, added if special is None else special


def gguf_reference(name, base):
    of, pre = GGUF[name]
    ref = pipelines.make(of, base / of)
    path = base / f"{name}.gguf"
    write_gguf(path, ref, base / of, pre)
    return path, WithoutPost(ref)


def reference(name, base):
    """(folder or file for podium, reference)"""
    if name in GGUF:
        return gguf_reference(name, base)
    if name not in REAL:
        return base / name, pipelines.make(name, base / name)
    from goldens import common
    from goldens import tokenizer as golden

    tok = golden.tokenizer(name.removeprefix("real-"))
    fast = pipelines.Fast(tok)
    if name == "real-smollm2":
        return common.smollm2_gguf(), fast
    if name == "real-gpt2":
        (base / name).mkdir(parents=True, exist_ok=True)
        tok.save(str(base / name / "tokenizer.json"))
        return base / name, fast
    return common.MODELS / name, fast


def random_ids(ids, seed):
    """Id lists that no text gives: neighbours swapped, pieces cut out."""
    rng = random.Random(seed)
    for row in ids:
        row = list(row)
        for _ in range(3):
            if len(row) > 1:
                a, b = rng.randrange(len(row)), rng.randrange(len(row))
                row[a], row[b] = row[b], row[a]
        yield row[: rng.randint(1, 12)]


def check(binary, name, folder, ref, texts):
    """way -> how many differ."""
    plain, special, added = ref.encode(texts)
    ways = [("plain", [], plain), ("--add-special", ["--add-special"], added)] if special is None else [
        ("plain", [], plain), ("--special", ["--special"], special), ("--special --add-special", ["--special", "--add-special"], added)]
    bad = {way: compare(f"{name} {way}", texts, want, podium(binary, folder, flags, texts)) for way, flags, want in ways}
    lists = plain if special is None else special + list(random_ids(special[: len(special) // 4], 5))
    if special is None and ref.sp.unk_id() >= 0:  # SentencePiece shows the unknown as " ⁇ "
        lists = [ids for ids in lists if ref.sp.unk_id() not in ids]
    return {**bad, "--decode": compare(f"{name} --decode", lists, ref.decode(lists), podium(binary, folder, ["--decode"], lists))}


class Log:
    """What parts are done, kept in a file where one is named."""

    def __init__(self, path, run):
        self.path, self.run, self.done = path, run, {}
        for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []:
            row = json.loads(line)
            if row["run"] == run:
                self.done[row["pipeline"], row["part"]] = row["bad"]

    def add(self, pipeline, part, bad):
        self.done[pipeline, part] = bad
        if self.path:
            with open(self.path, "a", encoding="utf-8") as f:
                print(json.dumps({"run": self.run, "pipeline": pipeline, "part": part, "bad": bad}), file=f)

    def ways(self, pipeline):
        """For each way whether all parts are equal."""
        rows = [bad for (name, _), bad in self.done.items() if name == pipeline]
        return [not any(bad[way] for bad in rows) for way in rows[0]]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-n", type=int, default=200_000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--podium", default=os.environ.get("PODIUM_BIN", str(ROOT / "build/release/podium")))
    ap.add_argument("--keep", type=pathlib.Path)
    ap.add_argument("--log", type=pathlib.Path)
    ap.add_argument("pipelines", nargs="*", default=[*pipelines.NAMES, *GGUF, *REAL])
    args = ap.parse_args()
    texts = nasty.HAND + list(nasty.strings(max(args.n - len(nasty.HAND), 0), args.seed))
    parts = [texts[i : i + PART] for i in range(0, len(texts), PART)]
    log = Log(args.log, [args.n, args.seed])
    equal = []
    with tempfile.TemporaryDirectory() as tmp:
        for name in args.pipelines:
            if any((name, k) not in log.done for k in range(len(parts))):
                folder, ref = reference(name, args.keep or pathlib.Path(tmp))
                for k, part in enumerate(parts):
                    if (name, k) not in log.done:
                        log.add(name, k, check(args.podium, name, folder, ref, part))
            equal += log.ways(name)
    print(f"{len(texts)} strings a pipeline, seed {args.seed}: {sum(equal)} passed, {len(equal) - sum(equal)} failed")
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())
