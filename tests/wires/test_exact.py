"""G_eff against independent truths: a sparse nodal solve, rational arithmetic, badcrossbar, the laws of circuits."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimc_sim.errors import BadInput
from aimc_sim.kernels import wires as kernel
from aimc_sim.kernels.parallel import set_num_threads
from aimc_sim.testing import assert_bits
from aimc_sim.wires import column_currents, differential_effective_conductance, effective_conductance

G_MAX = 20.7
R_MIN = 1e6 / G_MAX  # ohms


def relative(a: Any, b: Any) -> float:
    """Largest error of an entry, relative to that entry."""
    return float(np.max(np.abs(a - b) / np.abs(b)))


@pytest.mark.parametrize(
    ("rows", "cols"), [(8, 8), (1, 1), (1, 20), (20, 1), (9, 7), (16, 33), (64, 64), (50, 128), (128, 40)]
)
@pytest.mark.parametrize("ratio", [1e-6, 1e-4, 5e-3])
@pytest.mark.parametrize("zeros", [0, 3])
def test_every_entry_agrees_with_the_nodal_solve(
    rows: int, cols: int, ratio: float, zeros: int, cells: Any, nodal: Any
) -> None:
    """The bar is 1e-9, relative to the largest entry at most; where the nodal solve is good enough, to each."""
    g = cells(rows, cols, zeros=zeros)
    ours, truth = (
        effective_conductance(g, ratio * R_MIN, 2 * ratio * R_MIN),
        nodal(g, ratio * R_MIN, 2 * ratio * R_MIN),
    )
    assert np.abs(ours - truth).max() <= 1e-11 * truth.max()
    driven = truth > 1e-6 * truth.max()
    assert relative(ours[driven], truth[driven]) <= 1e-9


@pytest.mark.parametrize(("rows", "cols", "ratio"), [(256, 256, 5e-3), (256, 256, 1e-4), (96, 256, 1e-3)])
def test_full_tiles_agree_with_the_nodal_solve(
    rows: int, cols: int, ratio: float, cells: Any, nodal: Any
) -> None:
    g = cells(rows, cols, zeros=5)
    ours, truth = (
        effective_conductance(g, ratio * R_MIN, ratio * R_MIN),
        nodal(g, ratio * R_MIN, ratio * R_MIN),
    )
    assert np.abs(ours - truth).max() <= 1e-11 * truth.max()
    driven = truth > 1e-6 * truth.max()
    assert relative(ours[driven], truth[driven]) <= 1e-9


@pytest.mark.parametrize(
    ("drive", "sense"), list(itertools.product(["left", "right", "both"], ["bottom", "top", "both"]))
)
@pytest.mark.parametrize(("driver", "sensor"), [(0.0, 0.0), (150.0, 80.0)])
def test_every_arrangement_of_terminals(
    drive: Any, sense: Any, driver: float, sensor: float, cells: Any, nodal: Any
) -> None:
    for rows, cols in ((19, 30), (8, 5), (1, 9), (24, 1)):
        g = cells(rows, cols, zeros=4)
        terminals = {"drive": drive, "sense": sense, "r_driver_ohm": driver, "r_sense_ohm": sensor}
        assert relative(
            effective_conductance(g, 30.0, 70.0, **terminals) + 1e-9, nodal(g, 30.0, 70.0, **terminals) + 1e-9
        ) <= 1e-10  # fmt: skip


def solve_rationally(g_us: Any, row_ohm: list[float], col_ohm: list[float], both: bool = False) -> Any:
    """G_eff µS without any rounding: nodal analysis in fractions; both: driven and sensed at both ends.

    row_ohm: (cols + 1,) resistances of a word line's segments, terminals included; col_ohm: (rows + 1,).
    """
    rows, cols = g_us.shape
    size = 2 * rows * cols
    row, col = ([Fraction(ohm) for ohm in line] for line in (row_ohm, col_ohm))
    a = [[Fraction(0)] * (size + rows) for _ in range(size)]

    def edge(x: int, y: int, c: Fraction) -> None:
        a[x][x] += c
        a[y][y] += c
        a[x][y] -= c
        a[y][x] -= c

    for i, j in itertools.product(range(rows), range(cols)):
        u, v = i * cols + j, (rows + i) * cols + j
        edge(u, v, Fraction(float(g_us[i, j])) / 10**6)
        if j:
            edge(u - 1, u, 1 / row[j])
        if i:
            edge(v - cols, v, 1 / col[i])
        for at_end, ohm in ((j == 0, row[0]), (both and j == cols - 1, row[-1])):
            if at_end:
                a[u][u] += 1 / ohm
                a[u][size + i] += 1 / ohm
        for at_end, ohm in ((i == rows - 1, col[-1]), (both and i == 0, col[0])):
            if at_end:
                a[v][v] += 1 / ohm
    for k in range(size):
        for x in range(k + 1, size):
            if a[x][k]:
                f = a[x][k] / a[k][k]
                a[x] = [p - f * q if q else p for p, q in zip(a[x], a[k], strict=True)]
    for k in range(size - 1, -1, -1):
        for s in range(size, size + rows):
            known = sum((a[k][x] * a[x][s] for x in range(k + 1, size) if a[k][x]), Fraction(0))
            a[k][s] = (a[k][s] - known) / a[k][k]

    def current(i: int, j: int) -> float:
        below, above = a[size - cols + j][size + i] / col[-1], a[size // 2 + j][size + i] / col[0]
        return float((below + above if both else below) * 10**6)

    return np.array([[current(i, j) for j in range(cols)] for i in range(rows)])


@pytest.mark.parametrize("ratio", [1e-15, 1e-9, 1e-4, 1.0])
def test_every_entry_is_right_to_thirteen_digits_however_good_the_wires(ratio: float, cells: Any) -> None:
    """Against rational arithmetic, the tiny currents through zero cells included: nothing cancels."""
    g = cells(4, 10, zeros=3)
    ohm = float(ratio * R_MIN)
    truth = solve_rationally(g, [ohm] * 11, [3 * ohm] * 5)
    assert (truth > 0).all()
    assert relative(effective_conductance(g, ohm, 3 * ohm), truth) <= 1e-13


def test_badcrossbar_agrees() -> None:
    """Recorded currents of the package badcrossbar (tests/wires/badcrossbar.json says how)."""
    recorded = json.loads(Path(__file__).with_name("badcrossbar.json").read_text(encoding="utf-8"))
    for case in recorded["cases"]:
        rows, cols = case["rows"], case["cols"]
        k = np.arange(rows * cols).reshape(rows, cols)
        g = np.where(k % 7 == 3, 0.0, 1 + 19 * (k * 0.6180339887498949 % 1))
        volts = np.cos(1.0 + np.arange(rows * 3)).reshape(rows, 3)
        ours = volts.T @ effective_conductance(g, case["r_row_ohm"], case["r_col_ohm"])
        theirs = np.array(case["currents_ua"])
        assert np.abs(ours - theirs).max() <= 1e-13 * np.abs(theirs).max()


@given(
    rows=st.integers(1, 20), cols=st.integers(1, 20), zeros=st.integers(0, 5), both_driven=st.booleans(),
    both_sensed=st.booleans(), ohm=st.sampled_from([1.0, 30.0, 1e4]), other=st.sampled_from([0.1, 50.0]),
    end=st.sampled_from([0.0, 200.0]),
)  # fmt: skip
@settings(max_examples=60)
def test_the_kernel_computes_its_reference(
    rows: int, cols: int, zeros: int, both_driven: bool, both_sensed: bool, ohm: float, other: float, end: float,
    cells: Any,
) -> None:  # fmt: skip
    g = cells(rows, cols, zeros=zeros)
    row, col = np.full(cols + 1, ohm), np.full(rows + 1, other)
    row[[0, -1]] += end
    col[[0, -1]] += 2 * end
    truth = kernel.effective_conductance_reference(g * 1e-6, row, col, both_driven, both_sensed) * 1e6
    ours = kernel.effective_conductances(g[None], row * 1e-6, col * 1e-6, both_driven, both_sensed)[0]
    assert np.abs(ours - truth).max() <= 1e-11 * G_MAX


def test_ideal_wires_change_nothing(cells: Any) -> None:
    g = cells(37, 21, zeros=3)
    for drive, sense in itertools.product(["left", "right", "both"], ["bottom", "top", "both"]):
        assert_bits(effective_conductance(g, 0, 0, drive=drive, sense=sense), g)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "col", "driver", "sensor"), list(itertools.product([0, 40.0], [0, 25.0], [0, 300.0], [0, 90.0]))
)
@pytest.mark.parametrize("both", [False, True])
def test_a_resistance_of_zero_is_the_limit_of_small_ones(
    row: float, col: float, driver: float, sensor: float, both: bool, cells: Any
) -> None:
    g, nearly = cells(3, 5, zeros=4), 1e-30
    terminals: Any = {"drive": "both" if both else "left", "sense": "both" if both else "bottom"}
    ours = effective_conductance(g, row, col, **terminals, r_driver_ohm=driver, r_sense_ohm=sensor)
    words, bits = [row or nearly] * 6, [col or nearly] * 4
    words[0], words[-1] = (words[0] + driver,) * 2
    bits[0], bits[-1] = (bits[0] + sensor,) * 2
    assert np.abs(ours - solve_rationally(g, words, bits, both)).max() <= 1e-13 * G_MAX


def test_reciprocity_and_conservation(cells: Any) -> None:
    """Drivers and senses change places with the array's transpose; no row gives more than its cells in parallel."""
    g = cells(40, 31, zeros=6)
    ours = effective_conductance(g, 20.0, 60.0, r_driver_ohm=10.0, r_sense_ohm=5.0)
    turned = effective_conductance(
        g.T, 60.0, 20.0, drive="right", sense="top", r_driver_ohm=5.0, r_sense_ohm=10.0
    ).T  # fmt: skip
    assert relative(turned, ours) <= 1e-12
    assert (ours.sum(axis=0) < g.sum(axis=0)).all()
    assert (ours >= 0).all()


