"""What Hugging Face's logits processors leave to draw from: tests/fixtures/sampler/distributions.jsonl.

A row is {"name", "settings", "logits", "context", "n_new", "eos", "p"}:
  settings  only those that differ from off: temperature top_k top_p min_p typical_p repetition_penalty
            no_repeat_ngram min_new_tokens bad_words (lists of ids); "greedy": true = not sampled
  logits    raw, fp32; context: ids of prompt and answer so far, of which the last n_new are the answer
  p         [[id, probability]...] in descending order of p (ties by id) of all that have p > 0 after every processor,
            by softmax in fp32; greedy rows: [[id of the largest, 1]]
The processors come from transformers' own _get_logits_processor, so their order is generate()'s. A random case is
kept only if float64 arithmetic leaves the same tokens: none hangs on the last bit of a sum.
"""
import random

from .common import load_tiny, number, numbers, torch, write_jsonl

V = 24
NAMES = {"no_repeat_ngram": "no_repeat_ngram_size", "bad_words": "bad_words_ids"}
RAMP = [round(3.0 - 0.4 * i, 1) for i in range(V)]
TIES = [2.0, 1.0, 2.0, 0.5, 1.0, 1.0, -1.0, 2.0] + [-3.0] * (V - 8)
FLAT = [0.25] * V
PEAK = [12.0] + [0.0] * (V - 1)
TALK = [3, 5, 7, 3, 5, 9, 3, 5]  # a context that repeats itself


def case(name, logits, context=(1,), n_new=0, eos=(0,), **settings):
    return dict(name=name, settings=settings, logits=list(logits), context=list(context), n_new=n_new, eos=list(eos))


def hand():
    yield case("all off", RAMP)
    yield case("greedy", RAMP, greedy=True)
    yield case("greedy takes the lowest id among equals", TIES, greedy=True)
    for k in (1, 2, 3, 4, 6, 7, V, 10 * V):
        yield case(f"top-k {k}, ties at the threshold are kept", TIES, top_k=k)
    for k in (1, 5, 10):
        yield case(f"top-k {k}", RAMP, top_k=k)
    for p in (1e-6, 0.1, 0.5, 0.9, 0.95, 0.999):
        yield case(f"top-p {p}", RAMP, top_p=p)
    yield case("top-p after a flat top-k", FLAT, top_k=50, top_p=0.52)
    for p in (0.0, 0.05, 0.3, 0.99):
        yield case(f"min-p {p}", RAMP, min_p=p)
    for p in (0.05, 0.2, 0.5, 0.9, 0.99):
        yield case(f"typical {p}", RAMP, typical_p=p)
    yield case("typical of a peak", PEAK, typical_p=0.3)
    for t in (0.1, 0.7, 1.5, 10.0):
        yield case(f"temperature {t}", RAMP, temperature=t)
    for r in (1.2, 2.0, 0.5):
        yield case(f"repetition penalty {r}, once an id, prompt included", RAMP, TALK, 3, repetition_penalty=r)
    for n in (1, 2, 3, 4, 9):
        yield case(f"no repeat of {n}-grams", RAMP, TALK, 3, no_repeat_ngram=n)
    yield case("no repeat of 2-grams, greedy", [x + 9 * (i == 7) for i, x in enumerate(RAMP)], TALK, 3, no_repeat_ngram=2, greedy=True)
    yield case("a context shorter than the n-gram", RAMP, [4], 0, no_repeat_ngram=3)
    for n in (0, 2, 3, 4):
        yield case(f"at least {n} new tokens, 3 are there", RAMP, TALK, 3, min_new_tokens=n)
    yield case("several eos ids wait", RAMP, TALK, 1, eos=(0, 2, 5), min_new_tokens=4)
    yield case("bad words: one id, and a sequence whose start stands", RAMP, TALK, 3, bad_words=[[2], [3, 5, 0], [5, 5, 1]])
    yield case("the tutorial's top-k 10", RAMP, top_k=10)
    yield case("temperature before top-p", RAMP, temperature=2.0, top_p=0.8)
    yield case("top-k before top-p before min-p", RAMP, top_k=8, top_p=0.9, min_p=0.1)
    wide = [[2, 7], [4], [3, 5, 11], [9, 3, 5, 12], [0]]
    for extra in (dict(top_k=6), dict(top_p=0.7), dict(min_p=0.2), dict(typical_p=0.6), dict(greedy=True)):
        yield case(f"bad words with {[*extra][0]}; one that is just the eos is let through", RAMP, TALK, 3, bad_words=wide, **extra)
        yield case(f"flat logits with {[*extra][0]}", FLAT, TALK, 3, repetition_penalty=1.5, **extra)
        yield case(f"a peak with {[*extra][0]}", PEAK, TALK, 3, temperature=3.0, **extra)
    yield case("bad words longer than the context", RAMP, [3], 0, bad_words=[[1, 3, 2], [3, 1]])
    yield case("a bad word in the middle of an n-gram", RAMP, TALK, 3, bad_words=[[7]], no_repeat_ngram=2, min_new_tokens=9)
    yield case("everything", RAMP, TALK, 2, temperature=0.8, top_k=12, top_p=0.95, min_p=0.02, typical_p=0.9,
               repetition_penalty=1.3, no_repeat_ngram=3, min_new_tokens=5)


