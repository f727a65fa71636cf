"""A whole row tile for few tokens in one pass: both integer sums of a column, its ADC code, its share of the output.

With few tokens the product is bound by reading the weights, so nothing goes through memory in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.converters import C256, I128
from aimc_sim.kernels.elementary import add_product

FEW_TOKENS = 1  # up to here the fused pass beats a matrix product


@njit
def _dot(a: Any, b: Any) -> Any:
    total = np.int32(0)
    for i in range(a.size):
        total = add_product(total, a[i], b[i])
    return total


@njit
def few_tokens(
    codes: Any, sums: Any, beta: Any, high: Any, low: Any, inverse: Any, scale: Any, levels: Any, first: Any, last: Any,
    out: Any,
) -> None:  # fmt: skip
    """Add row tile (codes (B, K_t), planes (N, K_t)) to columns first … last-1 of out (B, N), as `adc_add` does."""
    n = np.float32(levels)
    for j in range(first, last):
        for b in range(codes.shape[0]):
            h = _dot(codes[b], high[j])
            lo = _dot(codes[b], low[j])
            value = np.float32(h) * C256 + np.float32(np.int32(lo + I128 * sums[b]))
            signal = value * inverse[j]
            if levels > 0:
                signal = min(max(np.rint(signal), -n), n)
            out[b, j] += (signal * scale[j]) * beta[b]
