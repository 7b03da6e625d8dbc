"""TRL's RewardTrainer step by step: tests/fixtures/reward/{pairs,pairs-implicit}.jsonl and RUN.json.

Each RUN.json has the model, podium's flags for the same run, one line of metrics per optimizer step as TRL logs
them (logging_steps 1), norms of the first step's gradients, norms of the final weights, and scores of the final model.

Conventions, all TRL 1.16's:
- prompt and answer are joined as strings and tokenized whole: special-token text parsed, post-processor applied; the eos
  text is appended before that unless the answer's text already ends in it.
- A pair with either side over max_length tokens is dropped, not cut.
- No shuffling (sequential), no dropout, fp32 throughout, eager attention; the last batch of an epoch may be short.
- Rows are right-padded with pad (where the tokenizer has none, eos); the score is read at the rightmost token that is not pad.
  So where pad = eos (GPT-2, tiny-llama) it is read at the token before the appended eos.
- loss = mean over pairs of -log sigmoid(chosen - rejected - margin) + c * mean((chosen + rejected)^2), c = 0 by default.
- grad_norm is the norm before clipping; clipping multiplies by min(1, max / (norm + 1e-6)).
- AdamW as in torch; weight decay spares biases and every norm, and nothing else (embeddings decay).
- learning_rate is the rate the step used; with warm-up the first step's is 0.
- num_tokens counts real tokens of both rows, prompts twice, cumulative.
- freeze 0.5 of two blocks freezes block 0 and the token and position embeddings.
- Where batches are accumulated from microbatches TRL averages min_reward and max_reward over these: left out.
- pairs-implicit.jsonl holds the same pairs without "prompt", whole texts in both answers: its runs are the same.
- A model "families/NAME" is the sequence classifier of that golden.json, with its score head.
- "scores" come one row at a time (no padding), in file order, null where the pair was dropped.
"""
import tempfile

from . import families
from .common import MODELS, number, torch, write_json, write_jsonl

BASE = dict(learning_rate=1e-3, per_device_train_batch_size=4, num_train_epochs=2, max_length=64)
# name -> model, zero head?, TRL's arguments, podium's flags, frozen share
RUNS = {
    "gpt2": ("tiny-gpt2-reward", False, BASE, "--learning-rate 1e-3 --batch-size 4 --epochs 2 --max-length 64", 0),
    "llama": ("tiny-llama-reward", False, BASE, "--learning-rate 1e-3 --batch-size 4 --epochs 2 --max-length 64", 0),
    "llama-options": (
        "tiny-llama-reward", False,
        dict(
            learning_rate=2e-3, per_device_train_batch_size=3, gradient_accumulation_steps=2, num_train_epochs=2,
            max_length=512, lr_scheduler_type="cosine", warmup_steps=2, weight_decay=0.1, adam_beta1=0.8,
            adam_beta2=0.95, adam_epsilon=1e-6, max_grad_norm=0.5, center_rewards_coefficient=0.01,
        ),
        "--learning-rate 2e-3 --batch-size 6 --epochs 2 --max-length 512 --lr-scheduler cosine --warmup-steps 2"
        " --weight-decay 0.1 --adam-beta1 0.8 --adam-beta2 0.95 --adam-epsilon 1e-6 --max-grad-norm 0.5"
        " --center-rewards-coefficient 0.01 --use-margin", 0,
    ),
    "gpt2-freeze": (
        "tiny-gpt2-reward", False,
        dict(BASE, lr_scheduler_type="constant", weight_decay=0.05),
        "--learning-rate 1e-3 --batch-size 4 --epochs 2 --max-length 64 --lr-scheduler constant --weight-decay 0.05"
        " --freeze-layers 0.5", 0.5,
    ),
    "llama-zero-head": (
        "tiny-llama", True, dict(BASE, per_device_train_batch_size=8),
        "--learning-rate 1e-3 --batch-size 8 --epochs 2 --max-length 64 --init-head zeros", 0,
    ),
    **{
        # centred: else the final norm's bias has no gradient but rounding, which Adam makes steps of
        name: (f"families/{name}", False, dict(BASE, num_train_epochs=1, center_rewards_coefficient=0.1),
               "--learning-rate 1e-3 --batch-size 4 --epochs 1 --max-length 64 --center-rewards-coefficient 0.1", 0)
        for name in ("neox", "qwen2", "gptj", "falcon-40b")
    },
}
KEYS = ["loss", "grad_norm", "accuracy", "margin", "min_reward", "mean_reward", "max_reward", "num_tokens", "epoch"]
COMMON = "--no-shuffle --dtype fp32"


