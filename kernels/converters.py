"""DAC and ADC: float32 in a fixed order, with the readable reference beside each compiled pass.

Both quantisers are symmetric: codes -n … n, n = 2^(bits-1) - 1, zero exact, half to even, saturating. An unsigned ADC
has codes 0 … 2^bits - 1. Whatever rounds to a code of a converter calls what stands here: products, training and
calibration; `kernels.adc` is the same ADC in vector registers, `kernels.triton.converters` and
`torch_bridge.converters` are the twins for GPUs and for autograd.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32, I32, I64, Bools
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import add32, peak_of

ZERO, ONE, INFINITY = np.float32(0), np.float32(1), np.float32(np.inf)
MIN_RANGE = np.float32(1e-30)  # a range below counts as none: its reciprocal would not be a normal number
C256, I128 = np.float32(256), np.int32(128)


def token_range_reference(x: F32, bounds: I64, per_tile: bool) -> F32:
    """Return β (B, tiles): max |x| of each token over a tile's rows, or over the whole input;
    NaN where that is not finite.
    """
    peaks = np.stack(
        [np.abs(x[:, a:b]).max(axis=1) for a, b in zip(bounds[:-1], bounds[1:], strict=True)], axis=1
    )
    peaks = np.where(np.isfinite(peaks), peaks, np.float32(np.nan)).astype(np.float32)
    return peaks if per_tile else np.repeat(peaks.max(axis=1, keepdims=True), peaks.shape[1], axis=1)


def codes_per_unit_reference(n: float, limit: Any) -> Any:
    """Return n/limit of ranges of any shape and float dtype, in that;
    0 where a range is (next to) 0, so that codes are 0.
    """
    return np.divide(limit.dtype.type(n), limit, out=np.zeros_like(limit), where=limit > MIN_RANGE)


def dac_reference(x: F32, beta: F32, max_code: int) -> F32:
    """Return the codes of x (B, K) under β (B, 1), as float32: clamp(rint(x·(n/β)), ±n);
    all zero where β is (next to) 0.
    """
    return quantise_reference(x * codes_per_unit_reference(max_code, beta), max_code)


def non_ideal_adc_reference(signal: F32, offset: F32, curve: F32, bow: F32) -> F32:
    """Return what a non-ideal ADC makes of a signal in codes: s = signal + offset, then s + s·(curve - bow·s²)."""
    moved = signal + offset
    return np.asarray(moved + moved * (curve - bow * (moved * moved)))


def quantise_reference(signal: F32, max_code: int, unsigned: bool = False) -> F32:
    """Return clamp(rint(signal), ±n or 0 … n), as float32; without an ADC (max_code 0) the signal itself."""
    if not max_code:
        return signal
    lowest = np.float32(0 if unsigned else -max_code)
    return np.asarray(np.minimum(np.maximum(np.rint(signal), lowest), np.float32(max_code)))


def saturates_reference(signal: F32, max_code: int, unsigned: bool = False) -> Bools:
    """Return where a signal rounds to a code beyond ±n or 0 … n."""
    code = np.rint(signal)
    return np.asarray((code > max_code) | (code < (0 if unsigned else -max_code)))


def sar_reference(signal: F32, capacitors: F32, max_code: int, unsigned: bool = False) -> F32:
    """Return the codes of a successive approximation for signals (B, N) in codes, as float32, clamped to ±n or 0 … n.

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
    return quantise_reference(code, max_code, unsigned)


def combine_reference(high: I32, low: I32, code_sum: I32) -> F32:
    """Return fl(fl(H)·256 + fl(L + 128·Σq)): the sum Σ q·W in float32, of signed planes W = 256·high + low + 128."""
    total: F32 = high.astype(np.float32) * C256 + (low + I128 * code_sum).astype(np.float32)
    return total


@njit(inline="always")
def codes_per_unit(n: Any, limit: Any) -> Any:
    """`codes_per_unit_reference` of one range."""
    return n / limit if limit > MIN_RANGE else ZERO


@njit(inline="always")
def unclipped_code(value: Any, per_unit: Any) -> Any:
    """The code that a value rounds to, before the ends of the converter; NaN stays."""
    return np.rint(value * per_unit)


@njit(inline="always")
def code_of(value: Any, per_unit: Any, lowest: Any, highest: Any) -> Any:
    """The code of a value: clamp(rint(value·per_unit), lowest, highest), as a float; NaN stays."""
    return min(max(unclipped_code(value, per_unit), lowest), highest)


@njit
def _quantise(x: Any, scale: Any, n: Any, out: Any) -> Any:
    total = np.int32(0)
    for i in range(x.size):
        code = np.int32(code_of(x[i], scale, -n, n))
        out[i] = np.int8(code)
        total = add32(total, code)
    return total


@njit
def dac(
    x: Any, bounds: Any, starts: Any, max_code: Any, dynamic: Any, per_tile: Any, first: Any, last: Any,
    codes: Any, tokens_held: Any, reads: Any, beta: Any, sums: Any,
) -> None:  # fmt: skip
    """Tokens first … last-1 of x (B, K): codes, β (B, tiles) read (static) or written (dynamic), Σq (B·reads, tiles).

    codes: flat; token b has the row b·reads of ``tokens_held``, where those of tile t are starts[t+1] - starts[t] wide,
    zeros at their end, and the rows of a tile lie together from tokens_held·starts[t] on.
    """
    n = np.float32(max_code)
    for b in range(first, last):
        whole = peak_of(x[b]) if dynamic and not per_tile else ZERO
        for t in range(bounds.size - 1):
            row = x[b, bounds[t] : bounds[t + 1]]
            if dynamic:
                peak = peak_of(row) if per_tile else whole
                beta[b, t] = peak if peak < INFINITY else np.float32(np.nan)  # what has no range is no number
            elif np.isnan(peak_of(row)):  # a static range clips, but must not hide what is no number
                beta[b, t] = np.float32(np.nan)
            scale = codes_per_unit(n, beta[b, t])
            width = starts[t + 1] - starts[t]
            at = tokens_held * starts[t] + b * reads * width
            out = codes[at : at + width]
            sums[b * reads, t] = _quantise(row, scale, n, out[: row.size])
            out[row.size :] = 0
