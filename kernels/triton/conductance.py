"""Programming, drift and 1/f noise of a weight matrix in Triton: the bits of `kernels.conductance`.

One program serves one column in one row tile. No noise is ever stored: every cell's draws are made in registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from aimc_sim.kernels import cells as c
from aimc_sim.kernels import laws
from aimc_sim.kernels.cells import DeviceTables, SiteKeys
from aimc_sim.kernels.triton._launch import LANES, OPTIONS, ROWS_PER_UNIT, require, row_bounds, words
from aimc_sim.kernels.triton.elementary import clamp, exp, log, rint
from aimc_sim.kernels.triton.laws import X_FLOOR, evaluate_law
from aimc_sim.kernels.triton.normal import cell_rows, four_normals
from aimc_sim.kernels.triton.philox import load_word

LAWS = 5
# A device in one float32 array: nine numbers, the four target laws of the polarity that carries no weight, the scales
# of the five laws, then their tables.
G_MIN, SPAN, DEAD_ZONE, LOG_TIME, CLIP_LOW, CLIP_HIGH, ROOT_LOG_TIME, INVERSE, INVERSE_MAX = (
    tl.constexpr(i) for i in range(9)
)
OFF, X_SCALE, Y_SCALE, TABLES = tl.constexpr(9), tl.constexpr(13), tl.constexpr(18), tl.constexpr(23)
# Counter words, then for each law the offset of its table and its number of pieces.
CYCLE, SESSION, KEY, PLANES, LAYOUT = (tl.constexpr(i) for i in (0, 1, 2, 4, 10))
PROGRAMMING, DRIFT, FLICKER = (tl.constexpr(i) for i in (4, 6, 8))
SIGMA, SHIFT, NU_MEAN, NU_STD, AMPLITUDE = (tl.constexpr(i) for i in range(LAWS))
NO_DRIFT, POWER_DRIFT, AGED_DRIFT = (tl.constexpr(i) for i in (c.NO_DRIFT, c.POWER_DRIFT, c.AGED_DRIFT))
DRIFTS = {c.NO_DRIFT, c.POWER_DRIFT, c.ADDITIVE_DRIFT, c.AGED_DRIFT}
NO_FLICKER, RELATIVE_FLICKER = tl.constexpr(c.NO_FLICKER), tl.constexpr(c.RELATIVE_FLICKER)
READOUT_UNIT = tl.constexpr(float(c.READOUT_UNIT))


class EffectiveWeights(NamedTuple):
    """Effective weights are columns of a matrix in its cells, as tensors of one device."""

    effective: torch.Tensor  # (N, K) float32, 1.0 = the full-scale weight of the column in the tile
    column_max: torch.Tensor  # (tiles, N) float32, max |w|
    readout_programmed: torch.Tensor | None  # (tiles, N) int64, Σ|weight| at programming in 2^-20
    readout_now: torch.Tensor | None  # (tiles, N) int64, the same after drift, before 1/f noise
    total: torch.Tensor | None  # (N, K) float32, (G⁺ + G⁻) / g_max; weight domain: zeros


@triton.jit
def _law(
    device: tl.tensor, sites: tl.tensor, WHICH: tl.constexpr, g: tl.tensor, HAS_LOG: tl.constexpr, HAS_EXP: tl.constexpr
) -> tl.tensor:  # fmt: skip
    """y_scale·law(g·x_scale)."""
    x = g * tl.load(device + X_SCALE + WHICH)
    ln_x = x
    if HAS_LOG:
        ln_x = log(tl.maximum(x, X_FLOOR))
    table = device + tl.load(sites + LAYOUT + 2 * WHICH)
    value = evaluate_law(table, tl.load(sites + LAYOUT + 2 * WHICH + 1), x, ln_x, HAS_EXP)
    return tl.load(device + Y_SCALE + WHICH) * value


@triton.jit
def _cells(
    device: tl.tensor, sites: tl.tensor, ratio: tl.tensor, size: tl.tensor, sigma: tl.tensor, shift: tl.tensor,
    nu_mean: tl.tensor, nu_std: tl.tensor, group: tl.tensor, column: tl.tensor, PLANE: tl.constexpr,
    WEIGHT_DOMAIN: tl.constexpr, DRIFT_LAW: tl.constexpr, FLICKER_LAW: tl.constexpr, HAS_LOG: tl.constexpr,
    HAS_EXP: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Conductances of one polarity: programmed, drifted, with 1/f noise."""
    k0, k1 = load_word(sites + KEY), load_word(sites + KEY + 1)
    cycle, session = load_word(sites + CYCLE), load_word(sites + SESSION)
    z = four_normals(group, column, cycle, load_word(sites + PROGRAMMING + PLANE), k0, k1)
    if WEIGHT_DOMAIN:
        target = ratio * tl.load(device + SPAN)
        noisy = (target + shift) + sigma * z
        programmed = tl.where(size < tl.load(device + DEAD_ZONE), 0.0, noisy)
    else:
        on = ratio > 0.0
        if PLANE == 1:
            on = ratio < 0.0
        target = tl.where(on, size, tl.load(device + G_MIN))
        shift = tl.where(on, shift, tl.load(device + OFF + SHIFT))
        sigma = tl.where(on, sigma, tl.load(device + OFF + SIGMA))
        nu_mean = tl.where(on, nu_mean, tl.load(device + OFF + NU_MEAN))
        nu_std = tl.where(on, nu_std, tl.load(device + OFF + NU_STD))
        programmed = tl.maximum((target + shift) + sigma * z, 0.0)
    drifted = programmed
    if DRIFT_LAW == AGED_DRIFT:  # other statistics under the same draw
        drifted = tl.maximum((target + nu_mean) + nu_std * z, 0.0)
    elif DRIFT_LAW != NO_DRIFT:
        z = four_normals(group, column, cycle, load_word(sites + DRIFT + PLANE), k0, k1)
        if DRIFT_LAW == POWER_DRIFT:
            nu = tl.abs(nu_mean + nu_std * z)
            drifted = programmed * exp(-(nu * tl.load(device + LOG_TIME)))
        else:
            moved = (programmed + nu_mean) + nu_std * z
            drifted = clamp(moved, tl.load(device + CLIP_LOW), tl.load(device + CLIP_HIGH))
    now = drifted
    if FLICKER_LAW != NO_FLICKER:
        z = four_normals(group, column, session, load_word(sites + FLICKER + PLANE), k0, k1)
        amplitude = _law(device, sites, AMPLITUDE, tl.abs(programmed), HAS_LOG, HAS_EXP)
        deviation = amplitude * tl.load(device + ROOT_LOG_TIME)
        if FLICKER_LAW == RELATIVE_FLICKER:
            deviation = drifted * deviation
        now = drifted + deviation * z
        if not WEIGHT_DOMAIN:
            now = tl.maximum(now, 0.0)
    return programmed, drifted, now


