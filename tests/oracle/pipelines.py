"""The tokenizer pipelines of the model families, each with a vocabulary trained here on generated text.

Real vocabularies are not downloadable from where these tests run; the pipelines (normalizer, pre_tokenizer, decoder,
post_processor, added tokens) are those of the families' own tokenizer.json files. `make(name, folder)` writes a folder
that podium opens and returns the reference: an object with encode(texts) -> (plain, special, added) id lists, and
decode(ids). Trained once per folder, deterministic.
"""
import json
import pathlib
import random

import nasty

HERE = pathlib.Path(__file__).resolve().parent
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
OWN = r"[A-Za-z]+|[0-9]{1,2}|[^\sA-Za-z0-9]+|\s"  # of no family: goes through PCRE2


def corpus(n=6000):
    """Lines in many scripts: the corpus of the tiny models, and nasty strings."""
    text = (HERE / "corpus.txt").read_text(encoding="utf-8")
    yield from text.split("\n")
    yield from nasty.HAND * 3
    yield from nasty.strings(n, 11)


def byte_level(regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


def added(content, **flags):
    return {"content": content, **dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False), **flags}


def special(content, **flags):
    return added(content, special=True, **flags)


def template(bos=None, eos=None):
    def token(t):
        return [{"SpecialToken": {"id": t, "type_id": 0}}] if t else []

    single = token(bos) + [{"Sequence": {"id": "A", "type_id": 0}}] + token(eos)
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": [t for t in (bos, eos) if t]}


NFC = {"type": "NFC"}
DIGITS = {"type": "Digits", "individual_digits": True}
DIGIT_RUNS = {"type": "Digits", "individual_digits": False}
PUNCTUATION = {"type": "Punctuation", "behavior": "Contiguous"}
MARK_FRONT = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
JOIN = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
LLAMA_SPECIAL = [special("<unk>"), special("<s>"), special("</s>")]
BYTES = [f"<0x{b:02X}>" for b in range(256)]

