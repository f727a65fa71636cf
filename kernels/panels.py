"""How a programmed matrix lies in memory: panels of 32 columns, in the order in which the processor multiplies them.

A *quad* is 4 rows of one column, 4 adjacent bytes; 16 columns of a quad fill one vector register. A panel holds, row
tile by row tile, quad by quad, its byte planes one after the other:

    panels[column // 32][quad][plane][column // 16 % 2][column % 16][row % 4]      uint8

A product therefore reads every panel once, from its first byte to its last. Two planes make a weight on the 16-bit
grid, W = 256·(first - 128) + second; one plane holds what read noise needs. Rows are filled up to whole quads and
columns to whole panels with zeros, which meet codes of zero or are never looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32, I8, I16, I64, U8
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import peak_of

PANEL = 32  # columns
HALF = 16  # columns of a vector register
QUAD = 4  # rows
PLANE_BYTES = PANEL * QUAD  # of one plane of one quad
SLACK = 16 * 2 * PLANE_BYTES  # read beyond the last quad by a matrix unit that takes 64 rows at once
ALIGNMENT = 64
GRID = 32767  # largest magnitude of an effective weight on the 16-bit grid
MAX_TILE_ROWS = 32_768  # sums of a tile stay within 32 bits
ZERO = np.float32(0)


def quad_starts(bounds: I64) -> I64:
    """Return (tiles + 1,) the first quad of each row tile."""
    return np.concatenate([[0], np.cumsum(-(-np.diff(bounds) // QUAD))]).astype(np.int64)


def panel_count(cols: int) -> int:
    """Return the panels that hold ``cols`` columns."""
    return -(-cols // PANEL)


def empty_panels(cols: int, bounds: I64, planes: int) -> U8:
    """Return panels of zeros for a matrix of ``cols`` columns in row tiles ``bounds``;
    flat, aligned to a cache line.
    """
    size = panel_count(cols) * int(quad_starts(bounds)[-1]) * planes * PLANE_BYTES + SLACK
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def row_major(panels: U8, cols: int, bounds: I64, planes: int) -> list[U8]:
    """Return for each row tile its planes (planes, N, K_t) uint8:
    a copy in the order in which one thinks of a matrix.
    """
    quads = quad_starts(bounds)
    count = panel_count(cols)
    shape = (count, int(quads[-1]), planes, PANEL // HALF, HALF, QUAD)
    whole = panels[: int(np.prod(shape))].reshape(shape).transpose(2, 0, 3, 4, 1, 5)
    rows = whole.reshape(planes, count * PANEL, -1)[:, :cols]
    ends = zip(quads[:-1] * QUAD, np.diff(bounds), strict=True)
    return [np.ascontiguousarray(rows[:, :, a : a + k]) for a, k in ends]


def signed_planes(panels: U8, cols: int, bounds: I64) -> list[tuple[I8, I8]]:
    """Return for each row tile (high, low) int8 (N, K_t) with W = 256·high + low + 128:
    for products of signed bytes.
    """
    flip = np.uint8(128)
    return [
        ((high ^ flip).view(np.int8), (low ^ flip).view(np.int8))
        for high, low in row_major(panels, cols, bounds, 2)
    ]


def grid_reference(effective: F32) -> tuple[I16, F32]:
    """Return the effective weights (N, K) of one tile on the 16-bit grid: W int16 and the largest |weight| (N,)."""
    peak = np.abs(effective).max(axis=1)
    scale = np.divide(np.float32(GRID), peak, out=np.zeros_like(peak), where=peak > 0)
    return np.rint(effective * scale[:, None]).astype(np.int16), peak


def from_grid(grid: I16, peak: F32) -> F32:
    """Return the effective weights (N, K) that grid values (N, K) of one tile stand for."""
    weights: F32 = grid.astype(np.float32) * (peak / np.float32(GRID))[:, None]
    return weights


@njit
def to_levels(values: Any, bounds: Any, first: Any, limit: Any, peak: Any, out: Any) -> None:
    """Columns first … of values (n, K) in whole numbers up to ±limit, which is the largest of each column in its tile:
    ``out`` (n, K) integers; peak (tiles, N) is written."""
    for i in range(values.shape[0]):
        for t in range(bounds.size - 1):
            row, levels = values[i, bounds[t] : bounds[t + 1]], out[i, bounds[t] : bounds[t + 1]]
            m = peak_of(row)
            peak[t, first + i] = m
            scale = np.float32(limit) / m if m > ZERO else ZERO
            for r in range(row.size):
                levels[r] = np.int32(np.rint(row[r] * scale))


@njit
def to_grid(effective: Any, bounds: Any, first: Any, peak: Any, grid: Any) -> None:
    """Columns first … of effective (n, K) on the 16-bit grid: ``grid`` (n, K) int16; peak (tiles, N) is written."""
    to_levels(effective, bounds, first, GRID, peak, grid)


@njit
def pack_grid(grid: Any, bounds: Any, quads: Any, first: Any, panels: Any) -> None:
    """Two planes of columns first … (first a multiple of 16) from ``grid`` (n, K) int16 into ``panels`` (flat)."""
    lines = np.zeros((2, HALF, quads[-1] * QUAD), np.uint8)
    for start in range(0, grid.shape[0], HALF):
        count = min(HALF, grid.shape[0] - start)
        for c in range(count):
            for t in range(bounds.size - 1):
                row, at = grid[start + c, bounds[t] : bounds[t + 1]], quads[t] * QUAD
                high, low = lines[0, c, at : at + row.size], lines[1, c, at : at + row.size]
                for r in range(row.size):
                    high[r] = np.uint8((np.int32(row[r]) >> np.int32(8)) + np.int32(128))
                    low[r] = np.uint8(np.int32(row[r]) & np.int32(255))
        _interleave(lines.view(np.uint32), count, first + start, panels.view(np.uint32))


@njit
def pack_plane(values: Any, bounds: Any, quads: Any, first: Any, panels: Any) -> None:
    """One plane of columns first … (first a multiple of 16) from ``values`` (n, K) uint8 into ``panels`` (flat)."""
    lines = np.zeros((1, HALF, quads[-1] * QUAD), np.uint8)
    for start in range(0, values.shape[0], HALF):
        count = min(HALF, values.shape[0] - start)
        for c in range(count):
            for t in range(bounds.size - 1):
                a, at = bounds[t], quads[t] * QUAD
                lines[0, c, at : at + bounds[t + 1] - a] = values[start + c, a : bounds[t + 1]]
        _interleave(lines.view(np.uint32), count, first + start, panels.view(np.uint32))


@njit
def _interleave(lines: Any, count: Any, column: Any, panels: Any) -> None:
    """Write the quads of ``count`` columns, ``lines`` (planes, 16, quads) uint32, to where half a panel holds them."""
    planes, quads = lines.shape[0], lines.shape[2]
    base = (column // PANEL) * quads * planes * PANEL + column % PANEL
    for u in range(quads):
        for h in range(planes):
            out = panels[base + (u * planes + h) * PANEL : base + (u * planes + h) * PANEL + count]
            for c in range(count):
                out[c] = lines[h, c, u]
