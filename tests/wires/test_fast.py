"""The fast model keeps its bound, also where errors add up at their worst, and spot checks notice when one does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.testing import assert_bits
from aimc_sim.wires import (
    differential_effective_conductance,
    differential_effective_conductance_fast,
    effective_conductance,
    effective_conductance_fast,
    pair_columns,
    split_columns,
    spot_check,
)

G_MAX = 20.7
R_MIN = 1e6 / G_MAX
MARGIN = 2.0  # what the bound's documentation promises


def patterns(rows: int, cols: int, cells: Any) -> dict[str, Any]:
    even = cells(rows, cols)
    return {
        "even": even,
        "nine in ten are zero": np.where(even < 0.9 * G_MAX, 0, even),
        "six decades": G_MAX * 10 ** (-6 * even / G_MAX),
        "all equal": np.full((rows, cols), G_MAX),  # every rounding goes the same way
        "smooth": G_MAX * np.sin(np.arange(rows * cols) ** 2 * 0.01).reshape(rows, cols) ** 2,
    }


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (8, 8), (33, 17), (64, 128), (8, 500), (256, 256)])
@pytest.mark.parametrize("ratio", [0.0, 1e-9, 1e-6, 1e-4, 1e-3, 5e-3, 1.0])
def test_the_bound_holds_with_its_margin(rows: int, cols: int, ratio: float, cells: Any) -> None:
    g = np.stack(list(patterns(rows, cols, cells).values()))
    for row, col in ((ratio, ratio), (ratio, 0.0), (0.0, ratio)) if cols < 256 else ((ratio, ratio),):
        exact = effective_conductance(g, row * R_MIN, col * R_MIN)
        fast, bound = effective_conductance_fast(g, row * R_MIN, col * R_MIN)
        assert fast.dtype == np.float32
        assert bound.shape == (5,)
        assert (np.abs(fast - exact).max(axis=(1, 2)) <= bound / MARGIN).all()


def test_the_bound_holds_with_terminals_at_both_ends(cells: Any) -> None:
    terminals: Any = {"drive": "both", "sense": "both", "r_driver_ohm": 500.0, "r_sense_ohm": 100.0}
    g = np.stack(list(patterns(96, 64, cells).values()))
    fast, bound = effective_conductance_fast(g, 50.0, 50.0, **terminals)
    exact = effective_conductance(g, 50.0, 50.0, **terminals)
    assert (np.abs(fast - exact).max(axis=(1, 2)) <= bound / MARGIN).all()


@pytest.mark.parametrize("layout", ["interleaved", "side_by_side"])
def test_pairs_are_what_they_are_in_the_exact_model(layout: Any, cells: Any) -> None:
    plus, minus = cells(20, 30, zeros=2), cells(20, 30, zeros=3, shift=0.7)
    fast_plus, fast_minus, bound = differential_effective_conductance_fast(
        plus, minus, 9.0, 9.0, layout=layout
    )
    exact_plus, exact_minus = differential_effective_conductance(plus, minus, 9.0, 9.0, layout=layout)
    assert np.abs(fast_plus - exact_plus).max() <= bound
    assert np.abs(fast_minus - exact_minus).max() <= bound


def test_ideal_wires_give_the_cells_back(cells: Any) -> None:
    g = cells(7, 9).astype(np.float32)
    assert_bits(effective_conductance_fast(g, 0, 0)[0], g)


@pytest.mark.parametrize("layout", ["interleaved", "side_by_side"])
def test_pairing_and_splitting_undo_each_other(layout: Any, cells: Any) -> None:
    plus, minus = cells(4, 6), cells(4, 6, shift=0.4)
    pair = split_columns(pair_columns(plus, minus, layout), layout)
    assert_bits(pair[0], plus)
    assert_bits(pair[1], minus)


def test_a_spot_check_finds_what_is_wrong(cells: Any) -> None:
    g = np.stack([cells(16, 24, shift=0.1 * k) for k in range(10)])
    fast, _ = effective_conductance_fast(g, 20.0, 20.0)
    good = spot_check(g, fast, 20.0, 20.0, tiles=4)
    assert good.holds
    assert good.tiles == (0, 3, 6, 9)
    assert 0 < good.worst <= good.bound
    for wrong in (
        spot_check(g, fast * np.float32(1.0001), 20.0, 20.0),
        spot_check(g, fast, 20.1, 20.0),
        spot_check(g, g, 20.0, 20.0),
        spot_check(g, fast, 20.0, 20.0, drive="both"),
    ):
        assert not wrong.holds
    assert len(spot_check(g, fast, 20.0, 20.0, tiles=99).tiles) == 10
    assert spot_check(g * 0, fast * 0, 20.0, 20.0).holds


def test_a_spot_check_needs_tiles_that_match(cells: Any) -> None:
    g = cells(4, 4)[None]
    with pytest.raises(BadInput, match="g_eff_us"):
        spot_check(g, g[:, :2], 1.0, 1.0)
    with pytest.raises(BadInput, match="tiles"):
        spot_check(g, g, 1.0, 1.0, tiles=0)
