"""How one input code is read: at once or in parts, one after the other, and what each way does to the cells' noise.

The parts of a code q, each with the factor by which its conversion counts:

    SIGNED   slices of the magnitude, least significant first: q = Σ 2^(s·k)·b_k with |b_k| < 2^s and the sign of q
    OFFSET   slices of q + 2^(b-1), none negative: q = Σ 2^(s·k)·b_k - 2^(b-1), the constant being taken off digitally
    POLARITY what is positive of q, and what is negative: q = max(q, 0) - max(-q, 0)

Read noise has a variance of Σ σ²·m(q) over a column's cells: m = q² for amplitudes and slow noise, n·|q|
for pulse widths and white noise, Σ 4^(s·k)·b_k² where slices draw afresh but are converted together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32, I8
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import add32

SQUARE, LINEAR, SLICED = 0, 1, 2  # kinds of m(q)
SIGNED, OFFSET, POLARITY = 0, 1, 2  # kinds of parts
LARGEST = 127  # code


def slice_count(max_code: int, bits: int) -> int:
    """Return the reads of ``bits`` magnitude bits that a code of ±max_code needs."""
    return -(-int(max_code).bit_length() // bits)


def part_weights(parts: int, bits: int, count: int) -> F32:
    """Return (count,) by what the conversion of each part is multiplied in the digital sum."""
    if parts == POLARITY:
        return np.array([1, -1], np.float32)
    return np.exp2(bits * np.arange(count)).astype(np.float32)


def parts_reference(codes: I8, parts: int, bits: int, count: int, max_code: int) -> I8:
    """Return the parts (count, …) of codes (…) within ±max_code; a single part is the code itself."""
    if count == 1 and parts != OFFSET:
        return codes[None]
    if parts == POLARITY:
        return np.stack([np.maximum(codes, 0), np.maximum(-codes, 0)]).astype(np.int8)
    if parts == OFFSET:
        whole, mask = codes.astype(np.int16) + (max_code + 1), (1 << bits) - 1
        return np.stack([((whole >> (bits * k)) & mask).astype(np.int8) for k in range(count)])
    return slices_reference(codes, bits, count)


def slices_reference(codes: I8, bits: int, count: int) -> I8:
    """Return the slices (count, …) of codes (…): Σ 2^(bits·k)·slice_k is the code."""
    size, sign = np.abs(codes.astype(np.int16)), np.sign(codes)
    parts = [(size >> (bits * k)) & ((1 << bits) - 1) for k in range(count)]
    return np.stack([(part * sign).astype(np.int8) for part in parts])


def noise_weights_reference(codes: I8, kind: int, max_code: int, bits: int) -> tuple[I8, I8]:
    """Return (high, low) int8 with m(q) = 128·high + low, for codes within ±127."""
    q = np.abs(codes.astype(np.int32))
    if kind == LINEAR:
        m = q * max_code
    elif kind == SLICED:
        count = slice_count(max_code, bits)
        parts = slices_reference(codes, bits, count).astype(np.int32)
        m = np.tensordot(4 ** (bits * np.arange(count, dtype=np.int32)), parts**2, axes=1).astype(np.int32)
    else:
        m = q * q
    return (m >> 7).astype(np.int8), (m & 127).astype(np.int8)


def inl_table(max_code: int) -> I8:
    """Return (255,) int8 for codes -127 … 127: the shape of a DAC's nonlinearity, 127·(x - x³)/max with x =
    code/max_code.

    Zero at 0 and at full scale, 127 at its peak; whole numbers, so that what it adds to a product is exact.
    """
    x = np.clip(np.arange(-LARGEST, LARGEST + 1) / max_code, -1, 1)
    return np.asarray(np.rint(LARGEST * (3 * np.sqrt(3) / 2) * (x - x**3)), np.int8)


@njit
def inl_codes(codes: Any, at: Any, size: Any, table: Any) -> Any:
    """Behind codes [at, at + size) their values in ``table`` (255,), whose sum is returned."""
    total = np.int32(0)
    for i in range(size):
        bent = table[np.int32(codes[at + i]) + LARGEST]
        codes[at + size + i] = bent
        total = add32(total, np.int32(bent))
    return total


@njit
def part_codes(
    codes: Any, at: Any, width: Any, size: Any, parts: Any, bits: Any, count: Any, max_code: Any, sums: Any
) -> None:
    """Codes [at, at + size) into ``count`` rows of their parts from there on, ``width`` apart and filled up with zeros;
    sums (count,) int32 of each row.
    """
    mask, half = np.int32((1 << bits) - 1), np.int32(max_code + 1)
    for k in range(count - 1, -1, -1):  # the first row, which holds the codes, last
        total, shift = np.int32(0), np.int32(bits * k)
        row, whole = codes[at + k * width : at + (k + 1) * width], codes[at : at + width]
        if parts == SIGNED:
            for i in range(size):
                q = np.int32(whole[i])
                part = (abs(q) >> shift) & mask
                part = np.int32(-part if q < 0 else part)
                row[i] = np.int8(part)
                total = add32(total, part)
        elif parts == OFFSET:
            for i in range(size):
                part = np.int32((np.int32(whole[i]) + half) >> shift) & mask
                row[i] = np.int8(part)
                total = add32(total, part)
        else:
            for i in range(size):
                q = np.int32(whole[i])
                part = np.int32(max(q if k == 0 else -q, np.int32(0)))
                row[i] = np.int8(part)
                total = add32(total, part)
        row[size:] = 0
        sums[k] = total


@njit
def noise_weights(codes: Any, kind: Any, max_code: Any, bits: Any, planes: Any) -> None:
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
            scaled = abs(np.int32(codes[i])) * np.int32(max_code)
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
