"""The elimination in torch against the exact one in NumPy and Numba, and against the nodal solve, on the CPU."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim import wires
from aimc_sim.errors import BadInput
from aimc_sim.testing import assert_bits
from aimc_sim.torch_bridge import wires as batched

G_MAX = 20.7
R_MIN = 1e6 / G_MAX  # ohms


def error(ours: Any, truth: Any) -> float:
    """Largest error in units of the largest entry of each array, and of entries above a millionth of it, relative."""
    off = np.abs(ours - truth)
    largest = truth.max(axis=(-2, -1), keepdims=True)
    there = truth > 1e-6 * largest
    return float(max((off / largest).max(), (off[there] / truth[there]).max()))


@pytest.mark.parametrize(
    ("rows", "cols"), [(8, 8), (1, 1), (1, 20), (20, 1), (9, 7), (16, 33), (64, 64), (50, 128), (128, 40)]
)
@pytest.mark.parametrize("ratio", [0.0, 1e-9, 1e-6, 1e-4, 5e-3])
@pytest.mark.parametrize("zeros", [0, 3])
def test_it_agrees_with_the_elimination_of_nodes(
    rows: int, cols: int, ratio: float, zeros: int, cells: Any
) -> None:
    """The bar is 1e-9; it is 1e-11."""
    g = np.stack([cells(rows, cols, zeros=zeros, shift=0.1 * k) for k in range(3)])
    ohms = (ratio * R_MIN, 2 * ratio * R_MIN)
    ours = batched.effective_conductance(g, *ohms, device="cpu")
    assert error(ours, wires.effective_conductance(g, *ohms)) <= 1e-11


@pytest.mark.parametrize(
    ("drive", "sense"), list(itertools.product(["left", "right", "both"], ["bottom", "top", "both"]))
)
@pytest.mark.parametrize(("driver", "sensor"), [(0.0, 0.0), (150.0, 80.0)])
@pytest.mark.parametrize(("row", "col"), [(30.0, 70.0), (0.0, 70.0), (30.0, 0.0), (0.0, 0.0)])
def test_every_arrangement_of_terminals(
    drive: Any, sense: Any, driver: float, sensor: float, row: float, col: float, cells: Any
) -> None:
    for rows, cols in ((19, 30), (8, 5), (1, 9), (24, 1)):
        g = cells(rows, cols, zeros=4)
        terminals: Any = {"drive": drive, "sense": sense, "r_driver_ohm": driver, "r_sense_ohm": sensor}
        ours = batched.effective_conductance(g, row, col, **terminals, device="cpu")
        truth = wires.effective_conductance(g, row, col, **terminals)
        assert error(ours + 1e-9, truth + 1e-9) <= 1e-11


def test_a_nodal_solve_agrees(cells: Any, nodal: Any) -> None:
    g = cells(40, 64, zeros=3)
    ours = batched.effective_conductance(g, 5e-3 * R_MIN, 1e-3 * R_MIN, drive="both", device="cpu")
    assert error(ours, nodal(g, 5e-3 * R_MIN, 1e-3 * R_MIN, drive="both")) <= 1e-9


def test_batches_and_dimensions_in_front_change_nothing(cells: Any) -> None:
    g = np.stack([cells(12, 9, zeros=2, shift=0.1 * k) for k in range(6)]).astype(np.float32)
    together = batched.effective_conductance(g, 20.0, 20.0, device="cpu")
    assert together.dtype == np.float64
    for size in (1, 4):
        parts = batched.effective_conductance(g, 20.0, 20.0, device="cpu", at_once=size)
        assert np.abs(parts - together).max() <= 1e-13 * G_MAX
    shaped = batched.effective_conductance(g.reshape(2, 3, 12, 9), 20.0, 20.0, device="cpu")
    assert_bits(shaped.reshape(6, 12, 9), together)


def test_a_tensor_in_a_tensor_out(cells: Any) -> None:
    g = np.stack([cells(7, 11), cells(7, 11, shift=0.3)])
    network = wires.Network(15.0, 5.0, "right", "top", 10.0, 3.0)
    ours = batched.reduce_arrays(torch.from_numpy(g), network)
    truth = wires.effective_conductance(
        g, 15.0, 5.0, drive="right", sense="top", r_driver_ohm=10.0, r_sense_ohm=3.0
    )
    assert isinstance(ours, torch.Tensor)
    assert ours.shape == (2, 7, 11)
    assert error(ours.numpy(), truth) <= 1e-11


def test_bad_input_is_named() -> None:
    g = np.ones((2, 2))
    for arguments, named in (
        ((-g, 1.0, 1.0), "from 0 to"),
        ((g, -1.0, 1.0), "r_row_ohm"),
        ((g[0], 1.0, 1.0), "rows"),
    ):
        with pytest.raises(BadInput, match=named):
            batched.effective_conductance(*arguments, device="cpu")
    for device in ("gpu", "cuda:99"):
        with pytest.raises(BadInput, match="device"):
            batched.effective_conductance(g, 1.0, 1.0, device=device)
    with pytest.raises(BadInput, match="at_once"):
        batched.effective_conductance(g, 1.0, 1.0, device="cpu", at_once=0)
