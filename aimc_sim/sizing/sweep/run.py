"""A sweep: every point's cost, the noise of every product of every design, perplexity near the front.

Costs are closed forms. Noise (`snr.product_noise`) is measured once for all points that the simulator cannot tell
apart. Perplexity is measured by successive halving (Jamieson & Talwalkar 2016): 2N designs on a quarter of the text,
the N best of them on all of it, the best half of those on further chips. Every design meets the same chips and the
same text (common random numbers), so that differences between designs are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64, Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.snr import decibels
from aimc_sim.sizing.accuracy import Text, measuring
from aimc_sim.sizing.cost.activity import Activity, measure_activity
from aimc_sim.sizing.cost.analog import Cost, evaluate
from aimc_sim.sizing.cost.workload import Scenario, Workload
from aimc_sim.sizing.measurements import Measurements
from aimc_sim.sizing.sweep.pareto import front, nearest_to_front
from aimc_sim.sizing.sweep.plan import Space, SweepPlan
from aimc_sim.studies.memory import default_workers

STORE = "sweep.sqlite"
FIGURES = ("energy_per_token_j", "latency_per_token_s", "area_total_mm2")
_CHUNK = 6  # designs that share a pass of the digital model


@dataclass(frozen=True)
class Loss:
    """Measured loss of a design: nll (chips, windows) summed nats, on the first windows of the text."""

    nll: F64

    def nats(self, tokens: npt.NDArray[np.int64]) -> float:
        """Negative log-likelihood, nats per token, mean over chips. tokens: of every window."""
        return float(self.nll.mean(axis=0).sum() / tokens[: self.nll.shape[1]].sum())


@dataclass(frozen=True)
class Sweep:
    """A finished sweep. costs: one a variant of the space. noise: {design: {matrix: noise-to-signal ratio}}.

    losses: of the designs that were measured; digital: (windows,) summed nats; tokens: scored ones of each window.
    """

    plan: SweepPlan
    space: Space
    workload: Workload
    costs: tuple[Cost, ...]
    noise: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, Loss] = field(default_factory=dict)
    digital: F64 | None = None
    tokens: npt.NDArray[np.int64] | None = None

    def cost(self, name: str) -> F64:
        """(P,) a figure of `Cost`."""
        return np.concatenate([np.asarray(getattr(cost, name)) for cost in self.costs])

    @cached_property
    def mean_noise(self) -> F64:
        """(P,) noise-to-signal ratio, mean over matrices; NaN without measurement."""
        means = {label: float(np.mean(list(found.values()))) for label, found in self.noise.items() if found}
        return np.array([means.get(label, math.nan) for label in self.space.accuracy_of])

    @cached_property
    def sqnr_db(self) -> F64:
        """(P,) signal-to-noise ratio of a product, dB, of the mean noise-to-signal ratio."""
        return decibels(self.mean_noise)

    @cached_property
    def worst_db(self) -> F64:
        """(P,) signal-to-noise ratio of the noisiest matrix, dB."""
        worst = {label: max(found.values()) for label, found in self.noise.items() if found}
        return decibels([worst.get(label, math.nan) for label in self.space.accuracy_of])

    @cached_property
    def loss_nats(self) -> F64:
        """(P,) loss above the digital model's on the same windows, nats per token; NaN where it was not measured."""
        return np.array([self._above(label) for label in self.space.accuracy_of])

    def _above(self, label: str) -> float:
        found = self.losses.get(label)
        if found is None or self.digital is None or self.tokens is None:
            return math.nan
        windows = found.nll.shape[1]
        digital = Loss(self.digital[None, :windows])
        return found.nats(self.tokens) - digital.nats(self.tokens)

    @cached_property
    def perplexity(self) -> F64:
        """(P,) exp of the digital model's loss on the whole text and what the design adds; NaN where unmeasured."""
        if self.digital is None or self.tokens is None:
            return np.full(len(self.space), math.nan)
        base = Loss(self.digital[None]).nats(self.tokens)
        with np.errstate(over="ignore"):
            return np.exp(base + self.loss_nats)

    @cached_property
    def figures(self) -> F64:
        """(P, 3) energy and latency a token, area."""
        return np.stack([self.cost(name) for name in FIGURES], axis=1)

    @cached_property
    def on_front(self) -> npt.NDArray[np.bool_]:
        """(P,) whether no point beats it in accuracy (noise, where it was measured), energy, latency and area."""
        return front(np.column_stack([np.nan_to_num(self.mean_noise, nan=0.0), self.figures]))


