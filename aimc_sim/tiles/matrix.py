"""A matrix as its tiles hold it at one time: what a chip makes, and what a product reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, I8, I64, U8
from aimc_sim.kernels import panels
from aimc_sim.kernels.tile_engine import AT_ONCE, AdcCurve, Noise, Reads, TileProduct
from aimc_sim.tiles.channel_transform import ChannelTransform

WEIGHT_PLANES, NOISE_PLANES = 2, 1


@dataclass(frozen=True)
class TiledMatrix:
    """A tiled matrix is a K × N matrix as its tiles hold it at one time. Row tile t covers inputs bounds[t] …
    bounds[t+1]-1.

    Exact integer path: ``panels``, two bytes a weight, laid out by `kernels.panels`; `planes`: the same as matrices.
    Float path (no DAC, more than 8 input bits, or weight_grid = float32): ``weights`` (N, K) float32.
    """

    bounds: npt.NDArray[np.int64]  # (tiles + 1,)
    inverse: F32  # (tiles, N) ADC codes (without an ADC: currents) per unit of the tile's sum
    scale: F32  # (tiles, N) output per code, per unit of input range β
    panels: U8 | None = None
    weights: F32 | None = None
    dac_max_code: int = 0  # largest input code; 0: no DAC
    adc_max_code: int = 0  # largest output code; 0: no ADC
    adc_unsigned: bool = False  # codes 0 … adc_max_code instead of ±adc_max_code
    input_range: F32 | None = None  # (tiles,) static β; None: max |x| of each token
    range_per_tile: bool = True
    transform: ChannelTransform | None = None  # of the inputs, before the DAC
    reads: Reads = AT_ONCE  # how a code is read: at once, or in parts
    noise: Noise | None = None  # fresh in every product: of the cells, of the ADC
    adc_curve: AdcCurve | None = None  # of non-ideal ADCs, column by column
    capacitors: F32 | None = None  # (tiles, bits, N) of SAR ADCs, in codes, smallest first; None: no SAR
    constant: F32 | None = None  # (tiles, N) codes taken off after the last read: of offset-binary inputs
    dac_inl: bool = False  # DACs have INL: the rows of a tile lie twice in its panels (`cell_bounds`)
    parts: tuple[TiledMatrix, ...] = ()  # further columns of the same inputs; their outputs are added

    @property
    def rows(self) -> int:
        """Return K, the number of inputs."""
        return int(self.bounds[-1])

    @property
    def cols(self) -> int:
        """Return N, the number of outputs."""
        return int(self.scale.shape[1])

    @property
    def adc_lowest(self) -> int:
        """Return the smallest output code."""
        return 0 if self.adc_unsigned else -self.adc_max_code

    @property
    def cell_bounds(self) -> I64:
        """Return (tiles + 1,) where the rows of each tile lie in the panels:
        twice as many as inputs where DACs have INL.
        """
        return 2 * self.bounds if self.dac_inl else self.bounds

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays that the product reads."""
        arrays = [self.panels, self.weights, self.inverse, self.scale]
        arrays += [] if self.noise is None else [self.noise.steps, self.noise.scale]
        arrays += [] if self.adc_curve is None else [*self.adc_curve]
        arrays += [self.capacitors, self.constant]
        return sum(a.nbytes for a in arrays if a is not None) + sum(part.nbytes for part in self.parts)

    @property
    def is_direct(self) -> bool:
        """Return whether `product` gives the outputs by itself: no float path, no transform before it,
        no parts to add.
        """
        return self.panels is not None and self.transform is None and not self.parts

    @cached_property
    def product(self) -> TileProduct:
        """Return the compiled product with these tiles. Only on the integer path."""
        assert self.panels is not None
        return TileProduct(
            self.bounds, self.panels, self.inverse, self.scale, dac_max_code=self.dac_max_code,
            adc_max_code=self.adc_max_code, input_range=self.input_range, per_tile=self.range_per_tile,
            noise=self.noise, curve=self.adc_curve, reads=self.reads, unsigned=self.adc_unsigned,
            capacitors=self.capacitors, constant=self.constant, dac_inl=self.dac_inl,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the compiled product, which holds addresses: a copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "product"}

    def planes(self) -> list[tuple[I8, I8]]:
        """Return (high, low) int8 (N, K_t) of each row tile, W = 256·high + low + 128: a copy, for readers of one
        weight.

        Where DACs have INL, K_t counts every row twice.
        """
        assert self.panels is not None
        return panels.signed_planes(self.panels, self.cols, self.cell_bounds)
