"""DAC and ADC: float32 in a fixed order, with the readable reference beside each compiled pass.

Both quantisers are symmetric: codes -n … n, n = 2^(bits-1) - 1, zero exact, half to even, saturating.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import add32, peak_of

F32 = npt.NDArray[np.float32]
ZERO, ONE = np.float32(0), np.float32(1)
SILENT = np.float32(1e-30)  # a range below counts as no input: its reciprocal would not be a normal number
GRID = 32767  # largest magnitude of an effective weight on the 16-bit grid
C256, I128 = np.float32(256), np.int32(128)


def token_range_reference(x: F32, bounds: npt.NDArray[np.int64], per_tile: bool) -> F32:
    """β (B, tiles): max |x| of each token over a tile's rows, or over the whole input."""
    peaks = np.stack(
        [np.abs(x[:, a:b]).max(axis=1) for a, b in zip(bounds[:-1], bounds[1:], strict=True)], axis=1
    )
    peaks = np.asarray(peaks, np.float32)
    return peaks if per_tile else np.repeat(peaks.max(axis=1, keepdims=True), peaks.shape[1], axis=1)


def dac_reference(x: F32, beta: F32, levels: int) -> F32:
    """Codes of x (B, K) under β (B, 1), as float32: clamp(rint(x·(n/β)), ±n); all zero where β is (next to) 0."""
    scale = np.divide(np.float32(levels), beta, out=np.zeros_like(beta), where=beta > SILENT)
    return np.minimum(np.maximum(np.rint(x * scale), np.float32(-levels)), np.float32(levels))


def adc_reference(value: F32, inverse: F32, levels: int) -> F32:
    """Codes of integer sums or currents: clamp(rint(value·inverse), ±n), as float32."""
    return np.asarray(
        np.minimum(np.maximum(np.rint(value * inverse), np.float32(-levels)), np.float32(levels))
    )


def combine_reference(
    high: npt.NDArray[np.int32], low: npt.NDArray[np.int32], code_sum: npt.NDArray[np.int32]
) -> F32:
    """fl(fl(H)·256 + fl(L + 128·Σq)): the integer sum Σ q·W of the two planes, in float32."""
    total: F32 = high.astype(np.float32) * C256 + (low + I128 * code_sum).astype(np.float32)
    return total


def grid_reference(effective: F32) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], F32]:
    """Effective weights (N, K) of one tile on the 16-bit grid: planes (hi, lo) int8 and the largest |weight| (N,)."""
    peak = np.abs(effective).max(axis=1)
    scale = np.divide(np.float32(GRID), peak, out=np.zeros_like(peak), where=peak > 0)
    value = np.rint(effective * scale[:, None]).astype(np.int32)
    high = value >> 8
    return high.astype(np.int8), (value - 256 * high - 128).astype(np.int8), peak


def from_grid(high: npt.NDArray[np.int8], low: npt.NDArray[np.int8], peak: F32) -> F32:
    """Effective weights (N, K) that the planes of one tile stand for."""
    value = high.astype(np.float32) * C256 + (low.astype(np.float32) + np.float32(128))
    weights: F32 = value * (peak / np.float32(GRID))[:, None]
    return weights


@njit
def to_grid(effective: Any, bounds: Any, high: Any, low: Any, offsets: Any, first: Any, peak: Any) -> None:
    """Columns first … of effective (n, K) into flat planes; tile t of column j starts at offsets[t] + j·K_t."""
    for i in range(effective.shape[0]):
        column = first + i
        for t in range(bounds.size - 1):
            a, b = bounds[t], bounds[t + 1]
            m = peak_of(effective[i, a:b])
            peak[t, column] = m
            scale = np.float32(GRID) / m if m > ZERO else ZERO
            at = offsets[t] + column * (b - a)
            row, hi, lo = effective[i, a:b], high[at : at + b - a], low[at : at + b - a]
            for r in range(b - a):
                value = np.int32(np.rint(row[r] * scale))
                h = value >> np.int32(8)
                hi[r] = np.int8(h)
                lo[r] = np.int8(value - (h << np.int32(8)) - I128)


@njit
def _quantise(x: Any, scale: Any, n: Any, out: Any) -> Any:
    total = np.int32(0)
    for i in range(x.size):
        code = np.int32(min(max(np.rint(x[i] * scale), -n), n))
        out[i] = np.int8(code)
        total = add32(total, code)
    return total


@njit
def dac(
    x: Any,
    bounds: Any,
    levels: Any,
    dynamic: Any,
    per_tile: Any,
    first: Any,
    last: Any,
    codes: Any,
    beta: Any,
    sums: Any,
) -> None:
    """Tokens first … last-1 of x (B, K): codes, flat, tile t of token b at B·bounds[t] + b·K_t; β (B, tiles) read
    (static) or written (dynamic); Σq (B, tiles)."""
    n = np.float32(levels)
    tokens = x.shape[0]
    for b in range(first, last):
        whole = peak_of(x[b]) if dynamic and not per_tile else ZERO
        for t in range(bounds.size - 1):
            start, stop = bounds[t], bounds[t + 1]
            if dynamic:
                beta[b, t] = peak_of(x[b, start:stop]) if per_tile else whole
            elif np.isnan(peak_of(x[b, start:stop])):
                beta[b, t] = np.float32(
                    np.nan
                )  # a static range clips what is large, but must not hide what is no number
            scale = n / beta[b, t] if beta[b, t] > SILENT else ZERO
            at = tokens * start + b * (stop - start)
            sums[b, t] = _quantise(x[b, start:stop], scale, n, codes[at : at + stop - start])


@njit
def adc_add(
    high: Any, low: Any, sums: Any, beta: Any, inverse: Any, scale: Any, levels: Any, column: Any, out: Any
) -> None:
    """Add one row tile's sums (B, n) to columns column … of out (B, N): code·scale·β, without an ADC (levels 0) the
    sum itself."""
    n = np.float32(levels)
    for b in range(high.shape[0]):
        shift = I128 * sums[b]
        gain = beta[b]
        h, low_row, y = high[b], low[b], out[b, column : column + high.shape[1]]
        if levels > 0:
            for j in range(h.size):
                value = np.float32(h[j]) * C256 + np.float32(np.int32(low_row[j] + shift))
                code = min(max(np.rint(value * inverse[j]), -n), n)
                y[j] += (code * scale[j]) * gain
        else:
            for j in range(h.size):
                value = np.float32(h[j]) * C256 + np.float32(np.int32(low_row[j] + shift))
                y[j] += ((value * inverse[j]) * scale[j]) * gain
