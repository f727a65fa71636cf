"""What a chip's periphery and its die are like: drawn once a chip, named by tile and line, not by cell.

Normals come from counters (tile, line, 0, stream and matrix); one call of Philox gives a line its four numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.converters import AdcErrors, DacErrors
from aimc_sim.execute import TiledMatrix
from aimc_sim.hardware import Hardware
from aimc_sim.imperfections import Faults, Variation
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.tile_engine import AdcCurve, Noise
from aimc_sim.mapping import TileMap
from aimc_sim.randomness import Stream, key_of, site_word

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
ADC, DAC, DEAD_COLUMN, DEAD_ROW, TILE = range(5)  # planes of the stream PERIPHERY
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


def _counters(first: int, second: int, ordinal: int, plane: int) -> U32:
    """(first·second, 4): every pair of a tile's index along one axis and a line along the other."""
    counter = np.zeros((first, second, 4), np.uint32)
    counter[..., 0], counter[..., 1] = np.arange(first)[:, None], np.arange(second)
    counter[..., 3] = site_word(Stream.PERIPHERY, ordinal, plane)
    return counter.reshape(-1, 4)


def _lines(first: int, second: int, ordinal: int, plane: int, seed: int) -> F64:
    """(first, second, 4) standard normals."""
    z = normals(_counters(first, second, ordinal, plane), key_of(seed))
    return z.reshape(first, second, 4).astype(np.float64)


def _share(rate: float, first: int, second: int, ordinal: int, plane: int, seed: int) -> Bools:
    """(first, second): true for a share ``rate`` of the lines."""
    words = philox4x32(_counters(first, second, ordinal, plane), key_of(seed))[:, 0]
    return (words < rate * 2.0**32).reshape(first, second)


def tile_gain(variation: Variation | None, row_tiles: int, col_tiles: int, ordinal: int, seed: int) -> F64:
    """(row tiles, column tiles): the factor on each tile's currents, its die's included."""
    gain = np.full((row_tiles, col_tiles), die_of(variation, seed).gain)
    if variation is None or not variation.tile_gain_sigma:
        return gain
    return gain * (1 + variation.tile_gain_sigma * _lines(row_tiles, col_tiles, ordinal, TILE, seed)[..., 0])


def adc_lines(
    errors: AdcErrors, levels: int, row_tiles: int, columns: int, ordinal: int, seed: int
) -> tuple[F64, AdcCurve]:
    """Gains (row tiles, columns) of the ADCs, and their offset and curve."""
    z = _lines(row_tiles, columns, ordinal, ADC, seed)
    amplitude = errors.inl_sigma_lsb * z[..., 2] * S_PEAK / levels  # per code: A·(x - x³) with x = s/n
    curve = amplitude.astype(np.float32)
    bow = (amplitude / levels**2).astype(np.float32)
    offset = (errors.offset_sigma_lsb * z[..., 1]).astype(np.float32)
    return 1 + errors.gain_sigma * z[..., 0], AdcCurve(offset, curve, bow)


def dac_lines(errors: DacErrors, col_tiles: int, rows: int, ordinal: int, seed: int) -> tuple[F32, F32]:
    """Gains and offsets in codes of the DACs, both (column tiles, rows) float32."""
    z = _lines(col_tiles, rows, ordinal, DAC, seed)
    gain, offset = 1 + errors.gain_sigma * z[..., 0], errors.offset_sigma_lsb * z[..., 1]
    return gain.astype(np.float32), offset.astype(np.float32)


def dead_columns(faults: Faults, row_tiles: int, columns: int, ordinal: int, seed: int) -> Bools:
    """(row tiles, columns): true where a column's ADC gives nothing."""
    return _share(faults.dead_column_rate, row_tiles, columns, ordinal, DEAD_COLUMN, seed)


def dead_rows(faults: Faults, col_tiles: int, rows: int, ordinal: int, seed: int) -> Bools:
    """(column tiles, rows): true where a row passes no input."""
    return _share(faults.dead_row_rate, col_tiles, rows, ordinal, DEAD_ROW, seed)


