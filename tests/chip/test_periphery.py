"""Converters that err, faults and dies: each effect alone against its formula, and nothing where it is zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware
from aimc_sim.chip.draws import dac_lines, die_of
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.periphery import Periphery
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.hardware.converters import DacErrors
from aimc_sim.hardware.imperfections import Variation
from aimc_sim.randomness import row_ids
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)
from aimc_sim.tiles.input_codes import with_inl_rows
from aimc_sim.tiles.matrix import TiledMatrix
from helpers import gaussian

ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
ROWS = 32


def matrix(w: np.ndarray, device: object = "ideal", seed: int = 4, **tables: Any) -> CellMatrix:
    data = {"device": device, "tile": {"rows": ROWS, "cols": 48}, "dac": {}, "adc": ADC, **tables}
    return CellMatrix(w, Hardware.load(data), seed=seed, ordinal=3)


W, X = gaussian((70, 100), 1), gaussian((9, 100), 2)
ZEROS: dict[str, Any] = {
    "dac": {"errors": {}}, "adc": {**ADC, "errors": {}}, "faults": {}, "variation": {},
}  # fmt: skip


@pytest.mark.parametrize("part", [*ZEROS, "all"])
def test_with_every_term_at_zero_nothing_changes(part: str) -> None:
    plain = tile_matmul(X, matrix(W, "pcm-hermes-2").tiles())
    tables = ZEROS if part == "all" else {part: ZEROS[part]}
    assert_bits(tile_matmul(X, matrix(W, "pcm-hermes-2", **tables).tiles()), plain)


FULL: dict[str, Any] = {
    "dac": {"errors": {"gain_sigma": 0.05, "offset_sigma_lsb": 0.5}},
    "adc": {**ADC, "errors": {"gain_sigma": 0.05, "offset_sigma_lsb": 1, "inl_sigma_lsb": 1, "noise_lsb": 0.5}},
    "faults": {"stuck_low_rate": 0.05, "stuck_high_rate": 0.03, "dead_row_rate": 0.05, "dead_column_rate": 0.05},
    "variation": {
        "die_gain_sigma": 0.05, "tile_gain_sigma": 0.05, "adc_gain_sigma": 0.05, "nu_sigma": 0.01,
        "noise_scale_sigma": 0.1,
    },
}  # fmt: skip


def test_everything_at_once_equals_plain_numpy_and_is_one_chip() -> None:
    m, ids = matrix(W, "pcm-hermes-2", **FULL), row_ids(np.arange(9), 0)
    tiles = m.tiles()
    assert_bits(tile_matmul(X, tiles, ids), tile_matmul_reference(X, tiles, ids))
    assert_bits(tile_matmul(X, matrix(W, "pcm-hermes-2", **FULL).tiles(), ids), tile_matmul(X, tiles, ids))
    other = matrix(W, "pcm-hermes-2", seed=5, **FULL).tiles()
    assert not np.array_equal(tile_matmul(X, other, ids), tile_matmul(X, tiles, ids))


@pytest.mark.parametrize("device", ["pcm-hermes-2", "reram-wan"])
def test_stuck_cells_in_the_fast_kernel_are_those_of_the_formula(device: str) -> None:
    m = matrix(W, device, faults=FULL["faults"], compensation={})
    assert_bits(m.effective_weights(), m.cells().effective)
    cells, clean = m.cells(), matrix(W, device, compensation={}).cells()
    low, high = np.float32(m.hardware.device.g_min_us), np.float32(m.hardware.device.g_max_us)
    changed = cells.now != clean.now
    assert set(np.unique(cells.now[changed])) <= {low, high}
    assert_bits(cells.now[changed], cells.programmed[changed])


def test_rates_of_faults(ledger: AlphaLedger) -> None:
    """Counts of stuck cells and dead lines are binomial: their normalised errors have variance 1 over many chips."""
    w, found = np.zeros((64, 512), np.float32), []
    w[:, 0] = 1
    for seed in range(40):
        cells = matrix(w, seed=seed, faults={"stuck_high_rate": 0.04}).cells()
        stuck = (cells.now[:, :, 1:] > 0).sum()
        n, p = 2 * 64 * 511, 0.04
        found.append((stuck - n * p) / np.sqrt(n * p * (1 - p)))
    z = np.array(found)
    assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("faults: rate"))
    dead = []
    for seed in range(40):
        tiles = matrix(gaussian((512, 64), 3), seed=seed, faults={"dead_column_rate": 0.1}).tiles()
        count = (tiles.scale == 0).sum()
        dead.append((count - tiles.scale.size * 0.1) / np.sqrt(tiles.scale.size * 0.09))
    assert_mean_normal(np.array(dead), mean=0, sigma=1, alpha=ledger.spend("faults: rate"))


def test_dead_lines() -> None:
    tiles = matrix(W, faults={"dead_column_rate": 1}).tiles()
    assert (tile_matmul(X, tiles) == 0).all()
    assert (tile_matmul(X, matrix(W, faults={"dead_row_rate": 1}).tiles()) == 0).all()
    for rates in ({"dead_column_rate": 1}, {"dead_row_rate": 1}):
        without = matrix(W, faults=rates, dac=False, adc=False).tiles()
        assert (tile_matmul(X, without) == 0).all(), "also without converters"
    m = matrix(W, faults={"dead_row_rate": 0.3}, adc=False)
    tiles = m.tiles()
    unit = np.eye(100, dtype=np.float32)
    dead = tile_matmul(unit, tiles) == 0
    for columns in (slice(0, 48), slice(48, 70)):  # one row driver serves one tile
        rows = dead[:, columns].all(axis=1)
        assert 10 < rows.sum() < 60
        assert not dead[~rows][:, columns].any(axis=1).all()


def test_gains_and_offsets_are_where_they_belong(ledger: AlphaLedger) -> None:
    """Slope and value at zero input of every column of every tile: normal with the stated deviations, independent."""
    n, levels = 4096, 127
    errors = {"gain_sigma": 0.02, "offset_sigma_lsb": 3.0, "inl_sigma_lsb": 0.0}
    w = np.ones((n, ROWS), np.float32)
    tiles = matrix(w, adc={**ADC, "errors": errors}, tile={"rows": ROWS}).tiles()
    plain = matrix(w, tile={"rows": ROWS}).tiles()
    gain = (tiles.inverse[0].astype(np.float64) / plain.inverse[0] - 1) / errors["gain_sigma"]
    assert tiles.adc_curve is not None
    offset = tiles.adc_curve.offset[0].astype(np.float64) / errors["offset_sigma_lsb"]
    for z in (gain, offset):
        assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("periphery: moments"))
        assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("periphery: moments"))
    assert_uncorrelated(gain, offset, alpha=ledger.spend("periphery: moments"))
    x = np.full((1, ROWS), 1e-6, np.float32)
    x[0, 0] = 1  # one row at full scale: 1/8 of the ADC's
    expected = np.rint((1 + gain * 0.02) * levels / 8 + 3 * offset)
    lsb = 8 / levels
    np.testing.assert_allclose(tile_matmul(x, tiles)[0], expected * lsb, rtol=1e-4, atol=1e-6)


def test_nonlinearity_is_zero_at_zero_and_full_scale_and_has_the_stated_peak() -> None:
    errors = {"inl_sigma_lsb": 2.0}
    curve = matrix(np.ones((64, 8), np.float32), adc={**ADC, "errors": errors}).tiles().adc_curve
    assert curve is not None
    s = np.linspace(-127, 127, 20_001, dtype=np.float32)[:, None]
    error = s * (curve.curve[0] - curve.bow[0] * s * s)
    assert np.abs(error[[0, 10_000, -1]]).max() < 1e-3
    z = curve.curve[0].astype(np.float64) / (2.0 * 3 * np.sqrt(3) / 2 / 127)
    np.testing.assert_allclose(np.abs(error).max(axis=0), np.abs(2 * z), rtol=1e-4)


def test_offsets_of_input_drivers_reach_the_output() -> None:
    """With no input at all (but for one row that sets the range) a column shows Σ offset·weight."""
    errors = {"offset_sigma_lsb": 4.0}
    hardware = {"dac": {"errors": errors}, "adc": False, "tile": {"rows": 100}}
    m = matrix(W, **hardware)
    around = Periphery(m.hardware, m.tile_map, 3, 4)
    offset = around.dac_offset_current(0, 70, m.effective_weights())
    assert offset is not None
    x = np.zeros((1, 100), np.float32)
    x[0, 7] = 2
    y, plain = tile_matmul(x, m.tiles()), tile_matmul(x, matrix(W, **{**hardware, "dac": {}}).tiles())
    peak = np.abs(W).max(axis=1)
    np.testing.assert_allclose(y - plain, 2 * offset / 127 * peak, rtol=1e-3, atol=1e-4)


def kind(name: str, seed: int = 4, columns: int = 4096, bits: int = 8, **errors: Any) -> TiledMatrix:
    """Tiles of 48 columns behind ADCs of one kind."""
    adc = {**ADC, "bits": bits, "kind": name, "errors": errors}
    return matrix(np.ones((columns, ROWS), np.float32), seed=seed, adc=adc).tiles()


@pytest.mark.parametrize("name", ["sar", "ramp"])
def test_every_kind_of_adc_without_errors_is_the_generic_one(name: str) -> None:
    plain = tile_matmul(X, matrix(W, "pcm-hermes-2").tiles())
    for errors in (None, {}, {"trim_bits": 6}):
        adc = {**ADC, "kind": name, "errors": errors}
        assert_bits(tile_matmul(X, matrix(W, "pcm-hermes-2", adc=adc).tiles()), plain)


def test_capacitors_of_a_sar(ledger: AlphaLedger) -> None:
    """Steps and levels at mid-scale have the textbook's deviations, in every column afresh; both ends stay."""
    sigma, bits = 1e-3, 8
    capacitors = kind("sar", unit_cap_sigma=sigma).capacitors
    assert capacitors is not None
    assert capacitors.shape == (1, bits, 4096)
    held = capacitors[0].astype(np.float64)
    step = (held[-1] - held[:-1].sum(axis=0) - 1) / (sigma * np.sqrt(2**bits - 1))
    level = (held[-1] - 2 ** (bits - 1)) / (sigma * np.sqrt(2**bits) / 2)
    for z in (step, level):
        assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("periphery: SAR"))
        assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("periphery: SAR"))
        assert_uncorrelated(z[:-1], z[1:], alpha=ledger.spend("periphery: SAR"))
    small = [(held[k] / held[k + 1] - 0.5) for k in (0, 2, 4)]  # ratios know nothing of the array's sum
    assert_uncorrelated(small[0], small[1], alpha=ledger.spend("periphery: SAR"))
    assert_uncorrelated(small[1], small[2], alpha=ledger.spend("periphery: SAR"))
    other = kind("sar", seed=5, unit_cap_sigma=sigma).capacitors
    assert other is not None
    assert_uncorrelated(held[-1], other[0, -1].astype(np.float64), alpha=ledger.spend("periphery: SAR"))
    full = np.abs(held.sum(axis=0) - (2**bits - 1))
    assert full.max() < 6 * sigma, (
        "all bits together miss full scale by no more than the unit that ends the array"
    )


