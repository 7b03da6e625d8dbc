"""A GGUF file of a Hugging Face folder, by the gguf package and llama.cpp's conventions (its convert_hf_to_gguf.py):
tensor names from gguf's own map, rows of q and k interleaved for `llama`, fused q, k, v regrouped for `gptneox` and
`falcon`, GPT-2's Conv1D turned over, llama3 scaling as a tensor of divisors. Vectors and positions stay F32."""
import math

import gguf
import numpy as np
import torch
from gguf import quants
from gguf.quants import dequantize

import k_quants

ARCH = {"gpt2": "GPT2", "gptj": "GPTJ", "gpt_neox": "GPTNEOX", "falcon": "FALCON", "llama": "LLAMA", "mistral": "LLAMA",
        "qwen2": "QWEN2", "qwen3": "QWEN3"}
K_TYPES = ["Q4_K", "Q5_K", "Q6_K"]  # of rows of whole blocks of 256
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", *K_TYPES]


def quantize(w, q):
    return k_quants.quantize(w, q.name) if q.name in K_TYPES else quants.quantize(w, q)


def cannot(config):
    """What GGUF has no words for, or None."""
    rope = getattr(config, "rope_parameters", None) or {}
    if getattr(config, "alibi", False) or not getattr(config, "parallel_attn", True):
        return "GGUF's falcon is rotary and parallel"
    if rope.get("rope_type") == "dynamic":
        return "GGUF has no dynamic scaling"
    if not rope.get("truncate", True):
        return "GGUF's yarn is truncated"
    if getattr(config, "use_sliding_window", False):
        return "GGUF's qwen2 has no windows"
    if config.model_type == "gpt_neox" and config.hidden_act != "gelu":
        return "GGUF's gptneox has one activation"
    return None


def interleave(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def regroup(w, heads, kv_heads):
    D = w.shape[0] // (heads + 2 * kv_heads)
    view = w.reshape(kv_heads, heads // kv_heads + 2, D, *w.shape[1:])
    parts = [view[:, :-2], view[:, [-2]], view[:, [-1]]]
    return np.concatenate([p.reshape(-1, *w.shape[1:]) for p in parts])


def arrange(config, name, w):
    """A tensor as GGUF has it."""
    A = config.num_attention_heads
    if config.model_type in ("llama", "mistral") and ".q_proj." in name:
        return interleave(w, A)
    if config.model_type in ("llama", "mistral") and ".k_proj." in name:
        return interleave(w, config.num_key_value_heads)
    if config.model_type == "gpt_neox" and "query_key_value" in name:
        return regroup(w, A, A)
    if config.model_type == "falcon" and "query_key_value" in name:
        return regroup(w, A, config.num_kv_heads if config.new_decoder_architecture else 1 if config.multi_query else A)
    return w


def is_conv(config, name):
    return config.model_type == "gpt2" and name.endswith("weight") and any(f".{x}." in name for x in ("c_attn", "c_proj", "c_fc"))


def types(kind, tensors):
    """The type that each tensor is written in."""
    keep = gguf.GGMLQuantizationType["F32"]
    return {name: keep if t.ndim == 1 or "wpe" in name else gguf.GGMLQuantizationType[kind] for name, t in tensors.items()}


def rounded(config, tensors, types):
    """The tensors' values after a trip through their types: what the file holds, as transformers lays it out."""
    out = {}
    for name, t in tensors.items():
        w = t.float().numpy()
        w = np.ascontiguousarray(w.T) if is_conv(config, name) else w
        q = types[name]
        w = dequantize(quantize(w, q), q) if q != gguf.GGMLQuantizationType.F32 else w
        out[name] = torch.from_numpy(np.ascontiguousarray(w.T if is_conv(config, name) else w))
    return out


def add_keys(writer, config):
    rope = getattr(config, "rope_parameters", None) or {}
    A, H = config.num_attention_heads, config.hidden_size
    D = getattr(config, "head_dim", None) or H // A
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(H)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(next(getattr(config, k) for k in ("intermediate_size", "ffn_hidden_size", "n_inner") if hasattr(config, k)))
    writer.add_head_count(A)
    kv = getattr(config, "num_key_value_heads", None)
    if config.model_type == "falcon":
        writer.add_tensor_data_layout("jploski")
        kv = config.num_kv_heads if config.new_decoder_architecture else 1
    if kv:
        writer.add_head_count_kv(kv)
    if D * A != H:
        writer.add_key_length(D)
        writer.add_value_length(D)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(getattr(config, "layer_norm_eps", None) or config.layer_norm_epsilon)
    if config.model_type == "gpt_neox":
        writer.add_parallel_residual(config.use_parallel_residual)
        writer.add_rope_dimension_count(int(D * rope["partial_rotary_factor"]))
    if config.model_type == "gptj":
        writer.add_rope_dimension_count(config.rotary_dim)
    if config.model_type in ("llama", "mistral", "qwen2", "qwen3"):
        writer.add_rope_dimension_count(D)
    if "rope_theta" in rope:
        writer.add_rope_freq_base(rope["rope_theta"])
    if rope.get("rope_type") in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if config.model_type == "mistral":
        writer.add_sliding_window(config.sliding_window)
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, D))


def llama3_divisors(rope, D):
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    out = []
    for i in range(D // 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (2 * i / D)
        if wavelength < high:
            out.append(1)
        elif wavelength > low:
            out.append(rope["factor"])
        else:
            smooth = (rope["original_max_position_embeddings"] / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"])
            out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def add_tokenizer(writer, tok):
    state = tok.backend_tokenizer
    tokens = [state.id_to_token(i) for i in range(state.get_vocab_size())]
    special = set(tok.all_special_ids)
    import json

    merges = [" ".join(m) if isinstance(m, list) else m for m in json.loads(state.to_str())["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tok.bos_token_id)
    writer.add_eos_token_id(tok.eos_token_id)
    writer.add_pad_token_id(tok.pad_token_id)
    writer.add_add_bos_token(True)


def gguf_names(config, tensors):
    """{name: GGUF's name} of the tensors that are written: tied ones once."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[ARCH[config.model_type]], config.num_hidden_layers)
    found = {n: names.get_name(n, try_suffixes=(".weight", ".bias")) for n in tensors}
    assert all(found.values()), found
    return {n: to for n, to in found.items() if not (to == "output.weight" and config.tie_word_embeddings)}


def write(path, config, tensors, types, tok):
    """tensors: as saved by transformers, {name: torch tensor}."""
    arch = gguf.MODEL_ARCH[ARCH[config.model_type]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    add_keys(writer, config)
    add_tokenizer(writer, tok)
    for name, to in gguf_names(config, tensors).items():
        w = tensors[name].float().numpy()
        w = np.ascontiguousarray(w.T) if is_conv(config, name) else arrange(config, name, w)
        q = types[name]
        writer.add_tensor(to, quantize(w, q), raw_dtype=None if q in (0, 1) else q)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
