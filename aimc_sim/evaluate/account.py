"""What every run says about itself: which products were analog, in which arithmetic, and what to keep in mind."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.calibrate.ranges import derived_lambdas
from aimc_sim.chip import ChipState
from aimc_sim.chip.ranges import Ranges
from aimc_sim.hardware import Hardware, LambdaRule
from aimc_sim.kernels import tile_engine
from aimc_sim.torch_bridge.coverage import Coverage, coverage
from aimc_sim.torch_bridge.linear import TileLinear
from aimc_sim.torch_bridge.model import build_model
from aimc_sim.torch_bridge.streaming import StreamedModel, release_layers
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import is_analog

COVERAGE_TOKENS = 32


def digital_names(weight_file: WeightFile, hardware: Hardware) -> frozenset[str]:
    """List the matrices that the hardware's placement runs digitally by choice."""
    return frozenset(matrix.name for matrix in weight_file.matrices if not is_analog(matrix, hardware))


def coverage_of(
    model: Any,
    weight_file: WeightFile,
    hardware: Hardware,
    token_ids: npt.NDArray[np.integer[Any]] | list[int],
) -> Coverage:
    """Run one forward of the mounted model over the first tokens of token_ids (length,), every product accounted for.

    Of a streamed model, whose tiles are not there all at once, the same forward with products of zeros: which products
    there are does not depend on their values.
    """
    ids = torch.from_numpy(np.asarray(token_ids[:COVERAGE_TOKENS], np.int64))[None]
    if isinstance(model, StreamedModel):
        model = _without_chip(weight_file, hardware)
    return coverage(model, ids, digital=digital_names(weight_file, hardware))


def _without_chip(weight_file: WeightFile, hardware: Hardware) -> Any:
    """Load the model for a hardware with analog layers that give zeros."""
    mine = WeightFile(weight_file.path)
    model = build_model(mine, hardware)
    release_layers(model, mine)

    def zeros(cols: int) -> Any:
        return lambda x: x.new_zeros(*x.shape[:-1], cols)

    for module in model.modules():
        if isinstance(module, TileLinear):
            module.forward = zeros(module.out_features)  # type: ignore[method-assign]
    return model


def arithmetic(hardware: Hardware) -> str:
    """Name the arithmetic of the tiles' products: exact integers and their engine, or float32 and why."""
    if hardware.uses_integers:
        return f"exact integers, engine {tile_engine.name()}"
    if hardware.dac is None:
        return "float32, because the hardware has no DAC"
    if hardware.tile.weight_grid != "int16":
        return f"float32, because tile.weight_grid is {hardware.tile.weight_grid}"
    return f"float32, because DAC codes of {hardware.dac.bits} bits do not fit int8"


def notes_on(hardware: Hardware, ranges: Ranges | None = None) -> list[str]:
    """Say what a reader of figures from this hardware should know. ranges: those of its chips, for what they
    derived.
    """
    rule, rows = None if hardware.adc is None else hardware.adc.full_scale, hardware.tile.rows
    if not isinstance(rule, LambdaRule):
        return []
    if rule.derive is None and rows is not None:
        return [
            f"the ADC's λ of {rule.lambda_:g} was tuned for untiled columns; "
            f'with tiles of {rows} rows it must be derived again: full_scale.derive = "model"'
        ]
    if rule.derive is None:
        return []
    values = sorted(set(derived_lambdas(hardware, ranges or {}).values()))
    shown = f": {values[0]:.3g}" if values else ""
    if len(values) > 1:
        shown = f", one a matrix: {values[0]:.3g} to {values[-1]:.3g}, in the middle {values[len(values) // 2]:.3g}"
    tall = "untiled columns" if rows is None else f"tiles of {rows} rows"
    return [
        f"the ADC's λ was derived again, for {tall}, by calibration{shown}; the checkpoint's was {rule.lambda_:g}"
    ]


def account_of(
    model: Any, state: ChipState, token_ids: npt.NDArray[np.integer[Any]] | list[int]
) -> dict[str, Any]:
    """Return ``coverage`` (summary and shares), ``arithmetic`` and ``notes``, JSON-ready, of a model with this chip."""
    chip = state.chip
    covered = coverage_of(model, chip.weight_file, chip.hardware, token_ids)
    return {
        "coverage": {
            "summary": covered.summary(),
            "analog_share": covered.analog_share,
            "static_share": covered.static_share,
            "tokens": covered.tokens,
        },
        "arithmetic": arithmetic(chip.hardware),
        "notes": notes_on(chip.hardware, chip.ranges),
    }
