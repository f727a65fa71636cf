"""Converter ranges that lose least: searches over geometric grids below the largest value.

Currents come as conversions see them, each with a digital factor of its column (weight) and of its token (gain);
an error is what a conversion changes, times both. Codes are integers from ``lowest`` to ``highest``, half to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32, F64
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.converters import code_of, quantise_reference
from aimc_sim.kernels.elementary import peak_of

STEPS = 24
RATIO = np.float32(0.9)  # 0.9^23 = 0.089 of the largest current


def conversion_errors_reference(
    current: F32, weight: F32, gain: F32, full_scale: float, lowest: int, highest: int
) -> F64:
    """Return gain·weight·(lsb·code - I) (reads, B, n) of currents (reads, B, n), weight (n,), gain (reads, B)."""
    lsb = np.float32(full_scale) / np.float32(highest)
    code = quantise_reference(current * (np.float32(1) / lsb), highest, unsigned=lowest == 0)
    return np.asarray((code * lsb - current) * weight * gain[..., None], np.float64)


@njit
def _square_error(current: Any, weight: Any, lsb: Any, lowest: Any, n: Any) -> Any:
    """Σ (weight·(I - lsb·code))² of one token."""
    inverse = np.float32(1) / lsb
    total = np.float32(0)
    for j in range(current.size):
        code = code_of(current[j], inverse, lowest, n)
        error = (current[j] - code * lsb) * weight[j]
        total += error * error
    return total


@njit
def square_error(current: Any, weight: Any, gain: Any, full_scale: Any, lowest: Any, highest: Any) -> Any:
    """Σ of squared errors of all conversions (B, n) at one full scale, float64."""
    low, n = np.float32(lowest), np.float32(highest)
    lsb = np.float32(full_scale) / n
    total = 0.0
    for b in range(current.shape[0]):
        total += np.float64(_square_error(current[b], weight, lsb, low, n)) * np.float64(gain[b]) ** 2
    return total


@njit
def peak_current(current: Any) -> Any:
    """Largest |I| of (B, n)."""
    peak = np.float32(0)
    for b in range(current.shape[0]):
        peak = max(peak, peak_of(current[b]))
    return peak


@njit
def best_full_scale(current: Any, weight: Any, gain: Any, lowest: Any, highest: Any, steps: Any) -> Any:
    """Full scale for currents (B, n), with digital factors weight (n,) and gain (B,); 1 where no current flows.

    The best of ``steps`` candidates, each 0.9 of the one before, from the largest current down.
    """
    peak = peak_current(current)
    if peak == np.float32(0):
        return np.float32(1)
    best, best_error = peak, np.inf
    candidate = peak
    for _ in range(steps):
        error = square_error(current, weight, gain, candidate, lowest, highest)
        if error < best_error:
            best, best_error = candidate, error
        candidate = candidate * RATIO
    return best


@njit
def _add_errors(current: Any, weight: Any, gain: Any, full_scale: Any, low: Any, n: Any, total: Any) -> None:
    """Add gain·weight·(lsb·code - I) of one token and read to total (n,)."""
    lsb = np.float32(full_scale) / n
    inverse = np.float32(1) / lsb
    for j in range(current.size):
        code = code_of(current[j], inverse, low, n)
        total[j] += (code * lsb - current[j]) * weight[j] * gain


@njit
def output_errors(
    current: Any, weight: Any, gain: Any, full_scale: Any, lowest: Any, highest: Any, total: Any
) -> None:
    """Add to total (B, n) float32 what converting current (reads, B, n) changes; weight (n,), gain (reads, B)."""
    low, n = np.float32(lowest), np.float32(highest)
    for r in range(current.shape[0]):
        for b in range(current.shape[1]):
            _add_errors(current[r, b], weight, gain[r, b], full_scale, low, n, total[b])


@njit
def best_beside(
    current: Any, weight: Any, gain: Any, rest: Any, peak: Any, lowest: Any, highest: Any, steps: Any
) -> Any:
    """Full scale of one tile with the least Σ (rest + its errors)² over outputs, what other tiles lose being rest
    (B, n). current (reads, B, n); candidates from ``peak`` down, as in `best_full_scale`; 1 where no current flows.
    """
    if peak == np.float32(0):
        return np.float32(1)
    low, n = np.float32(lowest), np.float32(highest)
    total = np.empty(current.shape[2], np.float32)
    best, best_error = peak, np.inf
    candidate = peak
    for _ in range(steps):
        error = 0.0
        for b in range(current.shape[1]):
            total[:] = rest[b]
            for r in range(current.shape[0]):
                _add_errors(current[r, b], weight, gain[r, b], candidate, low, n, total)
            square = np.float32(0)
            for j in range(total.size):
                square += total[j] * total[j]
            error += np.float64(square)
        if error < best_error:
            best, best_error = candidate, error
        candidate = candidate * RATIO
    return best
