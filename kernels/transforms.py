"""Rows under a change of their channels: a gain per channel, Walsh–Hadamard blocks, a new order.

``transform_rows_reference`` is the readable NumPy formula, ``transform_rows`` the same arithmetic, compiled: the same
bits, every row by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32, I64
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.memory import whole_registers


def hadamard_reference(x: F32) -> F32:
    """x (…, b) float32, b a power of two → x·H (…, b), H the Walsh–Hadamard matrix of ±1 in natural (Sylvester) order.

    Butterflies from the farthest partners (b/2 apart) to the nearest.
    """
    out, half = x, x.shape[-1] // 2
    while half:
        pairs = out.reshape(*x.shape[:-1], x.shape[-1] // (2 * half), 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        out = np.stack([first + second, first - second], axis=-2).reshape(x.shape)
        half //= 2
    return out


def transform_rows_reference(x: F32, gain: F32, blocks: I64, order: I64) -> F32:
    """x (B, K) float32 → (B, K): times gain (K,), Hadamard within each block, then channel order[i] comes to place i.

    blocks: (n + 1,) bounds of the blocks, each a power of two long; without a rotation they are empty.
    order: (K,); empty for the order as it is.
    """
    out = x * gain
    for a, b in zip(blocks[:-1], blocks[1:], strict=True):
        out[:, a:b] = hadamard_reference(out[:, a:b])
    return out[:, order] if order.size else out


@njit
def _stage(source: Any, target: Any) -> None:
    """One stage of butterflies in constant geometry (Pease, J. ACM 1968): read the two halves, write their pairs.

    After log₂ b stages every index bit is back in its place, so results and sums are those of the plain order, but all
    loops run over contiguous memory.
    """
    whole_registers()
    half = source.size >> 1
    for i in range(half):
        first, second = source[i], source[i + half]
        target[2 * i] = first + second
        target[2 * i + 1] = first - second


@njit
def _two_stages(source: Any, target: Any) -> None:
    """Two stages at once, the same sums."""
    whole_registers()
    part = source.size >> 2
    for i in range(part):
        first, second = source[i], source[i + 2 * part]
        third, fourth = source[i + part], source[i + 3 * part]
        even, odd = first + second, first - second
        more, less = third + fourth, third - fourth
        target[4 * i] = even + more
        target[4 * i + 1] = even - more
        target[4 * i + 2] = odd + less
        target[4 * i + 3] = odd - less


@njit
def _scale(row: Any, gain: Any, out: Any) -> None:
    whole_registers()
    for k in range(row.size):
        out[k] = row[k] * gain[k]


@njit
def _hadamard(row: Any, other: Any) -> None:
    """`hadamard_reference` of one block in place; ``other`` is as long."""
    size, swapped = row.size, False
    while size > 1:
        if size > 2:
            if swapped:
                _two_stages(other, row)
            else:
                _two_stages(row, other)
        elif swapped:
            _stage(other, row)
        else:
            _stage(row, other)
        size >>= 2
        swapped = not swapped
    if swapped:
        for k in range(row.size):
            row[k] = other[k]


@njit
def transform_rows(x: Any, gain: Any, blocks: Any, order: Any, first: Any, last: Any, out: Any) -> None:
    """Rows first … last-1 of `transform_rows_reference` into the same rows of ``out`` (B, K) float32."""
    rows, other = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    for r in range(first, last):
        _scale(x[r], gain, rows)
        for n in range(blocks.size - 1):
            _hadamard(rows[blocks[n] : blocks[n + 1]], other[blocks[n] : blocks[n + 1]])
        if order.size:
            for i in range(order.size):
                out[r, i] = rows[order[i]]
        else:
            out[r] = rows
