"""Independence: between cells at every distance, lines, streams, and chips, matrices, polarities, epochs, sessions."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import special

from aimc_sim.aliases import F64
from aimc_sim.testing.assertions import assert_variance
from aimc_sim.testing.bench import STREAMS, Bench
from aimc_sim.testing.lags import assert_uncorrelated_at_all_lags
from aimc_sim.testing.report import Findings
from aimc_sim.testing.samplers import ProgrammedCells, coordinates

OTHER = 256  # rows and columns of the blocks that are compared between chips, matrices and polarities
ALWAYS = frozenset(STREAMS)


def sizes(z: F64) -> F64:
    """Return N(0, 1) that rise with |z|: independent wherever z is, and sharing a spread shows in them."""
    low = np.clip(2 * special.ndtr(-np.abs(z)), 1e-300, 1 - 2.0**-53)  # z = 0 is a float32 like any other
    return np.asarray(-special.ndtri(low))


def check_cells(findings: Findings, stream: str, z: F64) -> None:
    """Check the cells of one field, residuals z (rows, cols)."""
    everywhere = assert_uncorrelated_at_all_lags
    findings.statistic(f"independence: cells, {stream}", everywhere, z)
    findings.statistic(f"independence: sizes of cells, {stream}", everywhere, sizes(z))
    for axis, line in ((0, "columns"), (1, "rows")):
        means = z.mean(axis=axis) * math.sqrt(z.shape[axis])
        name = f"independence: means of {line}, {stream}"
        findings.statistic(name, assert_variance, means, sigma=1, mean=0)


def check_streams(findings: Findings, draws: dict[str, F64]) -> None:
    """Check the streams of one block against each other, at every lag, by value and by size."""
    for one, two in itertools.combinations(draws, 2):
        name = f"independence: {one} and {two}"
        x, y = draws[one], draws[two]
        findings.statistic(f"{name}, values", assert_uncorrelated_at_all_lags, x, y)
        findings.statistic(f"{name}, sizes", assert_uncorrelated_at_all_lags, sizes(x), sizes(y))


def check_coordinates(bench: Bench, findings: Findings) -> None:
    """Check that a small block on another chip, in another matrix, polarity, epoch or session draws anew."""
    shape = bench.block(OTHER, OTHER)
    cells = bench.program(shape)
    base = _draws(bench, cells, shape, 0, tag=100)
    chips = {"chips": bench.seed ^ 1, "chips 2^32 apart": bench.seed ^ (1 << 32)}
    others = {name: ({"seed": seed}, ALWAYS) for name, seed in chips.items()}
    for name, key in (("matrices", "matrix"), ("polarities", "polarity"), ("epochs", "epoch")):
        if key == "polarity" and bench.declared.device.domain == "weight":
            continue
        if not bench.has(key):
            findings.skip(f"independence: {name}", f"the sampler's program() takes no {key}")
            continue
        fresh = ALWAYS - {"1/f noise"} if key == "epoch" else ALWAYS  # a session's noise may outlast an epoch
        others[name] = ({key: 1}, fresh)
    for number, (name, (where, fresh)) in enumerate(others.items()):
        other = _draws(bench, bench.program(shape, **where), shape, 0, tag=110 + 10 * number)
        _compare(findings, name, base, other, fresh)
    if "1/f noise" in base:
        if "session" in coordinates(cells.at):
            other = _draws(bench, cells, shape, 1, tag=190)
            _compare(findings, "sessions", base, other, frozenset({"1/f noise"}))
        else:
            findings.skip("independence: sessions", "the sampler's at() takes no session")


def _compare(
    findings: Findings, name: str, base: dict[str, F64], other: dict[str, F64], fresh: frozenset[str]
) -> None:
    for stream in base:
        if stream in fresh:
            fields = base[stream], other[stream]
            findings.statistic(f"independence: {name}, {stream}", assert_uncorrelated_at_all_lags, *fields)


def _draws(
    bench: Bench, cells: ProgrammedCells, shape: tuple[int, int], session: int, tag: int
) -> dict[str, F64]:
    """Return the residuals of every stream that the device has and the sampler shows, at the last time."""
    device, out = bench.declared.device, {}
    t_s = bench.times[-1] if bench.times else 0.0
    drifted = bench.get(cells, "drifted", shape, t_s) if bench.shows(cells, "drifted") else None
    programmed = bench.get(cells, "programmed", shape)
    z, known = bench.programming_draws(programmed, tag)
    if known.any():
        out["programming"] = z
    if drifted is None:
        return out
    if device.drift and t_s > 0:
        z, known = bench.drift_draws(programmed, drifted, t_s, tag + 1)
        if known.any():
            out["drift"] = z
    if device.flicker and bench.shows(cells, "at"):
        where = {"session": session} if session else {}
        now = bench.get(cells, "at", shape, t_s, **where)
        z, known = bench.flicker_draws(programmed, drifted, now, t_s, tag + 2)
        if known.any():
            out["1/f noise"] = z
    return out
