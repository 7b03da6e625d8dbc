"""Tiny models with random weights and real tokenizers: tests/fixtures/models/NAME, each a
Hugging Face folder below 250 kB that transformers opens as it is.

tiny-gpt2          GPT-2: H 40, 4 heads of 10, 2 blocks, inner 120, 256 positions, tied, dropout 0.1 in the
                   config; GPT-2's pre-tokenizer; <|endoftext|> is the last id and is bos, eos and unk; no pad.
tiny-llama         Llama as SmolLM2: H 48, 4 heads of 12, 2 key/value heads, inner 80, tied, rope theta 100000;
                   digits one by one; pad = eos = <|im_end|>; ChatML; <note> is an added token that is not special.
tiny-llama-untied  Llama: H 40, 5 heads of 16 (so heads x D is not H), 1 key/value head, inner 64, own lm_head, rope theta
                   10000; the config uses the older keys (rope_theta, torch_dtype); the post-processor puts
                   <|begin|> in front; pad is a token of its own, <|pad|>.
tiny-gpt2-reward   GPT2ForSequenceClassification: H 32, 4 heads, 2 blocks, inner 64, 128 positions, a score head; the
                   tokenizer of tiny-gpt2 with pad = eos (as TRL sets it where there is none).
tiny-llama-reward  LlamaForSequenceClassification: H 32, 4 heads, 2 key/value heads, 2 blocks, inner 48, a score
                   head; the tokenizer of tiny-llama-untied (own pad, <|begin|> in front).

The weights are spread far wider than a real initialisation, and norms and biases are random too:
with near-zero weights every log-prob would be ln(1/V) and a test would pass on a wrong model.
"""
import json
import shutil

from .common import MODELS, pathlib, torch

CORPUS = pathlib.Path(__file__).resolve().parents[1] / "corpus.txt"
VOCAB = 384
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_bpe(pre_tokenizer, first=(), last=(), plain=(), post=None):
    """A byte-level BPE of exactly VOCAB ids: first + 256 bytes + merges + last, added tokens marked."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizer
    room = VOCAB - len(first) - len(last)
    learner.train_from_iterator(
        CORPUS.read_text(encoding="utf-8").splitlines(True),
        trainers.BpeTrainer(
            vocab_size=room, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    state = json.loads(learner.to_str())["model"]
    learned = sorted(state["vocab"], key=state["vocab"].get)
    assert len(learned) == room, (len(learned), room)
    tokens = list(first) + learned + list(last)
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m) for m in state["merges"]]))
    tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = post(tokens) if post else None
    tok.add_special_tokens([AddedToken(t, normalized=False) for t in [*first, *last] if t not in plain])
    tok.add_tokens([AddedToken(t, normalized=False, special=False) for t in plain])
    return tok


def save_tokenizer(tok, folder, **special):
    from transformers import PreTrainedTokenizerFast

    template = special.pop("chat_template", None)
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, clean_up_tokenization_spaces=False, **special)
    if template:
        fast.chat_template = template
    fast.save_pretrained(folder)


def spread(model, seed):
    """Random weights by kind: matrices 0.9/sqrt(fan in), embeddings 0.4, norms 1 +- 0.2, biases +- 0.1."""
    from transformers.pytorch_utils import Conv1D

    rng = torch.Generator().manual_seed(seed)
    conv = {id(m.weight) for m in model.modules() if isinstance(m, Conv1D)}
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=rng)
            if p.ndim == 1:
                p.copy_(noise * 0.1 if name.endswith("bias") else 1 + noise * 0.2)
            elif "embed" in name or "wte" in name or "wpe" in name:
                p.copy_(noise * (0.1 if "wpe" in name else 0.4))
            else:
                fan_in = p.shape[0] if id(p) in conv else p.shape[1]
                p.copy_(noise * 0.9 / fan_in**0.5)


def fresh(name):
    folder = MODELS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def byte_level():
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def tiny_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = fresh("tiny-gpt2")
    eot = "<|endoftext|>"
    tok = train_bpe(byte_level(), last=[eot])
    save_tokenizer(tok, folder, bos_token=eot, eos_token=eot, unk_token=eot)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=40, n_head=4, n_layer=2, n_inner=120, n_positions=256,
        bos_token_id=VOCAB - 1, eos_token_id=VOCAB - 1,
    )
    model = GPT2LMHeadModel(config)
    spread(model, 1)
    model.save_pretrained(folder)


def tiny_llama():
    from tokenizers import pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = fresh("tiny-llama")
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    tok = train_bpe(pre, first=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], last=["<note>"], plain=["<note>"])
    save_tokenizer(
        tok, folder, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>",
        unk_token="<|endoftext|>", chat_template=CHATML,
    )
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
        intermediate_size=80, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )
    model = LlamaForCausalLM(config)
    spread(model, 2)
    model.save_pretrained(folder)


def tiny_llama_untied():
    from tokenizers import processors
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = fresh("tiny-llama-untied")
    tok = train_bpe(
        byte_level(),
        first=["<|pad|>", "<|begin|>", "<|end|>"],
        post=lambda tokens: processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", 1)]
        ),
    )
    save_tokenizer(tok, folder, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>")
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=40, num_attention_heads=5, num_key_value_heads=1, head_dim=16,
        num_hidden_layers=2, intermediate_size=64, max_position_embeddings=512, rms_norm_eps=1e-6,
        tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    spread(model, 3)
    model.save_pretrained(folder)
    path = folder / "config.json"
    old = json.loads(path.read_text())
    rope = old.pop("rope_parameters")
    old.update(rope_theta=rope["rope_theta"], rope_scaling=None, torch_dtype=old.pop("dtype"))
    path.write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")


def reward_model(name, tokenizer_of, cls, config, seed):
    """A sequence classification folder with one label, and the tokenizer of another folder."""
    folder = fresh(name)
    for file in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(MODELS / tokenizer_of / file, folder / file)
    model = cls(config)
    spread(model, seed)
    model.save_pretrained(folder)


def tiny_rewards():
    from transformers import GPT2Config, GPT2ForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

    reward_model(
        "tiny-gpt2-reward", "tiny-gpt2", GPT2ForSequenceClassification,
        GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_head=4, n_layer=2, n_inner=64, n_positions=128, num_labels=1,
            bos_token_id=VOCAB - 1, eos_token_id=VOCAB - 1, pad_token_id=VOCAB - 1,
        ),
        seed=4,
    )
    reward_model(
        "tiny-llama-reward", "tiny-llama-untied", LlamaForSequenceClassification,
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
            intermediate_size=48, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, num_labels=1,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        ),
        seed=5,
    )


def make():
    tiny_gpt2()
    tiny_llama()
    tiny_llama_untied()
    tiny_rewards()
    for folder in sorted(MODELS.iterdir()):
        (folder / "generation_config.json").unlink(missing_ok=True)
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"   {folder.name}  {size} bytes")
        assert size < 300_000
