"""Repair: the assignment is the best there is, costs are real errors, moved weights have their new sites' draws."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware
from aimc_sim.chip import repair
from aimc_sim.chip.blocks import Whole
from aimc_sim.chip.draws import adc_lines, dead_columns
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.stuck import stuck_states
from aimc_sim.randomness import key_of, row_ids
from aimc_sim.testing import assert_bits
from helpers import gaussian

ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}
FAULTS = {"stuck_low_rate": 0.01, "stuck_high_rate": 0.004, "dead_column_rate": 0.01}
SPARES = {"spare_columns": 3, "remap": "assign"}


W, X = gaussian((70, 100), 1), gaussian((9, 100), 2)


def matrix(device: object = "ideal", w: np.ndarray = W, t_s: float = 3600.0, **tables: Any) -> CellMatrix:
    data = {"device": device, "tile": {"rows": 32, "cols": 24}, **tables}
    return CellMatrix(w, Hardware.load(data), seed=4, t_s=t_s, ordinal=3)


def db(m: CellMatrix) -> float:
    off = tile_matmul(X, m.tiles()) - X @ m.w.T
    return float(10 * np.log10(np.square(X @ m.w.T).sum() / np.square(off).sum()))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 5), (4, 6)])
def test_the_assignment_costs_least(shape: tuple[int, int]) -> None:
    n, m = shape
    for salt in range(5):
        words = philox4x32(np.array([[i, salt, 0, 0] for i in range(n * m)], np.uint32), key_of(3))[:, 0]
        cost = (words % 97).astype(np.float64).reshape(n, m)
        home = np.arange(n)
        best = min(cost[home, list(p)].sum() for p in itertools.permutations(range(m), n))
        place = repair.assign_columns(cost)
        assert np.unique(place).size == n
        assert cost[home, place].sum() == best
        worst = repair.move_worst_columns(cost)
        assert np.unique(worst).size == n
        assert ((worst == home) | (worst >= n)).all()
        assert best <= cost[home, worst].sum() <= cost[home, home].sum()


def test_among_equals_everyone_stays_at_home() -> None:
    assert repair.assign_columns(np.zeros((5, 7))).tolist() == [0, 1, 2, 3, 4]
    cost = np.zeros((4, 4))
    cost[2, 2] = 1.0
    place = repair.assign_columns(cost)
    assert place[2] != 2
    assert (place == np.arange(4)).sum() == 2
    assert repair.move_worst_columns(np.array([[0.0, 0, 3], [0, 5, 1], [0, 0, 0]])[:2]).tolist() == [0, 2]
    assert repair.move_worst_columns(np.array([[1.0, 1.0]])).tolist() == [0], (
        "also where a move would cost as much"
    )


@pytest.mark.parametrize("spec", [{"spare_columns": 3}, SPARES, {"remap": "assign"}])
def test_costs_are_the_errors_of_ideal_cells(spec: dict[str, Any]) -> None:
    """Σ (what a weight is − what it should be)² over all cells equals the plan's cost, and is less than unrepaired."""
    stuck = {"stuck_low_rate": 0.01, "stuck_high_rate": 0.004}
    fixed, plain = matrix(faults=stuck, repair=spec), matrix(faults=stuck)
    error = {}
    for name, m in (("fixed", fixed), ("plain", plain)):
        full = np.repeat(m.cells().column_max.T, np.diff(m.tile_map.row_bounds), axis=1)
        error[name] = float(np.square((m.effective_weights() * full - W).astype(np.float64)).sum())
    moved = fixed.arrays[0]
    assert isinstance(moved, repair.RepairedArray)
    places, site = moved.places, moved.site
    array = replace(moved.array, tile_map=places.tile_map, names=places.names)
    states = np.empty((2, places.names.size, 100), np.int8)
    stuck_states(array.tables, array.sites(), 0, places.names.size, 100, states)
    cost, rows = 0.0, fixed.tile_map.row_bounds
    for t, (a, b) in enumerate(itertools.pairwise(rows.tolist())):
        for j in range(70):
            full = float(np.abs(W[j, a:b]).max())
            for k in range(a, b):
                g = [max(float(W[j, k]), 0.0) / full, max(-float(W[j, k]), 0.0) / full]
                for plane in range(2):
                    state = states[plane, site[t, j], k]
                    g[plane] = (g[plane], 0.0, 1.0)[state]
                cost += (full * (g[0] - g[1]) - float(W[j, k])) ** 2
    assert error["fixed"] == pytest.approx(cost, rel=1e-4)
    assert error["fixed"] < 0.8 * error["plain"]


