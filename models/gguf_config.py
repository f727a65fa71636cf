"""Rebuilds config.json from the metadata of a GGUF file, one architecture at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from aimc_sim.errors import BadInput
from aimc_sim.models.gguf_header import GgufHeader

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
# Llama 3's rotary rule, the only one that llama.cpp stores as a table instead of its parameters.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

Key = Callable[..., Any]


def config_from(header: GgufHeader, rope_table: Callable[[str], list[float]]) -> dict[str, Any]:
    """Return the Hugging Face configuration of a GGUF file. rope_table: reads a tensor of rotary factors by name.

    Raises BadInput for an unknown architecture, a missing key, or a rotary scaling that cannot be expressed.
    """
    architecture = header.metadata.get("general.architecture")
    if architecture not in _CLASSES:
        raise BadInput(
            "architecture of the GGUF file",
            got=architecture,
            why="its tensors are not known here",
            do=f"use one of: {', '.join(_CLASSES)} (llama covers Mistral and SmolLM2)",
        )

    def key(name: str, *default: Any) -> Any:
        value = header.metadata.get(f"{architecture}.{name}", *default)
        if value is None and not default:
            raise BadInput(
                f"{architecture}.{name}",
                why="the GGUF file does not state it",
                do="convert the model again with a current llama.cpp",
            )
        return _shortest(value) if isinstance(value, float) else value

    if "token_embd.weight" not in header.tensors:
        raise BadInput("token_embd.weight", why="the GGUF file holds no embedding", do="download it again")
    tokens = {
        f"{role}_token_id": header.metadata.get(f"tokenizer.ggml.{name}_token_id")
        for role, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    common = {
        "model_type": "gemma3_text" if architecture == "gemma3" else architecture,
        "architectures": [_CLASSES[architecture]],
        "vocab_size": header.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in header.tensors,
        **tokens,
    }
    return common | (
        _gpt2(key) if architecture == "gpt2" else _decoder(architecture, key, header, rope_table)
    )


def _gpt2(key: Key) -> dict[str, Any]:
    return {
        "n_layer": key("block_count"),
        "n_positions": key("context_length"),
        "n_ctx": key("context_length"),
        "n_embd": key("embedding_length"),
        "n_inner": key("feed_forward_length"),
        "n_head": key("attention.head_count"),
        "layer_norm_epsilon": key("attention.layer_norm_epsilon"),
    }


def _decoder(
    architecture: str, key: Key, header: GgufHeader, rope_table: Callable[[str], list[float]]
) -> dict[str, Any]:
    heads, hidden = key("attention.head_count"), key("embedding_length")
    head_dim = key("attention.key_length", None) or hidden // heads
    config: dict[str, Any] = {
        "max_position_embeddings": key("context_length"),
        "num_hidden_layers": key("block_count"),
        "hidden_size": hidden,
        "intermediate_size": key("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": key("attention.head_count_kv", heads),
        "rms_norm_eps": key("attention.layer_norm_rms_epsilon"),
        "rope_theta": key("rope.freq_base", 10000.0),
    }
    scaling = _rope_scaling(key, header, head_dim, config, rope_table)
    if scaling is not None:
        config["rope_scaling"] = scaling
    if architecture != "phi3":
        config["head_dim"] = head_dim
    if architecture in ("llama", "qwen3"):
        config["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
    if architecture == "llama":
        config["mlp_bias"] = "blk.0.ffn_gate.bias" in header.tensors
    if architecture == "phi3":
        window = key("attention.sliding_window", None)
        config["sliding_window"] = window or None
        config["original_max_position_embeddings"] = key(
            "rope.scaling.original_context_length", config["max_position_embeddings"]
        )
        config["partial_rotary_factor"] = key("rope.dimension_count", head_dim) / head_dim
    if architecture == "gemma3":
        config["sliding_window"] = key("attention.sliding_window")
        config["rope_local_base_freq"] = key("rope.freq_base_swa", 10000.0)
        # Only the 27B model scales by its width per head; llama.cpp tells it by its 62 layers, as we do.
        config["query_pre_attn_scalar"] = hidden // heads if config["num_hidden_layers"] == 62 else head_dim
    return config


def _rope_scaling(
    key: Key,
    header: GgufHeader,
    head_dim: int,
    config: dict[str, Any],
    rope_table: Callable[[str], list[float]],
) -> dict[str, Any] | None:
    original = key("rope.scaling.original_context_length", config["max_position_embeddings"])
    if "rope_freqs.weight" in header.tensors:
        return _llama3_scaling(rope_table("rope_freqs.weight"), head_dim, config["rope_theta"])
    if "rope_factors_long.weight" in header.tensors:
        return {
            "rope_type": "longrope",
            "long_factor": rope_table("rope_factors_long.weight"),
            "short_factor": rope_table("rope_factors_short.weight"),
        }
    kind = key("rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": key("rope.scaling.factor")}
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": key("rope.scaling.factor"),
            "original_max_position_embeddings": original,
        }
    raise BadInput(
        "rope.scaling.type",
        got=kind,
        why="this rotary scaling is not known here",
        do="export from the Hugging Face folder of the model instead",
    )


def _llama3_scaling(table: list[float], head_dim: int, theta: float) -> dict[str, Any]:
    """Return the parameters that produce a table of frequency divisors; refused when the known rule does not."""
    factor = max(table)
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    turns = [
        _LLAMA3["original_max_position_embeddings"] / (2 * math.pi * theta ** (2 * i / head_dim))
        for i in range(head_dim // 2)
    ]
    smooth = [min(max((turn - low) / (high - low), 0.0), 1.0) for turn in turns]
    expected = [1 / ((1 - s) / factor + s) for s in smooth]
    if len(table) != len(expected) or not np.allclose(table, expected, rtol=1e-4):
        raise BadInput(
            "rope_freqs.weight",
            why="its rotary factors do not follow the Llama 3 rule",
            do="export from the Hugging Face folder of the model instead",
        )
    return {"rope_type": "llama3", "factor": _shortest(factor), **_LLAMA3}


def _shortest(value: float) -> float:
    """Return a float32 read from the file, as the decimal that somebody once wrote:
    1e-05, not 9.999999747378752e-06.
    """
    return float(str(np.float32(value)))
