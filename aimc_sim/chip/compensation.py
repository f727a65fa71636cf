"""Drift compensation: digital corrections after the ADC, from readouts at programming and later.

``tile`` and ``column``: α = Σ|readout at programming| / Σ|readout later|, one factor a tile or a column. The readouts
are the cells' own, wires included, before 1/f noise.

``affine``: gain a and offset b of each tile, the least squares of

    y_programming ≈ a·y_later + b      over all columns of the tile and m calibration vectors,

y the digital results of the tile in codes of its ADCs: with what its DACs and ADCs add, as a chip reads itself,
averaged over noise. The vectors are normal, 3σ at full range, the same for every chip and time (stream CALIBRATION,
key 0). In a tile's outputs code → a·(code + b/a). A column that gives nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from aimc_sim.aliases import F32, F64, I64
from aimc_sim.execute import dac_inputs, tile_outputs
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.imperfections import Temperature
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.tiles.matrix import TiledMatrix

# tiles on a hardware, at a time, in a programming cycle
ReadAs = Callable[[Hardware, float, int], TiledMatrix]
VECTORS = 16  # calibration vectors, where a hardware says no other number
RANGE_SIGMA = np.float32(3)  # σ of a calibration vector at which its range ends


def for_self_read(hardware: Hardware) -> Hardware:
    """Return a chip of one programming cycle as an affine compensation reads it: uncompensated, averaged over noise."""
    device = hardware.device.model_copy(update={"flicker": None})
    change = {"compensation": None, "refresh": None, "read_noise": None, "device": device}
    return hardware.model_copy(update=change)


def at_programming_temperature(hardware: Hardware) -> Hardware:
    """Return the chip at the temperature of programming."""
    change: dict[str, object] = {}
    if hardware.temperature is not None:
        program_c = hardware.temperature.program_c
        change["temperature"] = Temperature(program_c=program_c, read_c=program_c)
    if hardware.variation is not None:
        change["variation"] = hardware.variation.model_copy(update={"die_temperature_sigma_c": None})
    return hardware.model_copy(update=change)


def calibration_vectors(count: int, tiles: TiledMatrix, ordinal: int) -> F32:
    """Return the inputs (count, K) of one matrix, as its DACs get them: normal, 3σ at the end of a static range."""
    rows = tiles.rows
    counter = np.zeros((-(-count // 4), rows, 4), np.uint32)
    counter[..., 0], counter[..., 1] = np.arange(rows), np.arange(counter.shape[0])[:, None]
    counter[..., 3] = site_word(Stream.CALIBRATION, ordinal)
    z = (
        normals(counter.reshape(-1, 4), key_of(0))
        .reshape(-1, rows, 4)
        .transpose(0, 2, 1)
        .reshape(-1, rows)[:count]
    )
    if tiles.input_range is not None:
        z = z * (np.repeat(tiles.input_range, np.diff(tiles.bounds)) / RANGE_SIGMA)
    return np.ascontiguousarray(z, np.float32)


def _codes(x: F32, tiles: TiledMatrix, unit: F32) -> F64:
    """Return (row tiles, vectors, N): what each row tile gives, in units of ``unit`` (row tiles, N) outputs."""
    quiet = replace(tiles, noise=None, transform=None, parts=())
    beta = dac_inputs(x, quiet)[1].astype(np.float64)
    codes_by_tile = []
    for t, values in enumerate(tile_outputs(x, quiet)):
        per_code = beta[:, t : t + 1] * np.where(unit[t] == 0, 1, unit[t])
        codes_by_tile.append(np.where(unit[t] == 0, 0.0, values / np.where(per_code == 0, 1, per_code)))
    return np.stack(codes_by_tile)


def affine_fit(x: F32, programmed: TiledMatrix, later: TiledMatrix, col_bounds: I64) -> tuple[F64, F64]:
    """Return the gains and offsets in codes, both (row tiles, column tiles), from inputs x (vectors, K);
    gain 1 where all is 0.
    """
    reference, now = (_codes(x, tiles, later.scale) for tiles in (programmed, later))
    gains, offsets = (np.empty((reference.shape[0], col_bounds.size - 1)) for _ in range(2))
    for c in range(col_bounds.size - 1):
        tile_columns = slice(int(col_bounds[c]), int(col_bounds[c + 1]))
        for t in range(reference.shape[0]):
            alive = later.scale[t, tile_columns] != 0
            y, r = now[t][:, tile_columns][:, alive], reference[t][:, tile_columns][:, alive]
            if np.array_equal(y, r):  # nothing has changed, and nothing is changed
                gains[t, c], offsets[t, c] = 1.0, 0.0
                continue
            spread = y.var()
            gains[t, c] = np.mean((y - y.mean()) * (r - r.mean())) / spread if spread > 0 else 1.0
            offsets[t, c] = r.mean() - gains[t, c] * y.mean()
    return gains, offsets


def affine(
    x: F32, programmed: TiledMatrix, later: TiledMatrix, now: TiledMatrix, col_bounds: I64
) -> TiledMatrix:
    """``now``, corrected by what ``later`` says against ``programmed``, each part by itself.

    All three are the same matrix, at the time that is asked for, at the last readout and at programming.
    """
    return replace(
        _correct(x, programmed, later, now, col_bounds),
        parts=tuple(
            _correct(x, *parts, col_bounds)
            for parts in zip(programmed.parts, later.parts, now.parts, strict=True)
        ),
    )


def affine_tiles(
    hardware: Hardware, t_s: float, programming_cycle: int, ordinal: int, col_bounds: I64, read: ReadAs
) -> TiledMatrix:
    """Return the tiles of a matrix under an affine compensation: read as they are, corrected by what two other states
    say.

    t_s, programming_cycle: the time that is asked for; ordinal, col_bounds: of the matrix. The other states are the
    matrix when it was programmed last, and when the compensation in force was read out.
    """
    policy = hardware.compensation
    assert policy is not None
    (cycles, age_s), quiet = hardware.age(t_s), for_self_read(hardware)
    cycle, read_out_s = programming_cycle + cycles, hardware.compensated_at(age_s)
    now = read(hardware.model_copy(update={"compensation": None}), t_s, programming_cycle)
    later = read(quiet, read_out_s, cycle)
    programmed = read(at_programming_temperature(quiet), 0.0, cycle)
    x = calibration_vectors(policy.vectors or VECTORS, now, ordinal)
    return affine(x, programmed, later, now, col_bounds)


def _correct(
    x: F32, programmed: TiledMatrix, later: TiledMatrix, now: TiledMatrix, col_bounds: I64
) -> TiledMatrix:
    gain, offset = affine_fit(x, programmed, later, col_bounds)
    tile = np.repeat(np.arange(col_bounds.size - 1), np.diff(col_bounds))
    scale = (now.scale * gain[:, tile]).astype(np.float32)
    if not offset.any():
        return replace(now, scale=scale)
    taken_off = np.divide(-offset, gain, out=np.zeros_like(gain), where=gain != 0)[:, tile]
    if now.constant is not None:
        taken_off = taken_off + now.constant
    return replace(now, scale=scale, constant=np.ascontiguousarray(taken_off, np.float32))
