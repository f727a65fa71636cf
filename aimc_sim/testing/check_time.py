"""Time: drift against its declared law, its reference time, one trajectory a device, and the 1/f noise on top."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from aimc_sim.aliases import F64
from aimc_sim.devices import AdditiveDrift, PowerDrift
from aimc_sim.testing.assertions import assert_distribution, assert_mean_normal, assert_variance
from aimc_sim.testing.bench import FLOAT_STEP, RESOLVED, Bench, resolved
from aimc_sim.testing.check_programming import check_range
from aimc_sim.testing.declared import CLAMP
from aimc_sim.testing.report import Findings
from aimc_sim.testing.samplers import ProgrammedCells

ONE_DRAW = 4 / RESOLVED  # σ: what rounding to float32 can do to a draw that is read back
T0_TOLERANCE = 2e-4  # of the ratio of two logarithms of time; float32 conductances give it to 1e-6


@dataclass
class TimeDraws:
    """These are the residuals of one block by stream, N(0, 1) where the device conforms, and every field that was
    looked at.
    """

    draws: dict[str, F64] = field(default_factory=dict)
    fields: dict[str, F64] = field(default_factory=dict)


def check_time(bench: Bench, findings: Findings, cells: ProgrammedCells, shape: tuple[int, int]) -> TimeDraws:
    """Check what time does to cells: the block (rows, cols) of that shape, programmed."""
    out, device = TimeDraws(), bench.declared.device
    programmed = bench.get(cells, "programmed", shape)
    out.fields["programmed"] = programmed
    drifted, now = _look(bench, cells, shape, programmed)
    out.fields |= {f"drifted({t:g} s)": g for t, g in drifted.items()}
    out.fields |= {f"at({t:g} s)": g for t, g in now.items()}
    if not check_range(bench, findings, "over time", out.fields):
        findings.skip("drift and 1/f noise", "there are cells that are not finite")
        return out
    if not drifted:
        findings.skip("drift", "the sampler has no drifted(t_s), conductances before 1/f noise")
        return out
    start = drifted[0.0]
    findings.exact("drift: none at time 0", np.array_equal(start, programmed), "drifted(0) equals programmed")
    later = {t: g for t, g in drifted.items() if t > 0}
    if not later:
        findings.skip("drift", "the device is declared for time 0 only")
    elif isinstance(device.drift, PowerDrift):
        _power(bench, findings, programmed, later, out)
    elif isinstance(device.drift, AdditiveDrift):
        _additive(bench, findings, programmed, later, out)
    elif bench.declared.aged:
        _check_aged(bench, findings, programmed, later)
    else:
        same = all(np.array_equal(g, programmed) for g in later.values())
        findings.exact("drift: none", same, f"drifted(t) equals programmed at {list(later)} s")
    if now:
        _flicker(bench, findings, programmed, drifted, now, out)
    else:
        findings.skip("1/f noise", "the sampler has no at(t_s)")
    return out


def _look(
    bench: Bench, cells: ProgrammedCells, shape: tuple[int, int], programmed: F64
) -> tuple[dict[float, F64], dict[float, F64]]:
    """Read drifted(t) and at(t) by time; empty where the sampler does not show them."""
    times = [0.0, *bench.times]
    if not bench.times and bench.declared.device.t_max_s is None:
        times.append(1e6)  # it is declared for any time, and never changes
    drifted = {}
    if bench.shows(cells, "drifted"):
        drifted = {t: bench.get(cells, "drifted", shape, t) for t in times}
    if not drifted or not bench.shows(cells, "at"):
        return drifted, {}
    chosen = {times[-1]}
    if bench.declared.device.flicker:
        heard = bench.declared.flicker(programmed, programmed, 0.0).any()
        chosen |= {0.0} if heard else {0.0, *times[1:2]}
    return drifted, {t: bench.get(cells, "at", shape, t) for t in sorted(chosen)}


def _law(bench: Bench, findings: Findings, what: str, z: F64, known: npt.NDArray[np.bool_]) -> None:
    """Check mean, spread and law of the residuals where they say something, level by level."""
    index = bench.level_index[: z.shape[0], : z.shape[1]]
    for number, level in enumerate(bench.levels):
        sample = z[known & (index == number)]
        name = f"at {level.target:.4g}"
        if sample.size < 1000:
            findings.skip(f"{what}: law {name}", "too few cells hold a conductance that shows it")
            continue
        findings.statistic(f"{what}: mean {name}", assert_mean_normal, sample, mean=0, sigma=1)
        findings.statistic(f"{what}: sigma {name}", assert_variance, sample, sigma=1, mean=0)
        findings.statistic(f"{what}: law {name}", assert_distribution, sample, cdf=special.ndtr)


def _power(bench: Bench, findings: Findings, start: F64, drifted: dict[float, F64], out: TimeDraws) -> None:
    """Check that ν is a cell's own and the same at every time, which fixes t0; it is never negative."""
    last = max(drifted)
    out.draws["drift"], known = bench.drift_draws(start, drifted[last], last, tag=2)
    _law(bench, findings, "drift", out.draws["drift"], known)
    fields = [start, *(drifted[t] for t in sorted(drifted))]
    slack = 1 + 4 * FLOAT_STEP
    up = sum(int((np.abs(b) > np.abs(a) * slack).sum()) for a, b in zip(fields, fields[1:], strict=False))
    findings.exact("drift: monotone", up == 0, f"cells that rise from one time to the next: {up}")
    if len(drifted) < 2:
        findings.skip("drift: reference time t0", "the device's data leave room for one time only")
        return
    first = min(drifted)
    early, late = (bench.exponents(start, drifted[t], t) for t in (first, last))
    noise = 4 * FLOAT_STEP / bench.declared.log_time(first)  # of ν at the first time
    sound = np.isfinite(early) & np.isfinite(late) & (np.abs(late) > noise / T0_TOLERANCE)
    if sound.sum() < 100:
        findings.skip("drift: reference time t0", "float32 conductances do not resolve the drift by then")
        return
    ratio = early[sound] / late[sound]
    middle = float(np.median(ratio))
    assert isinstance(bench.declared.device.drift, PowerDrift)
    t0_s = bench.declared.device.drift.t0_s
    findings.exact(
        "drift: reference time t0", abs(middle - 1) <= T0_TOLERANCE,
        f"the two times say t0 = {_reference_time(first, last, t0_s, middle)} s, declared {t0_s:g} s "
        f"(finds a relative error of {_t0_resolution(first, last, t0_s):.1g})",
    )  # fmt: skip
    scatter = np.abs(ratio - middle) * np.abs(late[sound])
    findings.exact(
        "drift: one trajectory", float(scatter.max()) <= 4 * noise + 1e-5 * float(np.abs(late[sound]).max()),
        f"exponents from {first:g} s and {last:g} s differ by at most {scatter.max():.2g}",
    )  # fmt: skip


