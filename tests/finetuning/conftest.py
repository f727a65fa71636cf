"""Data and runs that the tests of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import aimc_sim
from aimc_sim.finetuning.options import Options, Outcome
from aimc_sim.finetuning.recipe import Recipe
from aimc_sim.finetuning.shards import sample_shards
from helpers.runs import CHIP, STEP, recipe


@pytest.fixture(scope="module")
def data(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aimc_sim.finetuning.models import load_plain, open_for_training
    from aimc_sim.finetuning.sampler import plan_for

    model = load_plain(open_for_training(tiny_checkpoint)).eval()
    folder = tmp_path_factory.mktemp("data")
    sample_shards(model, folder, plan_for(model, length=16, sequences=24, batch=24), 2)
    return folder


@pytest.fixture
def train(tiny_checkpoint: Path, data: Path) -> Any:
    def go(output: Path, chosen: Recipe, steps: int, **more: Any) -> Outcome:
        options = Options(log_every=1, tensorboard=False, **more.pop("options", {}))
        return aimc_sim.train(
            tiny_checkpoint, output, recipe=chosen, hardware=more.pop("hardware", CHIP), data=more.pop("data", data),
            tokens=steps * STEP, chips=more.pop("chips", 1), options=options, **more,
        )  # fmt: skip

    return go


@pytest.fixture(scope="module")
def trained(tiny_checkpoint: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps of the small recipe, averaged."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    aimc_sim.train(
        tiny_checkpoint, folder, recipe=recipe(average=0.9), hardware=CHIP, data=data, tokens=8 * STEP,
        chips=2, evaluate_every=4, options=Options(log_every=1, tensorboard=False),
    )  # fmt: skip
    return folder
