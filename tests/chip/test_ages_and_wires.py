"""A chip as a whole: read through wires, compensated at intervals, programmed again, held in copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware
from aimc_sim.chip.draws import DAC, dac_lines, dead_rows, tile_gain
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.temperature import supply_factor
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.hardware.converters import DacErrors
from aimc_sim.hardware.imperfections import Faults, Variation
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import Stream, key_of, row_ids, site_word
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_uncorrelated,
)
from aimc_sim.wires import differential_effective_conductance
from helpers import gaussian

ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
ROWS = 32


def matrix(w: np.ndarray, device: object = "ideal", seed: int = 4, **tables: Any) -> CellMatrix:
    data = {"device": device, "tile": {"rows": ROWS, "cols": 48}, "dac": {}, "adc": ADC, **tables}
    return CellMatrix(w, Hardware.load(data), seed=seed, ordinal=3)


W, X = gaussian((70, 100), 1), gaussian((9, 100), 2)
FULL: dict[str, Any] = {
    "dac": {"errors": {"gain_sigma": 0.05, "offset_sigma_lsb": 0.5}},
    "adc": {**ADC, "errors": {"gain_sigma": 0.05, "offset_sigma_lsb": 1, "inl_sigma_lsb": 1, "noise_lsb": 0.5}},
    "faults": {"stuck_low_rate": 0.05, "stuck_high_rate": 0.03, "dead_row_rate": 0.05, "dead_column_rate": 0.05},
    "variation": {
        "die_gain_sigma": 0.05, "tile_gain_sigma": 0.05, "adc_gain_sigma": 0.05, "nu_sigma": 0.01,
        "noise_scale_sigma": 0.1,
    },
}  # fmt: skip
WIRES = {"r_row_ohm": 2.0, "r_col_ohm": 3.0, "r_driver_ohm": 10.0, "drive": "both", "layout": "side_by_side"}


@pytest.mark.parametrize("model", ["exact", "fast"])
def test_a_chip_reads_its_cells_through_the_wires(model: str) -> None:
    """Drift and faults first, wires after: G_eff of every tile of the drifted cells makes the effective weights."""
    tables = {"wires": {**WIRES, "model": model}, "faults": {"stuck_high_rate": 0.05}, "compensation": {}}
    m = replace(matrix(W, "pcm-hermes-2", **tables, read_noise={}), t_s=3600.0)
    cells = replace(matrix(W, "pcm-hermes-2", faults=tables["faults"], compensation={}), t_s=3600.0).cells()
    expected = np.empty_like(W)
    for columns in (slice(0, 48), slice(48, 70)):
        for a in range(0, 100, ROWS):
            g = (plane[columns, a : a + ROWS].T for plane in cells.now)
            plus, minus = differential_effective_conductance(
                *g, 2.0, 3.0, layout="side_by_side", drive="both", r_driver_ohm=10.0
            )
            expected[columns, a : a + ROWS] = (plus - minus).T / 20.7
    span = float(np.abs(expected).max())
    np.testing.assert_allclose(m.effective_weights(), expected, atol=2e-5 * span)
    assert np.abs(expected - cells.effective).max() > 0.01 * span, "these wires must matter"
    y = tile_matmul(X, m.tiles(), row_ids(np.arange(9), 0))
    assert np.isfinite(y).all()


@pytest.mark.parametrize("wires", [None, {"r_row_ohm": 1.0, "r_col_ohm": 1.0}])
def test_compensation_at_intervals(wires: object) -> None:
    """Between two readouts the factor stays that of the last; at a readout it is that of no interval at all."""
    tables = {} if wires is None else {"wires": wires}

    def at(t_s: float, every_s: float | None) -> CellMatrix:
        return replace(matrix(W, "pcm-hermes-2", compensation={"every_s": every_s}, **tables), t_s=t_s)

    assert_bits(at(7200.0, 3600.0).tiles().scale, at(7200.0, None).tiles().scale)
    assert_bits(at(7300.0, 3600.0).tiles().scale, at(7200.0, None).tiles().scale)
    assert not np.array_equal(at(7300.0, None).tiles().scale, at(7200.0, None).tiles().scale)
    assert_bits(at(7300.0, 3600.0).effective_weights(), at(7300.0, None).effective_weights())
    plain = replace(matrix(W, "pcm-hermes-2", **tables), t_s=3000.0)
    assert_bits(at(3000.0, 3600.0).tiles().scale, plain.tiles().scale)


def test_a_chip_that_is_programmed_again() -> None:
    """Age and draws begin anew, faults remain, and a chip outlives its device's data as long as its cells do not."""
    tables = {"refresh": {"every_s": 86_400.0}, "faults": {"stuck_high_rate": 0.05}}
    m = matrix(W, "pcm-hermes-2", **tables)
    cells = [replace(m, t_s=86_400.0 * day + 60.0).cells() for day in range(3)]
    plain = replace(matrix(W, "pcm-hermes-2", faults=tables["faults"]), t_s=60.0)
    assert_bits(cells[0].now, plain.cells().now)
    assert_bits(cells[2].now, replace(plain, programming_cycle=2).cells().now)
    stuck = (cells[0].now == cells[1].now) & (cells[1].now == cells[2].now) & (cells[0].now > 0)
    assert 0.03 < stuck.mean() < 0.07, "only stuck cells repeat"
    short = {"base": "pcm-hermes-2", "t_max_s": 2 * 86_400.0}
    assert matrix(W, short, refresh={"every_s": 86_400.0}).hardware.age(1e9)[1] < 86_400.0
    replace(matrix(W, short, refresh={"every_s": 86_400.0}), t_s=1e9).effective_weights()
    with pytest.raises(BadInput, match="data end"):
        replace(matrix(W, short), t_s=1e9)
    with pytest.raises(BadInput, match="at least 0"):
        replace(m, t_s=-1.0)


