"""How a weight is held by cells, Weights: levels, slices, pairs or offset columns, devices a polarity, scales."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.aliases import F32, I32
from aimc_sim.spec import Spec

MAX_COPIES = 16
MAX_DEVICES = 32  # cells a weight: their draws are named by 6 bits, one of them the polarity


class Weights(Spec):
    """Weights says what cells are programmed to, and what is converted together.

    A weight is w = scale·r with |r| ≤ 1. ``bits``: r is a code of ±n, n = 2^(bits-1) - 1, over n. ``cell_bits``: a code
    is cut into digits of so many bits, least significant first, each in an array (slice) of its own whose full scale is
    the largest digit; slices are converted one by one and added digitally with their significance.

    ``differential``: digit·sign(r) = G⁺ - G⁻. ``offset_column``: one cell holds r + 1 (codes: code + n), and a column
    of each tile holds the offset in every row; what it reads is subtracted from its tile's columns.
    ``subtract``: the two currents before one conversion, or two conversions' codes.
    ``copies``: the whole matrix lies in so many sets of tiles, each programmed and converted by itself, and their
    outputs are averaged digitally: what differs from cell to cell and read to read loses a factor √copies.

    >>> from aimc_sim.hardware import Weights
    >>> Weights(bits=8, cell_bits=4).pair  # two slices a weight
    'differential'
    """

    bits: Annotated[int, Field(ge=2, le=16)] | None = None
    cell_bits: Annotated[int, Field(ge=1, le=15)] | None = None
    slice_sum: Literal["digital", "analog"] = "digital"  # analog: weighted currents, converted once
    pair: Literal["differential", "offset_column"] = "differential"
    subtract: Literal["analog", "digital"] = "analog"
    devices: Literal[1, 2] = 1  # a polarity, side by side, each of the device's g_max and with its own draws
    share: Literal["equal", "fill"] = "equal"  # two devices: half each, or the first one until it is full
    copies: Annotated[int, Field(ge=2, le=MAX_COPIES)] | None = None  # None: one
    # what maps to g_max: the largest weight of a column in its tile, of a tile; or the largest code of the grid that
    # the weights lie on already (a quantised checkpoint's own scales)
    scale: Literal["column", "tile", "grid"] = "column"
    # rows that share a scale, whole tiles; None: one tile's
    group_rows: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for conflict in self.conflicts():
            raise ValueError(conflict)
        return self

    def conflicts(self) -> Iterator[str]:
        """What of it does not go together, each with the way out."""
        if self.cell_bits is not None and self.bits is None:
            yield "slices cut a code into digits, so cell_bits needs bits: set bits = 8, say"
        if self.scale == "grid" and self.bits is None:
            yield "scale = 'grid' takes over the steps of a quantised checkpoint: set bits to its bits"
        if self.arrays * self.devices > MAX_DEVICES:
            yield (
                f"a weight would take {self.arrays * self.devices} cells a polarity, and {MAX_DEVICES} have names; use "
                "fewer slices, devices or copies"
            )
        if self.pair == "offset_column" and self.devices == 2:
            yield "devices = 2 describes differential pairs; an offset column holds one device a weight"

    @property
    def max_code(self) -> int:
        """Return n, the largest code of a weight; 0: continuous."""
        return 0 if self.bits is None else int(2 ** (self.bits - 1) - 1)

    def largest_digit(self, k: int) -> int:
        """Return the digit that a cell of slice k at g_max stands for; 1 for continuous weights."""
        if self.bits is None:
            return 1
        highest = self.max_code if self.pair == "differential" else 2 * self.max_code
        if self.slices == 1:
            return highest
        assert self.cell_bits is not None
        return int(min(2**self.cell_bits - 1, highest >> (self.cell_bits * k)))

    @property
    def slices(self) -> int:
        """Return the arrays that hold the digits of a code."""
        if self.bits is None or self.cell_bits is None:
            return 1
        return -(-(self.bits - (self.pair == "differential")) // self.cell_bits)

    @property
    def arrays(self) -> int:
        """Return the arrays that hold the matrix: slices of every copy."""
        return self.slices * (self.copies or 1)

    @property
    def plain(self) -> bool:
        """Return whether cells take the weights as they are: no codes, one device a polarity, pairs, once."""
        one = self.devices == 1 and self.copies is None
        return self.bits is None and one and self.pair == "differential"


def codes(r: F32, levels: int) -> I32:
    """Compute the codes round(r·n), half to even, within ±n."""
    return np.clip(np.rint(r.astype(np.float64) * levels), -levels, levels).astype(np.int32)


def digit(code: I32, weights: Weights, k: int) -> I32:
    """Take digit k of codes, with their sign; of offset codes, which are not negative, without."""
    if weights.slices == 1:
        return code
    assert weights.cell_bits is not None
    part = (np.abs(code) >> (weights.cell_bits * k)) & (2**weights.cell_bits - 1)
    return np.asarray(part * np.where(code < 0, -1, 1), np.int32)


def significance(weights: Weights, k: int) -> float:
    """Return what a full-scale cell of slice k is worth, in full-scale weights."""
    if weights.bits is None:
        return 1.0 if weights.pair == "differential" else 2.0
    return (
        float(weights.largest_digit(k) * 2 ** ((weights.cell_bits or 0) * k if k else 0)) / weights.max_code
    )
