"""What temperature and supply do to a chip: conduction and drift by Arrhenius' law, V_read that droops.

Conduction. A cell that was verified at T_p and is read at T_r carries

    G(T_r) = G(T_p)·exp(E_a(g_target)/k·(1/T_p - 1/T_r)),

E_a from the device's data: large where current has to cross amorphous material, near zero where it does not.

Drift. Structural relaxation overcomes barriers that grow as it goes on: after a time t at temperature T it has reached
those of height E = k·T·ln(t/τ₀₀), and the activation energy of conduction grows in proportion to E (Le Gallo et al.,
Adv. Electron. Mater. 4, 1700627, 2018; the form goes back to Gibbs et al., J. Mater. Sci. 18, 278, 1983). Two
consequences for a law G·((t + t₀)/t₀)^-ν that was measured at one temperature:

    storage at T_s:   t₀ → τ₀₀·(t₀/τ₀₀)^(T_p/T_s) = t₀·exp(E₀/k·(1/T_s - 1/T_p)),  E₀ = k·T_p·ln(t₀/τ₀₀)
    reading at T_r:   ν → ν·T_s/T_r

so that a chip that is stored and read at one temperature drifts with the same ν, but its clock runs by Arrhenius.
1/f noise relative to the conductance and programming errors are taken as they are; stuck cells stay what they are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.devices import Device, PowerDrift
from aimc_sim.devices.thermal import BOLTZMANN_EV, KELVIN, Thermal
from aimc_sim.errors import BadInput
from aimc_sim.hardware.imperfections import Temperature, Variation
from aimc_sim.kernels.cells import POWER_DRIFT, DeviceTables
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import Stream, key_of, site_word

TILE_SUPPLY, DIE_CONDITIONS = 1, 2  # planes of the stream DIE; plane 0 is `draws.die_of`


class Kelvins(NamedTuple):
    """Kelvins are temperatures of a die's cells in K."""

    program: float
    storage: float
    read: float


def die_draws(seed: int) -> F64:
    """Return (4,) standard normals of the die that ``seed`` names: temperature, supply, and two that nothing uses."""
    counter = np.array([[0, 0, 0, site_word(Stream.DIE, 0, DIE_CONDITIONS)]], np.uint32)
    return np.asarray(normals(counter, key_of(seed))[0].astype(np.float64))


def kelvins(
    device: Device, temperature: Temperature | None, variation: Variation | None, seed: int
) -> Kelvins | None:
    """Return the temperatures of one die; None where nothing differs from the device's data.

    Raises BadInput where the die is colder or warmer than the device's data reach.
    """
    sigma = (variation.die_temperature_sigma_c if variation else None) or 0.0
    if device.thermal is None or (temperature is None and not sigma):
        return None
    wanted = temperature or Temperature(
        program_c=device.thermal.reference_c, read_c=device.thermal.reference_c
    )
    off = sigma * float(die_draws(seed)[0]) if sigma else 0.0
    storage = wanted.read_c if wanted.storage_c is None else wanted.storage_c
    temperatures = Kelvins(wanted.program_c + KELVIN, storage + off + KELVIN, wanted.read_c + off + KELVIN)
    for what, kelvin in zip(Kelvins._fields, temperatures, strict=True):
        _check(device, device.thermal, what, kelvin, seed)
    return temperatures


def _check(device: Device, thermal: Thermal, what: str, kelvin: float, seed: int) -> None:
    if not thermal.t_min_c - 1e-9 <= kelvin - KELVIN <= thermal.t_max_c + 1e-9:
        raise BadInput(
            f"{what} temperature of chip {seed}",
            got=f"{kelvin - KELVIN:.1f} °C",
            why=f"the data of device {device.name!r} cover {thermal.t_min_c:g} to {thermal.t_max_c:g} °C",
            do="choose a temperature, and a spread of the dies, that stay within",
        )


def at_temperature(tables: DeviceTables, device: Device, at: Kelvins | None, age_s: float) -> DeviceTables:
    """Return the device's tables at an age, for cells at these temperatures; the same where all are the reference."""
    if at is None or device.thermal is None:
        return tables
    thermal, g_max = device.thermal, device.g_max_us
    if isinstance(device.drift, PowerDrift) and tables.drift == POWER_DRIFT and thermal.attempt_time_s:
        t0 = relaxed_t0(device.drift.t0_s, thermal.attempt_time_s, at.program, at.storage)
        tables = tables._replace(log_time=np.float32(at.storage / at.read * math.log1p(age_s / t0)))
    thermal_per_ev = np.float32((1 / at.program - 1 / at.read) / BOLTZMANN_EV)
    if thermal_per_ev == 0:
        return tables
    law = thermal.activation_ev
    return tables._replace(
        thermal_per_ev=thermal_per_ev, activation=law.table(),
        x_scale=np.append(tables.x_scale, law.x_scale(g_max)),
        y_scale=np.append(tables.y_scale, np.float32(1)),
    )  # fmt: skip


def relaxed_t0(t0_s: float, attempt_time_s: float, program_k: float, storage_k: float) -> float:
    """Return the time at the storage temperature in which a cell relaxes as far as in t₀ at the temperature of
    programming.
    """
    if program_k == storage_k:
        return t0_s
    return math.exp(math.log(attempt_time_s) + math.log(t0_s / attempt_time_s) * program_k / storage_k)


def supply_factor(
    variation: Variation | None, row_tiles: int, col_tiles: int, ordinal: int, seed: int, copy: int = 0
) -> F64 | None:
    """Return (row tiles, column tiles): V_read over its nominal value, 1 - droop - σ_die·z - σ_tile·z', never below 0.

    None: nominal everywhere. Tiles are named by matrix, copy and place, the die by the seed.
    """
    if variation is None:
        return None
    fixed, die, tile = (
        value or 0.0
        for value in (variation.supply_droop, variation.die_supply_sigma, variation.tile_supply_sigma)
    )
    if not (fixed or die or tile):
        return None
    droop = np.full((row_tiles, col_tiles), fixed)
    if die:
        droop += die * float(die_draws(seed)[1])
    if tile:
        counter = np.zeros((row_tiles, col_tiles, 4), np.uint32)
        counter[..., 0], counter[..., 1] = np.arange(row_tiles)[:, None], np.arange(col_tiles)
        counter[..., 2], counter[..., 3] = copy, site_word(Stream.DIE, ordinal, TILE_SUPPLY)
        z = normals(counter.reshape(-1, 4), key_of(seed))[:, 0].astype(np.float64)
        droop += tile * z.reshape(row_tiles, col_tiles)
    return np.asarray(np.maximum(1 - droop, 0.0))
