"""How often the converters of a matrix clip: counters beside the product, for calibration and diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aimc_sim.aliases import F32, I64, Bools
from aimc_sim.errors import BadInput
from aimc_sim.execute import dac_inputs, tile_sums
from aimc_sim.kernels import converters
from aimc_sim.tiles.matrix import TiledMatrix


@dataclass(frozen=True)
class Saturation:
    """Saturation holds counts, int64: inputs per row tile (row tiles,), conversions per tile (row tiles, column tiles),
    and of both those beyond their converter's range. All reads of an input and all columns that hold a weight count as
    conversions.
    """

    inputs: I64
    inputs_clipped: I64
    conversions: I64
    conversions_clipped: I64

    def __add__(self, other: Saturation) -> Saturation:
        """Return counts of both, of the same matrix."""
        return Saturation(
            self.inputs + other.inputs,
            self.inputs_clipped + other.inputs_clipped,
            self.conversions + other.conversions,
            self.conversions_clipped + other.conversions_clipped,
        )

    @property
    def input_share(self) -> float:
        """Return the share of inputs beyond ±β."""
        return float(self.inputs_clipped.sum() / max(self.inputs.sum(), 1))

    @property
    def conversion_share(self) -> float:
        """Return the share of conversions beyond the ADC's largest code."""
        return float(self.conversions_clipped.sum() / max(self.conversions.sum(), 1))

    @property
    def worst_tile(self) -> tuple[int, int]:
        """Return the row and column of the tile with the largest share of saturated conversions;
        the first of several.
        """
        share = self.conversions_clipped / np.maximum(self.conversions, 1)
        row, col = np.unravel_index(int(np.argmax(share)), share.shape)
        return int(row), int(col)

    @property
    def worst_share(self) -> float:
        """Return the share of conversions that saturate in that tile."""
        at = self.worst_tile
        return float(self.conversions_clipped[at] / max(self.conversions[at], 1))


def saturation(x: F32, tiles: TiledMatrix, col_bounds: I64 | None = None) -> Saturation:
    """Return the counters of x (B, K) through tiles behind a DAC, without the noise of a product. Not for the fast
    path.

    col_bounds: (column tiles + 1,) where columns are cut into tiles; None: one tile holds all of them.
    An input clips beyond its range β (never with ranges per token), a conversion when its signal would round to a code
    beyond the largest (or, of converters with one sign, below 0); errors of the ADC count. Raises BadInput where there
    is no DAC.
    """
    if not tiles.dac_max_code:
        raise BadInput(
            "saturation", why="without a DAC nothing clips", do="add a [dac] table to the hardware"
        )
    x, beta = dac_inputs(x, tiles)
    starts = np.zeros(1, np.int64) if col_bounds is None else col_bounds[:-1]
    inputs = (np.diff(tiles.bounds) * len(x)).astype(np.int64)
    count = inputs.size
    beyond_range = np.abs(x) > np.repeat(beta, np.diff(tiles.bounds), axis=1)
    clipped = np.add.reduceat(beyond_range.sum(axis=0), tiles.bounds[:-1])
    conversions = np.zeros((2, count, starts.size), np.int64)
    for part in (replace(tiles, parts=()), *tiles.parts) if tiles.adc_max_code else ():
        for t, (value, _) in enumerate(tile_sums(x, part)):
            beyond = _find_beyond(value * part.inverse[t], part, t)
            conversions[0, t] += np.add.reduceat(np.full(beyond.shape[1], beyond.shape[0]), starts)
            conversions[1, t] += np.add.reduceat(beyond.sum(axis=0), starts)
    return Saturation(inputs, clipped, *conversions)


def _find_beyond(signal: F32, tiles: TiledMatrix, t: int) -> Bools:
    """Return (B, N): where a signal of row tile t, in codes, is beyond its converter's."""
    if tiles.adc_curve is not None:
        signal = converters.non_ideal_adc_reference(signal, *(row[t] for row in tiles.adc_curve))
    return converters.saturates_reference(signal, tiles.adc_max_code, tiles.adc_unsigned)
