"""What a chip's periphery and its die are like: drawn once a chip, named by tile and line, not by cell.

Normals come from counters (tile, line, group, stream and matrix); one call of Philox gives a line four numbers, and
one that needs more has several groups. Copies of a matrix lie in tiles of their own: what belongs to a tile or to its
rows has the copy in the place of the group, and converters of columns are counted on from copy to copy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, F64, I64, U32, Bools
from aimc_sim.hardware import Adc, AdcErrors, DacErrors, Faults, Variation
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.tile_engine import AdcCurve
from aimc_sim.randomness import Stream, key_of, site_word

Lines = int | npt.NDArray[np.int64]  # the first of consecutive lines, or what each is called (first, second)
ADC, DAC, DEAD_COLUMN, DEAD_ROW, TILE, RAMP, CAPACITOR = range(7)  # planes of the stream PERIPHERY
TRIM_SPAN = 8  # standard deviations that a trim covers
S_PEAK = 3 * math.sqrt(3) / 2  # of x - x³ on [0, 1], inverted


class Die(NamedTuple):
    """A die is one chip as a whole."""

    gain: float = 1.0
    adc_gain: float = 1.0
    nu_shift: float = 0.0
    noise_scale: float = 1.0


def die_of(variation: Variation | None, seed: int) -> Die:
    """Return the die that ``seed`` names."""
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
    """Return (first·second, 4): every pair of a tile's index along one axis and a line, from ``start`` on,
    along the other.
    """
    counter = np.zeros((first, second, 4), np.uint32)
    counter[..., 0] = np.arange(first)[:, None]
    counter[..., 1] = np.arange(start, start + second) if isinstance(start, int) else start
    counter[..., 2], counter[..., 3] = group, site_word(Stream.PERIPHERY, ordinal, plane)
    return counter.reshape(-1, 4)


def _lines(
    first: int, second: int, ordinal: int, plane: int, seed: int, start: Lines = 0, group: int = 0
) -> F64:
    """Return (first, second, 4) standard normals."""
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
    """Return (first, second): true for a share ``rate`` of the lines."""
    words = philox4x32(_counters(first, second, ordinal, plane, start, group), key_of(seed))[:, 0]
    return (words < rate * 2.0**32).reshape(first, second)


def tile_gain(
    variation: Variation | None, row_tiles: int, col_tiles: int, ordinal: int, seed: int, copy: int = 0
) -> F64:
    """Return (row tiles, column tiles): the factor on each tile's currents, its die's included."""
    gain = np.full((row_tiles, col_tiles), die_of(variation, seed).gain)
    if variation is None or not variation.tile_gain_sigma:
        return gain
    z = _lines(row_tiles, col_tiles, ordinal, TILE, seed, group=copy)[..., 0]
    return gain * (1 + variation.tile_gain_sigma * z)


def trim(error: F64, sigma: float, bits: int | None) -> F64:
    """Return what a trim of ``bits`` bits leaves of normal errors of deviation ``sigma``;
    None: they are what it left.
    """
    if bits is None or not sigma:
        return error
    step, half = TRIM_SPAN * sigma / 2**bits, 2 ** (bits - 1)
    return np.asarray(error - step * np.clip(np.rint(error / step), -half, half - 1))


def adc_lines(
    adc: Adc, max_code: int, row_tiles: int, column_tile: I64, ordinal: int, seed: int, part: int = 0,
    lines: Lines | None = None,
) -> tuple[F64, AdcCurve]:  # fmt: skip
    """Return the gains (row tiles, columns) of the ADCs of one part, and their offset and curve.

    max_code: largest code. column_tile (columns,): which tile each column is in; those of a tile share a ramp.
    """
    errors, columns = adc.errors or AdcErrors(), column_tile.size
    z = _lines(row_tiles, columns, ordinal, ADC, seed, part * columns if lines is None else lines)
    shared = z
    if adc.kind == "ramp":
        tiles = int(column_tile[-1]) + 1
        shared = _lines(row_tiles, tiles, ordinal, RAMP, seed, part * tiles)[:, column_tile]
    amplitude = errors.inl_sigma_lsb * shared[..., 2] * S_PEAK / max_code  # per code: A·(x - x³) with x = s/n
    curve = amplitude.astype(np.float32)
    bow = (amplitude / max_code**2).astype(np.float32)
    gain = trim(errors.gain_sigma * shared[..., 0], errors.gain_sigma, errors.trim_bits)
    offset = trim(errors.offset_sigma_lsb * z[..., 1], errors.offset_sigma_lsb, errors.trim_bits)
    return 1 + gain, AdcCurve(offset.astype(np.float32), curve, bow)


def sar_capacitors(
    sigma: float, bits: int, row_tiles: int, columns: int, ordinal: int, seed: int, start: Lines = 0
) -> F32:
    """Return the capacitors (row tiles, bits, columns) of SAR ADCs from line ``start`` on, in codes, smallest first.

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
    """Return the gains, offsets in codes, and peaks of the curves in codes of the DACs, all (column tiles,
    rows) float32.
    """
    z = _lines(col_tiles, rows, ordinal, DAC, seed, group=copy)
    gain, offset = 1 + errors.gain_sigma * z[..., 0], errors.offset_sigma_lsb * z[..., 1]
    peak = errors.inl_sigma_lsb * z[..., 2]
    return gain.astype(np.float32), offset.astype(np.float32), peak.astype(np.float32)


def dead_columns(
    faults: Faults, row_tiles: int, columns: int, ordinal: int, seed: int, start: Lines = 0
) -> Bools:
    """Return (row tiles, columns): true where the ADC of a column, from line ``start`` on, gives nothing."""
    return _share(faults.dead_column_rate, row_tiles, columns, ordinal, DEAD_COLUMN, seed, start)


def dead_rows(faults: Faults, col_tiles: int, rows: int, ordinal: int, seed: int, copy: int = 0) -> Bools:
    """Return (column tiles, rows): true where a row passes no input."""
    return _share(faults.dead_row_rate, col_tiles, rows, ordinal, DEAD_ROW, seed, group=copy)
