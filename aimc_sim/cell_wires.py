"""Cells behind the wires of their tiles: one linear map a tile, after drift and faults, before anything reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim import wires
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import conductance
from aimc_sim.kernels.conductance import DeviceTables
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.mapping import TileMap

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
AT_ONCE = 1 << 24  # cells whose conductances are held at once


class WiredCells:
    """The cells of one matrix, seen through wires.

    cells(first, last, tables) gives (effective, total) of columns first … last-1 without wires, (n, K) each:
    (G⁺ - G⁻)/span and (G⁺ + G⁻)/g_max. unit: columns that one thread programs.
    """

    def __init__(
        self, hardware: Hardware, tile_map: TileMap, cells: Callable[[int, int, DeviceTables], tuple[F32, F32]],
        unit: int,
    ) -> None:  # fmt: skip
        self.hardware, self.tile_map, self._cells, self._unit = hardware, tile_map, cells, unit

    def visit(
        self, tables: DeviceTables, use: Callable[[int, int, F32, F32], None], readouts: tuple[I64, I64] | None,
        read_out: DeviceTables,
    ) -> None:  # fmt: skip
        """Call use(first, last, effective, total) for groups of column tiles; fill readouts (tiles, N), if asked for:
        Σ|weight| at programming and at the age of ``read_out``, before 1/f noise, each through the wires.
        """
        bounds = self.tile_map.col_bounds
        states = [tables]
        if readouts is not None:
            quiet = read_out._replace(flicker=conductance.NO_FLICKER)
            states += [quiet._replace(drift=conductance.NO_DRIFT), quiet]
        first_tile, rows = 0, int(self.tile_map.row_bounds[-1])
        while first_tile < bounds.size - 1:
            last_tile = first_tile + 1
            while (
                last_tile < bounds.size - 1 and (bounds[last_tile + 1] - bounds[first_tile]) * rows <= AT_ONCE
            ):
                last_tile += 1
            first, last = int(bounds[first_tile]), int(bounds[last_tile])
            for which, state in enumerate(states):
                effective, total = self._programmed(first, last, state)
                self._through(first_tile, last_tile, effective, total)
                if which and readouts is not None:
                    units = np.rint(np.abs(effective) * conductance.READOUT_UNIT).astype(np.int64)
                    sums = np.add.reduceat(units, self.tile_map.row_bounds[:-1], axis=1).T
                    readouts[which - 1][:, first:last] = sums
                elif not which:
                    use(first, last, effective, total if self.hardware.read_noise else total[:, :0])
            first_tile = last_tile

    def _programmed(self, first: int, last: int, tables: DeviceTables) -> tuple[F32, F32]:
        shape = (last - first, int(self.tile_map.row_bounds[-1]))
        effective, total = np.empty(shape, np.float32), np.empty(shape, np.float32)

        def block(start: int, stop: int) -> None:
            effective[start:stop], total[start:stop] = self._cells(first + start, first + stop, tables)

        run_blocks(block, last - first, self._unit)
        return effective, total

    def _through(self, first_tile: int, last_tile: int, effective: F32, total: F32) -> None:
        """Replace both arrays, columns of column tiles first_tile … last_tile-1, by what the wires leave of them."""
        device, spec = self.hardware.device, self.hardware.wires
        assert spec is not None
        span, g_max = np.float32(device.g_max_us - device.g_min_us), np.float32(device.g_max_us)
        rows, cols = self.tile_map.row_bounds, self.tile_map.col_bounds
        by_shape: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
        for c in range(first_tile, last_tile):
            columns = slice(int(cols[c] - cols[first_tile]), int(cols[c + 1] - cols[first_tile]))
            for a, b in zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True):
                by_shape.setdefault((b - a, columns.stop - columns.start), []).append((columns, slice(a, b)))
        options: dict[str, Any] = {
            "layout": spec.layout, "drive": spec.drive, "sense": spec.sense, "r_driver_ohm": spec.r_driver_ohm,
            "r_sense_ohm": spec.r_sense_ohm,
        }  # fmt: skip
        for places in by_shape.values():
            half_sum = np.stack([total[place].T for place in places]) * (g_max / 2)
            half_difference = np.stack([effective[place].T for place in places]) * (span / 2)
            plus, minus = np.maximum(half_sum + half_difference, 0), np.maximum(half_sum - half_difference, 0)
            ends = (plus, minus, spec.r_row_ohm, spec.r_col_ohm)
            if spec.model == "exact":
                plus, minus = (
                    g.astype(np.float32) for g in wires.differential_effective_conductance(*ends, **options)
                )
            else:
                plus, minus, _ = wires.differential_effective_conductance_fast(*ends, **options)
            for place, g_plus, g_minus in zip(places, plus, minus, strict=True):
                effective[place] = (g_plus - g_minus).T / span
                total[place] = (g_plus + g_minus).T / g_max