def test_ideal_wires_and_their_compensation() -> None:
    """Without resistance a wired chip is the unwired one, up to the rounding of sums and differences."""
    w = {"r_row_ohm": 0.0, "r_col_ohm": 0.0}
    wired, plain = (
        replace(matrix(W, "pcm-hermes-2", compensation={}, **tables), t_s=86_400.0).tiles()
        for tables in ({"wires": w}, {})
    )
    np.testing.assert_allclose(wired.scale, plain.scale, rtol=1e-5)
    np.testing.assert_allclose(tile_matmul(X, wired), tile_matmul(X, plain), rtol=0, atol=0.3)
    assert Hardware.load({"device": "ideal", "wires": w}).with_ideal_cells().wires is None
    with pytest.raises(BadInput, match="wires carry currents"):
        Hardware.load({"device": "pcm-afm", "wires": w})


def test_lines_and_tiles_of_copies_are_drawn_apart(ledger: AlphaLedger) -> None:
    """Every draw that belongs to a tile or its rows, between copies; the first has the names that it has alone."""
    spread = Variation(tile_gain_sigma=0.02, tile_supply_sigma=0.02)

    def drawn(copy: int) -> list[np.ndarray]:
        supply = supply_factor(spread, 200, 200, 3, 4, copy)
        assert supply is not None
        lines = dac_lines(
            DacErrors(gain_sigma=0.02, offset_sigma_lsb=1, inl_sigma_lsb=1), 40, 1000, 3, 4, copy
        )
        gone = dead_rows(Faults(dead_row_rate=0.5), 40, 1000, 3, 4, copy)
        return [*lines, tile_gain(spread, 200, 200, 3, 4, copy), supply, gone]

    found = [[part.ravel().astype(np.float64) for part in drawn(copy)] for copy in range(3)]
    for first, second, third in zip(*found, strict=True):
        for one, other in (
            (first, second),
            (second, third),
        ):  # 40,000 draws: a correlation of 0.03 would be seen
            centred = one - one.mean(), other - other.mean()
            assert_uncorrelated(*centred, alpha=ledger.spend("periphery: copies"))
    counter = np.array([[7, 900, 0, site_word(Stream.PERIPHERY, 3, DAC)]], np.uint32)
    assert drawn(0)[1][7, 900] == normals(counter, key_of(4))[0, 1]


@pytest.mark.parametrize("adc", [ADC, False])
@pytest.mark.parametrize("weights", [{}, {"bits": 8, "cell_bits": 4}])
def test_copies_have_a_periphery_of_their_own(adc: Any, weights: dict[str, Any]) -> None:
    """The first is the matrix held once, bit for bit; the other errs otherwise, and plain NumPy agrees."""
    tables: dict[str, Any] = {
        "dac": {"errors": {"gain_sigma": 0.05, "offset_sigma_lsb": 0.5, "inl_sigma_lsb": 1}},
        "adc": adc and {**ADC, "errors": FULL["adc"]["errors"]},
        "faults": {"dead_row_rate": 0.05, "dead_column_rate": 0.05},
        "variation": {"tile_gain_sigma": 0.05, "tile_supply_sigma": 0.02},
        "read_noise": {},
    }
    once = matrix(W, **tables, weights=weights).tiles()
    tiles = matrix(W, **tables, weights={**weights, "copies": 2}).tiles()
    alone, every = [once, *once.parts], [tiles, *tiles.parts]
    assert len(every) == 2 * len(alone)
    for one, first, second in zip(alone, every[: len(alone)], every[len(alone) :], strict=True):
        assert one.panels is not None
        assert first.panels is not None
        assert second.panels is not None
        assert_bits(first.panels, one.panels)
        assert_bits(first.inverse * first.scale, one.inverse * one.scale * np.float32(0.5))
        assert not np.array_equal(second.panels, first.panels), "ideal cells: what differs is around them"
    ids = row_ids(np.arange(9), 0)
    assert_bits(tile_matmul(X, tiles, ids), tile_matmul_reference(X, tiles, ids))


@pytest.mark.parametrize("adc", [{**ADC, "bits": 14}, False])
def test_what_errs_by_tile_and_row_averages_out_over_copies(adc: Any) -> None:
    """In ideal cells nothing else is left to average: four copies have about a quarter of the squared error."""
    tables: dict[str, Any] = {
        "adc": adc, "dac": {"errors": {"gain_sigma": 0.1}}, "variation": {"tile_gain_sigma": 0.1},
        "tile": {"rows": ROWS, "cols": 4},
    }  # fmt: skip
    exact = tile_matmul(X, matrix(W, **{**tables, "dac": {}, "variation": None}).tiles())
    lost = [
        np.square(tile_matmul(X, matrix(W, **tables, weights=held).tiles()) - exact).mean()
        for held in ({}, {"copies": 4})
    ]
    assert 2.5 < lost[0] / lost[1] < 6.0