def _reference_time(first: float, last: float, t0_s: float, ratio: float) -> str:
    """Find the t0 at which the exponents from both times would agree."""
    measured = ratio * math.log1p(first / t0_s) / math.log1p(last / t0_s)

    def miss(ln_t0: float) -> float:
        t0 = math.exp(ln_t0)
        return math.log1p(first / t0) / math.log1p(last / t0) - measured

    low, high = math.log(t0_s) - 12, math.log(t0_s) + 12
    if not math.isfinite(measured) or miss(low) * miss(high) > 0:
        return "no value of"
    return f"{math.exp(optimize.brentq(miss, low, high)):.4g}"


def _t0_resolution(first: float, last: float, t0_s: float) -> float:
    """Return the relative error of t0 that moves the ratio of the logarithms by the tolerance."""

    def log_ratio(t0: float) -> float:
        return math.log(math.log1p(first / t0) / math.log1p(last / t0))

    slope = (log_ratio(t0_s * 1.001) - log_ratio(t0_s)) / 1e-3
    return T0_TOLERANCE / abs(slope)


def _additive(
    bench: Bench, findings: Findings, start: F64, drifted: dict[float, F64], out: TimeDraws
) -> None:
    """Check that the shift is common, the spread a cell's own, and the conductance stays between g_min and g_max."""
    device, last = bench.declared.device, max(drifted)
    out.draws["drift"], known = bench.drift_draws(start, drifted[last], last, tag=2)
    _law(bench, findings, "drift", out.draws["drift"], known)
    low, high = device.g_min_us * (1 - CLAMP), device.g_max_us * (1 + CLAMP)
    outside = sum(int(((g < low) | (g > high)).sum()) for g in drifted.values())
    findings.exact("drift: bounds", outside == 0, f"cells outside [{low:g}, {high:g}]: {outside}")
    z = []
    for t, g in drifted.items():
        mean, std = bench.declared.additive(t)
        inside = (g > device.g_min_us * (1 + CLAMP)) & (g < device.g_max_us * (1 - CLAMP))
        good = inside & resolved(np.full_like(g, std), g)
        z.append(np.where(good, (g - start - mean) / (std or 1.0), np.nan))
    _one_draw(findings, "drift: one trajectory", z)


