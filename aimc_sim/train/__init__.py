"""Training for the chip: recipes, text that the model samples itself, distillation, a trainer that resumes exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimc_sim.train.recipe import RECIPES as RECIPES
    from aimc_sim.train.recipe import Recipe as Recipe
    from aimc_sim.train.run import run_training as run_training
    from aimc_sim.train.shards import SamplePlan as SamplePlan
    from aimc_sim.train.shards import sample_shards as sample_shards
    from aimc_sim.train.trainer import Trainer as Trainer

_HOMES = {
    "RECIPES": "recipe",
    "Recipe": "recipe",
    "SamplePlan": "shards",
    "run_training": "run",
    "sample_shards": "shards",
    "Trainer": "trainer",
}
__all__ = ["RECIPES", "Recipe", "SamplePlan", "Trainer", "run_training", "sample_shards"]


def __getattr__(name: str) -> Any:
    """Load on first use: a recipe can be read without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
