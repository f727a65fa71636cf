"""Weight matrix ↔ tiles: where the cuts fall, and how big each tile is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.hardware import MAX_ROWS, Tile
from aimc_sim.randomness import MAX_ROW_TILES


@dataclass(frozen=True)
class TileMap:
    """Cuts of a K × N matrix: row tile t covers inputs row_bounds[t] … row_bounds[t+1]-1, columns likewise."""

    row_bounds: npt.NDArray[np.int64]  # (row tiles + 1,)
    col_bounds: npt.NDArray[np.int64]  # (column tiles + 1,)

    @property
    def tiles(self) -> int:
        """Number of crossbars."""
        return (self.row_bounds.size - 1) * (self.col_bounds.size - 1)

    @property
    def column_tile(self) -> npt.NDArray[np.int64]:
        """(N,) index of the column tile that each output lies in."""
        return np.repeat(np.arange(self.col_bounds.size - 1), np.diff(self.col_bounds))


def tile_map(rows: int, cols: int, tile: Tile) -> TileMap:
    """Cuts of a matrix of ``rows`` inputs and ``cols`` outputs. Raises BadInput where a tile would be too high."""
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
    """Bounds of the parts of ``length``, none above ``limit``: filled parts and a rest, or even parts (±1)."""
    if limit is None or limit >= length:
        return np.array([0, length], np.int64)
    parts = -(-length // limit)
    if split == "even":
        return np.array([length * part // parts for part in range(parts + 1)], np.int64)
    return np.array([*range(0, length, limit), length], np.int64)
