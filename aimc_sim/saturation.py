"""How often the converters of a matrix clip: counters beside the product, for calibration and diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.execute import TiledMatrix, dac_inputs, tile_sums
from aimc_sim.kernels import converters

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Saturation:
    """Counts per row tile, (tiles,) int64: inputs and conversions, and those beyond their converter's range."""

    inputs: I64
    inputs_clipped: I64
    conversions: I64
    conversions_clipped: I64

    @property
    def input_share(self) -> float:
        """Share of inputs beyond ±β."""
        return float(self.inputs_clipped.sum() / max(self.inputs.sum(), 1))

    @property
    def conversion_share(self) -> float:
        """Share of conversions beyond the ADC's largest code."""
        return float(self.conversions_clipped.sum() / max(self.conversions.sum(), 1))


def saturation(x: F32, tiles: TiledMatrix) -> Saturation:
    """Counters of x (B, K) through tiles behind a DAC, without the noise of a product. Not for the fast path.

    An input clips beyond its range β (never with ranges per token), a conversion when its signal would round to a code
    beyond the largest; errors of the ADC count. Raises BadInput where there is no DAC.
    """
    if not tiles.dac_levels:
        raise BadInput(
            "saturation", why="without a DAC nothing clips", do="add a [dac] table to the hardware"
        )
    x, beta = dac_inputs(x, tiles)
    count = tiles.bounds.size - 1
    found = np.zeros((4, count), np.int64)
    for t, (value, _) in enumerate(tile_sums(x, tiles)):
        part = x[:, tiles.bounds[t] : tiles.bounds[t + 1]]
        found[0, t], found[1, t] = part.size, (np.abs(part) > beta[:, t : t + 1]).sum()
        if not tiles.adc_levels:
            continue
        signal = value * tiles.inverse[t]
        if tiles.adc_curve is not None:
            signal = converters.erring_reference(signal, *(row[t] for row in tiles.adc_curve))
        found[2, t], found[3, t] = signal.size, (np.abs(np.rint(signal)) > tiles.adc_levels).sum()
    return Saturation(*found)
