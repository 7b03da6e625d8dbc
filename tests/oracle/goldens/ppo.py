"""TRL's PPO on given rollouts: tests/fixtures/ppo/{RUN.rollouts.jsonl, RUN.json}.

The trainer is PPOTrainer of TRL 1.12.0 itself (later ones have no PPO), with three things put in: the answers
(instead of sampling them, in every update the same ones), the order of mini-batches (as they come), and, in runs whose
rollouts carry "score", the scores. Its own arrays are read out of its frame before the first PPO epoch.
A rollout is {"prompt_ids", "ids", "score"?}; ids hold the eos that ended them, if it did.

RUN.json: model, reward_model (also the start of the value model, which is one of its own), podium's flags for the same run, and
"updates", one for each optimizer update, of
  learning_rate    linear over updates: lr (1 - k / updates) in the k-th from 0
  rollouts         one entry each, without padding; n = tokens of the answer, R = response length
    score            raw; "penalised" is what enters the reward (missing_eos_penalty off where no eos)
    logprobs, ref_logprobs, kl   (n) at temperature T: log_softmax(logits / (T + 1e-7))
    values           (n), and one more if the answer ended before R: V after its last token
    rewards          as long as values: -kl_coef * kl, and the score added to the LAST slot, which is one after
                     the last token where there is room, else on it. With whiten_rewards: whitened over all slots
                     (Bessel, 1e-8 under the root), mean put back
    returns          as long as values: advantages before whitening + values
    advantages       (n), whitened over all answer tokens (not the extra slots)
  steps            one for each PPO epoch (one mini-batch): policy_loss (mean over answer tokens), value_loss (0.5, mean over
                   slots), loss = policy_loss + vf_coef value_loss, approxkl = 0.5 mean (new - old)^2 and ratio: means over ALL
                   n_rollouts x R cells, where a pad counts 0 and 1; clipfrac over tokens, value_clipfrac over slots; grad norms of
                   the policy and of the value model. There is no gradient clipping, no entropy bonus, no decay.
  metrics          as TRL logs them, without what depends on the clock or on logits at pads (policy/entropy_avg)
"final": log-probs and values of the same rollouts after the last update, and weight norms.

The reference is the policy at the start, so kl is 0 in the first update and real from the second on.
Advantages with k3, gamma < 1, whitened rewards, a penalty, eos as the first and as the R-th token are all in.
"""
import copy
import sys
import tempfile

from . import families
from .common import json, load_tiny, load_tokenizer, number, numbers, os, pathlib, torch, write_json, write_jsonl

R = 12
COMMON = f"--preset trl --value-head model --response-length {R} --mini-batches 1 --no-shuffle --dtype fp32 --max-grad-norm 0"
# name -> policy, reward model, scores in the file?, TRL's arguments, podium's flags
RUNS = {
    "llama": (
        "tiny-llama-untied", "tiny-llama-reward", False,
        dict(learning_rate=1e-3, num_ppo_epochs=3, temperature=0.7, kl_coef=0.05, vf_coef=0.1, cliprange=0.2, cliprange_value=0.2,
             gamma=1.0, lam=0.95),
        "--learning-rate 1e-3 --ppo-epochs 3 --temperature 0.7",
    ),
    "llama-options": (
        "tiny-llama-untied", "tiny-llama-reward", False,
        dict(learning_rate=3e-3, num_ppo_epochs=2, temperature=1.0, kl_coef=0.2, kl_estimator="k3", vf_coef=0.5, cliprange=0.1,
             cliprange_value=0.3, gamma=0.97, lam=0.9, whiten_rewards=True, missing_eos_penalty=1.5),
        "--learning-rate 3e-3 --ppo-epochs 2 --temperature 1 --kl-coef 0.2 --kl-estimator k3 --vf-coef 0.5 --cliprange 0.1"
        " --cliprange-value 0.3 --gamma 0.97 --lam 0.9 --whiten-rewards --missing-eos-penalty 1.5",
    ),
    "gpt2": (
        "tiny-gpt2", "tiny-gpt2-reward", True,
        dict(learning_rate=1e-3, num_ppo_epochs=2, temperature=0.9, kl_coef=0.1, vf_coef=0.2, missing_eos_penalty=0.5),
        "--learning-rate 1e-3 --ppo-epochs 2 --temperature 0.9 --kl-coef 0.1 --vf-coef 0.2 --missing-eos-penalty 0.5",
    ),
    **{
        name: (
            f"families/{name}", f"families/{name}", True,
            dict(learning_rate=1e-3, num_ppo_epochs=2, temperature=1.0, kl_coef=0.1, vf_coef=0.2, missing_eos_penalty=0.5),
            "--learning-rate 1e-3 --ppo-epochs 2 --temperature 1 --kl-coef 0.1 --vf-coef 0.2 --missing-eos-penalty 0.5",
        )
        for name in ("gptj", "neox")
    },
}
UPDATES = 3
PROMPTS = [
    "What is the capital of Norway?", "Tea:", "The answer", "1, 2, 3,", "def count(words):\n", "Rate it.", "Human: Hi!\n\nAssistant:",
    "x",
]
ENDS = [None, 4, 1, None, R, 7, 2, 11]  # tokens of each answer, eos included; None: R tokens without eos
DROPPED = {"eps", "policy/entropy_avg"}


