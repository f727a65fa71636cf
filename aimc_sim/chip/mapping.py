"""Weight matrix ↔ tiles: where the cuts fall, how big each tile is, and what its arrays of cells hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Tile
from aimc_sim.hardware.cells import Weights, codes, digit, significance
from aimc_sim.hardware.tables import MAX_ROWS
from aimc_sim.kernels.grid_scale import grid_steps
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.randomness import MAX_ROW_TILES


@dataclass(frozen=True)
class TileMap:
    """A tile map cuts a K × N matrix: row tile t covers inputs row_bounds[t] … row_bounds[t+1]-1, columns likewise."""

    row_bounds: npt.NDArray[np.int64]  # (row tiles + 1,)
    col_bounds: npt.NDArray[np.int64]  # (column tiles + 1,)

    @property
    def column_tile(self) -> npt.NDArray[np.int64]:
        """Return (N,) index of the column tile that each output lies in."""
        return np.repeat(np.arange(self.col_bounds.size - 1), np.diff(self.col_bounds))


def tile_map(rows: int, cols: int, tile: Tile) -> TileMap:
    """Return the cuts of a matrix of ``rows`` inputs and ``cols`` outputs.
    Raises BadInput where a tile would be too high.
    """
    if tile.rows is None and rows > MAX_ROWS:
        raise BadInput(
            "tile.rows",
            got=None,
            why=f"this matrix has {rows} inputs and a tile at most {MAX_ROWS}",
            do=f"set tile.rows to {MAX_ROWS} or less",
        )
    bounds = cuts(rows, tile.rows, tile.split)
    if bounds.size - 1 > MAX_ROW_TILES:
        raise BadInput(
            "tile.rows",
            got=tile.rows,
            why=f"{rows} inputs would need {bounds.size - 1} row tiles, and the "
            f"counters of per-product noise name {MAX_ROW_TILES}",
            do="use higher tiles",
        )
    return TileMap(bounds, cuts(cols, tile.cols, tile.split))


def cuts(length: int, limit: int | None, split: str = "filled") -> npt.NDArray[np.int64]:
    """Return the bounds of the parts of ``length``, none above ``limit``:
    filled parts and a rest, or even parts (±1).
    """
    if limit is None or limit >= length:
        return np.array([0, length], np.int64)
    parts = -(-length // limit)
    if split == "even":
        return np.array([length * part // parts for part in range(parts + 1)], np.int64)
    return np.array([*range(0, length, limit), length], np.int64)


class Targets(NamedTuple):
    """Targets are what the cells of one array (slice) are programmed to."""

    w: F32  # (N, K) weights, or digits over the largest one
    # (row tiles, N) the value of ``w`` that g_max stands for; None: the largest of each column
    full_scale: F32 | None
    # what every cell of the offset columns holds, of the largest digit; None: pairs
    offset: float | None = None
    significance: float = 1.0  # what a full-scale cell is worth, in full-scale weights
    slice: int = 0  # which array of its matrix: copy · slices + slice


def full_scales(w: F32, tmap: TileMap, weights: Weights) -> F32:
    """(row tiles, N) the weight that a full-scale code stands for: the largest of a column, or of all of its tile's;
    or the largest code of the checkpoint's own grid. Raises BadInput where its weights lie on none."""
    starts = np.arange(tmap.row_bounds.size - 1)
    if weights.group_rows is not None:
        starts = np.flatnonzero(np.diff(tmap.row_bounds[:-1] // weights.group_rows, prepend=-1))
    bounds = np.append(tmap.row_bounds[starts], tmap.row_bounds[-1])
    if weights.scale == "grid":
        largest = _grid_scales(w, bounds, weights)
    else:
        ends = zip(bounds[:-1], bounds[1:], strict=True)
        largest = np.stack([np.abs(w[:, a:b]).max(axis=1) for a, b in ends])
    if weights.scale == "tile":
        largest = np.maximum.reduceat(largest, tmap.col_bounds[:-1], axis=1)[:, tmap.column_tile]
    tiles_of_group = np.diff(np.append(starts, tmap.row_bounds.size - 1))
    return np.ascontiguousarray(np.repeat(largest, tiles_of_group, axis=0))


def _grid_scales(w: F32, bounds: npt.NDArray[np.int64], weights: Weights) -> F32:
    """Return (groups, N) levels · step of a quantised checkpoint."""
    step = np.empty((bounds.size - 1, w.shape[0]))
    run_blocks(lambda a, b: grid_steps(w, bounds, weights.max_code, a, b, step), w.shape[0], 64)
    if (step < 0).any():
        group, column = (int(index[0]) for index in np.nonzero(step < 0))
        raise BadInput(
            f"weights.scale for output {column}, inputs {bounds[group]} to {bounds[group + 1] - 1}",
            got="grid",
            why=f"these weights are not multiples of one step, at most ±{weights.max_code}: the checkpoint is not "
            f"quantised to {weights.bits} bits in these groups",
            do="set weights.bits and weights.group_rows as the checkpoint was quantised, or scale = 'column'",
        )
    return np.asarray(step * weights.max_code, np.float32)


def arrays(w: F32, tmap: TileMap, weights: Weights) -> tuple[list[Targets], F32 | None]:
    """Return the arrays that hold w (N, K), least significant first, and the weights' scales (row tiles, N).

    Scales are None where each column's largest is its scale and the cells take the weights as they are.
    """
    if weights.plain and weights.scale == "column" and weights.group_rows is None:
        return [Targets(w, None)], None
    scales = full_scales(w, tmap, weights)
    if weights.plain:
        return [Targets(w, scales)], scales
    full = np.repeat(scales.T, np.diff(tmap.row_bounds), axis=1)
    r = np.divide(w, full, out=np.zeros_like(w), where=full > 0)
    ones = np.ones_like(scales)
    offset = weights.pair == "offset_column"
    if weights.bits is None:
        relative = (r + np.float32(1)) * np.float32(0.5) if offset else r
        return _copy_slices(
            [Targets(relative, ones, 0.5 if offset else None, significance(weights, 0))], weights
        ), scales
    code = codes(r, weights.max_code) + (weights.max_code if offset else 0)
    targets = []
    for k in range(weights.slices):
        largest = weights.largest_digit(k)
        relative = (digit(code, weights, k) / largest).astype(np.float32)
        shift = digit(np.array([weights.max_code], np.int32), weights, k)[0] / largest if offset else None
        targets.append(
            Targets(relative, ones, None if shift is None else float(shift), significance(weights, k), k)
        )
    return _copy_slices(targets, weights), scales


def _copy_slices(slices: list[Targets], weights: Weights) -> list[Targets]:
    """Return the slices of every copy; each copy counts for its share of the mean."""
    copies = weights.copies or 1
    return [
        part._replace(significance=part.significance / copies, slice=copy * len(slices) + part.slice)
        for copy in range(copies)
        for part in slices
    ]
