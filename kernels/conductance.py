"""Programming, drift and 1/f noise of a weight matrix, fused: no array of noise is ever stored.

``effective_weights`` computes the bits of `cells.effective_weights_reference`, the readable formula in NumPy, column by
column in first-level cache. Arithmetic is float32 in exactly the order written here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.cells import (
    ACTIVATION,
    AGED_DRIFT,
    AMPLITUDE,
    NO_DRIFT,
    NO_FLICKER,
    NU_MEAN,
    NU_STD,
    ONE,
    POWER_DRIFT,
    READOUT_UNIT,
    RELATIVE_FLICKER,
    SHIFT,
    SIGMA,
    THERMAL,
    ZERO,
)
from aimc_sim.kernels.elementary import exp, peak_of
from aimc_sim.kernels.laws import evaluate_law, log_floored, needs_log
from aimc_sim.kernels.memory import whole_registers
from aimc_sim.kernels.normal import CHUNK, GROUPS, fill_normals
from aimc_sim.kernels.stuck import stick, stick_listed


@njit
def _law_at(which: Any, table: Any, d: Any, g: Any, x: Any, ln_x: Any, out: Any, n: Any) -> None:
    """y_scale·law(g·x_scale) for g[:n] into out[:n]; x and ln_x are scratch."""
    whole_registers()
    scale, unit = d.x_scale[which], d.y_scale[which]
    for i in range(n):
        x[i] = g[i] * scale
    if needs_log(table):
        log_floored(x, ln_x, n)
    evaluate_law(table, x, ln_x, out, n)
    for i in range(n):
        out[i] = unit * out[i]


@njit
def _target_laws(d: Any, size: Any, x: Any, ln_x: Any, laws: Any, n: Any) -> None:
    """The laws that refer to the target conductance, into laws (5, n)."""
    _law_at(SIGMA, d.sigma, d, size, x, ln_x, laws[SIGMA], n)
    _law_at(SHIFT, d.shift, d, size, x, ln_x, laws[SHIFT], n)
    if d.drift != NO_DRIFT:
        _law_at(NU_MEAN, d.nu_mean, d, size, x, ln_x, laws[NU_MEAN], n)
        _law_at(NU_STD, d.nu_std, d, size, x, ln_x, laws[NU_STD], n)
    if d.thermal_per_ev != ZERO:
        _law_at(ACTIVATION, d.activation, d, size, x, ln_x, laws[THERMAL], n)


@njit
def _program(d: Any, ratio: Any, sign: Any, size: Any, laws: Any, off: Any, z: Any, out: Any, n: Any) -> None:
    whole_registers()
    if d.weight_domain:
        for i in range(n):
            noisy = (ratio[i] * d.span + laws[SHIFT, i]) + laws[SIGMA, i] * z[i]
            out[i] = ZERO if size[i] < d.dead_zone else noisy
    else:
        for i in range(n):
            on = ratio[i] * sign > ZERO
            goal = size[i] if on else d.g_min
            shift = laws[SHIFT, i] if on else off[SHIFT, 0]
            sigma = laws[SIGMA, i] if on else off[SIGMA, 0]
            out[i] = max((goal + shift) + sigma * z[i], ZERO)


@njit
def _drift(
    d: Any, ratio: Any, sign: Any, size: Any, laws: Any, off: Any, z: Any, g: Any, out: Any, n: Any
) -> None:
    whole_registers()
    for i in range(n):
        on = d.weight_domain or ratio[i] * sign > ZERO
        mean = laws[NU_MEAN, i] if on else off[NU_MEAN, 0]
        std = laws[NU_STD, i] if on else off[NU_STD, 0]
        if d.drift == POWER_DRIFT:
            nu = abs((mean + d.nu_shift) + std * z[i])
            out[i] = g[i] * exp(-(nu * d.log_time))
        elif d.drift == AGED_DRIFT:
            goal = size[i] if on else d.g_min
            out[i] = max((goal + mean) + std * z[i], ZERO)
        else:
            moved = (g[i] + mean) + std * z[i]
            out[i] = min(max(moved, d.clip_low), d.clip_high)


@njit
def _warm(d: Any, ratio: Any, sign: Any, laws: Any, off: Any, out: Any, n: Any) -> None:
    whole_registers()
    for i in range(n):
        energy = laws[THERMAL, i] if ratio[i] * sign > ZERO else off[THERMAL, 0]
        out[i] = out[i] * exp(d.thermal_per_ev * energy)


@njit
def _flicker(d: Any, amplitude: Any, z: Any, g: Any, out: Any, n: Any) -> None:
    whole_registers()
    floor = np.float32(-np.inf) if d.weight_domain else ZERO
    if d.flicker == RELATIVE_FLICKER:
        for i in range(n):
            out[i] = max(g[i] + (g[i] * (amplitude[i] * d.root_log_time)) * z[i], floor)
    else:
        for i in range(n):
            out[i] = max(g[i] + (amplitude[i] * d.root_log_time) * z[i], floor)


@njit
def _combine(planes: Any, cells: Any, inverse: Any, out: Any, n: Any) -> None:
    whole_registers()
    """Weights of the planes of cells (2, n) into out[:n]."""
    if planes == 1:
        for i in range(n):
            out[i] = cells[0, i] * inverse
    else:
        for i in range(n):
            out[i] = (cells[0, i] - cells[1, i]) * inverse


@njit
def _add_readout(weight: Any, start: Any, n: Any, bounds: Any, column: Any, readout: Any) -> None:
    whole_registers()
    """Add the integer readout of rows start … start+n-1 to their tiles."""
    for t in range(bounds.size - 1):
        a, b = max(bounds[t], start) - start, min(bounds[t + 1], start + n) - start
        total = np.int64(0)
        for i in range(a, b):
            total += np.int64(np.int32(np.rint(abs(weight[i]) * READOUT_UNIT)))
        readout[t, column] += total


@njit
def _ratios(w: Any, bounds: Any, column: Any, start: Any, n: Any, column_max: Any, ratio: Any) -> None:
    whole_registers()
    """w over the largest |w| of its column in its tile; 0 in a column of zeros."""
    for t in range(bounds.size - 1):
        m = column_max[t, column]
        scale = ONE if m == ZERO else m
        for i in range(max(bounds[t], start), min(bounds[t + 1], start + n)):
            ratio[i - start] = w[column, i] / scale


@njit
def effective_weights(
    w: Any, bounds: Any, d: Any, sites: Any, first: Any, last: Any, given: Any, with_readout: Any, with_total: Any,
    effective: Any, total: Any, column_max: Any, readout_programmed: Any, readout_now: Any,
) -> None:  # fmt: skip
    """Columns first … last-1: effective and total (last-first, K), the rest as in `Cells`; the readouts start at zero.

    given: column_max holds the weights that g_max stands for; else they are found, and put there. Readouts and total
    are left alone unless asked for.
    """
    whole_registers()
    k = w.shape[1]
    planes = 1 if d.weight_domain else 2
    inverse, inverse_max = ONE / d.span, ONE / (d.g_min + d.span)
    words, lanes = np.empty((4, GROUPS), np.uint32), np.empty((4, GROUPS), np.float32)
    scratch, laws = np.empty((7, CHUNK), np.float32), np.empty((5, CHUNK), np.float32)
    ratio, size, x, ln_x, z, amplitude, weight = (
        scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5], scratch[6])  # fmt: skip
    programmed, drifted, now = (
        np.empty((2, CHUNK), np.float32),
        np.empty((2, CHUNK), np.float32),
        np.empty((2, CHUNK), np.float32),
    )
    size[0] = d.g_min
    off = np.empty((5, 1), np.float32)  # laws of the polarity that carries no weight
    _target_laws(d, size, x, ln_x, off, 1)
    k0, k1 = sites.key[0], sites.key[1]
    for column in range(first, last):
        c0, c1 = np.uint32(0), sites.names[column] if sites.names.size else np.uint32(column)
        if not given:
            for t in range(bounds.size - 1):
                column_max[t, column] = peak_of(w[column, bounds[t] : bounds[t + 1]])
        for start in range(0, k, CHUNK):
            n = min(CHUNK, k - start)
            _ratios(w, bounds, column, start, n, column_max, ratio)
            for i in range(n):
                size[i] = abs(ratio[i]) * d.span if d.weight_domain else d.g_min + abs(ratio[i]) * d.span
            _target_laws(d, size, x, ln_x, laws, n)
            for plane in range(planes):
                sign = ONE if plane == 0 else -ONE
                fill_normals(z, start, n, c0, c1, sites.cycle, sites.programming[plane], k0, k1, words, lanes)
                _program(d, ratio, sign, size, laws, off, z, programmed[plane], n)
                drifted[plane, :n] = programmed[plane, :n]
                if d.drift != NO_DRIFT:
                    if d.drift != AGED_DRIFT:  # which keeps the programming draw
                        fill_normals(
                            z, start, n, c0, c1, sites.cycle, sites.drift[plane], k0, k1, words, lanes
                        )
                    _drift(d, ratio, sign, size, laws, off, z, programmed[plane], drifted[plane], n)
                if d.thermal_per_ev != ZERO:
                    _warm(d, ratio, sign, laws, off, drifted[plane], n)
                now[plane, :n] = drifted[plane, :n]
                if d.flicker != NO_FLICKER:
                    for i in range(n):
                        weight[i] = abs(programmed[plane, i])
                    _law_at(AMPLITUDE, d.amplitude, d, weight, x, ln_x, amplitude, n)
                    fill_normals(
                        z, start, n, c0, c1, sites.session, sites.flicker[plane], k0, k1, words, lanes
                    )
                    _flicker(d, amplitude, z, drifted[plane], now[plane], n)
                if d.stuck_low > 0 or d.stuck_high > 0:
                    stick(
                        d,
                        start,
                        n,
                        c0,
                        c1,
                        sites.fault[plane],
                        k0,
                        k1,
                        words,
                        (programmed, drifted, now),
                        plane,
                    )
                stick_listed(d, sites, column, start, n, plane, (programmed, drifted, now))
            _combine(planes, now, inverse, effective[column - first, start : start + n], n)
            if with_total:
                both = total[column - first, start : start + n]
                for i in range(n):
                    both[i] = (now[0, i] + now[1, i]) * inverse_max
            if with_readout:
                _combine(planes, programmed, inverse, weight, n)
                _add_readout(weight, start, n, bounds, column, readout_programmed)
                _combine(planes, drifted, inverse, weight, n)
                _add_readout(weight, start, n, bounds, column, readout_now)
