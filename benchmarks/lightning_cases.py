"""Deterministic training layers whose every sum float32 holds exactly: the same question for us and for a peer.

Inputs, weights and gradients are whole numbers of small units, by arithmetic patterns. Full scales are odd multiples
of the unit of a product, so that no conversion lies within 1/2000 of a code's edge. Two programs that round in another
order then give the same codes, and differ by the last bits of their scales alone. Imports nothing but NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U = 2.0**-5  # of an input's code: a range of 127 codes is 127/32
W = 2.0**-6  # of a weight
DECAY, UNCLIPPED = 0.01, 0.95
SIGMA = 2.0  # of the weights' clipping
KAPPA, FORWARDS = 3.0, 3  # of the ranges' beginning


@dataclass(frozen=True)
class Case:
    """A layer of rows inputs and cols outputs at so many tokens. range: static, or token (of each tile). lambda_: odd.

    clipped: about one input in so many lies beyond its range. weight_levels: of the weights' quantisation.
    """

    name: str
    tokens: int = 7
    rows: int = 24
    cols: int = 5
    tile_rows: int | None = None
    range: str = "static"
    dac: bool = True
    adc: bool = True
    lambda_: int = 1  # small, so that the ADC of these sums saturates here and there
    clipped: int = 8
    bias: bool = False
    weight_levels: int = 0

    @property
    def tiles(self) -> int:
        """Row tiles, all of one height."""
        return 1 if self.tile_rows is None else self.rows // self.tile_rows

    def arrays(self) -> dict[str, F32]:
        """x (B, K), w (N, K), bias (N,), beta (tiles,), and g (B, N), the gradient that comes back."""
        b, k, n = self.tokens, self.rows, self.cols
        height = k // self.tiles
        token, row, column = np.arange(b)[:, None], np.arange(k)[None], np.arange(n)[:, None]
        unit = np.repeat(U / 2 ** (np.arange(self.tiles) % 2), height)[
            None
        ]  # every other tile sees half the range
        code = (token * 29 + row * 53) % 255 - 127 + 0.25 * ((token + row) % 4 == 1)
        strong = (token * 31 + row * 17) % self.clipped == 0
        code = np.where(
            strong, np.sign(code + 0.5) * (127 + (token + row) % 3), code
        )  # at the edge, 1 and 2 beyond
        if self.range == "token":
            code = np.clip(code, -127, 127)
            code[:, ::height] = 127  # every token's largest
        peak = 63 - 2 * (column % 8)
        w = (row * 37 + column * 11) % (2 * peak + 1) - peak
        w[:, ::height] = peak * (1 - 2 * (column % 2))  # every column's largest, in every tile
        w[0, 1:height] = np.abs(w[0, 1:height])  # a column whose sums are large
        g = (token * 13 + column.T * 7) % 31 - 15
        return {
            "x": np.asarray(code * unit, np.float32),
            "w": np.asarray(w * W, np.float32),
            "bias": np.asarray((np.arange(n) - 2) / 4, np.float32),
            "beta": np.asarray(127 * unit[0, ::height], np.float32),
            "g": np.asarray(g / 8, np.float32),
        }


RECORDED = (  # small enough for a file in the repository
    Case("DAC and ADC"),
    Case("DAC and ADC, few clipped", clipped=60),
    Case("DAC alone", adc=False, bias=True),
    Case("three tiles", tile_rows=8),
    Case("three tiles, few clipped, bias", tile_rows=8, clipped=60, bias=True),
    Case("ranges per token", range="token"),
    Case("ranges per token and tile", range="token", tile_rows=8),
    Case("weights of 4 bits", weight_levels=7, adc=False),
)
LARGE = (
    Case("128 × 512 × 256", 128, 512, 256, lambda_=9, clipped=17),
    Case("128 × 512 × 256, 128 rows a tile", 128, 512, 256, tile_rows=128, lambda_=9, clipped=17),
    Case(
        "128 × 512 × 256, 128 rows a tile, few clipped", 128, 512, 256, tile_rows=128, lambda_=9, clipped=211
    ),
)


def quantised_outputs() -> dict[str, F32]:
    """Sums y (9, 4), their full scales bound (4,), and g (9, 4): inside, at either end to the last bit, and beyond."""
    bound = np.array([127, 63.5, 381, 127 / 8], np.float32)
    step = bound / 127
    code = np.array([-160, -127.25, -127, -126.75, -3.25, 0, 90.75, 127, 127.75])[:, None] + np.zeros(4)
    g = (np.arange(36).reshape(9, 4) * 7 % 23 - 11) / 8
    return {"y": np.asarray(code * step, np.float32), "bound": bound, "g": np.asarray(g, np.float32)}


def clipped_weights() -> F32:
    """(6, 40) weights of which a few lie beyond 2 standard deviations of their column."""
    i, j = np.arange(40)[None], np.arange(6)[:, None]
    return np.asarray(((i * 17 + j * 5) % 41 - 20) ** 3 / 4096, np.float32)


def beginning(step: int) -> F32:
    """(8, 24) inputs of the forward ``step`` that begins the ranges."""
    i, j = np.arange(24)[None], np.arange(8)[:, None]
    return np.asarray(((i * 11 + j * 23 + step * 7) % 37 - 18) * (step + 1) / 16, np.float32)


def largest_difference(found: Any, wanted: Any) -> float:
    """Largest absolute difference, relative to the largest value where that is above 1."""
    a, b = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))
