"""The model that learns: converted to analog layers at the start, and back to a plain folder at the end."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from aimc_sim.files import write_whole
from aimc_sim.finetuning.adapters import add_adapter, save_adapter
from aimc_sim.finetuning.models import load_plain, save_folder
from aimc_sim.finetuning.settings import Run, chip_of
from aimc_sim.models import Checkpoint
from aimc_sim.torch_bridge.training.clipping import clip_weights
from aimc_sim.torch_bridge.training.conversion import convert, learned_ranges, restore
from aimc_sim.torch_bridge.training.mounted import round_weights
from aimc_sim.torch_bridge.training.ranges import initialise_ranges
from aimc_sim.torch_bridge.training.steps import set_step

# On a CPU the backward pass of torch's fused attention takes 2.4 times as long as plain products on rows of 128 tokens,
# and half as long on rows of 512 (torch 2.13, heads of 8).
SHORT_ROWS = 160
LAST_EVENT = (1 << 32) - 1


def build_student(
    run: Run, opened: Checkpoint, device: torch.device, ranges: Any = None, forwards: int = 1
) -> Any:
    """Build the checkpoint with analog layers, clipped once, with the recipe's adapter if it has one; ranges not yet
    begun.

    ranges: calibrated full scales for hardware that does not use lambda's rule. forwards: of one step, whose gradients
    add up: each has its share of the ranges' decay.
    """
    recipe = run.recipe
    model = load_plain(opened).to(device)
    training = recipe.training.model_copy(update={"range_decay": recipe.training.range_decay / forwards})
    model = convert(model, chip_of(recipe, run.hardware), training, ranges=ranges, seed=run.seed)
    if device.type == "cpu" and recipe.length <= SHORT_ROWS:
        model.set_attn_implementation("eager")
    if recipe.adapter is not None:
        add_adapter(model, recipe.adapter, run.seed)
    if recipe.training.clip_sigma is not None:
        clip_weights(model)
    return model


def begin_ranges(model: Any, batches: Iterable[torch.Tensor], seed: int) -> None:
    """Begin the static input ranges on these token ids, (rows, length) a forward, without gradient.

    Each forward has noise of its own, named from the last event downwards: training counts upwards from 1.
    """
    events = itertools.count(LAST_EVENT, -1)

    def forward(module: Any, ids: torch.Tensor) -> None:
        set_step(module, next(events), seed=seed)
        module(input_ids=ids, use_cache=False)

    model.train()
    initialise_ranges(model, batches, run=forward)


def save_trained(
    folder: Path,
    run: Run,
    opened: Checkpoint,
    trained: Any,
    weights: dict[str, torch.Tensor],
    ranges: Any = None,
) -> None:
    """Write the trained model as a plain Hugging Face folder with its ranges and specs.

    trained: the converted model. weights: its whole state dict, or what shall stand in its place (an average); written
    on their steps where the recipe has weight_bits. hardware.toml: the chip with the converters that the recipe trained
    with. With an adapter the base is written as it was, and the adapter in a folder of its own, as peft writes it.
    """
    recipe, chip = run.recipe, chip_of(run.recipe, run.hardware)
    plain = convert(load_plain(opened), chip, recipe.training, ranges=ranges)
    if recipe.adapter is None:
        plain.load_state_dict(weights)
        if recipe.training.clip_sigma is not None and recipe.average is not None:
            clip_weights(plain)  # an average of clipped weights spreads less, so its own bound is tighter
        round_weights(plain)
        source = plain
    else:
        save_adapter(folder, trained)
        source = trained
    input_ranges = {
        name: [float(value) for value in item.input_range.reshape(-1)]
        for name, item in learned_ranges(source).items()
        if item.input_range is not None
    }
    restore(plain)
    specs = {
        "hardware": run.hardware.model_dump(mode="json"),
        "run": run.model_dump(mode="json"),
        "run_id": run.id,
    }
    save_folder(folder, plain, opened, input_ranges, specs)
    write_whole(folder / "hardware.toml", chip.to_toml())
