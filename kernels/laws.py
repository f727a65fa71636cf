"""One evaluator for every device law: piecewise polynomials in x or ln x, with clamps.

A law is a table (pieces, 10) float32, a row a piece:
    0 upper bound of x (inclusive; the last is +inf)   1 basis   2 minimum   3 maximum   4…9 coefficients, ascending
Basis 0: P(x); 1: P(ln x); 2: e^P(ln x). The law's variable is x = g·x_scale, and ln x is taken of max(x, 1e-7).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import exp, exp_reference, log, log_reference

UPPER, BASIS, LOW, HIGH, FIRST = 0, 1, 2, 3, 4
COEFFICIENTS = 6
WIDTH = FIRST + COEFFICIENTS
LINEAR, LOG, EXP_LOG = 0, 1, 2
X_FLOOR = np.float32(1e-7)


def law_reference(table: F32, x: F32) -> F32:
    """Return the law's value at x, element by element: the readable reference of `evaluate_law`."""
    x = np.asarray(x, np.float32)
    ln_x = log_reference(np.maximum(x, X_FLOOR))
    value = np.zeros_like(x)
    for p, row in enumerate(table):
        v = x if row[BASIS] == LINEAR else ln_x
        y = np.full_like(x, row[WIDTH - 1])
        for c in row[WIDTH - 2 : FIRST - 1 : -1]:
            y = y * v + c
        if row[BASIS] == EXP_LOG:
            y = exp_reference(y)
        y = np.minimum(np.maximum(y, row[LOW]), row[HIGH])
        value = y if p == 0 else np.where(x > table[p - 1, UPPER], y, value)
    return value


@njit
def needs_log(table: Any) -> Any:
    for p in range(table.shape[0]):
        if table[p, BASIS] != np.float32(0):
            return True
    return False


@njit
def _piece(row: Any, above: Any, x: Any, v: Any, out: Any, n: Any) -> None:
    c0, c1, c2, c3, c4, c5 = row[4], row[5], row[6], row[7], row[8], row[9]
    low, high = row[LOW], row[HIGH]
    if row[BASIS] == np.float32(EXP_LOG):
        for i in range(n):
            y = exp(((((c5 * v[i] + c4) * v[i] + c3) * v[i] + c2) * v[i] + c1) * v[i] + c0)
            y = min(max(y, low), high)
            out[i] = y if x[i] > above else out[i]
    else:
        for i in range(n):
            y = ((((c5 * v[i] + c4) * v[i] + c3) * v[i] + c2) * v[i] + c1) * v[i] + c0
            y = min(max(y, low), high)
            out[i] = y if x[i] > above else out[i]


@njit
def evaluate_law(table: Any, x: Any, ln_x: Any, out: Any, n: Any) -> None:
    """The law at x[:n] into out[:n]; ln_x holds ln max(x, 1e-7) where the law needs it."""
    above = np.float32(-np.inf)
    for p in range(table.shape[0]):
        row = table[p]
        _piece(row, above, x, x if row[BASIS] == np.float32(LINEAR) else ln_x, out, n)
        above = row[UPPER]


@njit
def log_floored(x: Any, out: Any, n: Any) -> None:
    for i in range(n):
        out[i] = log(max(x[i], X_FLOOR))
