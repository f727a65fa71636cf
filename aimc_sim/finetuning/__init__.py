"""Training for the chip: recipes, text that the model samples itself, distillation, a trainer that resumes exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimc_sim.lazy import lazy_names

if TYPE_CHECKING:
    from aimc_sim.finetuning.options import Options as Options
    from aimc_sim.finetuning.recipe import RECIPES as RECIPES
    from aimc_sim.finetuning.recipe import Recipe as Recipe
    from aimc_sim.finetuning.run import run_training as run_training

__getattr__, __dir__, __all__ = lazy_names(__name__)  # a recipe can be read without torch
__all__.remove("run_training")  # `aimc_sim.train` now
