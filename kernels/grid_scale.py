"""The step of a quantised checkpoint, found in its weights: w = q·step with whole |q| ≤ levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32
from aimc_sim.kernels._jit import njit

ROUNDING = 2.0**-9  # of bfloat16, the coarsest type that a product q·step may have been rounded to
SLACK = 2.0**-10


def grid_step_reference(w: F32, levels: int) -> float:
    """Return the largest step of which all weights (K,) are multiples of at most ``levels``, float64; 0: of zeros; -1:
    none.

    A multiple may be off by bfloat16's rounding of its value. The largest weight is then some code m times the step.
    """
    largest = float(np.abs(w).max(initial=0.0))
    if largest == 0:
        return 0.0
    for m in range(1, levels + 1):
        q = w.astype(np.float64) * (m / largest)
        if (np.abs(q - np.rint(q)) <= (np.abs(q) + 1) * ROUNDING + SLACK).all():
            return largest / m
    return -1.0


@njit
def grid_steps(w: Any, bounds: Any, levels: Any, first: Any, last: Any, out: Any) -> None:
    """`grid_step_reference` of columns first … last-1 of w (N, K), rows bounds[g] … bounds[g+1]: out (groups, N)."""
    for column in range(first, last):
        for g in range(bounds.size - 1):
            part = w[column, bounds[g] : bounds[g + 1]]
            largest = 0.0
            for value in part:
                largest = max(largest, abs(np.float64(value)))
            out[g, column] = 0.0 if largest == 0.0 else -1.0
            if largest == 0.0:
                continue
            for m in range(1, levels + 1):
                fits = True
                for value in part:
                    q = np.float64(value) * (m / largest)
                    if abs(q - np.rint(q)) > (abs(q) + 1) * ROUNDING + SLACK:
                        fits = False
                        break
                if fits:
                    out[g, column] = largest / m
                    break
