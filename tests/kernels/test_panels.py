"""The 16-bit grid, and the order in which panels keep it."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim.kernels import panels
from aimc_sim.testing import assert_bits


def pattern(n: int, k: int) -> np.ndarray:
    return np.sin(np.arange(n * k, dtype=np.float32) ** 1.3).reshape(n, k)


def test_grid_of_16_bits() -> None:
    w = pattern(5, 40)
    w[1] = 0
    w[2, 0] = -1.5
    bounds = np.array([0, 40])
    grid, peak = np.empty(w.shape, np.int16), np.empty((1, 5), np.float32)
    panels.to_grid(w, bounds, 0, peak, grid)
    expected, largest = panels.grid_reference(w)
    assert_bits(grid, expected)
    assert_bits(peak[0], largest)
    back = panels.from_grid(grid, peak[0])
    assert np.abs(back - w).max() <= np.abs(w).max() / 32767 * 0.501
    assert (back[1] == 0).all()
    assert grid[2, 0] == -32767


@pytest.mark.parametrize(
    ("cols", "bounds"), [(1, [0, 1]), (33, [0, 5, 9]), (64, [0, 64, 128]), (100, [0, 7])]
)
def test_panels_hold_every_weight_where_the_layout_says(cols: int, bounds: list[int]) -> None:
    ends, k = np.array(bounds), bounds[-1]
    grid = np.rint(pattern(cols, k) * 32767).astype(np.int16)
    quads = panels.quad_starts(ends)
    packed = panels.empty_panels(cols, ends, 2)
    for first in range(0, cols, panels.HALF):  # as threads do it
        panels.pack_grid(grid[first : first + panels.HALF], ends, quads, first, packed)
    assert packed.ctypes.data % 64 == 0
    for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        for column in range(cols):
            for row in range(b - a):
                quad = column // 32 * quads[-1] + quads[t] + row // 4
                at = quad * 256 + column % 32 * 4 + row % 4
                assert 256 * (int(packed[at]) - 128) + int(packed[at + 128]) == grid[column, a + row]
    for (high, low), (a, b) in zip(
        panels.signed_planes(packed, cols, ends), zip(bounds[:-1], bounds[1:], strict=True), strict=True
    ):
        assert_bits(256 * high.astype(int) + low + 128, grid[:, a:b].astype(int))


def test_one_plane() -> None:
    ends = np.array([0, 6, 11])
    values = (np.arange(40 * 11) % 128).astype(np.uint8).reshape(40, 11)
    packed = panels.empty_panels(40, ends, 1)
    panels.pack_plane(values, ends, panels.quad_starts(ends), 0, packed)
    rows = panels.row_major(packed, 40, ends, 1)
    assert_bits(np.concatenate([part[0] for part in rows], axis=1), values)
