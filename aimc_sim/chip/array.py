"""One array of cells that holds a matrix, or a slice of it: programmed, drifted, behind wires, read out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, I64, U32
from aimc_sim.chip.blocks import Block, Readouts, Scales, Sink
from aimc_sim.chip.draws import die_of
from aimc_sim.chip.fault_sites import MappedFaults
from aimc_sim.chip.mapping import Targets, TileMap
from aimc_sim.chip.temperature import at_temperature, kelvins
from aimc_sim.chip.wires import through_wires
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import conductance, panels
from aimc_sim.kernels.cells import (
    NO_DRIFT,
    NO_ENDS,
    NO_FLICKER,
    NO_LIST,
    NO_NAMES,
    READOUT_UNIT,
    SIGMA,
    ZERO,
    Cells,
    DeviceTables,
    SiteKeys,
    effective_weights_reference,
)
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.randomness import Stream, event_word, key_of, site_word

POLARITIES = 2
BLOCK_WEIGHTS = 1 << 15  # weights per block of columns: its effective weights stay in second-level cache
AT_ONCE = 1 << 24  # cells whose conductances are held at once


@dataclass(frozen=True)
class CellArray:
    """A cell array holds cells of the chip that ``seed`` names, column by column as ``targets`` are programmed.

    cycle: how often the chip has been programmed before; session: the draw of the frozen 1/f noise.
    """

    targets: Targets
    hardware: Hardware
    tile_map: TileMap
    seed: int
    ordinal: int
    cycle: int
    age_s: float
    session: int
    name: str
    faults: MappedFaults | None = None  # what the fault map says of this matrix
    names: U32 | None = None  # what its columns are called; None: by their index

    @cached_property
    def tables(self) -> DeviceTables:
        """Return the device now."""
        return self.tables_at(self.age_s)

    def tables_at(self, age_s: float) -> DeviceTables:
        """Return the device at an age of this chip's cells."""
        tables, faults = self.hardware.device.tables(age_s), self.hardware.faults
        die = die_of(self.hardware.variation, self.seed)
        scale = tables.y_scale.copy()
        scale[SIGMA] *= np.float32(die.noise_scale)
        tables = tables._replace(y_scale=scale, nu_shift=np.float32(die.nu_shift))
        hardware = self.hardware
        at = kelvins(hardware.device, hardware.temperature, hardware.variation, self.seed)
        tables = at_temperature(tables, hardware.device, at, age_s)
        if faults is None:
            return tables
        low, high = (round(rate * 2**32) for rate in (faults.stuck_low_rate, faults.stuck_high_rate))
        return tables._replace(stuck_low=low, stuck_high=high)

    @property
    def lines(self) -> I64 | None:
        """Return (row tiles, N) what the column of each output is called; None: by the output's index."""
        return None

    def sites(self, device: int = 0) -> SiteKeys:
        """Return what the draws of one device a polarity are named by."""
        first = POLARITIES * (self.hardware.weights.devices * self.targets.slice + device)

        def words(stream: Stream) -> npt.NDArray[np.uint32]:
            return np.array(
                [site_word(stream, self.ordinal, first + plane) for plane in range(POLARITIES)], np.uint32
            )

        listed = (NO_LIST, NO_ENDS)
        if self.faults is not None and device == 0:
            listed = self.faults.cells(self.names, self.targets.slice)
        return SiteKeys(
            words(Stream.PROGRAMMING),
            words(Stream.DRIFT),
            words(Stream.FLICKER),
            words(Stream.FAULT),
            np.uint32(event_word(self.cycle, "programming cycle")),
            np.uint32(event_word(self.session)),
            key_of(self.seed),
            NO_NAMES if self.names is None else self.names,
            *listed,
        )

    def reference(self, columns: int | None = None) -> Cells:
        """Return the first device's cells by the readable formula, of the first ``columns`` columns (None: all)."""
        full = self.targets.full_scale
        return effective_weights_reference(
            np.ascontiguousarray(self.targets.w[:columns]), self.tile_map.row_bounds, self.tables, self.sites(),
            None if full is None else full[:, :columns])  # fmt: skip

    def program_into(self, sink: Sink) -> Scales:
        """Push the cells as they are now into a sink, and return the scales of their columns.

        Raises BadInput where a weight is not finite.
        """
        return self.scales_of(self.push(sink), self.tile_map)

    def push(self, sink: Sink) -> Readouts:
        """Push the cells into a sink, and return what their columns say, unchecked."""
        count, cols = self.tile_map.row_bounds.size - 1, self.targets.w.shape[0]
        readouts = Readouts(
            np.empty((count, cols), np.float32), *(np.zeros((count, cols), np.int64) for _ in range(2))
        )
        if self.targets.full_scale is not None:
            readouts.full_scale[:] = self.targets.full_scale
        simple = (
            self.hardware.wires is None and self.hardware.weights.devices == 1 and self.targets.offset is None
        )
        (self._in_one_pass if simple else self._by_groups)(sink, readouts)
        return readouts

    def scales_of(self, readouts: Readouts, tile_map: TileMap) -> Scales:
        """Turn readouts into scales: α = Σ|readout| at programming over Σ|readout| later, a tile or a column."""
        check_finite(readouts.full_scale, self.name)
        policy = self.hardware.compensation
        if policy is None or policy.per == "affine":  # which acts on tiles: `compensation.affine_tiles`
            return Scales(readouts.full_scale, np.ones(readouts.before.shape, np.float32))
        alpha = readouts.factors(tile_map, policy.per == "tile")
        return Scales(readouts.full_scale, alpha)

    @property
    def _unit(self) -> int:
        """Return the columns that one thread programs at a time."""
        return int(max(1, BLOCK_WEIGHTS // self.targets.w.shape[1] // panels.HALF)) * panels.HALF

    def _in_one_pass(self, sink: Sink, readouts: Readouts) -> None:
        """Return whether readouts are summed while the cells are at hand."""
        wanted, read_out_s = self.hardware.compensation, self.hardware.compensated_at(self.age_s)
        earlier = None if wanted is None or read_out_s == self.age_s else self.tables_at(read_out_s)
        w, sites, largest, sums = self.targets.w, self.sites(), readouts.full_scale, readouts[1:]
        with_total = sink.needs_total

        def block(first: int, last: int) -> None:
            if earlier is not None:
                self.device_cells(w, earlier, sites, first, last, largest, False, sums)
            now = sums if wanted is not None and earlier is None else None
            cells = self.device_cells(w, self.tables, sites, first, last, largest, with_total, now)
            sink.keep(Block(first, last, *cells))

        run_blocks(block, w.shape[0], self._unit)

    def device_cells(
        self, w: F32, tables: DeviceTables, sites: SiteKeys, first: int, last: int, largest: F32, with_total: bool,
        sums: tuple[I64, ...] | None,
    ) -> tuple[F32, F32]:  # fmt: skip
        """Effective weights and total of columns first … last-1 of w; readouts added to sums (row tiles, N)."""
        rows = w.shape[1]
        effective = np.empty((last - first, rows), np.float32)
        total = np.empty((last - first, rows if with_total else 0), np.float32)
        none = np.empty((0, 0), np.int64)
        conductance.effective_weights(
            w, self.tile_map.row_bounds, tables, sites, first, last, self.targets.full_scale is not None,
            sums is not None, with_total, effective, total, largest, *(sums or (none, none)))  # fmt: skip
        return effective, total

    def _by_groups(self, sink: Sink, readouts: Readouts) -> None:
        """Where a readout is more than a sum over cells: groups of column tiles, one state of the cells after another.

        Readouts are Σ|weight| at programming and at the age of the compensation, before 1/f noise.
        """
        states = [self.tables]
        if self.hardware.compensation is not None:
            quiet = self.tables_at(self.hardware.compensated_at(self.age_s))._replace(flicker=NO_FLICKER)
            states += [quiet._replace(drift=NO_DRIFT, thermal_per_ev=ZERO), quiet]
        bounds, rows = self.tile_map.col_bounds, int(self.tile_map.row_bounds[-1])
        first_tile = 0
        while first_tile < bounds.size - 1:
            last_tile = first_tile + 1
            while (
                last_tile < bounds.size - 1 and (bounds[last_tile + 1] - bounds[first_tile]) * rows <= AT_ONCE
            ):
                last_tile += 1
            first, last = int(bounds[first_tile]), int(bounds[last_tile])
            for which, tables in enumerate(states):
                effective, total = self._state(first_tile, last_tile, tables, readouts.full_scale)
                if which:
                    units = np.rint(np.abs(effective) * READOUT_UNIT).astype(np.int64)
                    sums = np.add.reduceat(units, self.tile_map.row_bounds[:-1], axis=1).T
                    readouts[which][:, first:last] = sums
                else:
                    sink.keep(Block(first, last, effective, total if sink.needs_total else total[:, :0]))
            first_tile = last_tile

    def _state(self, first_tile: int, last_tile: int, tables: DeviceTables, largest: F32) -> tuple[F32, F32]:
        """Return (effective, total) of column tiles first_tile … last_tile-1, all devices, through the wires."""
        bounds = self.tile_map.col_bounds
        first, last = int(bounds[first_tile]), int(bounds[last_tile])
        shape = (last - first, int(self.tile_map.row_bounds[-1]))
        effective, total = np.empty(shape, np.float32), np.empty(shape, np.float32)

        def block(start: int, stop: int) -> None:
            cells = self._devices(first + start, first + stop, tables, largest)
            effective[start:stop], total[start:stop] = cells

        run_blocks(block, last - first, self._unit)
        if self.targets.offset is not None:
            self._take_offset(first_tile, last_tile, tables, effective, total)
        if self.hardware.wires is not None:
            through_wires(self.hardware, self.tile_map, first_tile, last_tile, effective, total)
        return effective, total

    @cached_property
    def _shares(self) -> tuple[F32, F32]:
        """Return what each of two devices a polarity is programmed to, relative to its own g_max."""
        w = self.targets.w
        if self.hardware.weights.share == "equal":
            return w, w
        one = np.clip(2 * w, -1, 1)
        return one, 2 * w - one

    def _devices(self, first: int, last: int, tables: DeviceTables, largest: F32) -> tuple[F32, F32]:
        """Return (effective, total) of columns first … last-1, the mean of the devices side by side."""
        if self.hardware.weights.devices == 1:
            return self.device_cells(self.targets.w, tables, self.sites(), first, last, largest, True, None)
        one, other = (
            self.device_cells(share, tables, self.sites(device), first, last, largest, True, None)
            for device, share in enumerate(self._shares)
        )
        half = np.float32(0.5)
        return (one[0] + other[0]) * half, (one[1] + other[1]) * half

    def _take_offset(
        self, first_tile: int, last_tile: int, tables: DeviceTables, effective: F32, total: F32
    ) -> None:
        """Subtract each tile's offset column from its columns. The cells of a pair's other polarity do not exist; the
        column of column tile c is drawn as column c of that polarity."""
        device, tmap = self.hardware.device, self.tile_map
        span, g_max = np.float32(device.g_max_us - device.g_min_us), np.float32(device.g_max_us)
        half = np.float32(0.5)
        assert self.targets.offset is not None
        offset_targets = np.full((last_tile, effective.shape[1]), -self.targets.offset, np.float32)
        ones = np.ones((tmap.row_bounds.size - 1, last_tile), np.float32)
        difference, both = self.device_cells(
            offset_targets, tables, self.sites(), first_tile, last_tile, ones, True, None
        )
        offset = (both * (g_max / span) - difference) * half  # G/span
        columns = tmap.column_tile[tmap.col_bounds[first_tile] : tmap.col_bounds[last_tile]] - first_tile
        plus = (total * (g_max / span) + effective) * half
        np.subtract(plus, offset[columns], out=effective)
        np.multiply(plus + offset[columns], span / g_max, out=total)


def check_finite(scales: F32, name: str) -> None:
    """Raise BadInput where a column's largest weight (row tiles, N) is no number."""
    if not np.isfinite(scales).all():
        column = int(np.flatnonzero(~np.isfinite(scales).all(axis=0))[0])
        raise BadInput(
            f"weights of {name}, output {column}",
            why="they are not all finite",
            do="mend the checkpoint: a cell cannot hold NaN or infinity",
        )
