"""From weight file and seed to a chip, and to a model that runs on it.

Converters are calibrated first where the hardware asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.aliases import Progress
from aimc_sim.chip import Chip
from aimc_sim.chip.fault_sites import mapped_faults
from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.ranges import Ranges, needs_ranges
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, fault_map
from aimc_sim.renames import renamed_arguments
from aimc_sim.weightfile import WeightFile

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def program(
    weight_file: WeightFile | str | os.PathLike[str],
    seed: int,
    hardware: Hardware | str | Path | Mapping[str, Any] | None = None,
    *,
    ranges: Ranges | None = None,
    progress: Progress | None = None,
) -> Chip:
    """Program a chip: a pure function of (weight file, hardware, seed).

    seed: 0 … 2^64-1. hardware: a preset's name, a TOML file, tables or a Hardware; None for the file's default.
    ranges: converter ranges per matrix; None derives those that the hardware needs from the stored calibration text
    (once per weight file and converter design: they are cached). Tiles are computed when they are asked for.

    >>> import aimc_sim
    >>> chip = aimc_sim.program("model.h5", seed=7, hardware="hermes-256")
    >>> chip.at("1d").matrix(chip.weight_file.matrices[0].name).effective_weights().shape
    (64, 64)
    """
    opened = WeightFile.of(weight_file)
    chosen = opened.hardware if hardware is None else Hardware.load(hardware)
    for transform in chosen.transform or ():
        if not any(transform.applies(matrix.name, matrix.role) for matrix in opened.matrices):
            raise BadInput(
                "transform",
                got={"matrices": list(transform.matrices), "roles": transform.roles},
                why="no matrix of this model has such a name and role",
                do="aimc-sim inspect shows their names; a pattern may hold * and ?",
            )
    if chosen.faults is not None and chosen.faults.map is not None:
        found = fault_map.recall(chosen.faults.map.source, chosen.faults.map.sha256)
        found.check_names({matrix.name for matrix in opened.matrices})
        for matrix in opened.matrices:
            held = chosen.of_matrix(matrix.name)
            mapped_faults(held, tile_map(matrix.rows, matrix.cols, held.tile), matrix.name)
    if ranges is None and needs_ranges(chosen):
        # late: torch takes seconds to load, and many chips need no calibration
        from aimc_sim.calibrate import ranges_for

        ranges = ranges_for(opened, chosen, progress)
    return Chip(opened, chosen, seed, ranges or {})


@renamed_arguments(time_s="time")
def load_model(
    weight_file: WeightFile | str | os.PathLike[str],
    *,
    seed: int = 0,
    time: float | str = 0.0,
    hardware: Hardware | str | Path | Mapping[str, Any] | None = None,
    session: int = 0,
    ranges: Ranges | None = None,
    progress: Progress | None = None,
) -> PreTrainedModel:
    """Load a transformers causal language model whose static matrix products run on one chip at one time.

    time: since programming, seconds or a text such as "1d". session: which draw of the frozen 1/f noise. seed,
    hardware, ranges and progress are those of `program`.

    >>> import aimc_sim, torch
    >>> model = aimc_sim.load_model("model.h5", seed=7, time="1d")
    >>> with torch.no_grad():
    ...     model(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 258])
    """
    # late: torch takes seconds to load, and chips are programmed without it
    from aimc_sim.torch_bridge.model import build_model, mount

    opened = WeightFile.of(weight_file)
    state = program(opened, seed, hardware, ranges=ranges, progress=progress).at(time, session)
    model = build_model(opened, state.chip.hardware)
    mount(model, state)
    return model
