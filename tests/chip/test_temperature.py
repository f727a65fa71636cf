"""Temperatures and supply: against plain arithmetic with SI constants, their draws, and no bit where nominal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import constants

from aimc_sim import BadInput, Hardware, devices
from aimc_sim.chip.draws import die_of
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.periphery import Periphery
from aimc_sim.chip.temperature import die_draws, kelvins, supply_factor
from aimc_sim.devices import PowerDrift
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware.imperfections import Temperature, Variation
from aimc_sim.randomness import row_ids
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
    must_reject,
)
from helpers import gaussian

PER_EV = constants.e / constants.k  # kelvin
QUIET = {"base": "pcm-hermes-2", "programming": False, "flicker": False}
ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
CHIPS = 4000


W, X = gaussian((70, 100), 1), gaussian((9, 100), 2)


def matrix(
    device: object = "pcm-hermes-2", t_s: float = 86_400.0, w: np.ndarray = W, seed: int = 4, **tables: Any
) -> CellMatrix:
    data = {"device": device, "tile": {"rows": 32, "cols": 48}, **tables}
    return CellMatrix(w, Hardware.load(data), seed=seed, t_s=t_s, ordinal=3)


OWN = {
    "name": "own", "g_min_us": 2.0, "g_max_us": 30.0, "t_max_s": 1e9,
    "programming": {"sigma": {"pieces": [{"coefficients": [0.3]}]}},
    "thermal": {"t_min_c": -40.0, "t_max_c": 125.0, "activation_ev": {"of": "g_us", "pieces": [
        {"up_to": 10.0, "basis": "log", "coefficients": [0.3, -0.1]}, {"coefficients": [-0.01]}]}},
}  # fmt: skip


@pytest.mark.parametrize("device", ["pcm-hermes-1", "pcm-hermes-2", "pcm-ibm2019", "own"])
def test_the_fused_kernel_equals_the_formula(device: str) -> None:
    chosen = OWN if device == "own" else device
    for temperature in ({"read_c": 80.0}, {"program_c": 60.0, "read_c": 5.0, "storage_c": 70.0}):
        for t_s in (0.0, 20.0, 3e7):
            if device == "own":
                temperature = {**temperature, "program_c": temperature.get("program_c", 25.0)}
            m = matrix(chosen, t_s, temperature=temperature, compensation={})
            assert_bits(m.effective_weights(), m.cells().effective)
            assert (m.effective_weights() != matrix(chosen, t_s).effective_weights()).any()


@pytest.mark.parametrize("t_s", [0.0, 1.0, 3600.0, 3e7])
def test_conductances_follow_arrhenius(t_s: float) -> None:
    """One cell after the other in plain floats: conduction, the clock of relaxation, the exponent."""
    law = devices.get("pcm-hermes-2").drift
    assert isinstance(law, PowerDrift)
    drift = {
        "kind": "power",
        "t0_s": 300.0,
        "nu_mean": law.nu_mean.model_dump(mode="json"),
        "nu_std": {"pieces": [{"coefficients": [0.0]}]},
    }
    device = {**QUIET, "drift": drift}
    program, storage, read = 30.0, 70.0, 45.0
    m = matrix(device, t_s, temperature={"program_c": program, "storage_c": storage, "read_c": read})
    tp, ts, tr = (constants.convert_temperature(c, "C", "K") for c in (program, storage, read))
    now, programmed = m.cells().now[0], m.cells().programmed[0]
    t0 = 1e-13 * (300.0 / 1e-13) ** (tp / ts)
    for column in range(0, 70, 9):
        for row in range(0, 100, 7):
            g = float(programmed[column, row])
            nu = float(m.hardware.device.drift_nu(np.float32(g))[0])
            energy = 0.25 * (1 - g / 20.7)
            expected = (
                g * ((t_s + t0) / t0) ** (-nu * ts / tr) * math.exp(-energy * PER_EV * (1 / tr - 1 / tp))
            )
            assert float(now[column, row]) == pytest.approx(expected, rel=3e-6, abs=1e-9)


def test_a_warm_store_is_a_longer_time_at_room_temperature() -> None:
    """k·T·ln(t/τ₀₀) decides how far cells relax: an hour at 80 °C is so long at 25 °C."""
    warm, cool, hour = 80 + 273.15, 25 + 273.15, 3600.0
    t0_warm = 1e-13 * (300 / 1e-13) ** (cool / warm)
    equal_s = 300 * ((1 + hour / t0_warm) ** (warm / cool) - 1)
    assert equal_s > 3e6  # a month and more
    stored = matrix(t_s=hour, temperature={"storage_c": 80.0})
    aged = matrix(t_s=equal_s)
    quiet = {"base": "pcm-hermes-2", "flicker": False}
    np.testing.assert_allclose(
        matrix(quiet, hour, temperature={"storage_c": 80.0}).effective_weights(),
        matrix(quiet, equal_s).effective_weights(), rtol=2e-5, atol=1e-6)  # fmt: skip
    assert stored.hardware.id != aged.hardware.id


def test_nominal_temperatures_and_supply_change_no_bit() -> None:
    tables: dict[str, Any] = {"dac": {}, "adc": ADC, "compensation": {}}
    plain = tile_matmul(X, matrix(**tables).tiles())
    for nominal in (
        {"temperature": {}},
        {"temperature": {"storage_c": 25.0}, "variation": {"die_temperature_sigma_c": 0.0}},
        {"variation": {"supply_droop": 0.0, "die_supply_sigma": 0.0, "tile_supply_sigma": 0.0}},
    ):
        assert_bits(tile_matmul(X, matrix(**tables, **nominal).tiles()), plain)


def test_compensation_reads_out_at_the_temperature_of_reading() -> None:
    """The factor makes up for warm cells too: the mean weight, relative to its column's, is what it was."""
    tables = {"temperature": {"read_c": 70.0}, "tile": {"rows": 100}}
    without = matrix(QUIET, **tables).tiles().weights
    held = matrix(QUIET, compensation={}, **tables).tiles().weights
    assert without is not None
    assert held is not None
    full = np.abs(W).max(axis=1, keepdims=True)
    assert np.abs(held / full).mean() == pytest.approx(np.abs(W / full).mean(), rel=1e-4)
    assert np.abs(without / full).mean() != pytest.approx(np.abs(W / full).mean(), rel=0.02)


