"""A sweep: every point's cost, the noise of every product of every design, perplexity near the front.

Costs are closed forms. Noise (`snr.product_noise`) is measured once for all points that the simulator cannot tell
apart. Perplexity is measured by successive halving (Jamieson & Talwalkar 2016): 2N designs on a quarter of the text,
the N best of them on all of it, the best half of those on further chips. Every design meets the same chips and the
same text (common random numbers), so that differences between designs are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.aliases import F64, Progress
from aimc_sim.sizing.accuracy import Text, measuring
from aimc_sim.sizing.cost.analog import Cost, evaluate
from aimc_sim.sizing.cost.estimate import activity_of
from aimc_sim.sizing.cost.workload import Scenario, Workload
from aimc_sim.sizing.measurements import Measurements
from aimc_sim.sizing.sweep.pareto import front, nearest_to_front
from aimc_sim.sizing.sweep.plan import Space, SweepPlan
from aimc_sim.sizing.sweep.result import Loss, Sweep
from aimc_sim.studies.memory import default_workers

STORE = "sweep.sqlite"
_CHUNK = 6  # designs that share a pass of the digital model


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
    """A run makes the measurements, each where it is missing."""

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
        """Measure {design: {matrix: noise-to-signal ratio}}."""
        names = [f"noise/{label}" for label in labels]
        missing = sum(name not in self._measurements.values for name in names)
        size = max(1, min(_CHUNK, math.ceil(missing / (2 * self._workers))))
        return dict(zip(labels, self._measured("noise of the products", names, size), strict=True))

    def digital(self) -> F64:
        """Score the digital model, (windows,)."""
        return np.array(self._measured("digital model", ["digital"])[0], np.float64)

    def _losses(self, labels: list[str], seeds: range, windows: int) -> dict[str, Loss]:
        names = [f"loss/{label}/{seed}/{windows}" for label in labels for seed in seeds]
        values = self._measured(f"perplexity, {len(seeds)} × {windows} windows", names)
        rows = np.array(values, np.float64).reshape(len(labels), len(seeds), windows)
        return {label: Loss(row) for label, row in zip(labels, rows, strict=True)}

    def halving(self, sweep: Sweep) -> Sweep:
        """Measure perplexity of designs near the front: of fewer and fewer, on more and more text and chips."""
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
    """Choose the ``count`` designs nearest to the front of accuracy (badness, (P,)), energy, latency and area.

    among: of these designs only. A design is as near as its nearest point.
    """
    labels = np.array(sweep.space.accuracy_of)
    points = np.arange(len(labels)) if among is None else np.flatnonzero(np.isin(labels, among))
    figures = np.column_stack([badness, sweep.figures])[points]
    best = front(figures)  # a sweep has many points and few on its front: only what is needed is ranked
    if len(set(labels[points[best]])) >= count:
        points, figures = points[best], figures[best]
    order = nearest_to_front(figures, len(points))
    return list(dict.fromkeys(labels[points[order]].tolist()))[:count]


def _costs(plan: SweepPlan, space: Space, workload: Workload, assumed: bool) -> tuple[Cost, ...]:
    costs = []
    for designs in space.variants:
        work = workload.placed(designs.hardware.placement)
        activity, _ = activity_of(
            work, designs, assumed=assumed
        )  # the mean over layers that are alike is enough
        costs.append(evaluate(designs, work, Scenario(**plan.scenario), activity))
    return tuple(costs)
