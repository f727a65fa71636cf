"""Repair: which physical column of its tile each output's weights are written to, so that known faults hurt least.

A test knows which cells are stuck and which columns are dead, not how a cell will be programmed. Writing the weights
w_j of an output into physical column p of a tile then costs

    c(j, p) = s_j² · Σ_rows (error of w_j / s_j that the stuck cells of p cause)²,   all of Σ w_j² where p is dead,

with s_j the weight at full scale. ``assign`` minimises Σ_j c(j, p(j)) over all one-to-one p, spares among the places
(Kuhn's assignment problem; scipy.optimize.linear_sum_assignment). ``worst`` moves the columns that lose most, one after
the other, to the spare that serves each best, as long as that helps. The outputs are put back in order digitally, so in
exact cells a permutation changes nothing.

Columns of a repaired array lie tile by tile, each tile's spares after its own; they are *called* as in the plain array,
spare s of column tile c by N + c·spares + s, so that every column keeps its draws. `RepairedArray` is a permutation
around the array of cells, which knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aimc_sim.aliases import F32, F64, I64, U32, Bools
from aimc_sim.chip.array import CellArray
from aimc_sim.chip.blocks import Block, Readouts, Scales, Sink, Whole
from aimc_sim.chip.draws import dead_columns
from aimc_sim.chip.fault_sites import MappedFaults
from aimc_sim.chip.mapping import Targets, TileMap
from aimc_sim.hardware.imperfections import Faults, Repair
from aimc_sim.kernels.cells import Cells, DeviceTables, SiteKeys, column_max_reference
from aimc_sim.kernels.stuck import moving_costs, stuck_states

STAY = 1e-9  # of the largest cost: among equals a column stays where it is


@dataclass(frozen=True)
class Layout:
    """A layout places the columns of an array with spares. names: (N + spares,) what they are called; home: (N,) where
    output j lies without repair.
    """

    tile_map: TileMap
    names: U32
    home: I64


def layout(plain: TileMap, spares: int) -> Layout:
    """Return where the columns of a matrix and ``spares`` more of every tile lie."""
    bounds, tiles = plain.col_bounds, plain.col_bounds.size - 1
    total, names = int(bounds[-1]), []
    for c in range(tiles):
        names += [
            np.arange(bounds[c], bounds[c + 1]),
            np.arange(total + c * spares, total + (c + 1) * spares),
        ]
    home = np.arange(total) + spares * plain.column_tile
    cols = bounds + spares * np.arange(tiles + 1)
    return Layout(TileMap(plain.row_bounds, cols), np.concatenate(names).astype(np.uint32), home)


def plan(
    w: F32, scale: F32, spec: Repair, places: Layout, plain: TileMap, tables: DeviceTables, sites: SiteKeys, dead: Bools
) -> I64:  # fmt: skip
    """Return (row tiles, N): the physical column of each output in each row tile.

    w: (N, K); scale: (row tiles, N) the weights at full scale; tables, sites: the cells and what they are called, with
    their faults; dead: (row tiles, lines) dead columns, by name.
    """
    rows, cols = plain.row_bounds, plain.col_bounds
    site = np.tile(places.home, (rows.size - 1, 1))
    for c in range(cols.size - 1):
        start, end = int(places.tile_map.col_bounds[c]), int(places.tile_map.col_bounds[c + 1])
        states = np.empty((2, end - start, w.shape[1]), np.int8)
        stuck_states(tables, sites, start, end, w.shape[1], states)
        tile_columns = slice(int(cols[c]), int(cols[c + 1]))
        for t, (a, b) in enumerate(zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True)):
            lost = dead[t, places.names[start:end]]
            if not (states[:, :, a:b].any() or lost.any()):
                continue
            full = scale[t, tile_columns].astype(np.float64)[:, None]
            ratio = np.divide(w[tile_columns, a:b], full, out=np.zeros((full.size, b - a)), where=full > 0)
            cost = np.empty((full.size, end - start))
            moving_costs(
                np.ascontiguousarray(ratio, np.float32), np.ascontiguousarray(states[:, :, a:b]), lost, cost
            )
            cost *= full**2
            site[t, tile_columns] = start + (
                assign_columns(cost) if spec.remap == "assign" else move_worst_columns(cost)
            )
    return site


def assign_columns(cost: F64) -> I64:
    """Return (n,): the column of each output with the least Σ cost, cost (n, m ≥ n); output j at home in column j."""
    from scipy.optimize import linear_sum_assignment

    away = cost + STAY * cost.max()
    home = np.arange(cost.shape[0])
    away[home, home] = cost[home, home]
    return np.asarray(linear_sum_assignment(away)[1], np.int64)


def move_worst_columns(cost: F64) -> I64:
    """Return (n,): the same for outputs that may only stay at home or move to one of the m - n spares,
    the worst first.
    """
    n = cost.shape[0]
    home = np.arange(n)
    place, free = home.copy(), list(range(n, cost.shape[1]))
    for j in np.argsort(-cost[home, home], kind="stable").tolist():
        if not free or cost[j, j] == 0:
            break
        best = min(free, key=lambda p: (cost[j, p], p))
        if cost[j, best] < cost[j, j]:
            place[j] = best
            free.remove(best)
    return np.asarray(place, np.int64)


def dead_lines(
    faults: Faults, mapped: MappedFaults | None, row_tiles: int, lines: int, ordinal: int, seed: int
) -> Bools:
    """Return (row tiles, lines): columns that give nothing, drawn or named by the fault map."""
    dead = dead_columns(faults, row_tiles, lines, ordinal, seed)
    return dead if mapped is None else dead | mapped.dead_columns()


def to_physical(w: F32, site: I64, places: Layout) -> F32:
    """Return the matrix (physical columns, K) that is programmed, 0 where a column is not used. w: (N, K)."""
    out = np.zeros((places.names.size, w.shape[1]), np.float32)
    rows = places.tile_map.row_bounds
    for t, (a, b) in enumerate(zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True)):
        out[site[t], a:b] = w[:, a:b]
    return out


def to_outputs(physical: F32, site: I64, places: Layout) -> F32:
    """Return the inverse of `to_physical`: what the outputs' weights (N, K) are in the ``physical`` columns (M, K)."""
    out = np.empty((site.shape[1], physical.shape[1]), np.float32)
    rows = places.tile_map.row_bounds
    for t, (a, b) in enumerate(zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True)):
        out[:, a:b] = physical[site[t], a:b]
    return out


