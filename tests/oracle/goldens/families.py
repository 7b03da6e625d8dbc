"""Tiny models of every family and variant: tests/fixtures/families/NAME/{config.json, model.safetensors, golden.json}.

Weights are random (as in models.py) and stored in bf16; a variant whose weights equal another's (a Llama with another rope
scaling) has no file and names that one in golden.json's "weights". All share the tokenizer of models/tiny-llama-untied.

golden.json, all of it transformers' in fp32 on these weights:
  logprobs  rows {"ids", "logprobs": [null, ...]}, some longer than windows and original contexts
  generate  rows {"prompt", "new_ids", "finish", "logprob"}: greedy, cut before a choice that is too close (generate.py)
  score     {"weight": row of a score head, "rows": [{"text", "reward"}]} of the <Family>ForSequenceClassification with
            this trunk; the text gets the eos token, the score is read at the rightmost token that is not pad

Attention is eager, except where eager is wrong: Falcon's applies alibi twice, so sdpa there.
"""
import shutil

from .common import FIXTURES, MODELS, json, load_tokenizer, number, numbers, torch, write_json
from .generate import generate
from .models import VOCAB, spread

FAMILIES = FIXTURES / "families"
TOKENIZER = "tiny-llama-untied"
IDS = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def rope(**more):
    return {"rope_type": "default", "rope_theta": 10000.0, **more}


def llama(**more):
    base = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                max_position_embeddings=256, rms_norm_eps=1e-5, rope_parameters=rope())
    return {**IDS, **base, **more}


def neox(**more):
    base = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=256,
                rope_parameters=rope(partial_rotary_factor=0.25))
    return {**IDS, **base, **more}


def falcon(**more):
    base = dict(hidden_size=32, ffn_hidden_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256,
                rope_parameters=rope())
    return {**IDS, **base, **more}


def gpt2(**more):
    return {**IDS, **dict(n_embd=32, n_inner=64, n_layer=2, n_head=4, n_positions=256), **more}


# name -> (transformers' prefix of the classes, config, name whose weights it takes)
VARIANTS = {
    "gpt2": ("GPT2", gpt2(), None),
    "gptj": ("GPTJ", gpt2(rotary_dim=4), None),
    "neox": ("GPTNeoX", neox(), None),
    "neox-sequential": ("GPTNeoX", neox(use_parallel_residual=False, hidden_act="gelu_fast", rope_parameters=rope(
        partial_rotary_factor=0.5)), "neox"),
    "neox-unbiased": ("GPTNeoX", neox(attention_bias=False, tie_word_embeddings=True), None),
    "falcon-7b": ("Falcon", falcon(), None),
    "falcon-untied": ("Falcon", falcon(tie_word_embeddings=False), None),
    "falcon-40b": ("Falcon", falcon(new_decoder_architecture=True, num_kv_heads=2), None),
    "falcon-11b": ("Falcon", falcon(new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1), None),
    "falcon-rw": ("Falcon", falcon(multi_query=False, parallel_attn=False, bias=True, alibi=True, num_attention_heads=2), None),
    "falcon-rw-3-heads": ("Falcon", falcon(hidden_size=24, multi_query=False, parallel_attn=False, bias=True, alibi=True,
                                           num_attention_heads=3), None),
    "llama": ("Llama", llama(), None),
    "llama-linear": ("Llama", llama(rope_parameters=rope(rope_type="linear", factor=4.0)), "llama"),
    "llama-dynamic": ("Llama", llama(max_position_embeddings=32, rope_parameters=rope(rope_type="dynamic", factor=4.0)), "llama"),
    "llama-llama3": ("Llama", llama(rope_parameters=rope(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)), "llama"),
    "llama-yarn": ("Llama", llama(rope_parameters=rope(
        rope_type="yarn", factor=8.0, original_max_position_embeddings=32)), "llama"),
    "llama-yarn-mscale": ("Llama", llama(rope_parameters=rope(
        rope_type="yarn", factor=8.0, original_max_position_embeddings=32, mscale=1.0, mscale_all_dim=0.5, beta_fast=16.0,
        beta_slow=2.0, truncate=False)), "llama"),
    "llama-biases": ("Llama", llama(attention_bias=True, mlp_bias=True, head_dim=16, num_key_value_heads=4,
                                    tie_word_embeddings=True, eos_token_id=[2, 5]), None),
    "mistral": ("Mistral", llama(sliding_window=7), None),
    "qwen2": ("Qwen2", llama(tie_word_embeddings=True, rms_norm_eps=1e-6), None),
    "qwen2-window": ("Qwen2", llama(use_sliding_window=True, sliding_window=9, max_window_layers=1, tie_word_embeddings=True,
                                    rms_norm_eps=1e-6), "qwen2"),
    "qwen3": ("Qwen3", llama(head_dim=16, rms_norm_eps=1e-6), None),
    # new ones at the end: a variant's place is its seed
    "neox-sequential-gelu": ("GPTNeoX", neox(use_parallel_residual=False), "neox"),
}
PROMPTS = ["What is the capital of Norway?", "The lighthouse keeper", "def count(words):\n"]
TEXTS = ["The answer is short.", "Human: Thank you.\n\nAssistant: The moon goes around the earth in about 27 days."]