def test_a_sar_that_errs_equals_plain_numpy_and_is_one_chip() -> None:
    errors = {"unit_cap_sigma": 0.05, "offset_sigma_lsb": 0.5, "gain_sigma": 0.01, "noise_lsb": 0.3}
    tables = {"adc": {**ADC, "kind": "sar", "errors": errors}, "read_noise": {}}
    ids = row_ids(np.arange(9), 0)
    tiles = matrix(W, "pcm-hermes-2", **tables).tiles()
    y = tile_matmul(X, tiles, ids)
    assert_bits(y, tile_matmul_reference(X, tiles, ids))
    assert_bits(y, tile_matmul(X, matrix(W, "pcm-hermes-2", **tables).tiles(), ids))
    fine = matrix(
        W, "pcm-hermes-2", dac={"bits": 12}, adc={**ADC, "kind": "sar", "errors": {"unit_cap_sigma": 0.05}}
    )
    plain = matrix(W, "pcm-hermes-2", dac={"bits": 12})
    off = tile_matmul(X, fine.tiles()) - tile_matmul(X, plain.tiles())
    assert 0 < np.abs(off).max() < 20 * 8 / 127 * np.abs(W).max(), "codes of 12 bits, in floating point"


def test_columns_of_a_tile_share_their_ramp(ledger: AlphaLedger) -> None:
    """One gain and one curve a tile, an offset a column."""
    errors = {"gain_sigma": 0.02, "inl_sigma_lsb": 1.0, "offset_sigma_lsb": 3.0}
    tiles, plain = kind("ramp", columns=48 * 2000, **errors), kind("ramp", columns=48 * 2000)
    curve = tiles.adc_curve
    assert curve is not None
    gain = tiles.inverse[0].astype(np.float64) / plain.inverse[0] - 1
    for values in (gain, curve.curve[0], curve.bow[0]):
        by_tile = values.reshape(2000, 48)
        assert (by_tile == by_tile[:, :1]).all()
    peaks = curve.curve[0, ::48].astype(np.float64) / (3 * np.sqrt(3) / 2 / 127)
    offset = curve.offset[0].astype(np.float64) / 3.0
    for z in (gain[::48] / 0.02, peaks, offset):
        assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("periphery: ramp"))
        assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("periphery: ramp"))
    assert_uncorrelated(gain[::48], peaks, alpha=ledger.spend("periphery: ramp"))
    assert_uncorrelated(offset[:-1], offset[1:], alpha=ledger.spend("periphery: ramp"))
    assert_uncorrelated(offset[::48], peaks, alpha=ledger.spend("periphery: ramp"))


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_what_a_trim_leaves(bits: int) -> None:
    """Of every error its distance from the nearest step of the trim, which spans eight deviations."""
    errors = {"gain_sigma": 0.02, "offset_sigma_lsb": 3.0}
    before, after, plain = (
        kind("generic", **errors),
        kind("generic", **errors, trim_bits=bits),
        kind("generic"),
    )
    assert before.adc_curve is not None
    assert after.adc_curve is not None
    for sigma, was, left in (
        (3.0, before.adc_curve.offset, after.adc_curve.offset),
        (0.02, before.inverse / plain.inverse - 1.0, after.inverse / plain.inverse - 1.0),
    ):
        step, slack = 8 * sigma / 2**bits, 1e-4 * sigma
        taken = (was.astype(np.float64) - left) / step
        assert np.abs(taken - np.rint(taken)).max() < slack / step, "whole steps"
        assert taken.min() >= -(2 ** (bits - 1)) - 0.1
        assert taken.max() <= 2 ** (bits - 1) - 1 + 0.1
        covered = (was > -4 * sigma) & (was < 4 * sigma - step / 2)
        assert covered.mean() > (0.95 if bits == 1 else 0.99)
        assert np.abs(left[covered]).max() <= step / 2 + slack
        assert bits < 4 or left[covered].std() == pytest.approx(step / np.sqrt(12), rel=0.1), (
            "4096 draws: 0.7 %"
        )


