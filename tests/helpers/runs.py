"""Training runs of a few steps, for the tests of the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aimc_sim.finetuning.recipe import Recipe

CHIP = {
    "name": "small chip",
    "device": "pcm-afm",
    "dac": {"bits": 8, "range": {"method": "std", "kappa": 8.0, "per": "matrix"}},
    "adc": {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 4.0}},
}
SMALL = {"base": "afm-small", "sequences": 4, "length": 16, "training": {"range_forwards": 2}}
STEP = 64  # tokens


def recipe(**changes: Any) -> Recipe:
    """Make the small recipe with changes, those of [training] laid over its own."""
    training = {**SMALL["training"], **changes.pop("training", {})}  # type: ignore[dict-item]
    return Recipe.load({**SMALL, **changes, "training": training})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a folder."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
