"""transformers generating. argv[1]: JSON of model (folder), prompts (texts), how pipeline|batched, dtype fp32|bf16, n, top_k, new, threads, batch (rows at once).
Prints JSON: tokens made (up to and including eos), seconds without loading, peak resident bytes."""
import json
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline


def count(ids, eos):
    return ids.index(eos) + 1 if eos in ids else len(ids)


def by_pipeline(model, tok, s):
    """As the tutorials call it; return_tensors spares it the decoding and gives ids to count."""
    generator = pipeline("text-generation", model=model, tokenizer=tok)
    for prompt in s["prompts"]:
        outputs = generator(
            prompt, max_new_tokens=s["new"], do_sample=True, top_k=s["top_k"], num_return_sequences=s["n"],
            eos_token_id=tok.eos_token_id, return_tensors=True,
        )
        start = len(tok(prompt)["input_ids"])
        yield from (count(out["generated_token_ids"][start:], tok.eos_token_id) for out in outputs)


def by_batches(model, tok, s):
    tok.padding_side = "left"
    prompts = sorted(s["prompts"], key=len)
    at = s["batch"] // s["n"]
    for batch in (prompts[i : i + at] for i in range(0, len(prompts), at)):
        given = tok(batch, return_tensors="pt", padding=True)
        with torch.inference_mode():
            out = model.generate(
                **given, max_new_tokens=s["new"], do_sample=True, top_k=s["top_k"], num_return_sequences=s["n"],
                eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
            )
        yield from (count(row, tok.eos_token_id) for row in out[:, given["input_ids"].shape[1] :].tolist())


def main():
    s = json.loads(sys.argv[1])
    torch.set_num_threads(s["threads"])
    torch.manual_seed(42)
    tok = AutoTokenizer.from_pretrained(s["model"])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[s["dtype"]]
    model = AutoModelForCausalLM.from_pretrained(s["model"], dtype=dtype).eval()
    model.generation_config.max_length = None
    start = time.monotonic()
    tokens = sum({"pipeline": by_pipeline, "batched": by_batches}[s["how"]](model, tok, s))
    seconds = time.monotonic() - start
    print(json.dumps({"tokens": tokens, "seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


main()