def random_cases(rng):
    while True:
        context = [rng.randrange(V) for _ in range(rng.randint(1, 14))]
        pick = lambda chance, values: rng.choice(values) if rng.random() < chance else None  # noqa: E731
        settings = dict(
            temperature=pick(0.6, [0.3, 0.7, 0.9, 1.3, 2.5]), top_k=pick(0.5, [1, 3, 5, 10, 20, 40]),
            top_p=pick(0.5, [0.2, 0.6, 0.9, 0.97]), min_p=pick(0.3, [0.01, 0.1, 0.4]), typical_p=pick(0.3, [0.3, 0.7, 0.95]),
            repetition_penalty=pick(0.4, [0.8, 1.1, 1.7]), no_repeat_ngram=pick(0.3, [1, 2, 3]),
            min_new_tokens=pick(0.3, [1, 4, 8]),
            bad_words=[[*context[-n:], rng.randrange(V)] if n else [rng.randrange(V)] for n in (0, 1, 2)] if rng.random() < 0.3 else None,
        )
        settings = {k: v for k, v in settings.items() if v is not None}
        scale = rng.choice([0.5, 2.0, 6.0])
        logits = [number(torch.tensor(rng.gauss(0, scale))) for _ in range(V)]
        if rng.random() < 0.3:
            logits = [round(x) for x in logits]
        eos = rng.sample(range(V), rng.choice([1, 1, 2, 3]))
        yield case("random", logits, context, rng.randint(0, len(context)), eos, **settings)


def process(model, row, dtype):
    from transformers import GenerationConfig

    settings = dict(row["settings"])
    greedy = settings.pop("greedy", False)
    settings.setdefault("top_k", 0)
    config = GenerationConfig(do_sample=not greedy, **{NAMES.get(k, k): v for k, v in settings.items()})
    config._eos_token_tensor = torch.tensor(row["eos"])
    config.eos_token_id = row["eos"]
    processors = model._get_logits_processor(
        generation_config=config, input_ids_seq_length=len(row["context"]) - row["n_new"], device="cpu"
    )
    scores = processors(torch.tensor([row["context"]]), torch.tensor([row["logits"]], dtype=dtype))[0]
    if greedy:
        return [[int(scores.argmax()), 1.0]]
    p = torch.softmax(scores, -1)
    return sorted(([i, x] for i, x in enumerate(numbers(p)) if x > 0), key=lambda c: (-c[1], c[0]))


def make():
    model = load_tiny("tiny-gpt2")
    rows = [dict(row, p=process(model, row, torch.float32)) for row in hand()]
    wanted = len(rows) + 160
    for row in random_cases(random.Random(11)):
        single, double = process(model, row, torch.float32), process(model, row, torch.float64)
        if {i for i, _ in single} == {i for i, _ in double}:
            rows.append(dict(row, p=single))
        if len(rows) == wanted:
            break
    write_jsonl("sampler/distributions.jsonl", rows)