@pytest.mark.parametrize("us", [1e12, 1.0, 1e-30, 1e-300])
@pytest.mark.parametrize("ohm", [1e15, 1.0, 1e-300])
def test_extremes_neither_overflow_nor_vanish(us: float, ohm: float, cells: Any) -> None:
    g = cells(12, 17, zeros=5) / G_MAX * us
    for drive in ("left", "both"):
        ours = effective_conductance(g, ohm, ohm, drive=drive)  # type: ignore[arg-type]
        volts = np.cos(np.arange(12.0))
        assert np.isfinite(ours).all()
        assert 0 < ours.max() <= us
        if us * ohm <= 1e6:  # beyond, the conjugate gradients say that they give up
            product = volts @ ours
            other = column_currents(g, volts, ohm, ohm, drive=drive)  # type: ignore[arg-type]
            assert np.abs(other - product).max() <= 1e-11 * np.abs(product).max()


def test_no_cells_no_current() -> None:
    assert_bits(effective_conductance(np.zeros((11, 9)), 5.0, 5.0), np.zeros((11, 9)))


def test_the_unit_does_not_matter(cells: Any) -> None:
    """A thousandth of every conductance between a thousand times the resistance: the same network, the same digits."""
    g = cells(33, 40, zeros=7)
    ours = effective_conductance(g, 10.0, 30.0)
    assert relative(effective_conductance(g * 1e-3, 1e4, 3e4) * 1e3, ours) <= 1e-13
    assert_bits(effective_conductance(g / 1024, 10240.0, 30720.0) * 1024, ours)