def _check_aged(bench: Bench, findings: Findings, start: F64, drifted: dict[float, F64]) -> None:
    """Check that at another age the same draw makes the conductance, by that age's statistics."""
    for tag, (t, values) in enumerate(drifted.items()):
        z, known = bench.programming_draws(values, tag=20 + tag, t_s=t)
        _law(bench, findings, f"drift to {t:g} s", z, known)
    inside = []
    for t, values in {0.0: start, **drifted}.items():
        mean, sigma = bench.programming((start.shape[0], start.shape[1]), t)
        good = (values > bench.declared.floor) & (sigma > 0)
        inside.append(np.where(good, (values - mean) / np.where(good, sigma, 1.0), np.nan))
    _one_draw(findings, "drift: one trajectory", inside)


def _flicker(
    bench: Bench, findings: Findings, start: F64, drifted: dict[float, F64], now: dict[float, F64], out: TimeDraws
) -> None:  # fmt: skip
    """Check 1/f noise: its law at the last time, frozen within a session, none where none is declared."""
    last = max(now)
    silent = [t for t in sorted(now) if not bench.declared.flicker(start, drifted[t], t).any()]
    if silent:
        same = all(np.array_equal(now[t], drifted[t]) for t in silent)
        findings.exact("1/f noise: none", same, f"at(t) equals drifted(t) at {silent} s")
    loud = [t for t in sorted(now) if t not in silent]
    if not loud:
        return
    out.draws["1/f noise"], known = bench.flicker_draws(start, drifted[last], now[last], last, tag=3)
    _law(bench, findings, "1/f noise", out.draws["1/f noise"], known)
    z = []
    for t in loud:
        sigma = bench.declared.flicker(start, drifted[t], t)
        good = resolved(sigma, drifted[t]) & (now[t] > bench.declared.floor)
        z.append(np.where(good, (now[t] - drifted[t]) / np.where(good, sigma, 1.0), np.nan))
    _one_draw(findings, "1/f noise: frozen in a session", z)


def _one_draw(findings: Findings, name: str, z: list[F64]) -> None:
    """Check for the same standard normal at every time, up to the rounding of the conductances it was read from."""
    apart = np.abs(np.subtract(z[1:], z[0])) if len(z) > 1 else np.empty(0)
    apart = apart[~np.isnan(apart)]
    if apart.size == 0:
        findings.skip(name, "there is one time only, or no cell that shows it twice")
        return
    findings.exact(
        name, apart.max() <= ONE_DRAW, f"draws at two times differ by at most {apart.max():.2g} sigma"
    )