def test_nonlinearity_of_input_drivers(ledger: AlphaLedger) -> None:
    """Code q of row k drives (1 + gain)·(q + offset + peak·s(q)): against floats, and peaks with their deviation."""
    errors = {"inl_sigma_lsb": 2.0, "gain_sigma": 0.01, "offset_sigma_lsb": 0.5}
    tables: dict[str, Any] = {"dac": {"errors": errors}, "adc": False, "tile": {"rows": 64, "cols": 48}}
    m, lines = matrix(W, "pcm-hermes-2", **tables), dac_lines(DacErrors(**errors), 2, 100, 3, 4)
    gain, offset, peak = (part.astype(np.float64)[m.tile_map.column_tile] for part in lines)
    w, expected = m.effective_weights().astype(np.float64), np.zeros((9, 70))
    scale = tile_scale(W, 64)
    for t, (a, b) in enumerate(((0, 64), (64, 100))):
        beta = np.abs(X[:, a:b]).max(axis=1)
        q = np.rint(X[:, a:b] * (np.float32(127) / beta)[:, None]).astype(int)
        x = q / 127
        s = np.rint(127 * 3 * np.sqrt(3) / 2 * (x - x**3)) / 127
        for j in range(70):
            driven = gain[j, a:b] * (q + offset[j, a:b] + peak[j, a:b] * s)
            expected[:, j] += driven @ w[j, a:b] * scale[t, j] * beta / 127
    found = tile_matmul(X, m.tiles())
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    tables["dac"] = {"errors": {**errors, "inl_sigma_lsb": 0}}
    straight = tile_matmul(X, matrix(W, "pcm-hermes-2", **tables).tiles())
    assert np.abs(straight - expected).max() > 20 * np.abs(found - expected).max()
    _, _, peaks = dac_lines(DacErrors(inl_sigma_lsb=0.5), 4, 1000, 3, 4)
    z = peaks.ravel().astype(np.float64) / 0.5
    assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("periphery: DAC curve"))
    assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("periphery: DAC curve"))
    assert_uncorrelated(z[:-1], z[1:], alpha=ledger.spend("periphery: DAC curve"))


