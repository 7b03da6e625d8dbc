"""LoRA adapters as PEFT saves them and what they change: tests/fixtures/lora/NAME/{adapter_config.json, adapter_model.*, golden.json}.

golden.json: {"base": a folder of models/, "logprobs": [{"ids", "logprobs": [null, ...]}] or "rewards": [{"text", "reward"}]},
from PEFT's own forward (the adapter beside the weights, fp32, eager). The maker checks that merge_and_unload() gives the
same to 1e-4. B is random, not zero; the text of a reward gets the eos token and is scored at its last token.
"""
import json
import shutil

from .common import FIXTURES, MODELS, load_tiny, load_tokenizer, number, numbers, torch, write_json

OUT = FIXTURES / "lora"
TEXTS = ["The answer is short.", "Human: Thank you.\n\nAssistant: You are welcome."]
# name -> (base, settings, saved as safetensors)
ADAPTERS = {
    "llama": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]), True),
    "llama-all": ("tiny-llama-untied", dict(r=2, lora_alpha=3, use_rslora=True, target_modules="all-linear",
                                            rank_pattern={"down_proj": 3, "layers.1.self_attn.k_proj": 1},
                                            alpha_pattern={".*o_proj": 10}, modules_to_save=["lm_head"]), False),
    "llama-embedding": ("tiny-llama-untied", dict(r=3, lora_alpha=4, target_modules=["embed_tokens", "lm_head", "gate_proj"]), True),
    "gpt2": ("tiny-gpt2", dict(r=4, lora_alpha=16, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, bias="lora_only"), True),
    "reward": ("tiny-llama-reward", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj"], task_type="SEQ_CLS",
                                         modules_to_save=["score"]), True),
}


def id_rows():
    rng = torch.Generator().manual_seed(8)
    return [torch.randint(3, 300, (n,), generator=rng).tolist() for n in (2, 12, 40)]


def logprobs(model, ids):
    with torch.no_grad():
        lp = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)[:-1]
    return [None] + numbers(lp.gather(1, torch.tensor(ids[1:], dtype=torch.long)[:, None])[:, 0])


def reward(model, tok, text):
    with torch.no_grad():
        return number(model(torch.tensor([tok(text + tok.eos_token)["input_ids"]])).logits[0, 0])


def says(model, base, tok):
    if base.endswith("-reward"):
        return {"rewards": [{"text": t, "reward": reward(model, tok, t)} for t in TEXTS]}
    return {"logprobs": [{"ids": ids, "logprobs": logprobs(model, ids)} for ids in id_rows()]}


def flat(said):
    return [x for row in said.get("logprobs", []) for x in row["logprobs"][1:]] + [r["reward"] for r in said.get("rewards", [])]


def make():
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    for i, (name, (base, settings, safe)) in enumerate(ADAPTERS.items()):
        torch.manual_seed(40 + i)
        tok = load_tokenizer(base)
        cls = AutoModelForSequenceClassification if base.endswith("-reward") else None
        plain = flat(says(load_tiny(base, cls), base, tok))
        model = get_peft_model(load_tiny(base, cls), LoraConfig(**{"task_type": "CAUSAL_LM", **settings}))
        with torch.no_grad():
            for key, p in model.named_parameters():
                if "lora_" in key or ("modules_to_save" in key and p.requires_grad) or (p.requires_grad and key.endswith("bias")):
                    p.add_(torch.randn_like(p) * 0.2)
        model.eval()
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, safe_serialization=safe)
        (folder / "README.md").unlink(missing_ok=True)
        if not safe and not (folder / "adapter_model.bin").exists():  # this PEFT writes safetensors only
            from safetensors.torch import load_file

            torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
            (folder / "adapter_model.safetensors").unlink()
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = f"../../models/{base}"
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        said = says(model, base, tok)
        merged = flat(says(model.merge_and_unload(), base, tok))
        assert max(abs(a - b) for a, b in zip(flat(said), merged)) < 1e-4, name
        assert max(abs(a - b) for a, b in zip(flat(said), plain)) > 1e-2, name  # the adapter does something
        write_json(f"lora/{name}/golden.json", {"base": base, **said})
        print(f"   {name}  {sum(f.stat().st_size for f in folder.iterdir())} bytes")
    assert MODELS.exists()