def attention(name):
    return "sdpa" if name.startswith("falcon-rw") else "eager"


def classes(name):
    import transformers

    prefix = VARIANTS[name][0]
    lm = "GPT2LMHeadModel" if prefix == "GPT2" else f"{prefix}ForCausalLM"
    return [getattr(transformers, c) for c in (f"{prefix}Config", lm, f"{prefix}ForSequenceClassification")]


def widened(config):
    """The same shape with rows of 256 values, the block of GGUF's K formats."""
    sizes = {"hidden_size": 256, "intermediate_size": 256, "ffn_hidden_size": 256, "n_embd": 256, "n_inner": 256, "head_dim": 64}
    return {k: sizes.get(k, v) for k, v in config.items()}


def config_of(name, wide=False, **more):
    config = json.loads(json.dumps(VARIANTS[name][1]))
    return classes(name)[0](**(widened(config) if wide else config), **more)


def build(name, seed=None, heads=1, dtype=torch.float32, wide=False, labels=("LABEL_0",)):
    """The model with its random weights, fp32 values that dtype can hold. heads: index into classes()."""
    config = config_of(name, wide, **({"id2label": dict(enumerate(labels))} if heads == 2 else {}))
    config._attn_implementation = attention(name)
    model = classes(name)[heads](config)
    spread(model, seed if seed is not None else 100 + list(VARIANTS).index(VARIANTS[name][2] or name))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(dtype))
    return model.eval()


def forget(model):
    """Dynamic scaling keeps the frequencies of the longest sequence it saw; a short one resets it."""
    with torch.no_grad():
        model(torch.tensor([[1]]))


def id_rows(seed=3):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCAB, (n,), generator=rng).tolist() for n in (1, 2, 12, 31, 100)]


def logprobs(model, ids):
    forget(model)
    with torch.no_grad():
        lp = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)[:-1]
    return [None] + numbers(lp.gather(1, torch.tensor(ids[1:], dtype=torch.long)[:, None])[:, 0])


def greedy(model, tok, prompt):
    forget(model)
    eos = model.config.eos_token_id
    row = generate(model, tok(prompt)["input_ids"], eos if isinstance(eos, list) else [eos], {"max_new_tokens": 24})
    return {"prompt": prompt, **{k: row[k] for k in ("new_ids", "finish", "logprob")}}


def reward(model, tok, text, label=0):
    forget(model)
    with torch.no_grad():
        return number(model(torch.tensor([tok(text + tok.eos_token)["input_ids"]])).logits[0, label])


def classifier(name, lm):
    """The sequence classifier with the trunk of lm."""
    model = build(name, heads=2)
    state = {k: v for k, v in lm.state_dict().items() if k in model.state_dict()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["score.weight"] and not unexpected, (missing, unexpected)
    return model.eval()


def make(names=tuple(VARIANTS)):
    tok = load_tokenizer(TOKENIZER)
    for name in names:
        weights = VARIANTS[name][2]
        shutil.rmtree(FAMILIES / name, ignore_errors=True)
        model = build(name, dtype=torch.bfloat16)
        folder = FAMILIES / name
        build(name, dtype=torch.bfloat16).to(torch.bfloat16).save_pretrained(folder)  # not model: its rope buffers would round
        (folder / "generation_config.json").unlink(missing_ok=True)
        if weights:
            (folder / "model.safetensors").unlink()
        rm = classifier(name, model)
        rows = [greedy(model, tok, p) for p in PROMPTS]
        write_json(f"families/{name}/golden.json", {
            "weights": weights or name,
            "logprobs": [{"ids": ids, "logprobs": logprobs(model, ids)} for ids in id_rows()],
            "generate": [r for r in rows if r["new_ids"]],
            "score": {"weight": numbers(rm.score.weight[0]), "rows": [{"text": t, "reward": reward(rm, tok, t)} for t in TEXTS]},
        })
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"   {name}  {size} bytes")
        assert size < 150_000 and MODELS.exists()
