"""Where a fault map puts its faults: cells by column, lines by tile."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import I64, Bools
from aimc_sim.chip.mapping import TileMap
from aimc_sim.hardware import Hardware, fault_map
from aimc_sim.hardware.fault_map import COLUMN, DEAD_COLUMN, DEAD_ROW, HIGH, POLARITY, ROW, SLICE, STATE


@dataclass(frozen=True)
class MappedFaults:
    """Mapped faults are what the map says of one matrix. faults: (n, 5), see `hardware.fault_map`;
    lines: columns and spare columns.
    """

    faults: I64
    tile_map: TileMap
    lines: int

    def cells(self, names: npt.NDArray[np.uint32] | None, slice_: int) -> tuple[I64, I64]:
        """Return (stuck, 3) row, polarity, 1 at g_max or 0 at g_min, sorted by column, and (N + 1,) where each column
        begins.

        names: (N,) what the physical columns are called; None: by their index. Of two devices a polarity the map
        names the first.
        """
        faulty = self.faults[(self.faults[:, STATE] <= HIGH) & (self.faults[:, SLICE] == slice_)]
        where, count = faulty[:, COLUMN], int(self.tile_map.col_bounds[-1])
        if names is not None:
            count = names.size
            place = np.full(self.lines, -1, np.int64)
            place[names] = np.arange(count)
            where = place[where]
        order = np.argsort(where, kind="stable")
        ends = np.searchsorted(where[order], np.arange(count + 1)).astype(np.int64)
        listed = np.column_stack([faulty[:, ROW], faulty[:, POLARITY], faulty[:, STATE] == HIGH])[order]
        return np.ascontiguousarray(listed, np.int64), ends

    def of_copy(self, copy: int, slices: int) -> MappedFaults:
        """Return the same of one copy, whose ``slices`` arrays lie in tiles of their own."""
        return replace(self, faults=self.faults[self.faults[:, SLICE] // slices == copy])

    def of_slice(self, slice_: int) -> MappedFaults:
        """Return the same without the dead columns of other slices, whose ADCs are others; rows are those of all."""
        own = (self.faults[:, STATE] != DEAD_COLUMN) | (self.faults[:, SLICE] == slice_)
        return replace(self, faults=self.faults[own])

    def dead_columns(self) -> Bools:
        """Return (row tiles, lines): true where the map calls a column dead."""
        dead = np.zeros((self.tile_map.row_bounds.size - 1, self.lines), np.bool_)
        for fault in self.faults[self.faults[:, STATE] == DEAD_COLUMN]:
            tile = np.searchsorted(self.tile_map.row_bounds, fault[ROW], "right") - 1
            dead[slice(None) if fault[ROW] < 0 else tile, fault[COLUMN]] = True
        return dead

    def dead_rows(self) -> Bools:
        """Return (column tiles, rows): true where the map calls a row dead."""
        cols = self.tile_map.col_bounds
        dead = np.zeros((cols.size - 1, int(self.tile_map.row_bounds[-1])), np.bool_)
        for fault in self.faults[self.faults[:, STATE] == DEAD_ROW]:
            tile = np.searchsorted(cols, fault[COLUMN], "right") - 1
            if fault[COLUMN] >= cols[-1]:  # a spare column's tile
                tile = (fault[COLUMN] - cols[-1]) * (cols.size - 1) // (self.lines - cols[-1])
            dead[slice(None) if fault[COLUMN] < 0 else tile, fault[ROW]] = True
        return dead


def mapped_faults(hardware: Hardware, tile_map: TileMap, name: str) -> MappedFaults | None:
    """Return the faults that the hardware's map has for the matrix of this name; None without a map.

    Raises BadInput where a coordinate lies outside the matrix, or the file has changed.
    """
    if hardware.faults is None or hardware.faults.map is None:
        return None
    rows, columns = int(tile_map.row_bounds[-1]), int(tile_map.col_bounds[-1])
    spares = 0 if hardware.repair is None else hardware.repair.spare_columns
    lines = columns + spares * (tile_map.col_bounds.size - 1)
    found = fault_map.recall(hardware.faults.map.source, hardware.faults.map.sha256)
    return MappedFaults(found.of(name, rows, columns, lines, hardware.weights.arrays), tile_map, lines)
