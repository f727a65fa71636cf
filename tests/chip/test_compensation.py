"""Drift compensation: sums against plain NumPy, an affine fit against lstsq, offsets taken off, one trajectory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware
from aimc_sim.chip import compensation
from aimc_sim.chip.blocks import Readouts, Whole
from aimc_sim.chip.mapping import TileMap
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul, tile_matmul_reference, tile_outputs
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)
from helpers import gaussian

ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
OFF = {**ADC, "errors": {"offset_sigma_lsb": 3.0}}
AFFINE = {"per": "affine"}


W, X = gaussian((70, 200), 1), gaussian((64, 200), 2)


def matrix(device: object = "pcm-hermes-2", t_s: float = 1e6, **tables: Any) -> CellMatrix:
    data = {"device": device, "tile": {"rows": 64, "cols": 48}, "dac": {}, "adc": ADC, **tables}
    return CellMatrix(W, Hardware.load(data), seed=4, t_s=t_s, ordinal=3)


def error(m: CellMatrix) -> float:
    return float(np.square(tile_matmul(X, m.tiles()) - X @ W.T).mean())


def test_factors_are_ratios_of_sums() -> None:
    tmap = TileMap(np.array([0, 5, 9]), np.array([0, 2, 6]))
    before, after = np.arange(1, 13).reshape(2, 6) * 7, np.arange(2, 14).reshape(2, 6)
    after[1, 2:] = 0
    column = Readouts(before.astype(np.float32), before, after).factors(tmap, False)
    tile = Readouts(before.astype(np.float32), before, after).factors(tmap, True)
    for t in range(2):
        for j in range(6):
            own = slice(0, 2) if j < 2 else slice(2, 6)
            expected = before[t, j] / after[t, j] if after[t, j] else 1.0
            assert column[t, j] == np.float32(expected)
            low = after[t, own].sum()
            assert tile[t, j] == np.float32(before[t, own].sum() / low if low else 1.0)


@pytest.mark.parametrize("adc", [ADC, OFF])
def test_where_nothing_drifts_no_bit_changes(adc: dict[str, Any]) -> None:
    for device, t_s in (("ideal", 1e6), ("pcm-joshi", 0.0)):
        plain = tile_matmul(X, matrix(device, t_s, adc=adc).tiles())
        assert_bits(tile_matmul(X, matrix(device, t_s, adc=adc, compensation=AFFINE).tiles()), plain)


def test_the_fit_is_the_least_square_one() -> None:
    """Against numpy.linalg.lstsq on the codes that the tiles give, the matrix cut into tiles by hand."""
    quiet = {"base": "pcm-hermes-2", "flicker": False}
    m, start = matrix(quiet, adc=OFF), matrix(quiet, 0.0, adc=OFF)
    later, programmed = m.tiles(), start.tiles()
    x = compensation.calibration_vectors(8, later, 3)
    gain, offset = compensation.affine_fit(x, programmed, later, m.tile_map.col_bounds)
    assert gain.shape == offset.shape == (4, 2)
    beta = np.stack([np.abs(x[:, a:b]).max(axis=1) for a, b in ((0, 64), (64, 128), (128, 192), (192, 200))])
    for t, (now, before) in enumerate(zip(tile_outputs(x, later), tile_outputs(x, programmed), strict=True)):
        for c, own in enumerate((slice(0, 48), slice(48, 70))):
            unit = later.scale[t, own] * beta[t][:, None]
            y, r = (now[:, own] / unit).ravel(), (before[:, own] / unit).ravel()
            (a, b), *_ = np.linalg.lstsq(
                np.column_stack([y, np.ones_like(y)]).astype(float), r.astype(float), rcond=None
            )
            assert gain[t, c] == pytest.approx(a, rel=1e-4)
            assert offset[t, c] == pytest.approx(b, abs=1e-3)
    tiles = matrix(quiet, adc=OFF, compensation={"per": "affine", "vectors": 8}).tiles()
    np.testing.assert_allclose(tiles.scale[:, 0], later.scale[:, 0] * gain[:, 0], rtol=1e-6)
    assert tiles.constant is not None
    np.testing.assert_allclose(tiles.constant[:, 69], -offset[:, 1] / gain[:, 1], rtol=1e-5)
    assert_bits(tile_matmul(X, tiles), tile_matmul_reference(X, tiles))


def test_a_common_factor_and_an_offset_are_found_exactly() -> None:
    """Cells that all lose half by one law: gain 2, to the ADC's rounding; an offset is not blown up with the gain."""
    law = {
        "kind": "power",
        "t0_s": 1.0,
        "nu_mean": {"pieces": [{"coefficients": [0.1]}]},
        "nu_std": {"pieces": [{"coefficients": [0.0]}]},
    }
    device = {"base": "ideal", "drift": law, "t_max_s": 1e6}
    half = 2.0**10 - 1.0
    fine = {"bits": 16, "full_scale": ADC["full_scale"]}
    plain, fixed = (matrix(device, half, adc=fine, **table) for table in ({}, {"compensation": AFFINE}))
    np.testing.assert_allclose(fixed.tiles().scale / plain.tiles().scale, 2.0, rtol=2e-3)
    shifted = {**fine, "errors": {"offset_sigma_lsb": 300.0}}
    by_factor, by_line = (
        matrix(device, half, adc=shifted, compensation={"per": per}) for per in ("tile", "affine")
    )
    assert error(by_line) < error(by_factor)