def tile_scale(w: np.ndarray, rows: int) -> np.ndarray:
    """(tiles, N) the largest |w| of each column in each tile."""
    return np.stack([np.abs(w[:, a : a + rows]).max(axis=1) for a in range(0, w.shape[1], rows)])


def test_bent_drivers_of_every_mode_equal_plain_numpy() -> None:
    """The second product is exact, read noise stays that of the codes, and curves without height change no bit."""
    ids = row_ids(np.arange(9), 0)
    for dac in ({}, {"mode": "pulse_width"}, {"mode": "multi_phase"}):
        dac_inl = {**dac, "errors": {"inl_sigma_lsb": 3.0}}
        for extra in ({}, {"read_noise": {}}):
            tiles = matrix(W, "pcm-hermes-2", dac=dac_inl, **extra).tiles()
            assert tiles.dac_inl
            assert_bits(tile_matmul(X, tiles, ids), tile_matmul_reference(X, tiles, ids))
            plain = matrix(W, "pcm-hermes-2", dac=dac, **extra).tiles()
            flat = with_inl_rows(plain, np.zeros((70, 100), np.float32))
            assert_bits(tile_matmul(X, flat, ids), tile_matmul(X, plain, ids))
            assert not np.array_equal(tile_matmul(X, tiles, ids), tile_matmul(X, plain, ids))
    huge = matrix(np.ones((1, 20_000), np.float32), dac={"errors": {"inl_sigma_lsb": 1}}, tile={})
    with pytest.raises(BadInput, match="takes every row twice"):
        huge.tiles()


