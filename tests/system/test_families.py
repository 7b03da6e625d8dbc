"""Every family and variant against transformers: log-probs, greedy answers, scores (tests/oracle/goldens/families.py)."""
import json
import shutil

import pytest
from conftest import read_jsonl, write_jsonl
from families import NAMES, edit, policy, read_safetensors, reward_model, write_safetensors

TOLERANCE = 2e-4


@pytest.fixture
def family(tmp_path):
    """name -> (folder that opens, its golden)"""
    return lambda name: (tmp_path / "model", policy(name, tmp_path / "model"))


def check_logprobs(podium, model, golden, tmp_path):
    given, out = write_jsonl(tmp_path / "in.jsonl", [{"ids": r["ids"]} for r in golden["logprobs"]]), tmp_path / "out.jsonl"
    podium("logprobs", "--model", model, "--in", given, "--out", out, "--dtype", "fp32")
    for want, got in zip(golden["logprobs"], read_jsonl(out), strict=True):
        assert got["logprobs"][1:] == pytest.approx(want["logprobs"][1:], abs=TOLERANCE), len(want["ids"])


def test_all_are_there():
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_logprobs_equal_transformers(podium, family, tmp_path, name):
    model, golden = family(name)
    check_logprobs(podium, model, golden, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_answers_equal_transformers(podium, family, tmp_path, name):
    model, golden = family(name)
    for row in golden["generate"]:
        prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]}])
        podium("generate", "--model", model, "--prompts", prompts, "--out", tmp_path / "out.jsonl", "--greedy", "--n", 1,
               "--chat", "off", "--dtype", "fp32", "--max-new-tokens", len(row["new_ids"]))
        (got,) = read_jsonl(tmp_path / "out.jsonl")[0]["answers"]
        assert got["ids"] == row["new_ids"], row["prompt"]
        assert got["finish_reason"] == row["finish"]
        assert got["logprob"] == pytest.approx(row["logprob"], abs=TOLERANCE * len(row["new_ids"]))


@pytest.mark.parametrize("name", NAMES)
def test_scores_equal_transformers(podium, tmp_path, name):
    """Saved again, it gives the same scores."""
    model = tmp_path / "model"
    golden = reward_model(name, model)
    (cls,) = json.loads((model / "config.json").read_text())["architectures"]
    podium("model", "convert", model, "--out", tmp_path / "again", "--dtype", "fp32")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again["architectures"] == [cls] and again["pad_token_id"] == 0 and again["id2label"] == {"0": "LABEL_0"}
    given = write_jsonl(tmp_path / "in.jsonl", [{"text": r["text"]} for r in golden["score"]["rows"]])
    for folder in (model, tmp_path / "again"):
        podium("score", "--model", folder, "--in", given, "--out", tmp_path / "out.jsonl", "--dtype", "fp32")
        for want, got in zip(golden["score"]["rows"], read_jsonl(tmp_path / "out.jsonl"), strict=True):
            assert got["reward"] == pytest.approx(want["reward"], abs=TOLERANCE)


@pytest.mark.parametrize("name", ["gptj", "neox", "falcon-40b", "mistral", "qwen3"])
def test_a_trunk_without_its_prefix_opens(podium, family, tmp_path, name):
    model, golden = family(name)
    tensors = read_safetensors(model / "model.safetensors")
    prefix = {"gptj": "transformer.", "neox": "gpt_neox.", "falcon-40b": "transformer."}.get(name, "model.")
    bare = {k.removeprefix(prefix): v for k, v in tensors.items()}
    assert len(bare.keys() & tensors.keys()) <= 2  # the head
    buffers = {"h.0.attn.bias": ("BOOL", [1], b"\1"), "layers.0.attention.rotary_emb.inv_freq": ("F32", [1], bytes(4))}
    write_safetensors(model / "model.safetensors", {**bare, **buffers})
    check_logprobs(podium, model, golden, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_tensor_is_named(podium, family, tmp_path, name):
    model, _ = family(name)
    tensors = read_safetensors(model / "model.safetensors")
    gone = next(k for k in sorted(tensors) if "1" in k and k.endswith("weight"))
    tensors.pop(gone)
    write_safetensors(model / "model.safetensors", tensors)
    with pytest.raises(AssertionError, match=gone.replace(".", r"\.") + " is missing"):
        podium("model", "info", model)


def test_legacy_keys(podium, family, tmp_path):
    """What older files call the same things."""
    old = {
        "neox": dict(rope_parameters="gone", rotary_pct=0.25, rotary_emb_base=10000),
        "falcon-40b": dict(rope_parameters="gone", n_embed=32, n_layer=2, n_head=4, n_head_kv=2, num_hidden_layers="gone",
                           num_attention_heads="gone", num_kv_heads="gone", num_ln_in_parallel_attn=None),
        "falcon-7b": dict(num_kv_heads=4, num_ln_in_parallel_attn=None, ffn_hidden_size=64),
        "llama-yarn": dict(rope_parameters="gone", rope_theta=10000.0, head_dim=None, rope_scaling={
            "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}),
        "qwen2-window": dict(layer_types="gone", rope_parameters="gone", rope_theta=10000.0),
    }
    for name, changes in old.items():
        model, golden = family(name)
        edit(model, **changes)
        check_logprobs(podium, model, golden, tmp_path)
        shutil.rmtree(model)


def test_an_output_matrix_beside_a_tied_config_counts(podium, family, tmp_path):
    """As transformers: files that hold another lm_head are not tied, a copy of the embedding is."""
    model, golden = family("falcon-untied")
    edit(model, tie_word_embeddings=True)
    check_logprobs(podium, model, golden, tmp_path)
    podium("model", "convert", model, "--out", tmp_path / "out", "--dtype", "bf16")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    check_logprobs(podium, tmp_path / "out", golden, tmp_path)
    shutil.rmtree(model)
    model, golden = family("falcon-7b")
    tensors = read_safetensors(model / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.word_embeddings.weight"]
    write_safetensors(model / "model.safetensors", tensors)
    podium("model", "convert", model, "--out", tmp_path / "copy", "--dtype", "bf16")
    assert "lm_head.weight" not in read_safetensors(tmp_path / "copy" / "model.safetensors")
    check_logprobs(podium, tmp_path / "copy", golden, tmp_path)


def test_unknown_types_name_the_known(podium, family):
    model, _ = family("llama")
    edit(model, model_type="mamba")
    with pytest.raises(AssertionError, match="mamba.*llama, mistral, qwen2, qwen3, gpt2, gptj, gpt_neox, falcon"):
        podium("model", "info", model)
