"""How busy the cells are: the mean of drive × G/g_max over a matrix, measured on a weight file or assumed Gaussian.

Energy of an array is V²·t·Σ_i d_i·ΣG_i with d = (q/n)² for amplitudes, |q|/n for pulse widths, Σ_k (slice_k/largest)²
for slices that are read one by one, and ΣG_i the conductances of a row, both polarities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, F64
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, StaticRange
from aimc_sim.kernels.converters import dac_reference, token_range_reference
from aimc_sim.kernels.reads import slice_count
from aimc_sim.sizing.cost.designs import PULSES, Designs, crest

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile

TOKENS = 256  # of the calibration text that activity is measured on, spread evenly
_TEXT = 4096  # tokens that a static maximum is taken over, where inputs are assumed Gaussian
Key = tuple[str, int, int, int]  # matrix, tile rows, DAC bits, slice bits


def drive(
    codes: npt.NDArray[np.int64], levels: int, mode: str, slice_bits: int = 1, offset: bool = False
) -> F64:
    """Compute what a code asks of a cell, as a share of one read at full input: d of the module's formula. codes: any
    shape.

    offset: slices of code + levels + 1 instead of the code's magnitude.
    """
    size = np.abs(codes)
    if mode in PULSES:
        return np.asarray(size / levels)
    if mode == "amplitude":
        return np.asarray((size / levels) ** 2)
    if offset:
        size = codes + (levels + 1)
    count = slice_count(2 * levels + 1 if offset else levels, slice_bits)
    mask = (1 << slice_bits) - 1
    parts = [((size >> (slice_bits * k)) & mask) / mask for k in range(count)]
    return np.asarray(sum(part**2 for part in parts))


@lru_cache(maxsize=256)
def _gaussian_drive(mode: str, bits: int, slice_bits: int, offset: bool) -> tuple[F64, F64]:
    """Compute the mean drive of Gaussian inputs at crest factors (β in standard deviations) from 1.5 to 40."""
    levels = 2 ** (bits - 1) - 1
    codes = np.arange(-levels, levels + 1)
    value = drive(codes, levels, mode, slice_bits, offset)
    grid = np.geomspace(1.5, 40, 24)
    edges = (np.arange(-levels, levels) + 0.5) / levels
    table = []
    for c in grid:
        below = (
            np.array([0.5 * math.erfc(-edge * c / math.sqrt(2)) for edge in edges])
            if levels <= 1024
            else None
        )
        if below is None:  # fine codes: the density is enough
            weight = np.exp(-0.5 * (codes / levels * c) ** 2)
            table.append(float(value @ weight / weight.sum()))
        else:
            table.append(float(value @ np.diff(below, prepend=0.0, append=1.0)))
    return grid, np.array(table)


@dataclass(frozen=True)
class Activity:
    """An activity holds measured activities by (matrix, tile rows, DAC bits, slice bits); without any, Gaussian weights
    and inputs are assumed.

    >>> from aimc_sim.sizing import Activity
    >>> Activity().tokens
    0
    """

    measured: dict[Key, float] = field(default_factory=dict)
    tokens: int = 0

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        if self.measured:
            return f"measured: the weights, and their inputs at {self.tokens} tokens of the calibration text"
        return "assumed: Gaussian weights and inputs"

    def of(self, designs: Designs, names: Sequence[Sequence[str]], inputs: npt.ArrayLike) -> F64:
        """Return (P, M) for matrices that are each the mean over several of the model, 0 of none. inputs: K of each,
        (M,).
        """
        k = np.asarray(inputs, np.float64).reshape(1, -1)
        if not self.measured:
            return gaussian(designs, k)
        points = np.stack([designs.rows, designs.dac_bits, designs.slice_bits], 1).astype(np.int64)
        unique, where = np.unique(points, axis=0, return_inverse=True)
        table = np.empty((len(unique), len(names)))
        for i, (rows, bits, slices) in enumerate(unique.tolist()):
            for j, group in enumerate(names):
                table[i, j] = sum(self._one(name, rows, bits, slices) for name in group) / max(len(group), 1)
        return np.asarray(table[where.reshape(-1)])

    def _one(self, name: str, rows: int, bits: int, slices: int) -> float:
        activity = self.measured.get((name, rows, bits, slices))
        if activity is None:
            raise BadInput(
                "activity", got=f"{name} in tiles of {rows} rows, {bits}-bit inputs",
                why="it was not measured at these tiles and inputs",
                do="measure it with all points of the sweep",
            )  # fmt: skip
        return activity


def gaussian(designs: Designs, k: F64) -> F64:
    """Compute the (P, M) activity of Gaussian weights, scaled by their column's maximum, and Gaussian inputs. k: (1,
    M) inputs.
    """
    chip = designs.hardware
    height = np.minimum(designs.rows[:, None], k)
    input_range = chip.dac.range if chip.dac is not None else None
    if isinstance(input_range, StaticRange):
        c = np.full(height.shape, input_range.kappa) if input_range.method == "std" else crest(height * _TEXT)
    else:
        c = crest(
            np.broadcast_to(k, height.shape)
            if input_range is not None and input_range.per == "matrix"
            else height
        )
    driven = np.empty(height.shape)
    kinds = np.stack([designs.dac_bits, designs.slice_bits], 1).astype(np.int64)
    unique, where = np.unique(kinds, axis=0, return_inverse=True)
    for i, (bits, slices) in enumerate(unique.tolist()):
        rows = where.reshape(-1) == i
        driven[rows] = np.interp(c[rows], *_gaussian_drive(designs.mode, bits, slices, designs.offset_coding))
    return np.asarray(driven * _mean_conductance(designs, math.sqrt(2 / math.pi) / crest(height)))


def _mean_conductance(designs: Designs, magnitude: F64) -> F64:
    """Compute ΣG/g_max of a weight of that mean magnitude, all slices and both polarities: low digits are half on
    average.
    """
    device, weights = designs.hardware.device, designs.hardware.weights
    floor = 2 * device.g_min_us / device.g_max_us
    first = 0.5 if weights.pair == "offset_column" else magnitude
    return np.asarray(first + 0.5 * (designs.slices[:, None] - 1) + floor)


def row_conductance(w: F32, rows: int, chip: Hardware) -> F64:
    """Compute ΣG_i/g_max of every row, (K,), of weights in one slice, scaled as the hardware says in tiles of ``rows``
    rows.

    w: (N, K). A pair holds |w|, and g_min twice; beside an offset column a cell holds (w + 1)/2.
    """
    cells, floor = chip.weights, chip.device.g_min_us / chip.device.g_max_us
    offset = cells.pair == "offset_column"
    total = np.empty(w.shape[1])
    for start in range(0, w.shape[1], rows):
        part = w[:, start : start + rows]
        size = np.abs(part)
        top = np.full(len(w), size.max()) if cells.scale == "tile" else size.max(axis=1)
        scale = np.divide(1.0, top, out=np.zeros(len(w)), where=top > 0)
        total[start : start + rows] = (scale @ part + len(w)) / 2 if offset else scale @ size
    return np.asarray(total * (1 - floor) + (1 if offset else 2) * floor * len(w))


def input_codes(
    x: F32, rows: int, levels: int, hardware: Hardware, beta: F32 | None = None
) -> npt.NDArray[np.int64]:
    """Return the codes of inputs (T, K), with the ranges of the hardware's DAC; beta: static ones, (1,) or (row
    tiles,).
    """
    bounds = np.append(np.arange(0, x.shape[1], rows), x.shape[1])
    if beta is None:
        per_tile = hardware.dac is not None and hardware.dac.range.per == "tile"
        ranges = token_range_reference(x, bounds, per_tile)
    else:
        ranges = np.broadcast_to(beta.astype(np.float32), (len(x), bounds.size - 1))
    codes = np.empty(x.shape, np.int64)
    for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        codes[:, a:b] = dac_reference(x[:, a:b], ranges[:, t : t + 1], levels)
    return codes


def measure_activity(weights: WeightFile, designs: Designs, tokens: int = TOKENS) -> Activity:
    """Measure the activities of every analog matrix at every point, from the file's weights and their inputs on
    calibration text.

    One forward pass of the digital model (torch and transformers), one pass over the weights for each tile height.
    Raises BadInput for a file without calibration text, and for weights in several slices.

    >>> from aimc_sim import WeightFile
    >>> from aimc_sim.sizing import Designs, measure_activity
    >>> measure_activity(WeightFile("model.h5"), Designs.of("hermes-256")).tokens > 0
    True
    """
    # late: torch takes seconds to load, and most sheets assume an activity
    from aimc_sim.torch_bridge.inputs import read_inputs, spread
    from aimc_sim.torch_bridge.model import load_digital
    from aimc_sim.weightfile.analog import analog_matrices

    chip = designs.hardware
    if chip.weights.slices > 1 or (designs.slices > 1).any():
        raise BadInput(
            "activity", got=f"{chip.weights.slices} slices", why="it is measured for weights in one slice",
            do="size it with assumed activity",
        )  # fmt: skip
    points = [
        (int(r), int(b), int(s))
        for r, b, s in {*zip(designs.rows, designs.dac_bits, designs.slice_bits, strict=True)}
    ]
    betas = _static_ranges(weights, chip, {rows for rows, _, _ in points})
    activities: dict[Key, float] = {}
    used = 0

    def see(name: str, x: F32) -> None:
        nonlocal used
        inputs, w = np.ascontiguousarray(x[spread(tokens, len(x))]), weights.weight(name)
        used = max(used, len(inputs))
        conductance = {rows: row_conductance(w, rows, chip) for rows, _, _ in points}
        for rows, bits, slices in points:
            levels = 2 ** (bits - 1) - 1
            codes = input_codes(inputs, rows, levels, chip, betas.get((name, rows)))
            mean = drive(codes, levels, designs.mode, slices, designs.offset_coding).mean(axis=0)
            activities[name, rows, bits, slices] = float(mean @ conductance[rows] / w.size)
        weights.release(name)

    names = [matrix.name for matrix in analog_matrices(weights, chip)]
    read_inputs(load_digital(weights), weights.calibration.token_ids, names, see)
    return Activity(activities, used)


def _static_ranges(weights: WeightFile, chip: Hardware, heights: set[int]) -> dict[tuple[str, int], F32]:
    """Read the input ranges β by (matrix, tile rows), where the hardware's are static."""
    if chip.dac is None or not isinstance(chip.dac.range, StaticRange):
        return {}
    # late: torch takes seconds to load, and most sheets assume an activity
    from aimc_sim.calibrate import ranges_for

    betas = {}
    for rows in heights:
        at = chip.model_copy(update={"tile": chip.tile.model_copy(update={"rows": rows})})
        for name, item in ranges_for(weights, at).items():
            if item.input_range is not None:
                betas[name, rows] = np.asarray(item.input_range, np.float32)
    return betas
