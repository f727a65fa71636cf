"""Low-rank digital adapters beside frozen analog matrices, by peft."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aimc_sim.finetuning.models import require
from aimc_sim.finetuning.recipe import Adapter
from aimc_sim.kernels.normal import normals
from aimc_sim.models.hf_folder import ADAPTER
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.torch_bridge.training.conversion import analog_layers

INIT_PLANE = 2  # of stream TEXT: word 2 the number of the adapter, word 0 four of its entries


def add_adapter(model: Any, spec: Adapter, seed: int) -> None:
    """Freeze a converted model and put an adapter beside each analog layer, in place. B begins at 0, A at N(0, 1/K)."""
    peft = require("peft", "the recipe's adapter")
    from peft.tuners.lora.layer import Linear as LoraLinear

    layers = analog_layers(model)
    model.requires_grad_(False)
    kind = type(next(iter(layers.values())))
    config = peft.LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, lora_dropout=0.0, bias="none", target_modules=sorted(layers)
    )
    config._register_custom_module({kind: LoraLinear})
    with warnings.catch_warnings():
        # peft warns of every class that it does not know by name; this one is a Linear to it in all that it asks for.
        warnings.filterwarnings("ignore", message="Unsupported layer type")
        peft.inject_adapter_in_model(config, model)
    model.peft_config = {"default": config}
    number = 0
    for name, value in model.named_parameters():
        if ".lora_A." in name:
            with torch.no_grad():
                value.copy_(_normals(tuple(value.shape), number, seed) / value.shape[1] ** 0.5)
            number += 1
        elif ".input_range." in name:
            value.requires_grad_(True)


def save_adapter(folder: Path, model: Any) -> Path:
    """Write the adapter as peft does: ``adapter/adapter_model.safetensors`` and its configuration."""
    peft = require("peft", "the recipe's adapter")
    from safetensors.torch import save_file

    where = folder / ADAPTER
    where.mkdir(parents=True, exist_ok=True)
    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    named = {
        f"base_model.model.{name}": value.detach().cpu().contiguous().clone() for name, value in state.items()
    }
    save_file(named, where / "adapter_model.safetensors", metadata={"format": "pt"})
    model.peft_config["default"].save_pretrained(where)
    return where


def _normals(shape: tuple[int, ...], number: int, seed: int) -> torch.Tensor:
    count = int(np.prod(shape))
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    counter[:, 2] = number
    counter[:, 3] = site_word(Stream.TEXT, 0, INIT_PLANE)
    return torch.from_numpy(normals(counter, key_of(seed)).ravel()[:count].reshape(shape).copy())