def load(name, reward=False):
    """(model, tokenizer's folder); a model "families/NAME" is that of its golden.json."""
    from transformers import AutoModelForSequenceClassification

    if not name.startswith("families/"):
        return load_tiny(name, AutoModelForSequenceClassification if reward else None), name
    name = name.removeprefix("families/")
    policy = families.build(name, dtype=torch.bfloat16)
    return families.classifier(name, policy) if reward else policy, families.TOKENIZER


def sample(model, prompt_ids, eos, pad, end, temperature, seed):
    """An answer drawn from the policy, made to end where asked."""
    rng = torch.Generator().manual_seed(seed)
    ids = list(prompt_ids)
    n = R if end is None else end - 1
    for _ in range(n):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1] / temperature
        logits[[eos, pad]] = -torch.inf
        ids.append(int(torch.multinomial(torch.softmax(logits, -1), 1, generator=rng)))
    return ids[len(prompt_ids) :] + ([eos] if end is not None else [])


def make_rollouts(policy, tok, pad, scored, temperature):
    rollouts = []
    for i, (prompt, end) in enumerate(zip(PROMPTS, ENDS)):
        ids = tok(prompt)["input_ids"]
        assert pad not in ids
        row = {"prompt_ids": ids, "ids": sample(policy, ids, tok.eos_token_id, pad, end, temperature, 100 + i)}
        if scored:
            row["score"] = round(0.7 * i - 2.1, 3)
        rollouts.append(row)
    return rollouts


def trl():
    """TRL 1.12's PPO, ahead of the TRL that the other makers use."""
    where = pathlib.Path(os.environ.get("PODIUM_TRL_PPO", pathlib.Path(sys.prefix) / "trl-ppo"))
    if "trl" in sys.modules:
        for name in [m for m in sys.modules if m == "trl" or m.startswith("trl.")]:
            del sys.modules[name]
    sys.path.insert(0, str(where))
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import trl as found
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    assert found.__version__ == "1.12.0", found.__version__
    return PPOConfig, PPOTrainer, ppo_trainer


def norm(parameters):
    return number(torch.stack([p.grad.double().norm() for p in parameters if p.grad is not None]).norm())


class Recorder:
    """Reads the arrays of PPOTrainer.train out of its frame, and cuts the padding off."""

    def __init__(self, rollouts):
        self.rollouts, self.updates, self.step_norms = rollouts, [], []

    def permutation(self, n):  # stands in for numpy's, at the head of each PPO epoch
        import numpy

        frame = sys._getframe(1).f_locals
        if frame["ppo_epoch_idx"] == 0:
            self.updates.append({"rollouts": self.arrays(frame)})
            self.step_norms = []
        return numpy.arange(n)

    def arrays(self, f):
        out = []
        for i, rollout in enumerate(self.rollouts):
            n = len(rollout["ids"])
            slots = min(n + 1, R)
            assert int(f["sequence_lengths"][i]) == n - 1
            token = lambda name: numbers(f[name][i, :n])  # noqa: E731
            slot = lambda name: numbers(f[name][i, :slots])  # noqa: E731
            out.append({
                "penalised": number(f["scores"][i]), "logprobs": token("logprobs"), "ref_logprobs": token("ref_logprobs"),
                "kl": token("kl"), "values": slot("values"), "rewards": slot("rewards"), "returns": slot("returns"),
                "advantages": token("advantages"),
            })
        return out

    def log(self, metrics):
        f = sys._getframe(1).f_locals
        steps = []
        for epoch, norms in enumerate(self.step_norms):
            at = lambda name: number(f[name][epoch, 0, 0])  # noqa: E731
            policy, value = at("pg_loss_stats"), at("vf_loss_stats")
            steps.append({
                "policy_loss": policy, "value_loss": value, "loss": number(policy + f["args"].vf_coef * value),
                "approxkl": at("approxkl_stats"), "ratio": at("ratio_stats"), "clipfrac": at("pg_clipfrac_stats"),
                "value_clipfrac": at("vf_clipfrac_stats"), **norms,
            })
        self.updates[-1]["learning_rate"] = number(metrics["lr"])
        self.updates[-1]["steps"] = steps
        self.updates[-1]["metrics"] = {k: number(v) for k, v in metrics.items() if k not in DROPPED}