def test_a_chip_keeps_one_trajectory_and_its_stuck_cells() -> None:
    tables = {"temperature": {"read_c": 60.0}, "faults": {"stuck_high_rate": 0.05}}
    cells = matrix(QUIET, **tables).cells()
    stuck = (cells.now == np.float32(20.7)).all(axis=0) | (cells.now[0] == np.float32(20.7))
    assert stuck.any()
    one, other = (matrix(t_s=t, **tables).effective_weights() for t in (60.0, 1e6))
    assert_bits(matrix(t_s=60.0, **tables).effective_weights(), one)
    assert (one != other).any()


def test_temperature_of_dies(ledger: AlphaLedger) -> None:
    """Moments of what cells feel; no relation to the die's other draws."""
    device, spread = devices.get("pcm-ibm2019"), Variation(die_temperature_sigma_c=2.0, die_supply_sigma=0.01)
    at = [kelvins(device, Temperature(read_c=40.0), spread, seed) for seed in range(CHIPS)]
    read = np.array([k.read for k in at if k is not None])
    assert read.size == CHIPS
    assert {k.program for k in at if k is not None} == {298.15}
    assert all(k is not None and k.storage == k.read for k in at)
    z = (read - 313.15) / 2.0
    assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("conditions: moments"))
    assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("conditions: moments"))
    others = np.array(
        [[*die_draws(s)[1:2], die_of(Variation(die_gain_sigma=0.1), s).gain] for s in range(CHIPS)]
    )
    for other in others.T:
        assert_uncorrelated(z, other - other.mean(), alpha=ledger.spend("conditions: correlation"))
    with must_reject():  # a temperature that shares the supply's draw
        assert_uncorrelated(others[:, 0], 2 * others[:, 0], alpha=1e-9)
    with must_reject():  # a σ that is off by a tenth
        assert_variance(1.1 * z, sigma=1, mean=0, alpha=1e-9)