def test_a_tile_does_not_depend_on_its_batch_or_on_threads(cells: Any) -> None:
    g = np.stack([cells(24, 35, zeros=k, shift=0.1 * k) * 10.0**-k for k in range(5)])
    together = effective_conductance(g, 15.0, 15.0)
    for k in range(5):
        assert_bits(effective_conductance(g[k], 15.0, 15.0), together[k])
    assert_bits(effective_conductance(g.reshape(1, 5, 24, 35)[:, ::-1], 15.0, 15.0)[0, ::-1].copy(), together)
    try:
        set_num_threads(1)
        assert_bits(effective_conductance(g, 15.0, 15.0), together)
    finally:
        set_num_threads(None)


@pytest.mark.parametrize("layout", ["interleaved", "side_by_side"])
def test_column_pairs_share_their_word_lines(layout: Any, cells: Any, nodal: Any) -> None:
    plus, minus = cells(18, 13, zeros=2), cells(18, 13, zeros=3, shift=0.3)
    array = np.empty((18, 26))
    at_plus, at_minus = (
        (slice(0, None, 2), slice(1, None, 2)) if layout == "interleaved" else (slice(0, 13), slice(13, None))
    )
    array[:, at_plus], array[:, at_minus] = plus, minus
    truth = nodal(array, 25.0, 25.0, drive="both", r_driver_ohm=40.0)
    ours = differential_effective_conductance(
        plus, minus, 25.0, 25.0, layout=layout, drive="both", r_driver_ohm=40.0
    )  # fmt: skip
    assert np.abs(ours[0] - truth[:, at_plus]).max() <= 1e-11 * G_MAX
    assert np.abs(ours[1] - truth[:, at_minus]).max() <= 1e-11 * G_MAX


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((np.ones((2, 2)) * -1, 1.0, 1.0), "from 0 to"),
        ((np.full((2, 2), np.nan), 1.0, 1.0), "NaN"),
        ((np.empty((0, 4)), 1.0, 1.0), "empty"),
        ((np.ones(4), 1.0, 1.0), "rows and columns"),
        ((np.ones((2, 2), complex), 1.0, 1.0), "real numbers"),
        (([["a"]], 1.0, 1.0), "real numbers"),
        ((np.full((2, 2), 1e300), 1.0, 1.0), "from 0 to"),
        ((np.ones((2, 2)), -1.0, 1.0), "r_row_ohm"),
        ((np.ones((2, 2)), 1.0, np.inf), "r_col_ohm"),
        ((np.ones((2, 2)), "1", 1.0), "r_row_ohm"),
        ((np.ones((2, 2)), True, 1.0), "r_row_ohm"),
    ],
)
def test_bad_input_is_named(arguments: Any, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        effective_conductance(*arguments)


def test_bad_choices_are_named() -> None:
    g: Any = np.ones((2, 2))
    for choice in ({"drive": "top"}, {"sense": "left"}, {"r_driver_ohm": -1.0}, {"r_sense_ohm": np.nan}):
        with pytest.raises(BadInput, match=next(iter(choice))):
            effective_conductance(g, 1.0, 1.0, **choice)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="layout"):
        differential_effective_conductance(g, g, 1.0, 1.0, layout="mixed")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="positive twin"):
        differential_effective_conductance(g, g[:1], 1.0, 1.0)
    for rows, cols in ((6000, 6000), (2, 30_000)):
        with pytest.raises(BadInput, match="tiles"):
            effective_conductance(np.broadcast_to(np.float32(1), (rows, cols)), 1.0, 1.0)