def test_least_squares_beat_ratios_on_a_chip_that_drifts() -> None:
    for t_s in (86_400.0, 3e7):
        tile, affine = (error(matrix(t_s=t_s, compensation={"per": per})) for per in ("tile", "affine"))
        assert affine < 0.97 * tile


def test_it_is_read_out_every_so_often_and_is_one_trajectory() -> None:
    policy = {"per": "affine", "every_s": 1000.0}
    at = {t: matrix(t_s=t, compensation=policy).tiles() for t in (2500.0, 1000.0, 2001.0, 0.0)}
    gain = {t: at[t].scale / matrix(t_s=t).tiles().scale for t in at}
    assert_bits(gain[2500.0], gain[2001.0])
    assert (gain[2500.0] != gain[1000.0]).any()
    assert (gain[0.0] == 1).all()
    assert_bits(matrix(t_s=1000.0, compensation=policy).tiles().scale, at[1000.0].scale)
    again = matrix(t_s=5600.0, compensation=policy, refresh={"every_s": 5000.0})
    without = matrix(t_s=5600.0, refresh={"every_s": 5000.0})
    assert_bits(again.tiles().scale, without.tiles().scale)  # programmed anew 600 s ago, not yet read out


def test_an_affine_fit_sees_nothing_of_the_frozen_noise() -> None:
    """Two sessions of one chip differ in their 1/f noise alone, and are corrected alike."""
    at = matrix(adc=OFF, compensation=AFFINE)
    one, two = (replace(at, session=session).tiles() for session in (0, 1))
    assert (one.panels != two.panels).any(), "this device's 1/f noise must show"
    assert (one.scale != matrix(adc=OFF).tiles().scale).all()
    assert one.constant is not None
    assert_bits(one.scale, two.scale)
    assert_bits(one.constant, two.constant)


WIRES = {"r_row_ohm": 1.0, "r_col_ohm": 1.0}


@pytest.mark.parametrize("per", ["tile", "column"])
@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"wires": WIRES},
        {"weights": {"devices": 2}},
        {"weights": {"devices": 2, "share": "fill"}, "wires": WIRES},
        {"weights": {"bits": 8, "cell_bits": 4, "pair": "offset_column"}},
    ],
    ids=str,
)
def test_factors_see_nothing_of_the_frozen_noise(tables: dict[str, Any], per: str) -> None:
    """Of cells that are read in one pass, and of those whose readout is more than a sum over cells."""
    at = matrix("pcm-hermes-1", compensation={"per": per}, **tables)
    for pair in zip(*(replace(at, session=session).arrays for session in (0, 1)), strict=True):
        held = [Whole(*W.shape, needs_total=False) for _ in pair]
        one, two = (array.program_into(sink).alpha for array, sink in zip(pair, held, strict=True))
        assert (held[0].effective != held[1].effective).any(), "this device's 1/f noise must show"
        assert (one != 1).all()
        assert_bits(one, two)


def test_slices_and_noise_go_with_it() -> None:
    sliced = matrix(weights={"bits": 8, "cell_bits": 4}, compensation=AFFINE)
    tiles = sliced.tiles()
    assert len(tiles.parts) == 1
    assert error(sliced) < error(matrix(weights={"bits": 8, "cell_bits": 4}))
    noisy = matrix(compensation=AFFINE, read_noise={})
    assert_bits(noisy.tiles().scale, replace(matrix(compensation=AFFINE).tiles()).scale)


def test_calibration_vectors_are_normal_and_differ(ledger: AlphaLedger) -> None:
    tiles = matrix().tiles()
    x = compensation.calibration_vectors(64, tiles, 3)
    assert x.shape == (64, 200)
    assert_mean_normal(x, mean=0, sigma=1, alpha=ledger.spend("compensation: vectors"))
    assert_variance(x, sigma=1, mean=0, alpha=ledger.spend("compensation: vectors"))
    other = compensation.calibration_vectors(64, tiles, 4)
    for y in (other, np.roll(x, 1, axis=0), np.roll(x, 1, axis=1)):
        assert_uncorrelated(x.ravel(), y.ravel(), alpha=ledger.spend("compensation: vectors"))
    static = replace(tiles, input_range=np.array([3.0, 6.0, 9.0, 12.0], np.float32))
    scaled = compensation.calibration_vectors(64, static, 3)
    np.testing.assert_allclose(scaled[:, 64:128], 2 * x[:, 64:128], rtol=1e-6)
    assert_bits(compensation.calibration_vectors(5, tiles, 3), x[:5])


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"compensation": AFFINE, "dac": False, "adc": False}, "integer path"),
        ({"compensation": {"per": "tile", "vectors": 4}}, "affine fit"),
        ({"compensation": {"per": "affine", "vectors": 1}}, "2 to 4096"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said(tables: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        matrix(**tables)
