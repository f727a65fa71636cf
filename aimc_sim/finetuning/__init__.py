"""Training for the chip: recipes, text that the model samples itself, distillation, a trainer that resumes exactly."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimc_sim.finetuning.data_plan import SamplePlan as SamplePlan
    from aimc_sim.finetuning.recipe import RECIPES as RECIPES
    from aimc_sim.finetuning.recipe import Recipe as Recipe
    from aimc_sim.finetuning.run import run_training as run_training
    from aimc_sim.finetuning.shards import sample_shards as sample_shards
    from aimc_sim.finetuning.trainer import Trainer as Trainer

_HOMES = {
    "RECIPES": "recipe",
    "Recipe": "recipe",
    "SamplePlan": "data_plan",
    "run_training": "run",
    "sample_shards": "shards",
    "Trainer": "trainer",
}
__all__ = ["RECIPES", "Recipe", "SamplePlan", "Trainer", "run_training", "sample_shards"]


def __getattr__(name: str) -> Any:
    """Load on first use: a recipe can be read without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
