"""A language model of a few thousand weights, made here: no download, the same weights on every machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of

VOCABULARY = 258  # 256 bytes, BOS, EOS


def write_checkpoint(folder: Path, seed: int = 1) -> Path:
    """A two-layer Llama with a byte-level tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=256,
        eos_token_id=257,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for ordinal, (name, parameter) in enumerate(model.named_parameters()):
            if parameter.ndim == 1:  # norms stay at one
                continue
            counter = np.zeros((-(-parameter.numel() // 4), 4), np.uint32)
            counter[:, 0], counter[:, 1] = np.arange(len(counter)), ordinal
            z = normals(counter, key_of(seed)).ravel()[: parameter.numel()].reshape(parameter.shape)
            scale = 0.5 if "embed" in name else 1.0
            parameter.copy_(torch.from_numpy(z) * (scale / parameter.shape[1] ** 0.5))
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Bytes as tokens 0 to 255, then BOS and EOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)} | {"<s>": 256, "</s>": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
