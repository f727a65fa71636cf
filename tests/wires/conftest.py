"""Arrays to test with, and an independent truth: a sparse nodal solve of every node of the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

F64 = npt.NDArray[np.float64]
G_MAX = 20.7  # µS
Cells = Callable[..., F64]
Solve = Callable[..., F64]


def make_cells(rows: int, cols: int, low: float = 0.01, zeros: int = 0, shift: float = 0.0) -> F64:
    """(rows, cols) µS, evenly spread over [low, 1]·g_max without a visible order; every ``zeros``-th cell is 0."""
    k = np.arange(rows * cols)
    g = low + (1 - low) * (((k + 1) * 0.6180339887498949 + shift) % 1.0)
    if zeros:
        g[k % zeros == zeros - 1] = 0
    return np.asarray(g.reshape(rows, cols) * G_MAX)


def nodal_solve(
    g_us: F64, r_row_ohm: float, r_col_ohm: float, *, drive: str = "left", sense: str = "bottom",
    r_driver_ohm: float = 0.0, r_sense_ohm: float = 0.0,
) -> F64:  # fmt: skip
    """G_eff (rows, cols) µS by Kirchhoff's current law at every node, one sparse LU, every row driven in turn.

    The nodes: two a cell, and one per terminal wherever a driver or a sense amplifier has a resistance of its own.
    Wire resistances above 0.
    """
    rows, cols = g_us.shape
    count = 2 * rows * cols

    def word(i: int, j: int) -> int:
        return i * cols + j

    def bit(i: int, j: int) -> int:
        return rows * cols + i * cols + j

    entries: list[tuple[int, int, float]] = []
    injected: list[tuple[int, int, float]] = []  # node, row driven, µS from the source
    sensed: list[tuple[int, int, float]] = []  # column, node, µS to virtual ground

    def edge(a: int, b: int, us: float) -> None:
        entries.extend([(a, a, us), (b, b, us), (a, b, -us), (b, a, -us)])

    def terminal(node: int, wire: float, own: float) -> tuple[int, float]:
        """The last node before an ideal terminal, and the conductance between the two."""
        nonlocal count
        if not own:
            return node, 1e6 / wire
        edge(node, count, 1e6 / wire)
        count += 1
        return count - 1, 1e6 / own

    for i in range(rows):
        for j in range(cols):
            edge(word(i, j), bit(i, j), g_us[i, j])
            if j:
                edge(word(i, j - 1), word(i, j), 1e6 / r_row_ohm)
            if i:
                edge(bit(i - 1, j), bit(i, j), 1e6 / r_col_ohm)
    for end, column in (("left", 0), ("right", cols - 1)):
        for i in range(rows * (drive in (end, "both"))):
            node, us = terminal(word(i, column), r_row_ohm, r_driver_ohm)
            entries.append((node, node, us))
            injected.append((node, i, us))
    for end, row in (("bottom", rows - 1), ("top", 0)):
        for j in range(cols * (sense in (end, "both"))):
            node, us = terminal(bit(row, j), r_col_ohm, r_sense_ohm)
            entries.append((node, node, us))
            sensed.append((j, node, us))

    def sparse(triples: list[tuple[int, int, float]], shape: tuple[int, int]) -> Any:
        a, b, value = zip(*triples, strict=True)
        return coo_matrix((value, (a, b)), shape=shape)

    volts = splu(sparse(entries, (count, count)).tocsc()).solve(sparse(injected, (count, rows)).toarray())
    return np.asarray((sparse(sensed, (cols, count)).tocsr() @ volts).T)


@pytest.fixture(scope="session")
def cells() -> Cells:
    return make_cells


@pytest.fixture(scope="session")
def nodal() -> Solve:
    return nodal_solve