def freeze_bottom(model, share):
    base = model.base_model
    blocks = base.h if hasattr(base, "h") else base.layers
    frozen = list(blocks[: int(share * len(blocks))])
    for name in ["wte", "wpe", "embed_tokens"]:
        if hasattr(base, name):
            frozen.append(getattr(base, name))
    for module in frozen:
        module.requires_grad_(False)


def norms(named):
    return {name: number(t.detach().double().norm()) for name, t in named}


def make_watch(watch):
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        """Sees what TRL's log does not say: the rate a step used, and its gradients after clipping."""

        def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **kw):
            watch["rates"].append(number(optimizer.param_groups[0]["lr"]))
            if "grads" not in watch:
                watch["grads"] = norms((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)

    return Watch()


def run(name, rows):
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    folder, zero_head, arguments, flags, frozen = RUNS[name]
    if folder.startswith("families/"):  # with the score head of its golden.json
        model = families.classifier(name, families.build(name, dtype=torch.bfloat16))
        tok = AutoTokenizer.from_pretrained(MODELS / families.TOKENIZER)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            MODELS / folder, num_labels=1, dtype=torch.float32, attn_implementation="eager"
        )
        tok = AutoTokenizer.from_pretrained(MODELS / folder)
    if zero_head:
        torch.nn.init.zeros_(model.score.weight)
    if frozen:
        freeze_bottom(model, frozen)
    if "--use-margin" not in flags:
        rows = [{k: v for k, v in r.items() if k != "margin"} for r in rows]
    watch = {"rates": []}
    with tempfile.TemporaryDirectory() as out:
        args = RewardConfig(
            out, **arguments, bf16=False, use_cpu=True, gradient_checkpointing=False, logging_steps=1, save_strategy="no",
            report_to="none", train_sampling_strategy="sequential", disable_tqdm=True,
        )
        trainer = RewardTrainer(
            model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tok,
            callbacks=[make_watch(watch)],
        )
        trainer.train()
    steps = []
    keys = [k for k in KEYS if not (k in ("min_reward", "max_reward") and "gradient_accumulation_steps" in arguments)]
    for log, rate in zip([x for x in trainer.state.log_history if "loss" in x], watch["rates"], strict=True):
        line = {"step": len(steps) + 1, **{k: number(log[k]) for k in keys}, "learning_rate": rate}
        steps.append({**line, "num_tokens": int(log["num_tokens"])})
    model.eval()
    scores = [[score(model, tok, r["prompt"] + r[k], args.max_length) for k in ("chosen", "rejected")] for r in rows]
    scores = [None if None in pair else pair for pair in scores]
    return {
        "model": folder, "flags": f"{flags} {COMMON}", "kept": len(trainer.train_dataset), "steps": steps,
        "first_gradient_norms_after_clipping": watch["grads"], "final_weight_norms": norms(model.named_parameters()),
        "scores": scores,
    }


def score(model, tok, text, max_length):
    ids = tok(text if text.endswith(tok.eos_token) else text + tok.eos_token)["input_ids"]
    if len(ids) > max_length:
        return None
    with torch.no_grad():
        return number(model(torch.tensor([ids])).logits[0, 0])


def make(names=tuple(RUNS)):
    import pairs

    rows = pairs.rows()
    write_jsonl("reward/pairs.jsonl", rows)
    implicit = [{k: r["prompt"] + r[k] for k in ("chosen", "rejected")} | {"margin": r["margin"]} for r in rows]
    write_jsonl("reward/pairs-implicit.jsonl", implicit)
    for name in names:
        write_json(f"reward/{name}.json", run(name, rows))
