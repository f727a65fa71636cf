"""Conjugate gradients against the elimination, which shares nothing with them, at sizes that need no nodal solve."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.kernels.wires_gradient import currents
from aimc_sim.testing import assert_bits
from aimc_sim.wires import column_currents, effective_conductance

R_MIN = 1e6 / 20.7


def inputs(vectors: int, rows: int) -> Any:
    return np.cos(np.arange(vectors * rows, dtype=np.float64)).reshape(vectors, rows)


def error(ours: Any, truth: Any) -> float:
    """Largest error of a current, relative to the largest current of its vector."""
    return float((np.abs(ours - truth).max(axis=-1) / np.abs(truth).max(axis=-1)).max())


@pytest.mark.parametrize(
    ("drive", "sense"), list(itertools.product(["left", "right", "both"], ["bottom", "top", "both"]))
)
@pytest.mark.parametrize("ratio", [1e-6, 1e-4, 5e-3])
def test_both_methods_agree(drive: Any, sense: Any, ratio: float, cells: Any) -> None:
    for rows, cols in ((30, 47), (1, 8), (8, 1)):
        g, volts = cells(rows, cols, zeros=3), inputs(4, rows)
        terminals: Any = {"drive": drive, "sense": sense, "r_driver_ohm": 20.0, "r_sense_ohm": 10.0}
        ohm = ratio * R_MIN
        truth = volts @ effective_conductance(g, ohm, 2 * ohm, **terminals)
        assert error(column_currents(g, volts, ohm, 2 * ohm, **terminals), truth) <= 1e-11


@pytest.mark.parametrize(
    ("row", "col", "driver", "sensor"), list(itertools.product([0, 40.0], [0, 25.0], [0, 300.0], [0, 90.0]))
)
@pytest.mark.parametrize("both", [False, True])
def test_zero_resistance(
    row: float, col: float, driver: float, sensor: float, both: bool, cells: Any
) -> None:
    g, volts = cells(14, 22, zeros=4), inputs(2, 14)
    terminals: Any = {
        "drive": "both" if both else "left", "sense": "both" if both else "bottom", "r_driver_ohm": driver,
        "r_sense_ohm": sensor,
    }  # fmt: skip
    truth = volts @ effective_conductance(g, row, col, **terminals)
    assert error(column_currents(g, volts, row, col, **terminals), truth) <= 1e-11


@pytest.mark.parametrize(("rows", "cols"), [(600, 520), (96, 1500)])
def test_large_arrays(rows: int, cols: int, cells: Any) -> None:
    g, volts = cells(rows, cols, zeros=5), inputs(2, rows)
    truth = volts @ effective_conductance(g, 1e-3 * R_MIN, 1e-3 * R_MIN)
    assert error(column_currents(g, volts, 1e-3 * R_MIN, 1e-3 * R_MIN), truth) <= 1e-10


def test_small_inputs_are_as_exact_as_large_ones(cells: Any) -> None:
    """An absolute tolerance would stop early; here a thousandth costs no digit, a power of two not even a bit."""
    g, volts = cells(40, 40), inputs(3, 40)
    truth = volts @ effective_conductance(g, 50.0, 50.0)
    large, small = column_currents(g, volts, 50.0, 50.0), column_currents(g, volts * 1e-3, 50.0, 50.0)
    assert error(small * 1e3, truth) <= 2 * error(large, truth) + 1e-15
    assert_bits(column_currents(g, volts / 1024, 50.0, 50.0) * 1024, large)


def test_a_vector_does_not_depend_on_its_batch(cells: Any) -> None:
    g, volts = cells(31, 26, zeros=3), inputs(6, 31) * 10.0 ** -np.arange(6)[:, None]
    together = column_currents(g, volts, 30.0, 80.0)
    for k in range(6):
        assert_bits(column_currents(g, volts[k], 30.0, 80.0), together[k])
    assert_bits(column_currents(g, volts.reshape(2, 3, 31), 30.0, 80.0).reshape(6, 26), together)


def test_single_precision_is_computed_in_double(cells: Any) -> None:
    g, volts = cells(9, 12).astype(np.float32), inputs(2, 9).astype(np.float32)
    assert_bits(
        column_currents(g, volts, 7.0, 7.0), column_currents(g.astype(float), volts.astype(float), 7.0, 7.0)
    )


def test_nothing_comes_of_nothing(cells: Any) -> None:
    assert_bits(column_currents(cells(5, 6), np.zeros(5), 10.0, 10.0), np.zeros(6))
    assert_bits(column_currents(np.zeros((5, 6)), np.ones(5), 10.0, 10.0), np.zeros(6))


def test_too_few_steps_are_reported(cells: Any) -> None:
    g = cells(20, 20) * 1e-6
    ohm = np.full(21, 1e5)
    _, taken = currents(g, inputs(2, 20), ohm, ohm, False, False, 1e-12, 3)
    assert (taken == 4).all()


def test_inputs_must_fit(cells: Any) -> None:
    for volts in (np.ones(5), np.ones((4, 6)), np.full(4, np.nan), 1.0):
        with pytest.raises(BadInput, match="volts"):
            column_currents(cells(4, 6), volts, 1.0, 1.0)
