"""What every run says about itself: which products were analog, in which arithmetic, and what to keep in mind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.chip.ranges import Ranges
from aimc_sim.hardware import Hardware, LambdaRule

if TYPE_CHECKING:
    from aimc_sim.torch_bridge.coverage import Coverage
    from aimc_sim.weightfile import WeightFile

COVERAGE_TOKENS = 32


def digital_names(weight_file: WeightFile, hardware: Hardware) -> frozenset[str]:
    """Matrices that the hardware's placement runs digitally by choice."""
    # late: torch takes seconds to load, and reports are written without it
    from aimc_sim.weightfile.analog import is_analog

    return frozenset(matrix.name for matrix in weight_file.matrices if not is_analog(matrix, hardware))


def coverage_of(
    model: Any,
    weight_file: WeightFile,
    hardware: Hardware,
    token_ids: npt.NDArray[np.integer[Any]] | list[int],
) -> Coverage:
    """One forward of the mounted model over the first tokens of token_ids (length,), every product accounted for.

    Of a streamed model, whose tiles are not there all at once, the same forward with products of zeros: which products
    there are does not depend on their values.
    """
    # late: torch takes seconds to load, and reports are written without it
    from aimc_sim.torch_bridge.coverage import coverage
    from aimc_sim.torch_bridge.streaming import StreamedModel

    ids = torch.from_numpy(np.asarray(token_ids[:COVERAGE_TOKENS], np.int64))[None]
    if isinstance(model, StreamedModel):
        model = _without_chip(weight_file, hardware)
    return coverage(model, ids, digital=digital_names(weight_file, hardware))


def _without_chip(weight_file: WeightFile, hardware: Hardware) -> Any:
    """The model for a hardware with analog layers that give zeros."""
    # late: torch takes seconds to load, and reports are written without it
    from aimc_sim.torch_bridge.linear import TileLinear
    from aimc_sim.torch_bridge.model import build_model
    from aimc_sim.torch_bridge.streaming import release_layers
    from aimc_sim.weightfile import WeightFile

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
    """The arithmetic of the tiles' products: exact integers and their engine, or float32 and why."""
    if hardware.uses_integers:
        # late: torch takes seconds to load, and reports are written without it
        from aimc_sim.kernels import tile_engine

        return f"exact integers, engine {tile_engine.name()}"
    if hardware.dac is None:
        return "float32, because the hardware has no DAC"
    if hardware.tile.weight_grid != "int16":
        return f"float32, because tile.weight_grid is {hardware.tile.weight_grid}"
    return f"float32, because DAC codes of {hardware.dac.bits} bits do not fit int8"


def notes_on(hardware: Hardware, ranges: Ranges | None = None) -> list[str]:
    """What a reader of figures from this hardware should know. ranges: those of its chips, for what they derived."""
    rule = None if hardware.adc is None else hardware.adc.full_scale
    if isinstance(rule, LambdaRule) and rule.derive is not None:
        # late: torch takes seconds to load, and reports are written without it
        from aimc_sim.calibrate.ranges import derived_lambdas

        values = sorted(set(derived_lambdas(hardware, ranges or {}).values()))
        found = f": {values[0]:.3g}" if values else ""
        if len(values) > 1:
            found = f", one a matrix: {values[0]:.3g} to {values[-1]:.3g}, in the middle {values[len(values) // 2]:.3g}"
        tall = "untiled columns" if hardware.tile.rows is None else f"tiles of {hardware.tile.rows} rows"
        return [
            f"the ADC's λ was derived again, for {tall}, by calibration{found}; the checkpoint's was {rule.lambda_:g}"
        ]
    if (
        hardware.tile.rows is not None
        and hardware.adc is not None
        and isinstance(hardware.adc.full_scale, LambdaRule)
    ):
        return [
            f"the ADC's λ of {hardware.adc.full_scale.lambda_:g} was tuned for untiled columns; "
            f'with tiles of {hardware.tile.rows} rows it must be derived again: full_scale.derive = "model"'
        ]
    return []


def account_of(
    model: Any,
    weight_file: WeightFile,
    hardware: Hardware,
    token_ids: npt.NDArray[np.integer[Any]] | list[int],
) -> dict[str, Any]:
    """JSON-ready: ``coverage`` (summary and shares), ``arithmetic`` and ``notes`` of a model mounted on a chip."""
    found = coverage_of(model, weight_file, hardware, token_ids)
    ranges: Ranges | None = None
    adc = hardware.adc
    if adc is not None and isinstance(adc.full_scale, LambdaRule) and adc.full_scale.calibrated:
        # late: torch takes seconds to load, and reports are written without it
        from aimc_sim.calibrate import ranges_for

        ranges = ranges_for(weight_file, hardware)  # known already: the chip that is mounted has them
    return {
        "coverage": {
            "summary": found.summary(),
            "analog_share": found.analog_share,
            "static_share": found.static_share,
            "tokens": found.tokens,
        },
        "arithmetic": arithmetic(hardware),
        "notes": notes_on(hardware, ranges),
    }
