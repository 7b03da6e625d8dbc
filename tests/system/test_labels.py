"""Classifiers of several labels: one label's logit is the reward (tests/oracle/families.py holds them against transformers)."""
import json
import shutil
import struct
import subprocess

import pytest
import torch_writer
from conftest import FIXTURES, podium_bin, read_jsonl, write_jsonl
from families import edit, read_safetensors, reward_model, write_safetensors

MODELS = FIXTURES / "models"
NAMES = ["NEGATIVE", "NEUTRAL", "POSITIVE"]
TIMES = [-2.0, 0.0, 1.0]  # each label's logit, as a multiple of the reward
TEXTS = [{"text": "The answer is short."}, {"text": "The moon goes around the earth."}]
CHANGING = {"time", "tokens_per_second", "unique_tokens_per_second", "pairs_per_second", "peak_rss_bytes", "eps"}


def widen(weight):
    """Rows of several labels out of the one of a reward model."""
    dtype, (_, n), data = weight
    assert dtype == "F32"
    row = struct.unpack(f"<{n}f", data)
    return dtype, [len(TIMES), n], b"".join(struct.pack(f"<{n}f", *(t * v for v in row)) for t in TIMES)


def classify(folder, names=NAMES):
    """Makes a classifier of a folder with a reward model."""
    tensors = read_safetensors(folder / "model.safetensors")
    tensors["score.weight"] = widen(tensors["score.weight"])
    write_safetensors(folder / "model.safetensors", tensors)
    edit(folder, id2label={str(i): n for i, n in enumerate(names)}, label2id={n: i for i, n in enumerate(names)})
    return folder


def copy(tmp_path, name="tiny-gpt2-reward"):
    return classify(shutil.copytree(MODELS / name, tmp_path / name))


def scores(podium, model, *more):
    out = podium("score", "--model", model, "--in", "-", "--out", "-", "--dtype", "fp32", "--quiet", *more,
                 stdin="".join(json.dumps(r) + "\n" for r in TEXTS))
    return [json.loads(line)["reward"] for line in out.splitlines()]


def fails(*args, code=1, **how):
    done = subprocess.run([podium_bin(), *map(str, args)], capture_output=True, text=True, timeout=300, **how)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.parametrize("name", ["gpt2", "falcon-7b", "llama", "qwen3"])
def test_each_label_is_a_reward(podium, tmp_path, name):
    reward_model(name, tmp_path / "model")
    one = scores(podium, tmp_path / "model")
    classify(tmp_path / "model")
    podium("model", "convert", tmp_path / "model", "--out", tmp_path / "again", "--dtype", "fp32")
    for folder in (tmp_path / "model", tmp_path / "again"):
        for i, label in enumerate(NAMES):
            for said in (label, i):
                got = scores(podium, folder, "--reward-label", said)
                assert got == pytest.approx([TIMES[i] * r for r in one], rel=1e-5, abs=1e-6)
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again["id2label"] == {str(i): n for i, n in enumerate(NAMES)} and again["label2id"] == {n: i for i, n in enumerate(NAMES)}


def test_which_label_has_to_be_said(podium, tmp_path):
    model = copy(tmp_path)
    says = fails("score", "--model", model, "--in", "-", "--out", tmp_path / "out")
    assert "tells 3 labels apart; say with --reward-label whose logit is the reward: NEGATIVE, NEUTRAL and POSITIVE" in says
    says = fails("eval", "reward", "--model", model, "--data", "-", "--reward-label", "GOOD")
    assert 'has no label "GOOD"; there are NEGATIVE, NEUTRAL and POSITIVE' in says
    for number in ("3", "-1", "1.0"):
        assert f'has no label "{number}"' in fails("score", "--model", model, "--in", "-", "--out", "-", "--reward-label", number)
    assert "is a reward model: it has no language-model head" in fails("generate", "--model", model, "--prompts", "-", input="x\n")
    info = json.loads(podium("model", "info", model, "--json"))
    assert info["head"] == "score" and info["labels"] == NAMES
    text = podium("model", "info", model)
    assert "a classifier (score head)" in text and "labels      NEGATIVE, NEUTRAL and POSITIVE\n" in text


