"""What a chip's periphery and its die are like: drawn once a chip, named by tile and line, not by cell.

Normals come from counters (tile, line, group, stream and matrix); one call of Philox gives a line four numbers, and
one that needs more has several groups. Copies of a matrix lie in tiles of their own: what belongs to a tile or to its
rows has the copy in the place of the group, and converters of columns are counted on from copy to copy.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.converters import Adc, AdcErrors, DacErrors
from aimc_sim.execute import TiledMatrix
from aimc_sim.fault_sites import MappedFaults
from aimc_sim.hardware import Hardware
from aimc_sim.imperfections import Faults, Variation
from aimc_sim.input_codes import offset_constant, with_bent_rows
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.reads import OFFSET, POLARITY, SIGNED, part_weights
from aimc_sim.kernels.tile_engine import AdcCurve, Noise
from aimc_sim.mapping import TileMap
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.temperature import supply_factor

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Lines = int | npt.NDArray[np.int64]  # the first of consecutive lines, or what each is called (first, second)
ADC, DAC, DEAD_COLUMN, DEAD_ROW, TILE, RAMP, CAPACITOR = range(7)  # planes of the stream PERIPHERY
TRIM_SPAN = 8  # standard deviations that a trim covers
S_PEAK = 3 * math.sqrt(3) / 2  # of x - x³ on [0, 1], inverted


class Die(NamedTuple):
    """One chip as a whole."""

    gain: float = 1.0
    adc_gain: float = 1.0
    nu_shift: float = 0.0
    noise_scale: float = 1.0


def die_of(variation: Variation | None, seed: int) -> Die:
    """The die that ``seed`` names."""
    if variation is None:
        return Die()
    counter = np.array([[0, 0, 0, site_word(Stream.DIE, 0)]], np.uint32)
    z = normals(counter, key_of(seed))[0].astype(np.float64)
    return Die(
        1 + variation.die_gain_sigma * float(z[0]),
        1 + variation.adc_gain_sigma * float(z[1]),
        variation.nu_sigma * float(z[2]),
        max(1 + variation.noise_scale_sigma * float(z[3]), 0.0),
    )


def _counters(first: int, second: int, ordinal: int, plane: int, start: Lines = 0, group: int = 0) -> U32:
    """(first·second, 4): every pair of a tile's index along one axis and a line, from ``start`` on, along the other."""
    counter = np.zeros((first, second, 4), np.uint32)
    counter[..., 0] = np.arange(first)[:, None]
    counter[..., 1] = np.arange(start, start + second) if isinstance(start, int) else start
    counter[..., 2], counter[..., 3] = group, site_word(Stream.PERIPHERY, ordinal, plane)
    return counter.reshape(-1, 4)


def _lines(
    first: int, second: int, ordinal: int, plane: int, seed: int, start: Lines = 0, group: int = 0
) -> F64:
    """(first, second, 4) standard normals."""
    z = normals(_counters(first, second, ordinal, plane, start, group), key_of(seed))
    return z.reshape(first, second, 4).astype(np.float64)


def _share(
    rate: float,
    first: int,
    second: int,
    ordinal: int,
    plane: int,
    seed: int,
    start: Lines = 0,
    group: int = 0,
) -> Bools:
    """(first, second): true for a share ``rate`` of the lines."""
    words = philox4x32(_counters(first, second, ordinal, plane, start, group), key_of(seed))[:, 0]
    return (words < rate * 2.0**32).reshape(first, second)


def tile_gain(
    variation: Variation | None, row_tiles: int, col_tiles: int, ordinal: int, seed: int, copy: int = 0
) -> F64:
    """(row tiles, column tiles): the factor on each tile's currents, its die's included."""
    gain = np.full((row_tiles, col_tiles), die_of(variation, seed).gain)
    if variation is None or not variation.tile_gain_sigma:
        return gain
    z = _lines(row_tiles, col_tiles, ordinal, TILE, seed, group=copy)[..., 0]
    return gain * (1 + variation.tile_gain_sigma * z)


def trimmed(error: F64, sigma: float, bits: int | None) -> F64:
    """What a trim of ``bits`` bits leaves of normal errors of deviation ``sigma``; None: they are what it left."""
    if bits is None or not sigma:
        return error
    step, half = TRIM_SPAN * sigma / 2**bits, 2 ** (bits - 1)
    return np.asarray(error - step * np.clip(np.rint(error / step), -half, half - 1))


def adc_lines(
    adc: Adc, levels: int, row_tiles: int, column_tile: I64, ordinal: int, seed: int, part: int = 0,
    lines: Lines | None = None,
) -> tuple[F64, AdcCurve]:  # fmt: skip
    """Gains (row tiles, columns) of the ADCs of one part, and their offset and curve.

    levels: largest code. column_tile (columns,): which tile each column is in; those of a tile share a ramp.
    """
    errors, columns = adc.errors or AdcErrors(), column_tile.size
    z = _lines(row_tiles, columns, ordinal, ADC, seed, part * columns if lines is None else lines)
    shared = z
    if adc.kind == "ramp":
        tiles = int(column_tile[-1]) + 1
        shared = _lines(row_tiles, tiles, ordinal, RAMP, seed, part * tiles)[:, column_tile]
    amplitude = errors.inl_sigma_lsb * shared[..., 2] * S_PEAK / levels  # per code: A·(x - x³) with x = s/n
    curve = amplitude.astype(np.float32)
    bow = (amplitude / levels**2).astype(np.float32)
    gain = trimmed(errors.gain_sigma * shared[..., 0], errors.gain_sigma, errors.trim_bits)
    offset = trimmed(errors.offset_sigma_lsb * z[..., 1], errors.offset_sigma_lsb, errors.trim_bits)
    return 1 + gain, AdcCurve(offset.astype(np.float32), curve, bow)