def test_thermal_noise(ledger: AlphaLedger) -> None:
    errors, n = {"noise_lsb": 30.0}, 2000
    wide = {"bits": 14, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
    tiles = matrix(np.ones((64, ROWS), np.float32), adc={**wide, "errors": errors}).tiles()
    x = np.zeros((n, ROWS), np.float32)
    x[:, 0] = 1  # an eighth of the ADC's full scale
    y = tile_matmul(x, tiles, row_ids(np.arange(n), 0)).astype(np.float64)
    quiet = tile_matmul(x[:1], matrix(np.ones((64, ROWS), np.float32), adc=wide).tiles())
    z = (y - quiet) / (30.0 * 8 / 8191)
    sigma = np.sqrt(1 + 1 / 12 / 30**2)  # rounding adds its own
    assert_mean_normal(z.ravel(), mean=0, sigma=sigma, alpha=ledger.spend("periphery: thermal noise"))
    assert_variance(z.ravel(), sigma=sigma, mean=0, alpha=ledger.spend("periphery: thermal noise"))
    assert_uncorrelated(z[:, 0], z[:, 1], alpha=ledger.spend("periphery: thermal noise"))
    with pytest.raises(BadInput, match="row_ids"):
        tile_matmul(x, tiles)


def test_dies_differ_as_a_whole(ledger: AlphaLedger) -> None:
    variation = Variation(die_gain_sigma=0.1, adc_gain_sigma=0.1, nu_sigma=0.1, noise_scale_sigma=0.1)
    dies = [die_of(variation, seed) for seed in range(4000)]
    values = np.array([[d.gain - 1, d.adc_gain - 1, d.nu_shift, d.noise_scale - 1] for d in dies]) / 0.1
    for column in values.T:
        assert_mean_normal(column, mean=0, sigma=1, alpha=ledger.spend("periphery: dies"))
        assert_variance(column, sigma=1, mean=0, alpha=ledger.spend("periphery: dies"))
    seed = int(np.argmax(np.abs(values[:, 2])))
    one = matrix(W, "pcm-hermes-2", seed=seed, variation={"nu_sigma": 0.1})
    nominal = matrix(W, "pcm-hermes-2", seed=seed)
    later = [
        np.abs(CellMatrix(W, m.hardware, seed, 86_400.0).effective_weights()).sum() for m in (one, nominal)
    ]
    assert (later[0] < later[1]) == (values[seed, 2] > 0)


def test_what_cannot_be_is_refused() -> None:
    for tables, words in (
        ({"device": "pcm-afm", "faults": {"stuck_low_rate": 0.1}}, "stuck cell has a conductance"),
        ({"device": "ideal", "faults": {"stuck_low_rate": 0.7, "stuck_high_rate": 0.7}}, "at most 1"),
        ({"device": "ideal", "faults": {"stuck_rate": 0.1}}, "did you mean"),
        ({"device": "ideal", "dac": {"bits": 9}, "adc": {"errors": {"noise_lsb": 1}}}, "integer path"),
        (
            {"device": "ideal", "dac": {}, "adc": {"errors": {"unit_cap_sigma": 0.01}}},
            "belongs to capacitors",
        ),
        (
            {"device": "ideal", "dac": {}, "adc": {"kind": "sar", "errors": {"inl_sigma_lsb": 1}}},
            "unit_cap_sigma",
        ),
        ({"device": "ideal", "dac": {}, "adc": {"kind": "flash"}}, "kind"),
    ):
        with pytest.raises(BadInput, match=words):
            Hardware.load(tables)


WIRES = {"r_row_ohm": 2.0, "r_col_ohm": 3.0, "r_driver_ohm": 10.0, "drive": "both", "layout": "side_by_side"}


@pytest.mark.parametrize(
    ("dac", "drives"),
    [
        ({}, 1),
        ({"mode": "pulse_width"}, 1),
        ({"mode": "multi_phase"}, 0),
        ({"mode": "bit_serial"}, 127),
        ({"mode": "bit_serial", "slice_bits": 3}, 1 + 8 + 64),
    ],
)
def test_a_dacs_offset_drives_every_read_wherever_reads_are_added(dac: dict[str, Any], drives: int) -> None:
    """Digitally behind an ADC, in analog before one, or without one: Σ of the reads' factors times offset·w."""
    w, x = gaussian((40, ROWS), 1), gaussian((6, ROWS), 2)
    fine = {"bits": 16, "full_scale": {"rule": "lambda", "lambda_": 60.0}}
    error = {"errors": {"offset_sigma_lsb": 0.25}}
    offset = dac_lines(DacErrors(offset_sigma_lsb=0.25), 1, ROWS, 3, 4)[1][0]
    beta = np.abs(x).max(axis=1, keepdims=True)
    expected = drives * beta / 127 * (w @ offset)
    for adc, how in ((fine, {}), (fine, {"accumulate": "analog"}), (False, {})):
        without, with_offset = (
            tile_matmul(x, matrix(w, dac={**dac, **how, **more}, adc=adc, tile={}).tiles())
            for more in ({}, error)
        )
        moved = with_offset - without
        assert np.abs(moved - expected).max() < 0.01 * max(float(np.abs(expected).max()), 3.0), (adc, how)
