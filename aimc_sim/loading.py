"""The whole road in one call: weight file, seed and time → a transformers model on the simulated chip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.torch_bridge.model import build_model, mount
from aimc_sim.weightfile import WeightFile

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_model(
    weight_file: WeightFile | str | os.PathLike[str],
    *,
    seed: int = 0,
    time_s: float = 0.0,
    hardware: Hardware | str | Path | dict[str, Any] | None = None,
    session: int = 0,
) -> PreTrainedModel:
    """A transformers causal language model whose static matrix products run on one chip at one time.

    seed: the chip. time_s: seconds since programming. hardware: a preset's name, a TOML file, tables or a Hardware;
    None for the weight file's default. session: which draw of the frozen 1/f noise.
    """
    opened = weight_file if isinstance(weight_file, WeightFile) else WeightFile(weight_file)
    state = program(opened, seed, hardware).at(time_s, session)
    model = build_model(opened, state.chip.hardware)
    mount(model, state)
    return model
