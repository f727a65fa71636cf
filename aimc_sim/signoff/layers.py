"""Noise and saturation by matrix: of one chip at one time, told by its cell as a fact of its hardware."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.signoff.plan import Cell, Plan
from aimc_sim.signoff.tasks import Json

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware
    from aimc_sim.weightfile import WeightFile

COUNTED = 64  # tokens whose conversions are counted
DECIMALS = 2


def tells_layers(cell: Cell, plan: Plan) -> bool:
    """Whether this cell tells the layers of its hardware: the first chip's, at the last time, with the first task."""
    told = (plan.seeds[0], plan.times_s[-1], plan.tasks[0].label)
    return cell.kind == "chip" and (cell.seed, cell.time_s, cell.task) == told


def layers_of(
    model: Any,
    weight_file: WeightFile,
    hardware: Hardware,
    token_ids: npt.NDArray[np.int32],
    cell: Cell,
) -> Json:
    """SNR and saturation of every analog matrix of the chip that is mounted, on token_ids (length,).

    ``snr_db``: of the products, on the inputs that the digital model gives; None without any noise. Shares of inputs
    and conversions that clip are counted on the chip's own inputs; None where the hardware has no DAC.
    """
    from aimc_sim.evaluate.saturation import saturation_of
    from aimc_sim.evaluate.snr import decibels, layer_of, probe
    from aimc_sim.evaluate.windows import Windows
    from aimc_sim.torch_bridge import analog_matrices, load_digital

    text = Windows((np.asarray(token_ids, np.int32),))
    seen = probe(load_digital(weight_file), weight_file, hardware, text)
    clips = saturation_of(model, hardware, text, COUNTED)
    rows = []
    for matrix, ratio in zip(
        analog_matrices(weight_file, hardware), decibels(seen.noise(model)), strict=True
    ):
        found = clips.get(matrix.name)
        rows.append(
            {
                "name": matrix.name,
                "layer": layer_of(matrix.name),
                "role": matrix.role,
                "snr_db": round(float(ratio), DECIMALS) if math.isfinite(ratio) else None,
                "inputs_clipped": None if found is None else found.input_share,
                "conversions_saturated": None if found is None else found.conversion_share,
            }
        )
    return {
        "seed": cell.seed,
        "time_s": cell.time_s,
        "tokens": len(seen.rows),
        "counted_tokens": min(COUNTED, len(token_ids)),
        "matrices": rows,
    }