def test_a_name_goes_before_a_number(podium, tmp_path):
    """Labels that are called by numbers, as stars are, and one that has no name."""
    model = copy(tmp_path)
    at_2 = scores(podium, model, "--reward-label", 2)
    edit(model, id2label={"0": "1", "1": "2"})
    assert scores(podium, model, "--reward-label", "2") == [0, 0]
    assert scores(podium, model, "--reward-label", "LABEL_2") == at_2
    assert json.loads(podium("model", "info", model, "--json"))["labels"] == ["1", "2", "LABEL_2"]
    podium("model", "convert", model, "--out", tmp_path / "again", "--dtype", "fp32")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["id2label"] == {"0": "1", "1": "2", "2": "LABEL_2"}


def test_names_of_any_kind(podium, tmp_path):
    model = copy(tmp_path)
    at_0, at_2 = scores(podium, model, "--reward-label", 0), scores(podium, model, "--reward-label", 2)
    edit(model, id2label={"0": "x", "1": "x", "2": "\n\x1b[31m"})
    assert 'has more than one label "x": say its number' in fails("score", "--model", model, "--in", "-", "--out", "-", "--reward-label", "x")
    assert scores(podium, model, "--reward-label", "0") == at_0 and scores(podium, model, "--reward-label", "\n\x1b[31m") == at_2
    assert "labels      x, x and ??[31m\n" in podium("model", "info", model)
    edit(model, id2label={str(i): f"a name of many letters, number {i} " + 40 * "o" for i in range(3)}, problem_type="single_label_classification")
    says = fails("score", "--model", model, "--in", "-", "--out", "-")
    assert "say with --reward-label whose logit is the reward: a name of many letters" in says
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "Which?", "chosen": " good one", "rejected": " bad"}] * 4)
    podium("train", "reward", "--model", model, "--reward-label", "2", "--data", pairs, "--out", tmp_path / "run", "--quiet", "--max-steps", 1)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "LABEL_0"} and "problem_type" not in config


def test_a_classifier_of_tokens_is_refused(podium, tmp_path):
    """transformers calls its head score as well; the bias would be lost."""
    model = copy(tmp_path)
    tensors = read_safetensors(model / "model.safetensors")
    write_safetensors(model / "model.safetensors", tensors | {"score.bias": ("F32", [3], bytes(12))})
    for verb in (["model", "info", model], ["score", "--model", model, "--in", "-", "--out", "-", "--reward-label", "1"]):
        assert "model.safetensors: tensor score.bias: a sequence classifier has none; is this a classifier of tokens?" in fails(*verb)
    lora = shutil.copytree(FIXTURES / "lora" / "reward", tmp_path / "adapter")
    base = MODELS / json.loads((lora / "golden.json").read_text())["base"]
    config = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    tensors = read_safetensors(lora / "adapter_model.safetensors")
    write_safetensors(lora / "adapter_model.safetensors", tensors | {"base_model.model.score.bias": ("F32", [1], bytes(4))})
    assert "score.bias" in fails("model", "info", lora) and "no place in the model" in fails("model", "info", lora)


def test_the_only_label_may_be_said(podium, tmp_path):
    model = shutil.copytree(MODELS / "tiny-gpt2-reward", tmp_path / "model")
    edit(model, id2label={"0": "helpful"})
    assert scores(podium, model) == scores(podium, model, "--reward-label", "helpful") == scores(podium, model, "--reward-label", 0)
    assert 'has no label "harmless"; there is helpful' in fails(
        "score", "--model", model, "--in", "-", "--out", "-", "--reward-label", "harmless")
    podium("model", "convert", model, "--out", tmp_path / "again", "--dtype", "fp32")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["id2label"] == {"0": "helpful"}


def metrics(run):
    return [{k: v for k, v in r.items() if k not in CHANGING and not k.startswith("seconds/")} for r in read_jsonl(run / "metrics.jsonl")]