def test_spares_make_dead_columns_good_exactly() -> None:
    dead = {"dead_column_rate": 0.03}
    tables: dict[str, Any] = {"dac": {}, "adc": ADC}
    for device in ("ideal",):
        sound = tile_matmul(X, matrix(device, **tables).tiles())
        assert (tile_matmul(X, matrix(device, faults=dead, **tables).tiles()) != sound).any()
        for spec in ({"spare_columns": 6}, {"spare_columns": 6, "remap": "assign"}):
            assert_bits(tile_matmul(X, matrix(device, faults=dead, repair=spec, **tables).tiles()), sound)


@pytest.mark.parametrize("spec", [{"spare_columns": 3}, SPARES])
def test_without_faults_nothing_moves(spec: dict[str, Any]) -> None:
    tables: dict[str, Any] = {
        "dac": {},
        "adc": {**ADC, "errors": {"offset_sigma_lsb": 1.0}},
        "compensation": {},
    }
    plain = tile_matmul(X, matrix("pcm-hermes-2", **tables).tiles())
    assert_bits(tile_matmul(X, matrix("pcm-hermes-2", faults={}, repair=spec, **tables).tiles()), plain)


def test_a_moved_weight_takes_the_draws_of_its_new_site() -> None:
    """Against a plain chip with the columns exchanged by hand; spares are the last columns of a wider matrix."""
    m = matrix("pcm-hermes-2", faults=FAULTS, repair=SPARES)
    moved = m.arrays[0]
    assert isinstance(moved, repair.RepairedArray)
    places, site = moved.places, moved.site
    assert (site != places.home).any()
    effective, names = m.effective_weights(), places.names[site].astype(np.int64)
    wide = np.zeros((70 + 3 * 3, 100), np.float32)
    for t, (a, b) in enumerate(itertools.pairwise(m.tile_map.row_bounds.tolist())):
        wide[names[t], a:b] = W[:, a:b]
    other = matrix("pcm-hermes-2", wide, faults=FAULTS).effective_weights()
    for t, (a, b) in enumerate(itertools.pairwise(m.tile_map.row_bounds.tolist())):
        assert_bits(effective[:, a:b], other[names[t], a:b])
    assert (names >= 70).any()


def test_lines_of_the_periphery_move_along() -> None:
    errors = {"gain_sigma": 0.05, "offset_sigma_lsb": 1.0}
    m = matrix(faults=FAULTS, repair=SPARES, dac={}, adc={**ADC, "errors": errors})
    plain = matrix(dac={}, adc=ADC)
    lines = m.arrays[0].lines
    assert lines is not None
    adc = m.hardware.adc
    assert adc is not None
    wide = np.repeat(np.arange(1), 79)
    gain, curve = adc_lines(adc, adc.max_code, 4, wide, 3, 4)
    tiles, ideal = m.tiles(), plain.tiles()
    assert tiles.adc_curve is not None
    assert_bits(tiles.adc_curve.offset, np.take_along_axis(curve.offset, lines, axis=1))
    sound = ~(matrix(faults=FAULTS, repair=SPARES).effective_weights() != plain.effective_weights()).any(
        axis=1
    )
    expected = ideal.inverse * np.take_along_axis(gain, lines, axis=1)
    np.testing.assert_allclose(tiles.inverse[:, sound], expected[:, sound], rtol=1e-6)
    assert m.hardware.faults is not None
    dead = np.take_along_axis(dead_columns(m.hardware.faults, 4, 79, 3, 4), lines, axis=1)
    assert_bits(tiles.scale == 0, dead)


def test_remedies_help_a_chip_as_it_ages() -> None:
    tables: dict[str, Any] = {"faults": FAULTS, "dac": {}, "adc": ADC, "compensation": {}}
    for t_s in (60.0, 1e6):
        plain, spares, moved, both = (
            db(matrix("pcm-hermes-2", t_s=t_s, **tables, **table))
            for table in (
                {},
                {"repair": {"spare_columns": 3}},
                {"repair": {"remap": "assign"}},
                {"repair": SPARES},
            )
        )
        assert plain < spares < both
        assert plain < moved < both


