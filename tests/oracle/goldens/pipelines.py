"""Token ids through the pipelines of the model families: tests/fixtures/tokenizer/pipelines/NAME/.

Each holds a small vocabulary trained by ../pipelines.py (tokenizer.json or tokenizer.model) and rows.jsonl, rows as
goldens/tokenizer.py has them. The references are tokenizers, and SentencePiece for spm-*, whose rows have no
"special": its encoder reads no control tokens, and "add_special" is bos and its ids.
"""
import shutil

import nasty
import pipelines

from .common import FIXTURES, write_jsonl

NAMES = ["falcon", "llama3", "qwen2", "neox", "own-regex", "llama2", "llama2-normalized", "mistral", "metaspace-always", "spm-rules"]


def rows(ref, texts):
    plain, special, added = ref.encode(texts)
    for i, text in enumerate(texts):
        row = {"text": text, "ids": plain[i]}
        if special is None:
            row["special"] = plain[i]
        elif special[i] != plain[i]:
            row["special"] = special[i]
        if added[i] != row.get("special", plain[i]):
            row["add_special"] = added[i]
        decoded = ref.decode([plain[i]])[0]
        if decoded != text:
            row["decoded"] = decoded
        if special is None and (ref.sp.unk_id() in plain[i] or any(t in text for t in ("<s>", "</s>", "<unk>"))):
            continue
        yield row


def make():
    texts = [t for t in nasty.HAND + list(nasty.strings(60, seed=7)) if len(t.encode()) <= 60]
    for name in NAMES:
        folder = FIXTURES / "tokenizer" / "pipelines" / name
        shutil.rmtree(folder, ignore_errors=True)
        ref = pipelines.make(name, folder, size=1300 if name.startswith("spm") else 420)
        write_jsonl(f"tokenizer/pipelines/{name}/rows.jsonl", rows(ref, texts))
