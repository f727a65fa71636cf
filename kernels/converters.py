"""DAC and ADC: float32 in a fixed order, with the readable reference beside each compiled pass.

Both quantisers are symmetric: codes -n … n, n = 2^(bits-1) - 1, zero exact, half to even, saturating. An unsigned ADC
has codes 0 … 2^bits - 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import add32, peak_of

F32 = npt.NDArray[np.float32]
ZERO, ONE, INFINITY = np.float32(0), np.float32(1), np.float32(np.inf)
SILENT = np.float32(1e-30)  # a range below counts as no input: its reciprocal would not be a normal number
C256, I128 = np.float32(256), np.int32(128)


def token_range_reference(x: F32, bounds: npt.NDArray[np.int64], per_tile: bool) -> F32:
    """β (B, tiles): max |x| of each token over a tile's rows, or over the whole input; NaN where that is not finite."""
    peaks = np.stack(
        [np.abs(x[:, a:b]).max(axis=1) for a, b in zip(bounds[:-1], bounds[1:], strict=True)], axis=1
    )
    peaks = np.where(np.isfinite(peaks), peaks, np.float32(np.nan)).astype(np.float32)
    return peaks if per_tile else np.repeat(peaks.max(axis=1, keepdims=True), peaks.shape[1], axis=1)


def dac_reference(x: F32, beta: F32, levels: int) -> F32:
    """Codes of x (B, K) under β (B, 1), as float32: clamp(rint(x·(n/β)), ±n); all zero where β is (next to) 0."""
    scale = np.divide(np.float32(levels), beta, out=np.zeros_like(beta), where=beta > SILENT)
    return np.minimum(np.maximum(np.rint(x * scale), np.float32(-levels)), np.float32(levels))


def adc_reference(value: F32, inverse: F32, levels: int) -> F32:
    """Codes of integer sums or currents: clamp(rint(value·inverse), ±n), as float32."""
    return quantise_reference(value * inverse, levels)


def erring_reference(signal: F32, offset: F32, curve: F32, bow: F32) -> F32:
    """What an ADC that errs makes of a signal in codes: s = signal + offset, then s + s·(curve - bow·s²)."""
    moved = signal + offset
    return np.asarray(moved + moved * (curve - bow * (moved * moved)))


def quantise_reference(signal: F32, levels: int, unsigned: bool = False) -> F32:
    """clamp(rint(signal), ±n or 0 … n), as float32; without an ADC (levels 0) the signal itself."""
    if not levels:
        return signal
    lowest = np.float32(0 if unsigned else -levels)
    return np.asarray(np.minimum(np.maximum(np.rint(signal), lowest), np.float32(levels)))


def sar_reference(signal: F32, capacitors: F32, levels: int, unsigned: bool = False) -> F32:
    """Codes of a successive approximation for signals (B, N) in codes, as float32, clamped to ±n or 0 … n.

    capacitors: (bits, N) float32 in codes, smallest first, 2^k where they match. Code u has the level Σ of its bits'
    capacitors, half a code below which lies its threshold; a signed converter begins at u = -2^(bits-1). A threshold
    that is met exactly is passed, but not by the last bit: with matching capacitors that is rounding half to even.
    """
    start = np.float32(0 if unsigned else -(1 << (len(capacitors) - 1)))
    level, code = np.full_like(signal, start - np.float32(0.5)), np.full_like(signal, start)
    for bit in range(len(capacitors) - 1, -1, -1):
        trial = level + capacitors[bit]
        passed = signal >= trial if bit else signal > trial
        level, code = np.where(passed, trial, level), np.where(passed, code + np.float32(1 << bit), code)
    return quantise_reference(code, levels, unsigned)


def combine_reference(
    high: npt.NDArray[np.int32], low: npt.NDArray[np.int32], code_sum: npt.NDArray[np.int32]
) -> F32:
    """fl(fl(H)·256 + fl(L + 128·Σq)): the sum Σ q·W in float32, of signed planes W = 256·high + low + 128."""
    total: F32 = high.astype(np.float32) * C256 + (low + I128 * code_sum).astype(np.float32)
    return total


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
    x: Any, bounds: Any, starts: Any, levels: Any, dynamic: Any, per_tile: Any, first: Any, last: Any,
    codes: Any, held: Any, reads: Any, beta: Any, sums: Any,
) -> None:  # fmt: skip
    """Tokens first … last-1 of x (B, K): codes, β (B, tiles) read (static) or written (dynamic), Σq (B·reads, tiles).

    codes: flat; token b has the row b·reads of ``held``, where those of tile t are starts[t+1] - starts[t] wide, zeros
    at their end, and the rows of a tile lie together from held·starts[t] on.
    """
    n = np.float32(levels)
    for b in range(first, last):
        whole = peak_of(x[b]) if dynamic and not per_tile else ZERO
        for t in range(bounds.size - 1):
            row = x[b, bounds[t] : bounds[t + 1]]
            if dynamic:
                peak = peak_of(row) if per_tile else whole
                beta[b, t] = peak if peak < INFINITY else np.float32(np.nan)  # what has no range is no number
            elif np.isnan(
                peak_of(row)
            ):  # a static range clips what is large, but must not hide what is no number
                beta[b, t] = np.float32(np.nan)
            scale = n / beta[b, t] if beta[b, t] > SILENT else ZERO
            width = starts[t + 1] - starts[t]
            at = held * starts[t] + b * reads * width
            out = codes[at : at + width]
            sums[b * reads, t] = _quantise(row, scale, n, out[: row.size])
            out[row.size :] = 0
