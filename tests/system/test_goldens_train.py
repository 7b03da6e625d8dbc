"""Reward training and PPO against TRL, step by step (tests/oracle/goldens/{reward,ppo}.py)."""
import json
import math

import pytest
from conftest import FIXTURES, read_jsonl, write_jsonl
from families import policy, reward_model

REWARD = ["gpt2", "llama", "llama-options", "gpt2-freeze", "llama-zero-head", "neox", "qwen2", "gptj", "falcon-40b"]
PPO = ["llama", "llama-options", "gpt2", "gptj", "neox"]
EXACT = ("num_tokens", "accuracy", "epoch")


def golden(kind, name):
    return json.loads((FIXTURES / kind / f"{name}.json").read_text(encoding="utf-8"))


def folder_of(name, make, tmp):
    """A fixture's folder; those of families are put together by make."""
    if not name.startswith("families/"):
        return FIXTURES / "models" / name
    make(name.removeprefix("families/"), tmp)
    return tmp


def train(podium, tmp_path, verb, want, *more):
    """Runs the golden's flags; returns the run folder and its metrics."""
    run = tmp_path / "run"
    model = folder_of(want["model"], policy if verb == "ppo" else reward_model, tmp_path / "policy")
    podium("train", verb, "--model", model, "--out", run, *want["flags"].split(), "--quiet", *more)
    return run, [row for row in read_jsonl(run / "metrics.jsonl") if "loss" in row or "loss/policy_avg" in row]


def check_reward_steps(want, steps):
    assert len(steps) == len(want["steps"])
    for expected, got in zip(want["steps"], steps):
        for key, value in expected.items():
            where = f"step {expected['step']} {key}"
            if key in EXACT:
                assert got[key] == pytest.approx(value, abs=1e-6), where
            elif key == "grad_norm":
                assert got[key] == pytest.approx(value, rel=1e-3), where
            else:
                assert got[key] == pytest.approx(value, abs=2e-4), where


@pytest.mark.parametrize("name", REWARD)
def test_reward_training_equals_trl(podium, tmp_path, name):
    want = golden("reward", name)
    run, steps = train(podium, tmp_path, "reward", want, "--data", FIXTURES / "reward" / "pairs.jsonl")
    check_reward_steps(want, steps)
    pairs = read_jsonl(FIXTURES / "reward" / "pairs.jsonl")
    kept = [(pair, scores) for pair, scores in zip(pairs, want["scores"], strict=True) if scores]
    assert len(kept) == want["kept"]
    given = write_jsonl(tmp_path / "kept.jsonl", [pair for pair, _ in kept])
    podium("score", "--model", run, "--in", given, "--out", tmp_path / "scored.jsonl", "--dtype", "fp32")
    for (_, scores), row in zip(kept, read_jsonl(tmp_path / "scored.jsonl"), strict=True):
        assert [row["reward_chosen"], row["reward_rejected"]] == pytest.approx(scores, abs=5e-4), row


def test_implicit_prompts_train_the_same(podium, tmp_path):
    want = golden("reward", "llama")
    _, steps = train(podium, tmp_path, "reward", want, "--data", FIXTURES / "reward" / "pairs-implicit.jsonl")
    check_reward_steps(want, steps)


@pytest.mark.parametrize("budget", [1, 200])
def test_micro_batches_do_not_change_the_steps(podium, tmp_path, budget):
    want = golden("reward", "llama-options")
    data = FIXTURES / "reward" / "pairs.jsonl"
    _, steps = train(podium, tmp_path, "reward", want, "--data", data, "--micro-batch-tokens", budget)
    check_reward_steps(want, steps)


# TRL's averages of these run over logits at pads, or depend on its one optimizer
PPO_KEYS = [
    "objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward", "objective/scores",
    "policy/approxkl_avg", "policy/clipfrac_avg", "loss/policy_avg", "loss/value_avg", "val/clipfrac_avg", "val/ratio",
    "val/ratio_var", "val/num_eos_tokens", "lr", "episode",
]


@pytest.mark.parametrize("name", PPO)
def test_ppo_equals_trl(podium, tmp_path, name):
    want = golden("ppo", name)
    rollouts = FIXTURES / "ppo" / f"{name}.rollouts.jsonl"
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "x"}])
    run, updates = train(
        podium, tmp_path, "ppo", want, "--data", prompts, "--rollouts", rollouts,
        "--reward-model", folder_of(want["reward_model"], reward_model, tmp_path / "rm"),
    )
    assert len(updates) == len(want["updates"])
    for number, (expected, got) in enumerate(zip(want["updates"], updates)):
        for key in PPO_KEYS:
            value = expected["metrics"][key]
            assert got[key] == pytest.approx(value, rel=2e-3, abs=2e-3), f"update {number} {key}"
        norms = [math.hypot(s["grad_norm_policy"], s["grad_norm_value"]) for s in expected["steps"]]
        assert got["grad_norm"] == pytest.approx(sum(norms) / len(norms), rel=5e-3), f"update {number}"
    check_final_policy(podium, tmp_path, want, read_jsonl(rollouts), run)


def check_final_policy(podium, tmp_path, want, rollouts, run):
    """Log-probs of the answers under the policy that came out, at temperature 1 only (logprobs has no other)."""
    if "--temperature 1 " not in want["flags"]:
        return
    rows = [{"ids": r["prompt_ids"] + r["ids"], "prompt_len": len(r["prompt_ids"])} for r in rollouts]
    given = write_jsonl(tmp_path / "in.jsonl", rows)
    podium("logprobs", "--model", run, "--in", given, "--out", tmp_path / "out.jsonl", "--dtype", "fp32")
    for row, got, final in zip(rows, read_jsonl(tmp_path / "out.jsonl"), want["final"]["rollouts"], strict=True):
        assert got["logprobs"][row["prompt_len"] :] == pytest.approx(final["logprobs"], abs=5e-3)
