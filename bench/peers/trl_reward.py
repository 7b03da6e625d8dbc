"""TRL's RewardTrainer timed step by step. argv[1]: JSON of model (folder), pairs, batch, micro (pairs computed at once), max_length,
dtype fp32|bf16 (autocast), attention, steps, threads. Prints JSON: times of steps 2.., tokens in them, losses, peak resident bytes, matmul peak, weights without embeddings."""
import json
import resource
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import RewardConfig, RewardTrainer


def matmul_gflops(n=2048, seconds=1.5):
    a, b = torch.randn(n, n), torch.randn(n, n)
    best, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        a @ b
        best = max(best, 2 * n**3 / (time.monotonic() - start) / 1e9)
    return best


class Clock(TrainerCallback):
    def __init__(self):
        self.ends = []

    def on_step_end(self, *args, **kw):
        self.ends.append(time.monotonic())


def main():
    s = json.loads(sys.argv[1])
    torch.set_num_threads(s["threads"])
    tok = AutoTokenizer.from_pretrained(s["model"])
    model = AutoModelForSequenceClassification.from_pretrained(
        s["model"], num_labels=1, dtype=torch.float32, attn_implementation=s["attention"]
    )
    torch.nn.init.zeros_(model.score.weight)
    rows = [json.loads(line) for line in open(s["pairs"], encoding="utf-8")]
    rows = [{k: r[k] for k in ("prompt", "chosen", "rejected") if k in r} for r in rows]
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        args = RewardConfig(
            out, per_device_train_batch_size=s["micro"], gradient_accumulation_steps=s["batch"] // s["micro"], max_steps=s["steps"], max_length=s["max_length"], learning_rate=1e-5,
            bf16=s["dtype"] == "bf16", use_cpu=True, gradient_checkpointing=False, logging_steps=1, save_strategy="no",
            report_to="none", train_sampling_strategy="sequential", disable_tqdm=True,
        )
        trainer = RewardTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tok, callbacks=[clock])
        trainer.train()
    logs = [x for x in trainer.state.log_history if "loss" in x]
    embedding = model.get_input_embeddings().weight.numel()
    print(json.dumps({
        "times": [b - a for a, b in zip(clock.ends, clock.ends[1:])],
        "tokens": logs[-1]["num_tokens"] - logs[0]["num_tokens"],
        "losses": [x["loss"] for x in logs],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_gflops": matmul_gflops(),
        "weights": sum(p.numel() for p in model.parameters()) - embedding,
    }))


main()
