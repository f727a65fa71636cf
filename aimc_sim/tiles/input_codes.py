"""What a way of driving the rows asks of the tiles: the constant of offset-binary inputs, the rows of DACs' INL."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aimc_sim.aliases import F32, F64, I16
from aimc_sim.errors import BadInput
from aimc_sim.kernels import panels
from aimc_sim.kernels.reads import LARGEST
from aimc_sim.tiles.matrix import NOISE_PLANES, WEIGHT_PLANES, TiledMatrix


def _grids(tiles: TiledMatrix) -> list[I16]:
    """Return for each row tile its weights (N, K_t) on their grid."""
    assert tiles.panels is not None
    planes = panels.row_major(tiles.panels, tiles.cols, tiles.bounds, WEIGHT_PLANES)
    return [((high.astype(np.int16) - 128) * 256 + low).astype(np.int16) for high, low in planes]


def offset_constant(tiles: TiledMatrix) -> F64:
    """Return (tiles, N) codes that 2^(bits-1) at every input gives: what offset binary adds to the sum of all reads.

    Of the weights as the columns hold them now, exactly: a chip finds it by reading them out.
    """
    sums = [grid.sum(axis=1, dtype=np.int64) for grid in _grids(tiles)]
    return np.asarray((tiles.dac_max_code + 1) * np.stack(sums) * tiles.inverse.astype(np.float64))


def with_inl_rows(tiles: TiledMatrix, peaks: F32) -> TiledMatrix:
    """Return the tiles whose DACs have curves: every row again, its weights times its curve's peak.

    peaks (N, K) float32: of the curve of the DAC that drives row k of column n's tile, in codes. The added weights,
    W·peak/127, are rounded to the grid of their column; read noise stays that of the codes.
    Raises BadInput for tiles of so many rows that their sums could leave 32 bits.
    """
    tallest = int(np.diff(tiles.bounds).max())
    if 2 * tallest > panels.MAX_TILE_ROWS:
        raise BadInput(
            "tile",
            got=tallest,
            why=f"a DAC's nonlinearity takes every row twice, and a tile has at most {panels.MAX_TILE_ROWS}",
            do="give tile.rows, or set dac.errors.inl_sigma_lsb to 0",
        )
    inner, noise = 2 * tiles.bounds, tiles.noise
    quads = panels.quad_starts(inner)
    grid = np.empty((tiles.cols, int(inner[-1])), np.int16)
    for a, b, w in zip(tiles.bounds[:-1], tiles.bounds[1:], _grids(tiles), strict=True):
        added = np.rint(w * (peaks[:, a:b] / np.float32(LARGEST)))
        grid[:, 2 * a : a + b] = w
        grid[:, a + b : 2 * b] = np.clip(added, -panels.GRID, panels.GRID)
    packed = panels.empty_panels(tiles.cols, inner, WEIGHT_PLANES)
    panels.pack_grid(grid, inner, quads, 0, packed)
    if noise is not None and noise.steps is not None:
        plain = panels.row_major(noise.steps, tiles.cols, tiles.bounds, NOISE_PLANES)
        both = [np.concatenate([plane, np.zeros_like(plane)], axis=1) for (plane,) in plain]
        steps = panels.empty_panels(tiles.cols, inner, NOISE_PLANES)
        panels.pack_plane(np.ascontiguousarray(np.concatenate(both, axis=1)), inner, quads, 0, steps)
        noise = noise._replace(steps=steps)
    return replace(tiles, panels=packed, dac_inl=True, noise=noise)