def pad_left(rows, pad):
    width = max(map(len, rows))
    return torch.tensor([[pad] * (width - len(r)) + r for r in rows])


def responses(rollouts, pad):
    return torch.tensor([r["ids"] + [pad] * (R - len(r["ids"])) for r in rollouts])


def run(name):
    from datasets import Dataset

    policy_name, reward_name, scored, arguments, flags = RUNS[name]
    PPOConfig, PPOTrainer, module = trl()
    (policy, tokenizer), (ref, _), (reward, _) = load(policy_name), load(policy_name), load(reward_name, reward=True)
    value = copy.deepcopy(reward)
    tok = load_tokenizer(tokenizer)
    if tok.pad_token is None:  # any id that occurs nowhere: TRL tells pads by id
        tok.pad_token = tok.convert_ids_to_tokens(1)
    pad = tok.pad_token_id
    rollouts = make_rollouts(policy, tok, pad, scored, arguments["temperature"])
    assert all(pad not in r["ids"] for r in rollouts)
    answers = responses(rollouts, pad)
    recorder = Recorder(rollouts)
    T = arguments["temperature"] + 1e-7

    def given_answers(model, queries, batch, pad_token_id, config):
        """As generate() would return them: scores are logits / T of a forward over the whole."""
        both = torch.cat([queries, answers], 1)
        logits = module.forward(model, both, pad_token_id).logits[:, queries.shape[1] - 1 : -1]
        return both, logits / T

    real_reward = module.get_reward
    raw = {}

    def given_reward(model, query_responses, pad_token_id, context_length):
        out = real_reward(model, query_responses, pad_token_id, context_length)
        if model is not reward:
            return out
        scores = torch.tensor([r["score"] for r in rollouts]) if scored else out[1]
        raw["scores"] = numbers(scores)
        return out[0], scores.clone(), out[2]

    module.batch_generation, module.get_reward = given_answers, given_reward
    module.np = type("np", (), {"random": type("random", (), {"permutation": staticmethod(recorder.permutation)})})
    prompts = [r["prompt_ids"] for r in rollouts]
    with tempfile.TemporaryDirectory() as out:
        args = PPOConfig(
            out, **arguments, response_length=R, stop_token="eos", per_device_train_batch_size=len(rollouts),
            gradient_accumulation_steps=1, num_mini_batches=1, total_episodes=UPDATES * len(rollouts), num_sample_generations=0,
            bf16=False, use_cpu=True, gradient_checkpointing=False, report_to="none", save_strategy="no", logging_steps=1,
            local_rollout_forward_batch_size=len(rollouts), disable_tqdm=True,
        )
        trainer = PPOTrainer(
            args=args, processing_class=tok, model=policy, ref_model=ref, reward_model=reward, value_model=value,
            train_dataset=Dataset.from_dict({"input_ids": prompts}),
        )
        trainer.dataloader = [{"input_ids": pad_left(prompts, pad)}]
        trainer.log = recorder.log
        step = trainer.optimizer.step

        def watched_step(*a, **kw):
            recorder.step_norms.append({
                "grad_norm_policy": norm(policy.parameters()), "grad_norm_value": norm(value.parameters())
            })
            return step(*a, **kw)

        trainer.optimizer.step = watched_step
        trainer.train()
    module.get_reward = real_reward
    for update in recorder.updates:
        for rollout, score in zip(update["rollouts"], raw["scores"]):
            rollout["score"] = score
    return rollouts, {
        "model": policy_name, "reward_model": reward_name, "flags": f"{flags} --max-steps {UPDATES} {COMMON}",
        "response_length": R, "updates": recorder.updates,
        "final": final(policy, value, rollouts, T),
    }


def final(policy, value, rollouts, T):
    """Row by row, without padding."""
    out = []
    for r in rollouts:
        ids, p, n = r["prompt_ids"] + r["ids"], len(r["prompt_ids"]), len(r["ids"])
        with torch.no_grad():
            logits = policy(torch.tensor([ids])).logits[0, p - 1 : p + n - 1] / T
            hidden = value.base_model(torch.tensor([ids])).last_hidden_state[0, p - 1 : p - 1 + min(n + 1, R)]
        lp = torch.log_softmax(logits, -1).gather(1, torch.tensor(r["ids"])[:, None])[:, 0]
        out.append({"logprobs": numbers(lp), "values": numbers(value.score(hidden).detach()[:, 0])})
    weights = lambda m: {k: number(w.detach().double().norm()) for k, w in m.named_parameters()}  # noqa: E731
    return {"rollouts": out, "policy_weight_norms": weights(policy), "value_weight_norms": weights(value)}


def make(names=tuple(RUNS)):
    for name in names:
        rollouts, golden = run(name)
        write_jsonl(f"ppo/{name}.rollouts.jsonl", rollouts)
        write_json(f"ppo/{name}.json", golden)
