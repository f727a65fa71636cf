"""Noise and saturation by matrix: of one chip at one time, told by its cell as a fact of its hardware."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class MatrixNoise:
    """One analog matrix. snr_db: of its products, on the inputs that the digital model gives; None without any noise.

    inputs_clipped, conversions_saturated: shares, on the chip's own inputs; None where the hardware has no DAC.
    """

    name: str
    layer: int | None
    role: str
    snr_db: float | None
    inputs_clipped: float | None
    conversions_saturated: float | None


@dataclass(frozen=True)
class Layers:
    """Every analog matrix of one chip at one time. tokens: that products are compared on; counted_tokens: that clipping
    is counted on."""

    seed: int
    time_s: float
    tokens: int
    counted_tokens: int
    matrices: tuple[MatrixNoise, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, keys in a fixed order."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Json) -> Layers:
        """What `to_dict` gave, in whatever order of keys."""
        matrices = tuple(MatrixNoise(**row) for row in data["matrices"])
        return cls(**{**data, "matrices": matrices})


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
) -> Layers:
    """SNR and saturation of every analog matrix of the chip that is mounted, on token_ids (length,)."""
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
            MatrixNoise(
                matrix.name,
                layer_of(matrix.name),
                matrix.role,
                round(float(ratio), DECIMALS) if math.isfinite(ratio) else None,
                None if found is None else found.input_share,
                None if found is None else found.conversion_share,
            )
        )
    assert cell.seed is not None
    assert cell.time_s is not None
    return Layers(cell.seed, cell.time_s, len(seen.rows), min(COUNTED, len(token_ids)), tuple(rows))
