"""How one input code is read: at once, or slice by slice of its bits, and what each way does to the cells' noise.

Bit-serial inputs are signed slices of the magnitude, least significant first: q = Σ 2^(s·k)·b_k with |b_k| < 2^s and
the sign of q. Read noise has a variance of Σ σ²·m(q) over a column's cells: m = q² for amplitudes and slow noise, n·|q|
for pulse widths and white noise, Σ 4^(s·k)·b_k² where slices draw afresh but are converted together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import add32

I8 = npt.NDArray[np.int8]
SQUARE, LINEAR, SLICED = 0, 1, 2  # kinds of m(q)


def slice_count(levels: int, bits: int) -> int:
    """Reads of ``bits`` magnitude bits that a code of ±levels needs."""
    return -(-int(levels).bit_length() // bits)


def slices_reference(codes: I8, bits: int, count: int) -> I8:
    """Slices (count, …) of codes (…): Σ 2^(bits·k)·slice_k is the code."""
    size, sign = np.abs(codes.astype(np.int16)), np.sign(codes)
    parts = [(size >> (bits * k)) & ((1 << bits) - 1) for k in range(count)]
    return np.stack([(part * sign).astype(np.int8) for part in parts])


def noise_weights_reference(
    codes: I8, kind: int, levels: int, bits: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """(high, low) int8 with m(q) = 128·high + low, for codes within ±127."""
    q = np.abs(codes.astype(np.int32))
    if kind == LINEAR:
        m = q * levels
    elif kind == SLICED:
        count = slice_count(levels, bits)
        parts = slices_reference(codes, bits, count).astype(np.int32)
        m = np.tensordot(4 ** (bits * np.arange(count, dtype=np.int32)), parts**2, axes=1).astype(np.int32)
    else:
        m = q * q
    return (m >> 7).astype(np.int8), (m & 127).astype(np.int8)


@njit
def slice_codes(codes: Any, at: Any, width: Any, bits: Any, count: Any, sums: Any) -> None:
    """Codes [at, at + width) into ``count`` rows of their slices from there on; sums (count,) int32 of each row."""
    mask = np.int32((1 << bits) - 1)
    for k in range(count - 1, -1, -1):  # the first row, which holds the codes, last
        total, shift = np.int32(0), np.int32(bits * k)
        row, whole = codes[at + k * width : at + (k + 1) * width], codes[at : at + width]
        for i in range(width):
            q = np.int32(whole[i])
            part = (abs(q) >> shift) & mask
            part = np.int32(-part if q < 0 else part)
            row[i] = np.int8(part)
            total = add32(total, part)
        sums[k] = total


@njit
def noise_weights(codes: Any, kind: Any, levels: Any, bits: Any, planes: Any) -> None:
    """m(q) of codes (n,) int8: planes (2n,) int8 receives the high parts, then the low ones."""
    n = codes.size
    high, low = planes[:n], planes[n:]
    if kind == SQUARE:
        for i in range(n):
            product = np.int16(codes[i]) * np.int16(codes[i])
            high[i] = np.int8(product >> 7)
            low[i] = np.int8(product & 127)
    elif kind == LINEAR:
        for i in range(n):
            scaled = abs(np.int32(codes[i])) * np.int32(levels)
            high[i] = np.int8(scaled >> 7)
            low[i] = np.int8(scaled & 127)
    else:
        mask = (1 << bits) - 1
        for i in range(n):
            size, value, weight = abs(np.int64(codes[i])), 0, 1
            while size > 0:
                value += weight * (size & mask) * (size & mask)
                size >>= bits
                weight <<= 2 * bits
            high[i] = np.int8(value >> 7)
            low[i] = np.int8(value & 127)
