"""A whole product for few tokens in one pass: both integer sums of a column, its ADC codes, its output.

With few tokens the product is bound by reading the weights, so nothing else goes through memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.converters import C256, I128
from aimc_sim.kernels.dot import dot

FEW_TOKENS = 4  # up to here the fused pass beats a matrix product


@njit
def few_tokens(
    codes: Any, sums: Any, beta: Any, bounds: Any, high: Any, low: Any, inverse: Any, scale: Any, levels: Any,
    first: Any, last: Any, out: Any,
) -> None:  # fmt: skip
    """Columns first … last-1 of out (B, N), which holds zeros: what `adc_add` does after two products, tile by tile.

    codes: flat, as `converters.dac` leaves them; high and low: flat planes, tile t at N·bounds[t].
    """
    n = np.float32(levels)
    tokens, cols = out.shape
    for t in range(bounds.size - 1):
        start, rows = bounds[t], bounds[t + 1] - bounds[t]
        for j in range(first, last):
            at = cols * start + j * rows
            for b in range(tokens):
                q = tokens * start + b * rows
                h = dot(high, at, codes, q, rows, sums[b, t])
                lo = dot(low, at, codes, q, rows, sums[b, t])
                value = np.float32(h) * C256 + np.float32(np.int32(lo + I128 * sums[b, t]))
                signal = value * inverse[t, j]
                if levels > 0:
                    signal = min(max(np.rint(signal), -n), n)
                out[b, j] += (signal * scale[t, j]) * beta[b, t]