def test_training_begins_with_a_label(podium, tmp_path):
    """PPO with a critic of its own, and reward training: the same numbers as from the reward model."""
    model, one = copy(tmp_path), MODELS / "tiny-gpt2-reward"
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": t["text"]} for t in TEXTS])
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "Which?", "chosen": " good one", "rejected": " bad"}] * 4)
    jobs = {
        "ppo": ["--model", MODELS / "tiny-gpt2", "--data", prompts, "--rollout-batch", 2, "--response-length", 6, "--value-head", "model"],
        "reward": ["--data", pairs],
    }
    for verb, job in jobs.items():
        which = "--reward-model" if verb == "ppo" else "--model"
        for run, given in ((f"{verb}-one", [which, one]), (f"{verb}-label", [which, model, "--reward-label", "POSITIVE"])):
            podium("train", verb, *job, *given, "--out", tmp_path / run, "--threads", 1, "--quiet", "--max-steps", 2, "--dtype", "fp32")
        assert metrics(tmp_path / f"{verb}-one") == metrics(tmp_path / f"{verb}-label")
        assert len(metrics(tmp_path / f"{verb}-one")) == 2
        assert "--reward-label whose" in fails("train", verb, *job, which, model, "--out", tmp_path / "none", "--max-steps", 1)
    assert not (tmp_path / "none").exists()
    for file in ("model.safetensors", "config.json"):
        a, b = ((tmp_path / run / "model" / file).read_bytes() for run in ("reward-one", "reward-label"))
        assert a == b
    judged = []
    compare = ["eval", "policy", "--model", MODELS / "tiny-gpt2", "--against", MODELS / "tiny-gpt2", "--prompts", prompts, "--max-new-tokens", 4]
    for label in ("NEGATIVE", "POSITIVE"):
        done = podium(*compare, "--reward-model", model, "--reward-label", label, "--json")
        judged.append(json.loads(done)["model"]["mean_reward"])
    assert judged[0] == pytest.approx(-2 * judged[1], rel=1e-5) and judged[1] != 0
    says = fails(*compare, "--reward-model", model)
    assert "--reward-label whose" in says and "answering" not in says
    assert "leave --reward-label out" in fails(*compare, "--reward-model", "toy:1-9", "--reward-label", "GOOD", code=2)
    says = fails("train", "reward", "--model", MODELS / "tiny-gpt2", "--data", pairs, "--out", tmp_path / "none", "--reward-label", "GOOD")
    assert "has no score head yet, and so no labels: leave --reward-label out" in says and not (tmp_path / "none").exists()


def test_an_adapter_brings_labels(podium, tmp_path):
    """To a base that has no such head; one that has keeps its number of labels."""
    lora = shutil.copytree(FIXTURES / "lora" / "reward", tmp_path / "adapter")
    given = MODELS / json.loads((lora / "golden.json").read_text())["base"]
    base = shutil.copytree(given, tmp_path / "base")
    config = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    one = scores(podium, lora)
    tensors = read_safetensors(lora / "adapter_model.safetensors")
    (name,) = [k for k in tensors if "score" in k]
    write_safetensors(lora / "adapter_model.safetensors", tensors | {name: widen(tensors[name])})
    assert f"{name} has another shape than the model's" in fails("model", "info", lora)
    trunk = read_safetensors(base / "model.safetensors")
    trunk.pop("score.weight")
    write_safetensors(base / "model.safetensors", trunk)
    podium("model", "merge", base, "--adapter", lora, "--out", tmp_path / "merged")
    for model in (lora, tmp_path / "merged"):
        for i, times in enumerate(TIMES):
            assert scores(podium, model, "--reward-label", f"LABEL_{i}") == pytest.approx([times * r for r in one], rel=1e-5, abs=1e-6)


def test_a_head_of_any_number_of_rows_is_not_believed(tmp_path):
    """A view of stride 0 has any shape for a few bytes."""
    model = shutil.copytree(MODELS / "tiny-gpt2-reward", tmp_path / "model")
    tensors = read_safetensors(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    _, (_, n), data = tensors["score.weight"]
    torch_writer.write(model / "pytorch_model.bin", tensors | {"score.weight": ("F32", [1 << 40, n], data)}, strides={"score.weight": [0, 1]})
    assert "the score head has 1099511627776 rows; at most 65536 are read" in fails("model", "info", model)