def test_supply_of_dies_and_tiles(ledger: AlphaLedger) -> None:
    spread = Variation(supply_droop=0.1, tile_supply_sigma=0.02)
    factor = supply_factor(spread, 60, 70, 5, 11)
    assert factor is not None
    z = (0.9 - factor.ravel()) / 0.02
    assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("conditions: moments"))
    assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("conditions: moments"))
    die = Variation(die_supply_sigma=0.03)
    drawn = [supply_factor(die, 2, 3, 0, seed) for seed in range(CHIPS)]
    assert all(f is not None and np.unique(f).size == 1 for f in drawn)
    y = np.array([(1 - f[0, 0]) / 0.03 for f in drawn if f is not None])
    assert_mean_normal(y, mean=0, sigma=1, alpha=ledger.spend("conditions: moments"))
    assert_variance(y, sigma=1, mean=0, alpha=ledger.spend("conditions: moments"))
    for other in (
        supply_factor(spread, 60, 70, 6, 11),
        supply_factor(spread, 60, 70, 5, 12),
        np.roll(factor, 1, 1),
    ):
        assert other is not None
        assert_uncorrelated(z, 0.9 - other.ravel(), alpha=ledger.spend("conditions: correlation"))
    low = supply_factor(Variation(supply_droop=0.99, tile_supply_sigma=0.5), 9, 9, 0, 0)
    assert low is not None
    assert low.min() == 0
    assert supply_factor(Variation(), 2, 2, 0, 0) is None


def test_droop_multiplies_currents_and_the_variance_of_their_noise_by_its_square() -> None:
    fine = {"rows": 32, "cols": 48, "weight_grid": "float32"}
    plain, dim = matrix(tile=fine), matrix(tile=fine, variation={"supply_droop": 0.25})
    np.testing.assert_allclose(
        tile_matmul(X, dim.tiles()), 0.75 * tile_matmul(X, plain.tiles()), rtol=1e-5, atol=1e-5
    )
    around = Periphery(dim.hardware, dim.tile_map, 3, 4)
    effective, total = np.ones((70, 100), np.float32), np.ones((70, 100), np.float32)
    around.scale_cells(0, 70, effective, total)
    assert (effective == np.float32(0.75)).all()
    assert (total == np.float32(0.75) ** 2).all()


def test_noise_at_a_low_supply_is_what_the_product_shows() -> None:
    """Standard deviation of fresh noise over the signal does not change; both fall."""
    tables: dict[str, Any] = {
        "dac": {},
        "adc": {"bits": 16, "full_scale": ADC["full_scale"]},
        "read_noise": {"sigma": 0.1},
    }
    x = np.repeat(X[:1], 400, axis=0)
    found = []
    for droop in (0.0, 0.5):
        y = tile_matmul(
            x, matrix(variation={"supply_droop": droop}, **tables).tiles(), row_ids(np.arange(400), 0)
        )
        found.append((y.std(axis=0).mean(), np.abs(y.mean(axis=0)).mean()))
    (noise, signal), (dim_noise, dim_signal) = found
    assert dim_noise / noise == pytest.approx(0.5, rel=0.02)
    assert dim_signal / signal == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("device", "tables", "said"),
    [
        ("reram-wan", {"temperature": {"read_c": 30.0}}, "no data on temperature"),
        ("reram-wan", {"variation": {"die_temperature_sigma_c": 1.0}}, "no data on temperature"),
        ("pcm-ibm2019", {"temperature": {"read_c": 90.0}}, "cover 0 to 85"),
        ("pcm-ibm2019", {"temperature": {"storage_c": -5.0}}, "cover 0 to 85"),
        ({"base": "pcm-ibm2019", "thermal": {"attempt_time_s": False}}, {"temperature": {"read_c": 30.0}}, "attempt"),
        ({"base": "reram-cmo", "thermal": OWN["thermal"]}, {"temperature": {"storage_c": 30.0}}, "drift"),
        ("pcm-ibm2019", {"variation": {"supply_droop": 1.0}}, "less than 1"),
    ],
)  # fmt: skip
def test_what_data_do_not_cover_is_refused(device: object, tables: dict[str, Any], said: str) -> None:
    if isinstance(device, dict) and "attempt_time_s" in device.get("thermal", {}):
        thermal = devices.get("pcm-ibm2019").thermal
        assert thermal is not None
        bare = thermal.model_copy(update={"attempt_time_s": None})
        device = devices.get("pcm-ibm2019").model_copy(update={"thermal": bare}).model_dump(mode="json")
    with pytest.raises(BadInput, match=said):
        matrix(device, **tables)


def test_the_reference_is_known_without_data_and_a_die_may_lie_outside() -> None:
    assert_bits(
        matrix("reram-wan", temperature={}).effective_weights(), matrix("reram-wan").effective_weights()
    )
    wide = {"temperature": {"read_c": 80.0}, "variation": {"die_temperature_sigma_c": 20.0}}
    outside = next(seed for seed in range(20) if 80 + 20 * die_draws(seed)[0] > 85)
    with pytest.raises(BadInput, match="temperature of chip"):
        matrix(seed=outside, **wide).effective_weights()