def sar_capacitors(
    sigma: float, bits: int, row_tiles: int, columns: int, ordinal: int, seed: int, start: Lines = 0
) -> F32:
    """Capacitors (row tiles, bits, columns) of SAR ADCs from line ``start`` on, in codes, smallest first.

    Capacitor k is 2^k units, a last one of a unit ends the array, and all together are 2^bits codes: the full scale.
    """
    groups = [
        _lines(row_tiles, columns, ordinal, CAPACITOR, seed, start, group) for group in range(bits // 4 + 1)
    ]
    z = np.concatenate(groups, axis=2)[..., : bits + 1]
    units = np.exp2(np.append(np.arange(bits), 0))
    held = np.maximum(units + sigma * np.sqrt(units) * z, 0)
    codes = held[..., :bits] * (2.0**bits / held.sum(axis=2, keepdims=True))
    return np.ascontiguousarray(codes.transpose(0, 2, 1), np.float32)


def dac_lines(
    errors: DacErrors, col_tiles: int, rows: int, ordinal: int, seed: int, copy: int = 0
) -> tuple[F32, F32, F32]:
    """Gains, offsets in codes, and peaks of the curves in codes of the DACs, all (column tiles, rows) float32."""
    z = _lines(col_tiles, rows, ordinal, DAC, seed, group=copy)
    gain, offset = 1 + errors.gain_sigma * z[..., 0], errors.offset_sigma_lsb * z[..., 1]
    peak = errors.inl_sigma_lsb * z[..., 2]
    return gain.astype(np.float32), offset.astype(np.float32), peak.astype(np.float32)


def offset_drives(hardware: Hardware) -> float:
    """How often a DAC's offset counts in one conversion: with the factors of all the reads that are added before it."""
    dac = hardware.dac
    if dac is None or dac.reads == 1 or hardware.reads.times > 1:
        return 1.0
    if dac.mode == "multi_phase":
        return float(part_weights(POLARITY, 0, dac.reads).sum())
    return float(part_weights(SIGNED, dac.slice_bits, dac.reads).sum())


def dead_columns(
    faults: Faults, row_tiles: int, columns: int, ordinal: int, seed: int, start: Lines = 0
) -> Bools:
    """(row tiles, columns): true where the ADC of a column, from line ``start`` on, gives nothing."""
    return _share(faults.dead_column_rate, row_tiles, columns, ordinal, DEAD_COLUMN, seed, start)


def dead_rows(faults: Faults, col_tiles: int, rows: int, ordinal: int, seed: int, copy: int = 0) -> Bools:
    """(column tiles, rows): true where a row passes no input."""
    return _share(faults.dead_row_rate, col_tiles, rows, ordinal, DEAD_ROW, seed, group=copy)


class Periphery:
    """Everything around the cells of one matrix on the chip that ``seed`` names.

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
        """(column tiles, rows): what a row's input is multiplied by; None: by 1."""
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
        """(row tiles, columns): true where an output's ADC gives nothing; None: nowhere."""
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
        """(column tiles, rows): V_read over its nominal value; None: 1."""
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
        """(column tiles, rows) factor on conductances; None: 1."""
        if self.hardware.variation is None:
            return None
        gain = tile_gain(
            self.hardware.variation, self._row_tiles, self._col_tiles, self.ordinal, self.seed, self._copy
        )
        by_row = np.repeat(gain, np.diff(self.tile_map.row_bounds), axis=0).T
        return np.ascontiguousarray(by_row, np.float32)

    def act_on(self, first: int, last: int, effective: F32, total: F32) -> None:
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
                total *= (
                    self._supply[tile] ** 2
                )  # the variance of noise currents goes with the square of the voltage

    def pushed(self, first: int, last: int, effective: F32) -> F64 | None:
        """(tiles, n): what the DACs' offsets add to columns first … last-1, in codes × weights; None: nothing."""
        if self._dac is None:
            return None
        shifted = effective.astype(np.float64) * self._dac[1][self.tile_map.column_tile[first:last]]
        return np.asarray(np.add.reduceat(shifted, self.tile_map.row_bounds[:-1], axis=1).T)

    def silence(self, weights: F32) -> None:
        """Weights (N, K) of dead columns become 0, row tile by row tile, where no ADC is there to give nothing."""
        bounds = self.tile_map.row_bounds
        if self._dead is None:
            return
        for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            weights[self._dead[t], a:b] = 0

    def behind(self, tiles: TiledMatrix, current: F64, lsb: F64) -> TiledMatrix:
        """The tiles with the errors of their converters. current (tiles, N): what the DACs' offsets add, in codes ×
        weights; lsb (tiles, N or 1): an ADC code in full-scale currents.
        """
        adc, dac = self.hardware.adc, self.hardware.dac
        changes: dict[str, object] = {}
        gain = np.full(tiles.inverse.shape, die_of(self.hardware.variation, self.seed).adc_gain)
        curve = None
        if adc is not None and adc.errors is not None:
            own, curve = adc_lines(
                adc, tiles.adc_levels, self._row_tiles, self.tile_map.column_tile, self.ordinal, self.seed, self._part,
                self._first_line,
            )  # fmt: skip
            gain = gain * own
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
            pushed = current * offset_drives(self.hardware) / self.hardware.read_levels / lsb * gain
            pushed = pushed.astype(np.float32)
            curve = curve._replace(offset=curve.offset + pushed)
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
            tiles = with_bent_rows(tiles, self._dac[2][self.tile_map.column_tile])
        return tiles
