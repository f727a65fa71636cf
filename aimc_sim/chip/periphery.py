"""What stands around the cells of a matrix on one chip: what its periphery does to weights, tiles and converters."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, F64, Bools
from aimc_sim.chip.draws import (
    Lines,
    adc_lines,
    dac_lines,
    dead_columns,
    dead_rows,
    die_of,
    sar_capacitors,
    tile_gain,
)
from aimc_sim.chip.fault_sites import MappedFaults
from aimc_sim.chip.mapping import TileMap
from aimc_sim.chip.temperature import supply_factor
from aimc_sim.hardware import Hardware
from aimc_sim.kernels.reads import OFFSET, POLARITY, SIGNED, part_weights
from aimc_sim.kernels.tile_engine import AdcCurve, Noise
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.tiles.input_codes import offset_constant, with_inl_rows
from aimc_sim.tiles.matrix import TiledMatrix


def offset_drives(hardware: Hardware) -> float:
    """Return how often a DAC's offset counts in one conversion:
    with the factors of all the reads that are added before it.
    """
    dac = hardware.dac
    if dac is None or dac.reads == 1 or hardware.reads.times > 1:
        return 1.0
    if dac.mode == "multi_phase":
        return float(part_weights(POLARITY, 0, dac.reads).sum())
    return float(part_weights(SIGNED, dac.slice_bits, dac.reads).sum())


class Periphery:
    """The periphery is everything around the cells of one matrix on the chip that ``seed`` names.

    part: which of the columns that hold a weight; each has converters of its own. copy: which set of tiles they lie in;
    parts of one copy lie behind the same rows. lines: (row tiles, N) what the columns of repaired tiles are called.
    mapped: what the fault map says of this copy.
    """

    def __init__(
        self, hardware: Hardware, tile_map: TileMap, ordinal: int, seed: int, part: int = 0,
        copy: int = 0, lines: npt.NDArray[np.int64] | None = None, mapped: MappedFaults | None = None,
    ) -> None:  # fmt: skip
        self.hardware, self.tile_map, self.ordinal, self.seed = hardware, tile_map, ordinal, seed
        self._row_tiles, self._col_tiles = tile_map.row_bounds.size - 1, tile_map.col_bounds.size - 1
        self._rows, self._columns = int(tile_map.row_bounds[-1]), int(tile_map.col_bounds[-1])
        self._part, self._copy, self._mapped = part, copy, mapped
        self._first_line: Lines = part * self._columns if lines is None else lines

    @cached_property
    def _dac(self) -> tuple[F32, F32, F32] | None:
        dac = self.hardware.dac
        if dac is None or dac.errors is None:
            return None
        return dac_lines(dac.errors, self._col_tiles, self._rows, self.ordinal, self.seed, self._copy)

    @cached_property
    def _row_factor(self) -> F32 | None:
        """Return (column tiles, rows): what a row's input is multiplied by; None: by 1."""
        factor = None if self._dac is None else self._dac[0]
        faults = self.hardware.faults
        if faults is None or not (faults.dead_row_rate or self._mapped):
            return factor
        alive = ~dead_rows(faults, self._col_tiles, self._rows, self.ordinal, self.seed, self._copy)
        if self._mapped is not None:
            alive &= ~self._mapped.dead_rows()
        return alive.astype(np.float32) if factor is None else factor * alive

    @cached_property
    def _dead(self) -> Bools | None:
        """Return (row tiles, columns): true where an output's ADC gives nothing; None: nowhere."""
        faults = self.hardware.faults
        if faults is None or not (faults.dead_column_rate or self._mapped):
            return None
        dead = dead_columns(faults, self._row_tiles, self._columns, self.ordinal, self.seed, self._first_line)
        if self._mapped is None:
            return dead
        named = self._mapped.dead_columns()
        if isinstance(self._first_line, int):
            return dead | named[:, : self._columns]
        return dead | np.take_along_axis(named, self._first_line, axis=1)

    @cached_property
    def _supply(self) -> F32 | None:
        """Return (column tiles, rows): V_read over its nominal value; None: 1."""
        supply = supply_factor(
            self.hardware.variation, self._row_tiles, self._col_tiles, self.ordinal, self.seed, self._copy
        )
        if supply is None:
            return None
        return np.ascontiguousarray(
            np.repeat(supply, np.diff(self.tile_map.row_bounds), axis=0).T, np.float32
        )

    @cached_property
    def _gain(self) -> F32 | None:
        """Return (column tiles, rows) factor on conductances; None: 1."""
        if self.hardware.variation is None:
            return None
        gain = tile_gain(
            self.hardware.variation, self._row_tiles, self._col_tiles, self.ordinal, self.seed, self._copy
        )
        by_row = np.repeat(gain, np.diff(self.tile_map.row_bounds), axis=0).T
        return np.ascontiguousarray(by_row, np.float32)

    def scale_cells(self, first: int, last: int, effective: F32, total: F32) -> None:
        """Change effective weights (n, K) and (G⁺ + G⁻)/g_max (n, K or 0) of columns first … last-1 in place."""
        tile = self.tile_map.column_tile[first:last]
        for factor, also in ((self._gain, True), (self._row_factor, False)):
            if factor is None:
                continue
            effective *= factor[tile]
            if total.size:
                total *= factor[tile] if also else (factor[tile] != 0)
        if self._supply is not None:
            effective *= self._supply[tile]
            if total.size:
                # the variance of noise currents goes with the square of the voltage
                total *= self._supply[tile] ** 2

    def dac_offset_current(self, first: int, last: int, effective: F32) -> F64 | None:
        """Return (tiles, n): what the DACs' offsets add to columns first … last-1, in codes × weights;
        None: nothing.
        """
        if self._dac is None:
            return None
        shifted = effective.astype(np.float64) * self._dac[1][self.tile_map.column_tile[first:last]]
        return np.asarray(np.add.reduceat(shifted, self.tile_map.row_bounds[:-1], axis=1).T)

    def zero_dead_columns(self, weights: F32) -> None:
        """Weights (N, K) of dead columns become 0, row tile by row tile, where no ADC is there to give nothing."""
        bounds = self.tile_map.row_bounds
        if self._dead is None:
            return
        for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            weights[self._dead[t], a:b] = 0

    def with_converter_errors(self, tiles: TiledMatrix, current: F64, lsb: F64) -> TiledMatrix:
        """Return the tiles with the errors of their converters. current (tiles, N): what the DACs' offsets add, in
        codes × weights; lsb (tiles, N or 1): an ADC code in full-scale currents.
        """
        adc, dac = self.hardware.adc, self.hardware.dac
        changes: dict[str, object] = {}
        gain = np.full(tiles.inverse.shape, die_of(self.hardware.variation, self.seed).adc_gain)
        curve = None
        if adc is not None and adc.errors is not None:
            adc_gain, curve = adc_lines(
                adc, tiles.adc_max_code, self._row_tiles, self.tile_map.column_tile, self.ordinal, self.seed,
                self._part, self._first_line,
            )  # fmt: skip
            gain = gain * adc_gain
            if adc.errors.unit_cap_sigma:
                changes["capacitors"] = sar_capacitors(
                    adc.errors.unit_cap_sigma, adc.bits, self._row_tiles, self._columns, self.ordinal, self.seed,
                    self._first_line,
                )  # fmt: skip
            if adc.errors.noise_lsb:
                site = site_word(Stream.READ, self.ordinal, self._part * self.hardware.reads.times)
                noise = tiles.noise or Noise(key_of(self.seed), site)
                changes["noise"] = noise._replace(floor=adc.errors.noise_lsb**2)
        if self._dac is not None and dac is not None:
            zeros = np.zeros(tiles.inverse.shape, np.float32)
            curve = curve or AdcCurve(zeros, zeros, zeros)
            offset_current = current * offset_drives(self.hardware) / self.hardware.read_max_code / lsb * gain
            offset_current = offset_current.astype(np.float32)
            curve = curve._replace(offset=curve.offset + offset_current)
        if curve is not None:
            changes["adc_curve"] = curve
        if adc is not None:
            changes["inverse"] = (tiles.inverse * gain).astype(np.float32)
        if self._dead is not None:
            changes["scale"] = np.where(self._dead, np.float32(0), tiles.scale)
        tiles = replace(tiles, **changes) if changes else tiles  # type: ignore[arg-type]
        if tiles.reads.parts == OFFSET:
            tiles = replace(tiles, constant=offset_constant(tiles).astype(np.float32))
        if self._dac is not None and dac is not None and dac.errors is not None and dac.errors.inl_sigma_lsb:
            tiles = with_inl_rows(tiles, self._dac[2][self.tile_map.column_tile])
        return tiles
