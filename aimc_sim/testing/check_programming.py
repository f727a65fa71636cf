"""Programming: moments at every level, the law and its tails, what a lattice would show, positivity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from aimc_sim.aliases import F64
from aimc_sim.testing.assertions import (
    assert_binomial,
    assert_distribution,
    assert_mean_normal,
    assert_variance,
)
from aimc_sim.testing.bench import Bench, Level
from aimc_sim.testing.report import Findings

FAR_TAIL = 40  # cells that lie beyond the far tail; that none does has probability 1e-17
HALF_BITS = np.uint32(0xFF)  # low bits of a float32 that 16-bit arithmetic leaves at zero
LATTICE = 2.0**24  # uniforms of 24 bits or fewer are integers or half-integers of 2^-24
SMALL = 2.0**-10  # uniforms below; further down where float32 conductances do not resolve the lattice there
PAIR_LAGS = (1, 2, 4, 8, 16, 32)  # rows or columns apart: where Box–Muller's two numbers may lie


def check_programming(bench: Bench, findings: Findings, values: F64) -> F64:
    """Check the programmed field, values (rows, cols). Returns its residuals, N(0, 1) where the device conforms."""
    z, known = bench.programming_draws(values, tag=1)
    _level_by_level(bench, findings, values, z)
    if not known.any():
        return z
    unclipped = np.array([level.clip < -7 for level in bench.levels])[bench.level_index] & known
    upper, lower = z[known], z[unclipped]
    for side, sample in (("above +", upper), ("below -", -lower)):
        for tail in (3.0, -float(special.ndtri(FAR_TAIL / max(sample.size, 1000)))):
            count, p = int((sample > tail).sum()), float(special.ndtr(-tail))
            if sample.size:
                name = f"programming: tail {side}{tail:.3g} sigma"
                findings.statistic(name, assert_binomial, count, trials=sample.size, probability=p)
    _lattices(bench, findings, values, z, unclipped)
    return z


def check_range(bench: Bench, findings: Findings, when: str, fields: dict[str, F64]) -> bool:
    """Check that every number is finite (returned) and, where it is a conductance, not negative."""
    bad = {name: int((~np.isfinite(field)).sum()) for name, field in fields.items()}
    bad = {name: count for name, count in bad.items() if count}
    findings.exact(f"finite: {when}", not bad, f"cells that are not finite: {bad or 'none'}")
    if bench.declared.device.domain == "conductance":
        below = {name: int((field < 0).sum()) for name, field in fields.items()}
        below = {name: count for name, count in below.items() if count}
        findings.exact(f"positivity: {when}", not below, f"negative conductances: {below or 'none'}")
    return not bad


def _level_by_level(bench: Bench, findings: Findings, values: F64, z: F64) -> None:
    unit = "uS" if bench.declared.device.domain == "conductance" else ""
    sign = np.ones(1) if unit else np.where(bench.targets < 0, -1.0, 1.0)
    for index, level in enumerate(bench.levels):
        of_level = bench.level_index == index
        cells, name = (values * sign)[of_level], f"at {level.target:.4g} {unit}".strip()
        if level.kind == "dead":
            findings.exact(f"programming: dead zone {name}", not cells.any(), "every cell is exactly 0")
        elif level.kind == "exact":
            step = 4 * float(np.spacing(np.float32(abs(level.mean))))
            off = np.abs(cells - max(level.mean, bench.declared.floor)).max()
            findings.exact(f"programming: value {name}", off <= step, f"largest error {off:.3g}, no noise")
        elif level.kind == "coarse":
            step = 4 * float(np.spacing(np.float32(abs(level.mean))))
            off = np.abs(cells - max(level.mean, bench.declared.floor)).max()
            reach = 8 * level.sigma + step
            findings.exact(
                f"programming: value {name}", off <= reach, f"largest error {off:.3g} of {reach:.3g}"
            )
            findings.skip(f"programming: law {name}", "float32 does not resolve so small a sigma")
        else:
            _moments(findings, level, name, cells, z[of_level], bench.declared.floor)


def _moments(findings: Findings, level: Level, name: str, cells: F64, z: F64, floor: float) -> None:
    shift, spread = level.sharpness
    findings.statistic(f"programming: mean {name}", assert_mean_normal, z, mean=0, sigma=1, factor=1 / shift)
    title = f"programming: sigma {name}"
    if (
        level.clip == 0
    ):  # the cells above the clamp are half of a normal: their squares are those of the whole
        half = (cells[cells > floor] - floor) / level.sigma
        findings.statistic(title, assert_variance, half, sigma=1, mean=0)
    else:
        findings.statistic(title, assert_variance, z, sigma=1, mean=0, factor=1 / spread)
    findings.statistic(f"programming: law {name}", assert_distribution, z, cdf=special.ndtr)
    clipped = float(special.ndtr(level.clip))
    if 1e-4 < clipped < 1 - 1e-4:
        count, title = int((cells <= floor).sum()), f"programming: cells clipped {name}"
        findings.statistic(title, assert_binomial, count, trials=cells.size, probability=clipped)


def _lattices(bench: Bench, findings: Findings, values: F64, z: F64, sound: npt.NDArray[np.bool_]) -> None:
    """Check that too few bits left no lattice: in the conductances, in the normals, or in the uniforms that
    made them.
    """
    floats = values.astype(np.float32)
    sigma = bench.per_level([level.sigma for level in bench.levels], bench.shape)
    step = np.spacing(np.abs(floats)).astype(np.float64) / np.where(sigma > 0, sigma, 1.0)  # of z
    larger = np.abs(values) >= bench.per_level([abs(level.mean) for level in bench.levels], bench.shape)
    # nearer to zero than the mean, cancellation leaves zeros
    bits = floats[sound & larger & (step < 2.0**-12)].view(np.uint32)
    what = "precision: bits of the conductances"
    if bits.size < 1000:
        findings.skip(what, "no level has a sigma that spans thousands of float32 steps")
    else:
        share = float((bits & HALF_BITS == 0).mean())  # 1/256, up to twice that where sums are rounded
        findings.exact(what, share < 1 / 16, f"the low 8 bits are zero in {share:.2%} of the cells")
    fine = sound & (step < 2.0**-16)
    _uniform(findings, "precision: bits of the normals", z[fine & (np.abs(z) < 2)] * 2.0**12)
    known = (sigma > 0) & (values > bench.declared.floor)
    # a step of the conductance moves u by u·z·step
    below = np.where(known, np.minimum(SMALL, 2.0**-4 / (LATTICE * step)), 0.0)
    u = special.ndtr(-np.abs(z))
    _uniform(findings, "precision: uniforms by inverse transform", u[u < below] * LATTICE)
    with np.errstate(divide="ignore"):
        square, needed = z * z, -2 * np.log(below)
    for axis, what in ((0, "row"), (1, "column")):
        for lag in PAIR_LAGS:
            u = np.exp(-0.5 * _radii(square, needed, lag, axis))
            apart = f"{lag} {what}{'s' * (lag > 1)} apart"
            _uniform(findings, f"precision: uniforms of pairs {apart}", u * LATTICE)


def _radii(square: F64, needed: F64, lag: int, axis: int) -> F64:
    """Return a² + b² of disjoint pairs of cells where it reaches what both need; -2·ln of Box–Muller's first
    uniform.
    """
    size = square.shape[axis]
    pairs = (size // (2 * lag), 2, lag)
    shape = (*pairs, square.shape[1]) if axis == 0 else (square.shape[0], *pairs)

    def halves(values: F64) -> tuple[F64, F64]:
        split = values.reshape(shape)
        return (split[:, 0], split[:, 1]) if axis == 0 else (split[:, :, 0], split[:, :, 1])

    radii = np.add(*halves(square))
    return np.asarray(radii[radii > np.maximum(*halves(needed))])


def _uniform(findings: Findings, name: str, steps: F64) -> None:
    """Check that the fractional part of steps is uniform, unless they lie on the lattice of the integers (and
    halves).
    """
    if steps.size < 48:  # fewer could not contradict it
        if (unseen := name.split(" of pairs")[0]) not in dict(findings.not_tested):
            findings.skip(unseen, "float32 conductances do not resolve it at this sigma")
        return
    part = (steps + 0.25) % 1.0
    findings.statistic(name, assert_distribution, part, cdf=lambda x: x)