@triton.jit
def column_peak(line: tl.tensor, start: tl.tensor, stop: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    """max |w| of line[start:stop], 0 for nothing, NaN where one is: on the bits, which order like the sizes."""
    peaks = tl.zeros([BLOCK], tl.int32)
    for block in range(start, stop, BLOCK):
        at = block + tl.arange(0, BLOCK)
        size = tl.abs(tl.load(line + at, mask=at < stop, other=0.0))
        peaks = tl.maximum(peaks, size.to(tl.int32, bitcast=True))
    return tl.max(peaks, 0).to(tl.float32, bitcast=True)


@triton.jit
def _units(weight: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """|weight| in units of 2^-20, as integers, so that the order of sums does not matter."""
    return tl.where(inside, rint(tl.abs(weight) * READOUT_UNIT), 0.0).to(tl.int64)


@triton.jit
def effective_kernel(
    w: tl.tensor, bounds: tl.tensor, device: tl.tensor, sites: tl.tensor, effective: tl.tensor, total: tl.tensor,
    column_max: tl.tensor, before: tl.tensor, after: tl.tensor, columns: tl.tensor, rows: tl.tensor, first: tl.tensor,
    WEIGHT_DOMAIN: tl.constexpr, DRIFT_LAW: tl.constexpr, FLICKER_LAW: tl.constexpr, HAS_LOG: tl.constexpr,
    HAS_EXP: tl.constexpr, READOUT: tl.constexpr, TOTAL: tl.constexpr, GROUPS: tl.constexpr,
) -> None:  # fmt: skip
    j, tile = tl.program_id(0), tl.program_id(1)
    start, stop = tl.load(bounds + tile).to(tl.int32), tl.load(bounds + tile + 1).to(tl.int32)
    line = j.to(tl.int64) * rows
    column = (first + j).to(tl.uint32, bitcast=True)
    peak = column_peak(w + line, start, stop, 4 * GROUPS)
    tl.store(column_max + tile * columns + j, peak)
    scale = tl.where(peak == 0.0, 1.0, peak)
    inverse = tl.load(device + INVERSE)
    sum_before, sum_after = tl.zeros([GROUPS, 4], tl.int64), tl.zeros([GROUPS, 4], tl.int64)
    for block in range((start >> 6) << 6, stop, 4 * GROUPS):
        group, row = cell_rows(block, GROUPS)
        inside = (row >= start) & (row < stop)
        ratio = tl.div_rn(
            tl.load(w + line + row, mask=inside, other=0.0), tl.zeros_like(row).to(tl.float32) + scale
        )
        size = tl.abs(ratio) * tl.load(device + SPAN)
        if not WEIGHT_DOMAIN:
            size = tl.load(device + G_MIN) + size
        sigma = _law(device, sites, SIGMA, size, HAS_LOG, HAS_EXP)
        shift = _law(device, sites, SHIFT, size, HAS_LOG, HAS_EXP)
        nu_mean, nu_std = sigma, sigma
        if DRIFT_LAW != NO_DRIFT:
            nu_mean = _law(device, sites, NU_MEAN, size, HAS_LOG, HAS_EXP)
            nu_std = _law(device, sites, NU_STD, size, HAS_LOG, HAS_EXP)
        programmed, drifted, now = _cells(
            device, sites, ratio, size, sigma, shift, nu_mean, nu_std, group, column, 0,
            WEIGHT_DOMAIN, DRIFT_LAW, FLICKER_LAW, HAS_LOG, HAS_EXP)  # fmt: skip
        both = tl.zeros_like(now)
        if not WEIGHT_DOMAIN:
            programmed_1, drifted_1, now_1 = _cells(
                device, sites, ratio, size, sigma, shift, nu_mean, nu_std, group, column, 1,
                WEIGHT_DOMAIN, DRIFT_LAW, FLICKER_LAW, HAS_LOG, HAS_EXP)  # fmt: skip
            both = (now + now_1) * tl.load(device + INVERSE_MAX)
            programmed, drifted, now = programmed - programmed_1, drifted - drifted_1, now - now_1
        tl.store(effective + line + row, now * inverse, mask=inside)
        if TOTAL:
            tl.store(total + line + row, both, mask=inside)
        if READOUT:
            sum_before += _units(programmed * inverse, inside)
            sum_after += _units(drifted * inverse, inside)
    if READOUT:
        tl.store(before + tile * columns + j, tl.sum(tl.sum(sum_before, 1), 0))
        tl.store(after + tile * columns + j, tl.sum(tl.sum(sum_after, 1), 0))


def _device_array(d: DeviceTables) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Return the device as `effective_kernel` reads it, and (offset, pieces) of every table."""
    tables = (d.sigma, d.shift, d.nu_mean, d.nu_std, d.amplitude)
    off = [
        d.y_scale[i] * laws.law_reference(table, np.atleast_1d(np.abs(d.g_min) * d.x_scale[i]))[0]
        for i, table in enumerate(tables[: AMPLITUDE.value])
    ]
    inverse, inverse_max = c.ONE / d.span, c.ONE / (d.g_min + d.span)
    head = [
        d.g_min,
        d.span,
        d.dead_zone,
        d.log_time,
        d.clip_low,
        d.clip_high,
        d.root_log_time,
        inverse,
        inverse_max,
    ]
    layout, at = [], int(TABLES.value)
    for table in tables:
        layout += [at, table.shape[0]]
        at += table.size
    numbers = np.array([*head, *off, *d.x_scale, *d.y_scale], np.float32)
    return np.concatenate([numbers, *(np.asarray(table, np.float32).ravel() for table in tables)]), layout


def effective_weights(
    w: torch.Tensor,
    bounds: npt.NDArray[np.int64],
    device: DeviceTables,
    sites: SiteKeys,
    *,
    first: int = 0,
    with_readout: bool = True,
    with_total: bool = False,
) -> EffectiveWeights:
    """Return the columns first … first+N-1 of a matrix, w (N, K) float32, in the cells of ``device``.

    bounds: (tiles + 1,) the ends of the row tiles, on the host. Raises ValueError for other shapes, dtypes or bounds.
    """
    w = require(w, "w", torch.float32, None, None)
    if device.drift not in DRIFTS:
        raise ValueError(f"drift law {device.drift} has no Triton kernel")
    if device.stuck_low or device.stuck_high or sites.listed.size or sites.names.size:
        raise ValueError("stuck cells and columns that go by other names have no Triton kernel")
    if device.nu_shift or device.thermal_per_ev:
        raise ValueError("a die's shift of the drift exponent and other temperatures have no Triton kernel")
    (columns, rows), on = w.shape, w.device
    ends = row_bounds(bounds, rows, on)
    tiles = ends.numel() - 1
    numbers, layout = _device_array(device)
    plane_words = [*sites.programming, *sites.drift, *sites.flicker]
    names = words([sites.cycle, sites.session, *sites.key, *plane_words, *layout], on)
    bases = {float(basis) for table in device[4:9] for basis in table[:, laws.BASIS]}
    effective, column_max = torch.empty_like(w), torch.empty((tiles, columns), dtype=torch.float32, device=on)
    before, after = (
        torch.empty((tiles, columns if with_readout else 0), dtype=torch.int64, device=on) for _ in range(2)
    )
    total = torch.empty((columns, rows if with_total else 0), dtype=torch.float32, device=on)
    if columns:
        effective_kernel[(columns, tiles)](
            w, ends, torch.from_numpy(numbers).to(on), names, effective, total, column_max, before, after,
            columns, rows, first, device.weight_domain, device.drift, device.flicker,
            bool(bases - {float(laws.LINEAR)}), float(laws.EXP_LOG) in bases, with_readout, with_total,
            block_groups(bounds), **OPTIONS)  # fmt: skip
    return EffectiveWeights(
        effective,
        column_max,
        before if with_readout else None,
        after if with_readout else None,
        total if with_total else None,
    )


def block_groups(bounds: npt.NDArray[np.int64]) -> int:
    """Return the Philox calls of a block of rows: 64 to 512 rows, no more than the tiles have."""
    units = -(-int(np.diff(bounds).max()) // ROWS_PER_UNIT)
    return min(int(triton.next_power_of_2(units)), 8) * ROWS_PER_UNIT // LANES
