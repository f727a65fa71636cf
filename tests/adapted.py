"""A checkpoint with a low-rank adapter beside every matrix, as the recipe `digital-lora` leaves it, but untrained."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

CHIP = {"name": "cells", "device": "ideal"}


def add(folder: Path, rank: int = 4, alpha: float = 6.0) -> Path:
    """Put ``adapter/`` and ``analog.json`` into a Hugging Face folder. B is as large as A, so that it shows."""
    import torch

    from aimc_sim.finetuning.adapters import add_adapter, save_adapter
    from aimc_sim.finetuning.models import load_plain
    from aimc_sim.finetuning.recipe import Adapter
    from aimc_sim.models import open_checkpoint
    from aimc_sim.torch_bridge import Training, convert
    from helpers.tiny_models import tiny_weights

    model = convert(load_plain(open_checkpoint(folder)), CHIP, Training(noise=None))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`is_gradient_checkpointing`"
        )  # peft asks transformers for it
        add_adapter(model, Adapter(rank=rank, alpha=alpha), 0)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if ".lora_B." in name:
                    value.copy_(torch.from_numpy(tiny_weights(name, tuple(value.shape))) * 0.3)
        save_adapter(folder, model)
    (folder / "analog.json").write_text(json.dumps({"ranges": {}}), encoding="utf-8")
    return folder


def by_peft(folder: Path) -> Any:
    """The model and its adapter as peft loads them, float32; not merged."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers' Conv1D, of a tied head
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return PeftModel.from_pretrained(model, folder / "adapter").eval()