@pytest.mark.parametrize(
    "more",
    [
        {"read_noise": {}},
        {"wires": {"r_row_ohm": 1.0, "r_col_ohm": 1.0}},
        {"compensation": {"per": "column", "every_s": 600.0}},
        {"compensation": {"per": "affine"}, "variation": {"tile_gain_sigma": 0.01, "supply_droop": 0.05}},
        {"weights": {"scale": "tile"}},
        {"tile": {"rows": 32, "cols": 24, "weight_grid": "float32"}},
    ],
)
def test_repair_goes_with_everything_else_and_is_one_chip(more: dict[str, Any]) -> None:
    if more.get("tile") and "compensation" in more:
        return
    m = matrix("pcm-hermes-2", faults=FAULTS, repair=SPARES, **{"dac": {}, "adc": ADC, **more})
    tiles, ids = m.tiles(), row_ids(np.arange(9), 0)
    y = tile_matmul(X, tiles, ids)
    assert_bits(
        tile_matmul(
            X,
            matrix("pcm-hermes-2", faults=FAULTS, repair=SPARES, **{"dac": {}, "adc": ADC, **more}).tiles(),
            ids,
        ),
        y,
    )
    if tiles.panels is not None:
        assert_bits(tile_matmul_reference(X, tiles, ids), y)
    worse = matrix("pcm-hermes-2", faults=FAULTS, **{"dac": {}, "adc": ADC, **more})
    exact = X @ W.T
    assert np.abs(y - exact).mean() < np.abs(tile_matmul(X, worse.tiles(), ids) - exact).mean()


@pytest.mark.parametrize("remap", ["worst", "assign"])
@pytest.mark.parametrize("state", [",{column},,dead_column", "0,{column},+,low"])
def test_the_larger_weights_get_the_only_spare(state: str, remap: str, tmp_path: Path) -> None:
    """Two broken columns: relative to its full scale the small one loses more, in weights the large one does."""
    w = np.array([[0.01, 0.01, 0.01], [-1.0, 1.0, 0.0]], np.float32)
    if "low" in state:
        w[1] = 0.9, 1.0, 0.0
    path, lines = tmp_path / "map.csv", ["matrix,row,column,polarity,state"]
    path.write_text("\n".join([*lines, *(f"matrix,{state.format(column=column)}" for column in (0, 1))]))
    m = matrix(w=w, faults={"map": str(path)}, repair={"spare_columns": 1, "remap": remap})
    assert isinstance(m.arrays[0], repair.RepairedArray)
    assert m.arrays[0].site.tolist() == [[0, 2]]


@pytest.mark.parametrize("per", ["tile", "column"])
@pytest.mark.parametrize("spec", [{"spare_columns": 3}, SPARES])
def test_a_repaired_array_in_which_nothing_moves_is_the_array_itself(spec: dict[str, Any], per: str) -> None:
    m = matrix("pcm-hermes-2", faults={}, repair=spec, compensation={"per": per})
    moved = m.arrays[0]
    assert isinstance(moved, repair.RepairedArray)
    assert_bits(moved.site, np.tile(moved.places.home, (4, 1)))
    for needs_total in (True, False):
        there, here = (Whole(*W.shape, needs_total=needs_total) for _ in range(2))
        scales, plain = moved.program_into(there), moved.array.program_into(here)
        assert_bits(there.effective, here.effective)
        assert_bits(there.total, here.total)
        assert_bits(scales.full_scale, plain.full_scale)
        assert_bits(scales.alpha, plain.alpha)
        assert (plain.alpha != 1).all()


def test_faults_of_a_map_are_repaired(tmp_path: Path) -> None:
    """One dead column and one spare, both named: the assignment avoids the two."""
    path = tmp_path / "map.csv"
    path.write_text("matrix,row,column,polarity,state\nmatrix,,5,,dead_column\nmatrix,,70,,dead_column\n")
    m = matrix(faults={"map": str(path)}, repair={"spare_columns": 2}, dac={}, adc=ADC)
    lines = m.arrays[0].lines
    assert lines is not None
    assert (lines[:, 5] == 71).all()
    assert_bits(tile_matmul(X, m.tiles()), tile_matmul(X, matrix(dac={}, adc=ADC).tiles()))


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"repair": {"remap": "assign"}}, "add a \\[faults\\] table"),
        ({"repair": {}, "faults": {}}, "nothing can be moved"),
        ({"repair": SPARES, "faults": {}, "device": "gaussian"}, "acts on the weight itself"),
        ({"repair": SPARES, "faults": {}, "weights": {"bits": 4, "cell_bits": 2}}, "hold a whole weight"),
        ({"repair": {"spare_columns": -1}, "faults": {}}, "0 to 4096"),
    ],
)  # fmt: skip
def test_what_cannot_be_repaired_is_said(tables: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        matrix(**{"device": "ideal", **tables})
