"""Cells of one matrix by the readable formula: what the kernels of `conductance` must equal bit for bit.

Weights arrive as w (N, K) float32, one output column a row. Arithmetic is float32 in exactly the order written here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aimc_sim.aliases import F32, I64, U32
from aimc_sim.kernels.elementary import exp_reference
from aimc_sim.kernels.laws import law_reference
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.stuck import listed_reference, stuck_reference

SIGMA, SHIFT, NU_MEAN, NU_STD, AMPLITUDE, ACTIVATION = range(6)  # rows of x_scale and y_scale
THERMAL = 4  # row of the activation energy among the laws of the target
NO_DRIFT, POWER_DRIFT, ADDITIVE_DRIFT, AGED_DRIFT = range(4)
NO_FLICKER, RELATIVE_FLICKER, ABSOLUTE_FLICKER = range(3)
# sums of |weight| are integers of 2^-20, so that their order does not matter
READOUT_UNIT = np.float32(2**20)
ZERO, ONE = np.float32(0), np.float32(1)
NO_LAW, NO_LIST, NO_ENDS = np.zeros((1, 10), np.float32), np.zeros((0, 3), np.int64), np.zeros(1, np.int64)
NO_NAMES = np.zeros(0, np.uint32)


class DeviceTables(NamedTuple):
    """Device tables are a device at one time, as arrays: what the kernels know of it.
    Conductances in the device's own unit.
    """

    weight_domain: bool  # noise on the signed weight (no polarity planes, no clamp at zero)
    g_min: np.float32
    span: np.float32  # g_max - g_min: the conductance of a full-scale weight
    dead_zone: np.float32  # weight domain: smaller targets become exactly zero
    sigma: F32  # law tables (pieces, 10): see kernels/laws.py
    shift: F32
    nu_mean: F32
    nu_std: F32
    amplitude: F32
    x_scale: F32  # (5,), with thermal_per_ev (6,): law variable per unit of conductance
    y_scale: F32  # the same length: factor on the law's value
    drift: int  # NO_DRIFT, POWER_DRIFT, ADDITIVE_DRIFT; AGED_DRIFT: nu_mean and nu_std hold shift and σ at the age
    log_time: np.float32  # ln((t + t0) / t0)
    clip_low: np.float32  # additive drift keeps the conductance in [clip_low, clip_high]
    clip_high: np.float32
    flicker: int  # NO_FLICKER, RELATIVE_FLICKER, ABSOLUTE_FLICKER
    root_log_time: np.float32  # √ln((t + t0 + t_read) / (2 t_read))
    nu_shift: np.float32 = ZERO  # of this die: added to the mean exponent of power drift
    stuck_low: int = 0  # of 2³² cells, so many are stuck at g_min for good …
    stuck_high: int = 0  # … and so many at g_max
    # (1/T_program - 1/T_read)/k, per eV: G is read e^(thermal_per_ev·E_a(target)) times as large
    thermal_per_ev: np.float32 = ZERO
    activation: F32 = NO_LAW  # law table of E_a in eV


class SiteKeys(NamedTuple):
    """Site keys are counter words of a matrix and the key, all uint32:
    words 3 per stream and plane, words 2 per stream.
    """

    programming: U32  # (2,) word 3 of the two polarity planes
    drift: U32  # (2,)
    flicker: U32  # (2,)
    fault: U32  # (2,)
    cycle: np.uint32
    session: np.uint32
    key: U32  # (2,)
    names: U32 = NO_NAMES  # (N,) what the columns are called; none: by their index
    listed: I64 = NO_LIST  # (stuck cells, 3) row, polarity, 1 at g_max or 0 at g_min, by column
    listed_ends: I64 = NO_ENDS  # (N + 1,) where each column's stuck cells begin; none: (1,)


class Cells(NamedTuple):
    """Cells are those of a matrix at one time, readable: conductances (planes, N, K) and the weights they make (N,
    K).
    """

    programmed: F32
    now: F32
    effective: F32  # (G⁺ - G⁻) / span, 1.0 = the full-scale weight of its column in the tile
    total: F32  # (G⁺ + G⁻) / g_max, which read noise and array energy follow; weight domain: zeros
    readout_programmed: I64  # (tiles, N) Σ|weight| of the programmed cells, in 2^-20
    readout_now: I64  # (tiles, N) the same after drift, before 1/f noise
    column_max: F32  # (tiles, N) the weight that g_max stands for: max |w| of each column in its row tile, if not given


def _law(d: DeviceTables, which: int, g: F32) -> F32:
    table = (d.sigma, d.shift, d.nu_mean, d.nu_std, d.amplitude, d.activation)[which]
    return np.asarray(d.y_scale[which] * law_reference(table, g * d.x_scale[which]))


def _of_cells(
    draw: Callable[..., Any], word3: np.uint32, word2: np.uint32, sites: SiteKeys, n: int, k: int
) -> Any:  # fmt: skip
    """Return (n, k): what draw(counter (m, 4), key) (m, 4) gives to every cell of one plane."""
    names = sites.names[:n] if sites.names.size else np.arange(n)
    rows = np.arange(k, dtype=np.uint32)
    groups = (k + 63) // 64 * 16
    counter = np.empty((n, groups, 4), np.uint32)
    counter[:, :, 0], counter[:, :, 1] = np.arange(groups), names[:, None]
    counter[:, :, 2], counter[:, :, 3] = word2, word3
    drawn = draw(counter.reshape(-1, 4), sites.key).reshape(n, groups, 4)
    return drawn[:, (rows >> 6) << 4 | (rows & 15), (rows >> 4) & 3]


def programmed_reference(target: F32, d: DeviceTables, z: F32) -> F32:
    """Return the conductance after programming: max(target + shift + σ(target)·z, 0);
    weight domain: no clamp, a dead zone.
    """
    size = np.abs(target)
    noisy = (target + _law(d, SHIFT, size)) + _law(d, SIGMA, size) * z
    if d.weight_domain:
        return np.where(size < d.dead_zone, ZERO, noisy)
    return np.maximum(noisy, ZERO)


def drifted_reference(g: F32, target: F32, d: DeviceTables, z: F32, z_programming: F32) -> F32:
    """G·((t+t0)/t0)^-ν with ν = |μ(target) + s(target)·z|; the additive law in ln t; or the statistics of another age
    under the same programming draw."""
    size = np.abs(target)
    if d.drift == POWER_DRIFT:
        nu = np.abs((_law(d, NU_MEAN, size) + d.nu_shift) + _law(d, NU_STD, size) * z)
        return g * exp_reference(-(nu * d.log_time))
    if d.drift == ADDITIVE_DRIFT:
        moved = (g + _law(d, NU_MEAN, size)) + _law(d, NU_STD, size) * z
        return np.minimum(np.maximum(moved, d.clip_low), d.clip_high)
    if d.drift == AGED_DRIFT:
        return np.maximum((target + _law(d, NU_MEAN, size)) + _law(d, NU_STD, size) * z_programming, ZERO)
    return g


def thermal_factor_reference(g: F32, target: F32, d: DeviceTables) -> F32:
    """Return G·exp(E_a(target)/k·(1/T_program - 1/T_read)): thermally activated conduction (Arrhenius)."""
    return (
        g if d.thermal_per_ev == ZERO else g * exp_reference(d.thermal_per_ev * _law(d, ACTIVATION, target))
    )


def flickered_reference(g: F32, programmed: F32, d: DeviceTables, z: F32) -> F32:
    """Return G + G·Q(programmed)·√ln(…)·z, clipped at zero; absolute laws leave the factor G out."""
    if d.flicker == NO_FLICKER:
        return g
    sigma = _law(d, AMPLITUDE, np.abs(programmed)) * d.root_log_time
    noisy = g + (g * sigma if d.flicker == RELATIVE_FLICKER else sigma) * z
    return noisy if d.weight_domain else np.maximum(noisy, ZERO)


def column_max_reference(w: F32, bounds: I64) -> F32:
    return np.stack([np.abs(w[:, a:b]).max(axis=1) for a, b in zip(bounds[:-1], bounds[1:], strict=True)])


def effective_weights_reference(
    w: F32, bounds: I64, d: DeviceTables, sites: SiteKeys, full_scale: F32 | None = None
) -> Cells:
    """Return cells of w (N, K) whose row tiles end at bounds (tiles + 1,).

    full_scale: (tiles, N) the weight that g_max stands for, at least the largest of its column; None: the largest.
    """
    n, k = w.shape
    column_max = column_max_reference(w, bounds) if full_scale is None else full_scale
    full = np.repeat(column_max.T, np.diff(bounds), axis=1)
    ratio = np.divide(w, full, out=np.zeros_like(w), where=full > 0)
    if d.weight_domain:
        targets = [ratio * d.span]
    else:
        active = d.g_min + np.abs(ratio) * d.span
        targets = [np.where(ratio > 0, active, d.g_min), np.where(ratio < 0, active, d.g_min)]
    programmed, drifted, now = [], [], []
    for plane, target in enumerate(targets):
        z_programming = _of_cells(normals, sites.programming[plane], sites.cycle, sites, n, k)
        programmed.append(programmed_reference(target, d, z_programming))
        z = _of_cells(normals, sites.drift[plane], sites.cycle, sites, n, k)
        drifted.append(
            thermal_factor_reference(
                drifted_reference(programmed[-1], target, d, z, z_programming), target, d
            )
        )
        z = _of_cells(normals, sites.flicker[plane], sites.session, sites, n, k)
        now.append(flickered_reference(drifted[-1], programmed[-1], d, z))
        if d.stuck_low or d.stuck_high:
            word = _of_cells(philox4x32, sites.fault[plane], np.uint32(0), sites, n, k)
            for state in (programmed, drifted, now):
                state[-1] = stuck_reference(state[-1], d, word)
        for state in (programmed, drifted, now):
            state[-1] = listed_reference(state[-1], d, sites, plane)
    inverse = ONE / d.span

    def weight(g: list[F32]) -> F32:
        return (g[0] if d.weight_domain else g[0] - g[1]) * inverse

    def readout(g: list[F32]) -> I64:
        units = np.rint(np.abs(weight(g)) * READOUT_UNIT).astype(np.int64)
        return np.add.reduceat(units, bounds[:-1], axis=1).T

    total = np.zeros_like(w) if d.weight_domain else (now[0] + now[1]) * (ONE / (d.g_min + d.span))
    return Cells(
        np.stack(programmed),
        np.stack(now),
        weight(now),
        total,
        readout(programmed),
        readout(drifted),
        column_max,
    )