@dataclass(frozen=True)
class RepairedArray:
    """A repaired array has its outputs written to other columns of their tiles, and put back in order digitally.

    array: as it would be without repair. places: where columns and spares lie. site: (row tiles, N) the physical column
    of each output.
    """

    array: CellArray
    places: Layout
    site: I64

    @property
    def targets(self) -> Targets:
        """Return what the outputs are programmed to, in their order."""
        return self.array.targets

    @property
    def faults(self) -> MappedFaults | None:
        """Return what the fault map says of this matrix."""
        return self.array.faults

    @property
    def tables(self) -> DeviceTables:
        """Return the device now."""
        return self.array.tables

    @property
    def lines(self) -> I64:
        """Return (row tiles, N) what the column of each output is called."""
        return self.places.names[self.site].astype(np.int64)

    def sites(self, device: int = 0) -> SiteKeys:
        """Return what the draws of one device a polarity are named by, without repair."""
        return self.array.sites(device)

    def reference(self, columns: int | None = None) -> Cells:
        """Return the first device's cells by the readable formula, without repair."""
        return self.array.reference(columns)

    def device_cells(self, *arguments: Any) -> tuple[F32, F32]:
        """`CellArray.device_cells`, without repair."""
        return self.array.device_cells(*arguments)

    def program_into(self, sink: Sink) -> Scales:
        """Push the cells into a sink, in the order of the outputs; see `CellArray.program_into`."""
        array, site = self.array, self.site
        full_scale, scale = array.targets.full_scale, None
        if full_scale is not None:
            scale = np.ones((site.shape[0], self.places.names.size), np.float32)
            np.put_along_axis(scale, site, full_scale, axis=1)
        w = to_physical(array.targets.w, site, self.places)
        targets = array.targets._replace(w=w, full_scale=scale)
        physical = replace(array, targets=targets, tile_map=self.places.tile_map, names=self.places.names)
        whole = Whole(*w.shape, needs_total=sink.needs_total)
        readouts = physical.push(whole)
        total = (
            to_outputs(whole.total, site, self.places) if sink.needs_total else whole.total[: site.shape[1]]
        )
        sink.keep(Block(0, site.shape[1], to_outputs(whole.effective, site, self.places), total))
        back = Readouts(
            np.take_along_axis(readouts.full_scale, site, axis=1),
            np.take_along_axis(readouts.before, site, axis=1),
            np.take_along_axis(readouts.after, site, axis=1),
        )
        return array.scales_of(back, array.tile_map)


def repair_array(array: CellArray) -> CellArray | RepairedArray:
    """Move an array's columns away from known faults, as its hardware asks for; the array itself where nothing does."""
    spec, faults = array.hardware.repair, array.hardware.faults
    if spec is None or faults is None:
        return array
    plain = array.tile_map
    places = layout(plain, spec.spare_columns)
    bare = replace(array, tile_map=places.tile_map, names=places.names)
    scale = array.targets.full_scale
    if scale is None:
        scale = column_max_reference(array.targets.w, plain.row_bounds)
    dead = dead_lines(
        faults, array.faults, plain.row_bounds.size - 1, places.names.size, array.ordinal, array.seed
    )
    site = plan(array.targets.w, scale, spec, places, plain, array.tables, bare.sites(), dead)
    return RepairedArray(array, places, site)