class Periphery:
    """Everything around the cells of one matrix on the chip that ``seed`` names."""

    def __init__(self, hardware: Hardware, tile_map: TileMap, ordinal: int, seed: int) -> None:
        self.hardware, self.tile_map, self.ordinal, self.seed = hardware, tile_map, ordinal, seed
        self._row_tiles, self._col_tiles = tile_map.row_bounds.size - 1, tile_map.col_bounds.size - 1
        self._rows, self._columns = int(tile_map.row_bounds[-1]), int(tile_map.col_bounds[-1])

    @cached_property
    def _dac(self) -> tuple[F32, F32] | None:
        dac = self.hardware.dac
        if dac is None or dac.errors is None:
            return None
        return dac_lines(dac.errors, self._col_tiles, self._rows, self.ordinal, self.seed)

    @cached_property
    def _row_factor(self) -> F32 | None:
        """(column tiles, rows): what a row's input is multiplied by; None: by 1."""
        factor = None if self._dac is None else self._dac[0]
        faults = self.hardware.faults
        if faults is None or not faults.dead_row_rate:
            return factor
        alive = ~dead_rows(faults, self._col_tiles, self._rows, self.ordinal, self.seed)
        return alive.astype(np.float32) if factor is None else factor * alive

    @cached_property
    def _gain(self) -> F32 | None:
        """(column tiles, rows) factor on conductances; None: 1."""
        if self.hardware.variation is None:
            return None
        gain = tile_gain(self.hardware.variation, self._row_tiles, self._col_tiles, self.ordinal, self.seed)
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

    def pushed(self, first: int, last: int, effective: F32) -> F64 | None:
        """(tiles, n): what the DACs' offsets add to columns first … last-1, in codes × weights; None: nothing."""
        if self._dac is None:
            return None
        shifted = effective.astype(np.float64) * self._dac[1][self.tile_map.column_tile[first:last]]
        return np.asarray(np.add.reduceat(shifted, self.tile_map.row_bounds[:-1], axis=1).T)

    def silence(self, weights: F32) -> None:
        """Weights (N, K) of dead columns become 0, row tile by row tile, where no ADC is there to give nothing."""
        faults, bounds = self.hardware.faults, self.tile_map.row_bounds
        if faults is None or not faults.dead_column_rate:
            return
        dead = dead_columns(faults, self._row_tiles, self._columns, self.ordinal, self.seed)
        for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            weights[dead[t], a:b] = 0

    def behind(self, tiles: TiledMatrix, current: F64, lsb: F64) -> TiledMatrix:
        """The tiles with the errors of their converters. current (tiles, N): what the DACs' offsets add, in codes ×
        weights; lsb (tiles, N or 1): an ADC code in full-scale currents.
        """
        adc, faults, dac = self.hardware.adc, self.hardware.faults, self.hardware.dac
        changes: dict[str, object] = {}
        gain = np.full(tiles.inverse.shape, die_of(self.hardware.variation, self.seed).adc_gain)
        curve = None
        if adc is not None and adc.errors is not None:
            own, curve = adc_lines(
                adc.errors, adc.levels, self._row_tiles, self._columns, self.ordinal, self.seed
            )
            gain = gain * own
            if adc.errors.noise_lsb:
                site = site_word(Stream.READ, self.ordinal)
                noise = tiles.noise or Noise(key_of(self.seed), site)
                changes["noise"] = noise._replace(floor=adc.errors.noise_lsb**2)
        if self._dac is not None and dac is not None:
            zeros = np.zeros(tiles.inverse.shape, np.float32)
            curve = curve or AdcCurve(zeros, zeros, zeros)
            pushed = (current / self.hardware.read_levels / lsb * gain).astype(np.float32)
            curve = curve._replace(offset=curve.offset + pushed)
        if curve is not None:
            changes["adc_curve"] = curve
        if adc is not None:
            changes["inverse"] = (tiles.inverse * gain).astype(np.float32)
        if faults is not None and faults.dead_column_rate:
            dead = dead_columns(faults, self._row_tiles, self._columns, self.ordinal, self.seed)
            changes["scale"] = np.where(dead, np.float32(0), tiles.scale)
        return replace(tiles, **changes) if changes else tiles  # type: ignore[arg-type]
