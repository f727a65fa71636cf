"""Read noise: fresh in every product, at the output of each tile, with the exact variance of its linear cells.

A column's variance is Σ s_i·m(q_i) with s = σ²(G⁺) + σ²(G⁻) of a cell pair and m as in `kernels.reads`. s is kept on a
grid of 127 steps a column and m = 128·high + low, so the sum is two int8 products: an integer, the same everywhere. The
draw is keyed by the row id of the token, the tile and the column, so batches, order and threads change nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32, I32, I64, U8, U32
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.memory import whole_registers
from aimc_sim.kernels.normal import normals, normals_of_pair, words_of_groups
from aimc_sim.kernels.panels import to_levels

STEPS = 127  # of the grid of s
C128 = np.float32(128)
TILE_SHIFT = 20  # counter word 0: row tile above, block of columns below
COLUMNS = 64  # of one block of draws: 16 groups of 4
GROUPS = COLUMNS // 4


def product_normals(row_ids: I64, columns: int, tile: int, site: int, key: U32) -> F32:
    """Return z (B, columns) of one row tile: the readable reference of the draw."""
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


def noisy_reference(signal: F32, variance: tuple[I32, ...], spread: F32, floor: float, z: F32) -> F32:
    """Return signal (B, N) in codes + √(V·spread + floor)·z, V the integer variance in its two parts."""
    total = variance[0].astype(np.float32) * C128 + variance[1].astype(np.float32)
    return np.asarray(signal + np.sqrt(total * spread + np.float32(floor)) * z)


def to_steps_reference(total: F32) -> tuple[U8, F32]:
    """Return (G⁺ + G⁻)/g_max (N, K) of one tile on the grid: steps uint8 and the largest of each column (N,)."""
    peak = total.max(axis=1)
    scale = np.divide(np.float32(STEPS), peak, out=np.zeros_like(peak), where=peak > 0)
    return np.rint(total * scale[:, None]).astype(np.uint8), peak


@njit
def to_steps(total: Any, bounds: Any, first: Any, peak: Any, steps: Any) -> None:
    """Columns first … of total (n, K) on the grid: steps (n, K) uint8; peak (tiles, N) is written."""
    to_levels(total, bounds, first, STEPS, peak, steps)


@njit
def draw(
    row_ids: Any, first: Any, count: Any, reads: Any, block: Any, tile: Any, site: Any, k0: Any, k1: Any, words: Any,
    z: Any,
) -> None:  # fmt: skip
    """Normals of rows first … first+count-1 at the 64 columns of a block: lane l of group g of row i at z[l, i·16 + g].

    A row is one of the ``reads`` of a token, row // reads; its index among them is added to ``site``.
    Scratch: words (4, count·16) uint32. A column j of the block has lane j // 16 and group j % 16.
    """
    whole_registers()
    base = np.uint32((tile << TILE_SHIFT) + block * GROUPS)
    token, read = first // reads, first % reads
    for i in range(count):
        event = np.uint64(row_ids[token])
        c1, c2 = np.uint32(event & np.uint64(0xFFFFFFFF)), np.uint32(event >> np.uint64(32))
        c3 = np.uint32(site + read)
        read += 1
        if read == reads:
            token, read = token + 1, 0
        words_of_groups(base, GROUPS, c1, c2, c3, k0, k1, words[:, i * GROUPS : (i + 1) * GROUPS])
    normals_of_pair(words[0], words[1], z[0], z[1], count * GROUPS)
    normals_of_pair(words[2], words[3], z[2], z[3], count * GROUPS)
