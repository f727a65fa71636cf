"""Tiny language models of every supported family, with the same weights on every machine."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels.normal import normals
from aimc_sim.models.families import FAMILIES
from aimc_sim.randomness import key_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCABULARY = 97
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_OWN: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "phi3": {},
    "gemma3_text": {
        "head_dim": 8,
        "sliding_window": 16,
        "query_pre_attn_scalar": 8,
        "tie_word_embeddings": True,
    },
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_inner": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    },
}


def tiny_config(family: str, **changes: Any) -> dict[str, Any]:
    """A configuration of about twenty thousand parameters. family: a key of aimc_sim.models.FAMILIES."""
    own = _OWN[family]
    return ({} if family == "gpt2" else _SHAPE) | own | {"model_type": family} | changes


def tiny_weights(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Weights that depend on nothing but the parameter's name: norms near their neutral value, matrices near 1/√K."""
    count = int(np.prod(shape))
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    z = normals(counter, key_of(zlib.crc32(name.encode()))).reshape(-1)[:count].reshape(shape)
    if len(shape) == 1:
        neutral = 1.0 if name.endswith("weight") else 0.0
        return np.asarray(neutral + 0.1 * z, np.float32)
    return np.asarray(z / np.sqrt(shape[1]), np.float32)


def tiny_model(family: str, dtype: str = "float32", **changes: Any) -> PreTrainedModel:
    """A transformers model of that family with ``tiny_weights``, in eval mode. dtype: float32, float16, bfloat16."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    if family not in FAMILIES:
        raise KeyError(family)
    config = CONFIG_MAPPING[family].from_dict(tiny_config(family, **changes))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(tiny_weights(name, tuple(parameter.shape))))
    return model.to(getattr(torch, dtype)).eval()


def save_tiny(
    folder: Path,
    family: str,
    dtype: str = "float32",
    *,
    shard_size: str = "1GB",
    tokenizer: bool = False,
    **changes: Any,
) -> PreTrainedModel:
    """Save a tiny model as a Hugging Face folder and return it. shard_size: "30KB" makes several shards."""
    model = tiny_model(family, dtype, **changes)
    model.save_pretrained(folder, max_shard_size=shard_size)
    if tokenizer:
        tiny_tokenizer().save_pretrained(folder)
    return model


def tiny_tokenizer() -> Any:
    """A word-level tokenizer over VOCABULARY tokens: <pad>, <s>, </s>, then w3, w4, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(3, VOCABULARY))]
    backend = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
