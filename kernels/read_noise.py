"""Read noise: fresh in every product, at the output of each tile, with the exact variance of its linear cells.

A column's variance is Σ s_i·q_i² with s = σ²(G⁺) + σ²(G⁻) of a cell pair. s is kept on a grid of 127 steps a column
and q² = 128·high + low, so the sum is two int8 products: an integer, the same everywhere. The draw is keyed by the row
id of the token, the tile and the column, so batches, order and threads change nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.converters import C256, I128
from aimc_sim.kernels.elementary import peak_of
from aimc_sim.kernels.normal import CHUNK, GROUPS, fill_normals, normals

F32 = npt.NDArray[np.float32]
STEPS = 127  # of the grid of s
C128 = np.float32(128)
TILE_SHIFT = 20  # counter word 0: row tile above, block of columns below
ZERO = np.float32(0)


def square_planes(codes: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """(high, low) int8 with codes² = 128·high + low, for codes within ±127."""
    square = codes.astype(np.int16) ** 2
    return (square >> 7).astype(np.int8), (square & 127).astype(np.int8)


def product_normals(
    row_ids: npt.NDArray[np.int64], columns: int, tile: int, site: int, key: npt.NDArray[np.uint32]
) -> F32:
    """z (B, columns) of one row tile: the readable reference of the draw."""
    j = np.arange(columns, dtype=np.int64)
    group, lane = (j >> 6) << 4 | (j & 15), (j >> 4) & 3
    events = row_ids.astype(np.int64).view(np.uint64)
    z = np.empty((row_ids.size, columns), np.float32)
    for b, event in enumerate(events):
        counter = np.empty((columns, 4), np.uint32)
        counter[:, 0] = (tile << TILE_SHIFT) + group
        counter[:, 1], counter[:, 2] = int(event) & 0xFFFFFFFF, int(event) >> 32
        counter[:, 3] = site
        z[b] = normals(counter, key)[j, lane]
    return z


def noisy_adc_reference(
    value: F32,
    inverse: F32,
    variance: tuple[npt.NDArray[np.int32], ...],
    variance_scale: F32,
    z: F32,
    levels: int,
) -> F32:
    """Codes (levels > 0) or currents of sums (B, N) with noise: value·inverse + √(V·variance_scale)·z."""
    total = variance[0].astype(np.float32) * C128 + variance[1].astype(np.float32)
    signal = value * inverse + np.sqrt(total * variance_scale) * z
    if not levels:
        return np.asarray(signal)
    return np.asarray(np.minimum(np.maximum(np.rint(signal), np.float32(-levels)), np.float32(levels)))


def to_steps_reference(total: F32) -> tuple[npt.NDArray[np.int8], F32]:
    """(G⁺ + G⁻)/g_max (N, K) of one tile on the grid: steps int8 and the largest of each column (N,)."""
    peak = total.max(axis=1)
    scale = np.divide(np.float32(STEPS), peak, out=np.zeros_like(peak), where=peak > 0)
    return np.rint(total * scale[:, None]).astype(np.int8), peak


@njit
def to_steps(total: Any, bounds: Any, steps: Any, offsets: Any, first: Any, peak: Any) -> None:
    """Columns first … of total (n, K) into the flat grid; tile t of column j starts at offsets[t] + j·K_t."""
    for i in range(total.shape[0]):
        column = first + i
        for t in range(bounds.size - 1):
            a, b = bounds[t], bounds[t + 1]
            row = total[i, a:b]
            m = peak_of(row)
            peak[t, column] = m
            scale = np.float32(STEPS) / m if m > ZERO else ZERO
            at = offsets[t] + column * (b - a)
            out = steps[at : at + b - a]
            for r in range(b - a):
                out[r] = np.int8(np.int32(np.rint(row[r] * scale)))


@njit
def noisy_adc_add(
    high: Any, low: Any, sums: Any, beta: Any, inverse: Any, scale: Any, levels: Any, column: Any, out: Any,
    variance_high: Any, variance_low: Any, variance_scale: Any, row_ids: Any, tile: Any, site: Any, key: Any,
) -> None:  # fmt: skip
    """`converters.adc_add` with read noise; column is a multiple of 64."""
    n, width = np.float32(levels), high.shape[1]
    words, lanes = np.empty((4, GROUPS), np.uint32), np.empty((4, GROUPS), np.float32)
    z = np.empty(CHUNK, np.float32)
    for b in range(high.shape[0]):
        event = np.uint64(row_ids[b])
        c1, c2 = np.uint32(event & np.uint64(0xFFFFFFFF)), np.uint32(event >> np.uint64(32))
        shift = I128 * sums[b]
        gain = beta[b]
        for start in range(0, width, CHUNK):
            count = min(CHUNK, width - start)
            base = np.uint32((tile << TILE_SHIFT) + (column >> 2))
            fill_normals(z, start, count, base, c1, c2, site, key[0], key[1], words, lanes)
            h, low_row = high[b, start : start + count], low[b, start : start + count]
            vh, vl = variance_high[b, start : start + count], variance_low[b, start : start + count]
            inv, out_scale = inverse[start : start + count], scale[start : start + count]
            spread = variance_scale[start : start + count]
            y = out[b, column + start : column + start + count]
            for j in range(count):
                value = np.float32(h[j]) * C256 + np.float32(np.int32(low_row[j] + shift))
                total = np.float32(vh[j]) * C128 + np.float32(vl[j])
                signal = value * inv[j] + np.sqrt(total * spread[j]) * z[j]
                if levels > 0:
                    signal = min(max(np.rint(signal), -n), n)
                y[j] += (signal * out_scale[j]) * gain