# name -> what differs from byte-level BPE without added tokens
BYTE_LEVEL = {
    "gpt2": {"pre": byte_level(True), "added": [special("<|endoftext|>")]},
    "gpt2-prefix": {"pre": byte_level(True, True), "added": [special("<|endoftext|>")]},
    "smollm2": {"pre": sequence(DIGITS, byte_level(True)), "added": [special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")]},
    "falcon": {
        "pre": sequence(PUNCTUATION, byte_level(True), DIGIT_RUNS, split("[0-9][0-9][0-9]")),
        "added": [special(">>TITLE<<"), special(">>ANSWER<<"), special("<|endoftext|>")],
    },
    "llama3": {
        "pre": sequence(split(LLAMA3), byte_level(False)),
        "ignore_merges": True,
        "post": template("<|begin_of_text|>"),
        "added": [special("<|begin_of_text|>"), special("<|end_of_text|>"), special("<|im_end|>"), special("<|start_header_id|>")],
    },
    "qwen2": {
        "pre": sequence(split(QWEN2), byte_level(False)),
        "norm": NFC,
        "added": [special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>"), added("<note>"), added("<ne\u0301>", lstrip=True, normalized=True)],
    },
    "neox": {
        "pre": byte_level(True),
        "norm": NFC,
        "post": template(eos="<|endoftext|>"),
        "added": [special("<|endoftext|>"), special("<|padding|>"), *(added(" " * n, normalized=True) for n in range(24, 1, -1))],
    },
    "own-regex": {"pre": sequence(split(OWN), byte_level(False)), "added": [added("answer", single_word=True, rstrip=True)]},
    "regex-then-gpt2": {"pre": sequence(split(r"\p{N}{1,3}"), split("[一-龥぀-ヿ]+"), byte_level(True)), "added": [special("<|im_end|>")]},
}
PIECES = {
    "llama2": {"norm": MARK_FRONT, "decoder": {"type": "Sequence", "decoders": [*JOIN, STRIP]}, "post": template("<s>")},
    "llama2-normalized": {
        "norm": MARK_FRONT,
        "decoder": {"type": "Sequence", "decoders": [*JOIN, STRIP]},
        "added": [added("answer", normalized=True), added("<note>", lstrip=True, rstrip=True), special("<|im_end|>", normalized=True)],
    },
    "mistral": {"pre": metaspace("first", False), "decoder": {"type": "Sequence", "decoders": [*JOIN, STRIP]}, "post": template("<s>", "</s>"), "added": [special("[INST]"), special("[/INST]")]},
    "metaspace-always": {"pre": metaspace("always", True), "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}, "fallback": False},
    "gemma": {
        "norm": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "decoder": {"type": "Sequence", "decoders": JOIN},
        "added": [special("<bos>"), special("<|im_end|>"), added("\n\n"), added("\t\t")],
    },
    "no-fallback": {"norm": MARK_FRONT, "decoder": {"type": "Sequence", "decoders": [*JOIN, STRIP]}, "fallback": False, "fuse_unk": False},
}
RULES = "FF21\t41\nFB01\t66 69\n65 301\tE9\n3000\t20\nA0\t20\nAD\t\n9\t20\nA\t20\n"
SENTENCEPIECE = {
    "spm-llama": {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "spm-nmt": {"normalization_rule_name": "nmt_nfkc", "user_defined_symbols": ["<note>", "[INST]", "the answer"]},
    # a table of our own: nmt_nfkc's alone is 240 kB
    "spm-rules": {"normalization_rule_tsv": RULES, "character_coverage": 0.98, "user_defined_symbols": ["<note>", "[INST]"]},
    "spm-unk": {"normalization_rule_name": "nfkc", "byte_fallback": False, "add_dummy_prefix": False},
}
NAMES = [*BYTE_LEVEL, *PIECES, *SENTENCEPIECE]


def without_control_merges(tok):
    """The same tokenizer, but no merge makes a special token: what users type is text, even where it spells one that
    the vocabulary holds as a word. Hugging Face's own `encode_special_tokens` leaves such merges in."""
    from tokenizers import Tokenizer

    made = json.loads(tok.to_str())
    special = {t["content"] for t in made["added_tokens"] if t["special"]}
    merges = [m for m in made["model"]["merges"] if "".join(m if isinstance(m, list) else m.split(" ")) not in special]
    if len(merges) == len(made["model"]["merges"]):
        return tok
    made["model"]["merges"] = merges
    return Tokenizer.from_str(json.dumps(made))


class Fast:
    """A reference by Hugging Face's tokenizers."""

    def __init__(self, tok):
        self.tok = tok
        self.plain = without_control_merges(tok)

    def encode(self, texts):
        passes = []
        for tok, as_text, add in [(self.plain, True, False), (self.tok, False, False), (self.tok, False, True)]:
            tok.encode_special_tokens = as_text
            passes.append([e.ids for e in tok.encode_batch_fast(texts, add_special_tokens=add)])
        return passes

    def decode(self, lists):
        return self.tok.decode_batch(lists, skip_special_tokens=False)


class SentencePiece:
    """A reference by SentencePiece's own encoder: control tokens are never read in its text."""

    def __init__(self, path):
        import sentencepiece

        self.sp = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, texts):
        plain = [self.sp.encode(t) for t in texts]
        return plain, None, [[self.sp.bos_id(), *ids] for ids in plain]

    def decode(self, lists):
        return self.sp.decode(lists)


def train(pieces, pre, norm, size):
    """(vocab, merges) over the corpus, with the pipeline's own words."""
    from tokenizers import Tokenizer, models, trainers

    blank = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": norm, "pre_tokenizer": pre, "post_processor": None, "decoder": None,
             "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": {}, "merges": []}}
    tok = Tokenizer.from_str(json.dumps(blank))
    alphabet = [] if pieces else list(byte_alphabet())
    tok.train_from_iterator((line.replace("\0", "") for line in corpus()), trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet, limit_alphabet=300 if pieces else 256))
    model = json.loads(tok.to_str())["model"]
    return model["vocab"], model["merges"]


def byte_alphabet():
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def tokenizer_json(spec, pieces, size=1000):
    norm, pre = spec.get("norm"), spec.get("pre")
    words = pre or metaspace("always", True)  # training without words would merge across spaces
    vocab, merges = train(pieces, words, None if not pre else norm, size)
    specials = (LLAMA_SPECIAL if pieces else []) + spec.get("added", [])
    fallback = pieces and spec.get("fallback", True)
    if pieces:
        first = [t["content"] for t in LLAMA_SPECIAL] + (BYTES if fallback else [])
        vocab = {t: i for i, t in enumerate(first + [t for t in sorted(vocab, key=vocab.get) if t not in first])}
        if "▁" not in vocab:
            vocab["▁"] = len(vocab)
    rows, following = [], len(vocab)
    for token in specials:
        token_id = vocab.get(token["content"])
        if token_id is None:
            token_id, following = following, following + 1
        rows.append({"id": token_id, **token})
    ids = {r["content"]: r["id"] for r in rows}
    post = json.loads(json.dumps(spec.get("post")))
    if post:
        post["special_tokens"] = {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in post["special_tokens"]}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": sorted(rows, key=lambda r: r["id"]),
        "normalizer": norm, "pre_tokenizer": pre, "post_processor": post,
        "decoder": spec.get("decoder", byte_level(True)),
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>" if pieces else None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": pieces and spec.get("fuse_unk", True), "byte_fallback": fallback, "ignore_merges": spec.get("ignore_merges", False), "vocab": vocab, "merges": merges},
    }


def train_sentencepiece(folder, spec, size=2000):
    import sentencepiece

    lines = [line.replace("\0", "") for line in corpus(0) if line.strip()]
    rules = folder / "rules.tsv"
    if "normalization_rule_tsv" in spec:
        rules.write_text(spec["normalization_rule_tsv"], encoding="utf-8")
        spec = {**spec, "normalization_rule_tsv": str(rules)}
    options = {"vocab_size": size, "byte_fallback": True, "character_coverage": 0.985, "add_dummy_prefix": True, **spec}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "tokenizer"), model_type="bpe", num_threads=1, minloglevel=2,
        max_sentence_length=10000, split_digits=True, allow_whitespace_only_pieces=True, hard_vocab_limit=False, **options)
    (folder / "tokenizer.vocab").unlink()
    rules.unlink(missing_ok=True)


def make(name, folder, **size):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if name in SENTENCEPIECE:
        if not (folder / "tokenizer.model").exists():
            train_sentencepiece(folder, SENTENCEPIECE[name], **size)
        return SentencePiece(folder / "tokenizer.model")
    path = folder / "tokenizer.json"
    if not path.exists():
        spec = BYTE_LEVEL.get(name) or PIECES[name]
        path.write_text(json.dumps(tokenizer_json(spec, name in PIECES, **size), ensure_ascii=False), encoding="utf-8")
    from tokenizers import Tokenizer

    return Fast(Tokenizer.from_file(str(path)))
