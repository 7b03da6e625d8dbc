"""Log-probs of texts: tests/fixtures/logprobs/{tiny-*,smollm2}.jsonl, in the shape `podium logprobs` writes.

A row is its input, {"prompt"?, "text"} or {"ids", "prompt_len"?}, with
  ids       of prompt + text tokenized whole, special-token text parsed, post-processor applied, no eos appended
  logprobs  [null, ln p(ids[1] | ids[:1]), ...], softmax in fp32
  sum       over the text part: it begins where ids leave the ids of the prompt tokenized alone (their common
            prefix), or at prompt_len; position 0 has no log-prob and counts nothing
Weights and arithmetic are fp32 (SmolLM2: the GGUF's blocks dequantised to fp32), attention is eager.
SmolLM2's ids come from the right tokenizer (see common.smollm2_tokenizer), not from transformers' GGUF loader.
"""
from .common import TINY, load_tiny, load_tokenizer, number, smollm2_model, smollm2_tokenizer, torch, write_jsonl

TEXTS = [
    {"text": "What is the capital of Norway? It is Oslo."},
    {"prompt": "How do I make a good cup of tea?", "text": " Warm the pot first, then add 2 spoons of tea."},
    {"prompt": "Rate the answers: the first", "text": "ly named one, or the second?"},
    {"text": "x"},
    {"text": "    for word in words:\n\ttotal += 1\r\n\r\n  # 31415926 and 007"},
    {"text": "Naïve café 日本語 🧑‍🚀 Привет! e\u0301 \u00a0\u3000."},
    {"text": "Human: Thank you.\n\nAssistant: The moon goes around the earth in about 27 days. " * 4},
]
SPECIAL = {
    "tiny-gpt2": "The answer is short.<|endoftext|>The second one is not.",
    "tiny-llama": "<|im_start|>user\nWhich is better?<|im_end|>\n<|im_start|>assistant\n<note>Both.<|im_end|>\n",
    "tiny-llama-untied": "<|begin|>Which is better?<|end|><|pad|>Both.",
    "smollm2": "<|im_start|>user\nWhich is heavier, a kilo of 2024 feathers?<|im_end|>\n<|im_start|>assistant\n",
}


def common_prefix(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def score(model, encode, row):
    """The row with ids, logprobs and sum added."""
    if "ids" in row:
        ids, start = row["ids"], row.get("prompt_len", 0)
    else:
        ids = encode(row.get("prompt", "") + row["text"])
        start = common_prefix(ids, encode(row["prompt"])) if row.get("prompt") else 0
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    lp = torch.log_softmax(logits, dim=-1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    total = lp[max(start, 1) - 1 :].double().sum()
    return {**row, "ids": ids, "logprobs": [None] + [number(x) for x in lp], "sum": number(total)}


def rows_for(name):
    rows = TEXTS + [{"text": SPECIAL[name]}]
    if name == "smollm2":
        return rows + [{"prompt": "The capital of France is", "text": " Paris, and 12345 people know it."}]
    return rows + [{"ids": list(range(5, 380, 25))}, {"ids": [7, 7, 7, 300, 12, 12, 90], "prompt_len": 4}]


def make():
    for name in TINY:
        model, tok = load_tiny(name), load_tokenizer(name)
        rows = [score(model, lambda s: tok(s)["input_ids"], r) for r in rows_for(name)]
        write_jsonl(f"logprobs/{name}.jsonl", rows)
    model, tok = smollm2_model(), smollm2_tokenizer()
    rows = [score(model, lambda s: tok.encode(s).ids, r) for r in rows_for("smollm2")]
    write_jsonl("logprobs/smollm2.jsonl", rows)
