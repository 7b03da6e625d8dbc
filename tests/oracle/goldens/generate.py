"""Greedy continuations by transformers' generate(): tests/fixtures/generate/{tiny-*,smollm2}.jsonl.

A row is {"prompt" | "prompt_ids", "ids", "settings", "new_ids", "finish", "logprob"}: a prompt that is a list of messages goes through
the ChatML template (which puts a system message in front). bad_words are texts, forbidden as tokenized alone and behind a space. ids are the prompt's, post-processor applied; new_ids include the eos that ended them ("stop") or are all that max_new_tokens or max_length
allowed ("length"); max_length counts the prompt. logprob is the sum of the new ids' log-probs under the raw model.
Greedy choices are only as good as the gap between the two best tokens: rows end before a step whose gap is
below 0.002 (settings then carry the shorter max_new_tokens), so that rounding cannot flip one.
"""
from .common import TINY, load_tiny, load_tokenizer, number, smollm2_model, smollm2_tokenizer, torch, write_jsonl

GAP = 0.002
NAMES = {"no_repeat_ngram": "no_repeat_ngram_size", "bad_words": "bad_words_ids"}
PROMPTS = ["What is the capital of Norway?", "The lighthouse keeper", "1, 2, 3,", "def count(words):\n"]
SETTINGS = [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram": 2}, {"repetition_penalty": 1.2, "no_repeat_ngram": 3, "min_new_tokens": 6}]
MESSAGES = [{"role": "user", "content": "Name three planets."}]


def generate(model, ids, eos, settings):
    """The new ids, finish and raw log-probs; cut before the first step that is too close to call."""
    limits = {k: v for k, v in settings.items() if k in ("max_new_tokens", "max_length")} or {"max_new_tokens": 24}
    rules = {NAMES.get(k, k): v for k, v in settings.items() if k not in limits}
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False, eos_token_id=eos,
        pad_token_id=0, return_dict_in_generate=True, output_scores=True, output_logits=True, **limits, **rules,
    )
    new = out.sequences[0, len(ids) :].tolist()
    sure = 0
    for scores in out.scores:
        best = scores[0].float().topk(2).values
        if best[0] - best[1] < GAP:
            break
        sure += 1
    logprobs = [torch.log_softmax(x[0].float(), -1)[t] for x, t in zip(out.logits, new)]
    cut = sure < len(new)
    if cut:
        new, limits = new[:sure], {"max_new_tokens": sure}
    finish = "stop" if new and new[-1] in eos else "length"
    rest = {k: v for k, v in settings.items() if k not in ("max_new_tokens", "max_length")}
    return dict(
        settings={**rest, **limits}, new_ids=new, finish=finish, logprob=number(sum(logprobs[: len(new)], torch.tensor(0.0)))
    )


def chatml(prompt):
    """Messages as text, by the template the models carry; other prompts as they are."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from .models import CHATML

    if isinstance(prompt, str):
        return prompt
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(CHATML)
    return template.render(messages=prompt, add_generation_prompt=True)


def rows_for(model, encode, plain, decode, eos, prompts, longest):
    for prompt in prompts:
        ids = encode(chatml(prompt))
        for settings in SETTINGS:
            row = {"prompt": prompt, "ids": ids, **generate(model, ids, eos, {**settings, "max_new_tokens": longest})}
            if not settings:
                said = [decode([t]).strip() for t in row["new_ids"]]
            yield row
        words = list(dict.fromkeys(w for w in said if w.isascii() and w.isalnum()))[:2]
        if words:
            bad = [form for w in words for form in (plain(w), plain(" " + w))]
            row = generate(model, ids, eos, {"bad_words": bad, "max_new_tokens": longest})
            yield {"prompt": prompt, "ids": ids, **row, "settings": {**row["settings"], "bad_words": words}}
    ids = encode(prompts[-1])
    yield {"prompt": prompts[-1], "ids": ids, **generate(model, ids, eos, {"max_length": len(ids) + 5})}


def stopping(model, eos, vocab, n):
    """Prompts of random ids after which a random model does say eos (tiny-llama never does), with and
    without min_new_tokens."""
    tries = torch.randint(0, vocab, (3000, 6), generator=torch.Generator().manual_seed(5))
    out = model.generate(
        tries, attention_mask=torch.ones_like(tries), do_sample=False, eos_token_id=eos, pad_token_id=0, max_new_tokens=20
    )
    at = (out[:, 6:] == eos[0]).float()
    for index in ((at.sum(1) > 0) & (at.argmax(1) > 0)).nonzero()[:n, 0].tolist():
        ids = tries[index].tolist()
        row = generate(model, ids, eos, {"max_new_tokens": 30})
        yield {"prompt_ids": ids, "ids": ids, **row}
        settings = {"max_new_tokens": 30, "min_new_tokens": len(row["new_ids"]) + 2}
        yield {"prompt_ids": ids, "ids": ids, **generate(model, ids, eos, settings)}


def make():
    for name in TINY:
        model, tok = load_tiny(name), load_tokenizer(name)
        eos = [tok.eos_token_id]
        prompts = [MESSAGES, *PROMPTS] if tok.chat_template else PROMPTS
        rows = list(rows_for(model, lambda s: tok(s)["input_ids"], lambda s: tok(s, add_special_tokens=False)["input_ids"],
                             tok.decode, eos, prompts, 24))
        rows += stopping(model, eos, model.config.vocab_size, 4)
        write_jsonl(f"generate/{name}.jsonl", [r for r in rows if r["new_ids"]])
    model, tok = smollm2_model(), smollm2_tokenizer()
    rows = rows_for(model, lambda s: tok.encode(s).ids, lambda s: tok.encode(s, add_special_tokens=False).ids, tok.decode, [2],
                    [MESSAGES, *PROMPTS], 40)
    write_jsonl("generate/smollm2.jsonl", [dict(r, text=tok.decode(r["new_ids"], skip_special_tokens=True)) for r in rows])
