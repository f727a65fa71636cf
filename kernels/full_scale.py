"""The ADC full scale that loses least: a search over a geometric grid below the largest current."""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import peak_of

STEPS = 24
RATIO = np.float32(0.9)  # 0.9^23 = 0.089 of the largest current


@njit
def _square_error(current: Any, weight: Any, lsb: Any, n: Any) -> Any:
    """Σ (weight·(I - lsb·code))² of one token."""
    inverse = np.float32(1) / lsb
    total = np.float32(0)
    for j in range(current.size):
        code = min(max(np.rint(current[j] * inverse), -n), n)
        error = (current[j] - code * lsb) * weight[j]
        total += error * error
    return total


@njit
def best_full_scale(current: Any, weight: Any, gain: Any, levels: Any) -> Any:
    """Full scale for currents (B, n), with digital factors weight (n,) and gain (B,); 1 where no current flows."""
    n = np.float32(levels)
    peak = np.float32(0)
    for b in range(current.shape[0]):
        peak = max(peak, peak_of(current[b]))
    if peak == np.float32(0):
        return np.float32(1)
    best, best_error = peak, np.inf
    candidate = peak
    for _ in range(STEPS):
        error = 0.0
        for b in range(current.shape[0]):
            error += (
                np.float64(_square_error(current[b], weight, candidate / n, n)) * np.float64(gain[b]) ** 2
            )
        if error < best_error:
            best, best_error = candidate, error
        candidate = candidate * RATIO
    return best
