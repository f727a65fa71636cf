"""A sweep: every point's cost, the noise of every product of every design, perplexity near the front.

Costs are closed forms. Noise (`accuracy.product_noise`) is measured once for all points that the simulator cannot tell
apart. Perplexity is measured by successive halving (Jamieson & Talwalkar 2016): 2N designs on a quarter of the text,
the N best of them on all of it, the best half of those on further chips. Every design meets the same chips and the
same text (common random numbers), so that differences between designs are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.aliases import F64, Progress
from aimc_sim.identity import canonical
from aimc_sim.sizing.accuracy import Text, measuring
from aimc_sim.sizing.cost.analog import Cost, evaluate
from aimc_sim.sizing.cost.estimate import activity_of
from aimc_sim.sizing.cost.workload import Scenario, Workload
from aimc_sim.sizing.pool import Pool, default_workers
from aimc_sim.sizing.store import Store
from aimc_sim.sizing.sweep.pareto import front, nearest_to_front
from aimc_sim.sizing.sweep.plan import Space, SweepPlan
from aimc_sim.sizing.sweep.result import Loss, Sweep

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
    with Store(folder / STORE, canonical(plan), plan.id) as store:
        parameters = sum(matrix.rows * matrix.cols for matrix in weight_file.matrices)
        count = default_workers(parameters, len(space.hardware)) if workers is None else workers
        windows = (text or Text()).windows(weight_file)
        make = partial(measuring, weight_file.path.resolve(), space.hardware, plan.seed, plan.time_s, windows)
        with Pool(make, count) as pool:
            run = _Run(plan, store, pool, tell, count)
            sweep = replace(sweep, noise=run.noise(list(space.hardware)))
            if plan.metric == "ppl":
                tokens = np.array([len(row) - 1 for row in windows.rows], np.int64)
                sweep = replace(sweep, tokens=tokens, digital=run.digital())
                sweep = run.halving(sweep)
    return sweep


class _Run:
    """Measurements of one run: those in the store, and the missing ones from the pool."""

    def __init__(self, plan: SweepPlan, store: Store, pool: Pool, tell: Progress, workers: int) -> None:
        self._plan, self._store, self._pool, self._tell, self._workers = plan, store, pool, tell, workers
        self._found = store.found()

    def _measure(self, stage: str, names: list[str], tasks: list[list[str]]) -> None:
        """Run tasks, each a list of measurements' names, and keep what they give."""
        done = sum(name in self._found for name in names)
        self._tell(stage, done, len(names))

        def keep(task: list[str], found: Mapping[str, Any]) -> None:
            nonlocal done
            self._store.keep(found)
            self._found |= found
            done += len(found)
            self._tell(stage, done, len(names))

        self._pool.run(tasks, keep)

    def noise(self, labels: list[str]) -> dict[str, dict[str, float]]:
        """{design: {matrix: noise-to-signal ratio}}."""
        names = [f"noise/{label}" for label in labels]
        missing = [name for name in names if name not in self._found]
        size = max(1, min(_CHUNK, math.ceil(len(missing) / (2 * self._workers))))
        tasks = [missing[start : start + size] for start in range(0, len(missing), size)]
        self._measure("noise of the products", names, tasks)
        return {label: self._found[name] for label, name in zip(labels, names, strict=True)}

    def digital(self) -> F64:
        """(windows,) of the digital model."""
        if "digital" not in self._found:
            self._measure("digital model", ["digital"], [["digital"]])
        return np.array(self._found["digital"], np.float64)

    def _losses(self, labels: list[str], seeds: range, windows: int) -> dict[str, Loss]:
        names = {(label, seed): f"loss/{label}/{seed}/{windows}" for label in labels for seed in seeds}
        missing = [[name] for name in names.values() if name not in self._found]
        self._measure(f"perplexity, {len(seeds)} × {windows} windows", list(names.values()), missing)
        return {
            label: Loss(np.array([self._found[names[label, seed]] for seed in seeds])) for label in labels
        }

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