def run_sweep(
    plan: SweepPlan,
    space: Space,
    workload: Workload,
    folder: Path,
    *,
    text: Text | None = None,
    assumed: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run a plan, or what is left of it: measurements are kept in ``folder``, where a killed sweep goes on.

    assumed: Gaussian activity, also of a weight file. workers: processes, None for as many as pay off.
    progress(stage, done, total). Raises BadInput where the folder holds another plan's sweep, before anything runs.
    """
    tell = progress or (lambda stage, done, total: None)
    weight_file = workload.file
    if plan.metric != "cost" and weight_file is None:
        raise BadInput(
            "--metric", got=plan.metric, why="shapes have no weights to simulate",
            do="give a weight file (aimc-sim export), or sweep costs alone: --metric cost",
        )  # fmt: skip
    sweep = Sweep(plan, space, workload, _costs(plan, space, workload, assumed))
    if weight_file is None or plan.metric == "cost":
        return sweep
    parameters = sum(matrix.rows * matrix.cols for matrix in weight_file.matrices)
    # The file is mapped and shared; a worker holds two bytes a weight, and twice that while a matrix is programmed.
    count = default_workers(6 * parameters, len(space.hardware)) if workers is None else workers
    windows = (text or Text()).windows(weight_file)
    make = partial(measuring, weight_file.path.resolve(), space.hardware, plan.seed, plan.time_s, windows)
    with Measurements(folder / STORE, plan, make, count, tell) as measurements:
        run = _Run(plan, measurements, count)
        sweep = replace(sweep, noise=run.noise(list(space.hardware)))
        if plan.metric == "ppl":
            tokens = np.array([len(row) - 1 for row in windows.rows], np.int64)
            sweep = replace(sweep, tokens=tokens, digital=run.digital())
            sweep = run.halving(sweep)
    return sweep


class _Run:
    """The measurements of one run, each where it is missing."""

    def __init__(self, plan: SweepPlan, measurements: Measurements, workers: int) -> None:
        self._plan, self._measurements, self._workers = plan, measurements, workers

    def _measured(self, stage: str, names: Iterable[str], size: int = 1) -> list[Any]:
        """Return measurements by these names; those that are missing are made, ``size`` a task."""
        names = list(names)
        self._measurements.measure(
            stage, names, lambda missing: [missing[at : at + size] for at in range(0, len(missing), size)]
        )
        return [self._measurements.values[name] for name in names]

    def noise(self, labels: list[str]) -> dict[str, dict[str, float]]:
        """{design: {matrix: noise-to-signal ratio}}."""
        names = [f"noise/{label}" for label in labels]
        missing = sum(name not in self._measurements.values for name in names)
        size = max(1, min(_CHUNK, math.ceil(missing / (2 * self._workers))))
        return dict(zip(labels, self._measured("noise of the products", names, size), strict=True))

    def digital(self) -> F64:
        """(windows,) of the digital model."""
        return np.array(self._measured("digital model", ["digital"])[0], np.float64)

    def _losses(self, labels: list[str], seeds: range, windows: int) -> dict[str, Loss]:
        names = [f"loss/{label}/{seed}/{windows}" for label in labels for seed in seeds]
        values = self._measured(f"perplexity, {len(seeds)} × {windows} windows", names)
        rows = np.array(values, np.float64).reshape(len(labels), len(seeds), windows)
        return {label: Loss(row) for label, row in zip(labels, rows, strict=True)}

    def halving(self, sweep: Sweep) -> Sweep:
        """Perplexity of designs near the front: of fewer and fewer, on more and more text and chips."""
        plan, whole = self._plan, len(sweep.digital) if sweep.digital is not None else 0
        first, seeds = math.ceil(whole / 4), range(plan.seed, plan.seed + 1)
        chosen = candidates(sweep, sweep.mean_noise, None, 2 * plan.points)
        if len(chosen) > plan.points and first < whole:
            sweep = replace(sweep, losses=self._losses(chosen, seeds, first))
            chosen = candidates(sweep, sweep.loss_nats, chosen, plan.points)
        chosen = chosen[: plan.points]
        sweep = replace(sweep, losses={**sweep.losses, **self._losses(chosen, seeds, whole)})
        if plan.chips > 1:
            best = candidates(sweep, sweep.loss_nats, chosen, math.ceil(len(chosen) / 2))
            all_chips = range(plan.seed, plan.seed + plan.chips)
            sweep = replace(sweep, losses={**sweep.losses, **self._losses(best, all_chips, whole)})
        return sweep


def candidates(sweep: Sweep, badness: F64, among: list[str] | None, count: int) -> list[str]:
    """The ``count`` designs nearest to the front of accuracy (badness, (P,)), energy, latency and area.

    among: of these designs only. A design is as near as its nearest point.
    """
    labels = np.array(sweep.space.accuracy_of)
    points = np.arange(len(labels)) if among is None else np.flatnonzero(np.isin(labels, among))
    figures = np.column_stack([badness, sweep.figures])[points]
    kept = front(figures)  # a sweep has many points and few on its front: only what is needed is ranked
    if len(set(labels[points[kept]])) >= count:
        points, figures = points[kept], figures[kept]
    order = nearest_to_front(figures, len(points))
    return list(dict.fromkeys(labels[points[order]].tolist()))[:count]


def _costs(plan: SweepPlan, space: Space, workload: Workload, assumed: bool) -> tuple[Cost, ...]:
    costs = []
    for designs in space.variants:
        activity, work = Activity(), replace(workload, placement=designs.hardware.placement)
        one_slice = designs.hardware.weights.slices == 1 and bool((designs.slices == 1).all())
        needed = designs.profile.array.voltage_read is not None
        if workload.file is not None and not assumed and one_slice and needed:
            activity = measure_activity(workload.file, designs)
        costs.append(evaluate(designs, work, Scenario(**plan.scenario), activity))
    return tuple(costs)
