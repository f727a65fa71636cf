"""The bench that a trial is measured on: one model skeleton in one process, re-mounted for every chip and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate import bench
from aimc_sim.evaluate.account import coverage_of
from aimc_sim.evaluate.streamed import Stream, streams
from aimc_sim.signoff.design.trials import Scored, Trial
from aimc_sim.signoff.execution.layers import layers_of, tells_layers
from aimc_sim.signoff.execution.scores import Json, Runner, TrialScores
from aimc_sim.signoff.execution.tasks import open_runner
from aimc_sim.torch_bridge.coverage import Coverage, CoverageRow
from aimc_sim.weightfile import WeightFile

if TYPE_CHECKING:
    from aimc_sim.chip.ranges import Ranges


@dataclass(frozen=True)
class Outcome:
    """An outcome is what one trial gave. facts: the coverage and converter ranges of a hardware, with its first
    "converters" trial.

    seconds: by stage; the only part that differs when the trial is run again.
    """

    scores: TrialScores
    facts: dict[str, Json] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Setup:
    """A setup holds all that a worker needs, picklable: plan, path of the weight file, items by task, converter ranges
    by variant.

    stream: whether models go through memory layer by layer, "auto" where they do not fit; scores do not depend on it.
    """

    plan: Scored
    weight_file: Path
    items: Mapping[str, Json]
    ranges: Mapping[str, Ranges]
    stream: Stream = "auto"


class ModelBench:
    """A model bench is the real one: it holds a weight file in this process. Digital models are scored when their task
    first comes up.
    """

    def __init__(self, setup: Setup, progress: Progress | None = None) -> None:
        self._setup, self._progress = setup, progress
        weights = WeightFile(setup.weight_file)
        check_same_file(setup.plan, weights.id)
        self._bench = bench.Bench(weights, streamed=streams_plan(setup.plan, weights, setup.stream))
        self._runners: dict[str, Runner] = {}

    def run(self, trial: Trial, on_step: Callable[[], None]) -> Outcome:
        """Mount what the trial names, unless it is there already, then score every item."""
        with threads(self._setup.plan.threads):
            return self._run(trial, on_step)

    def _run(self, trial: Trial, on_step: Callable[[], None]) -> Outcome:
        runner, start = self._runner(trial.task), time.perf_counter()
        if trial.kind == "digital":
            on_step()
            return Outcome(runner.digital(on_step), {}, {"score": time.perf_counter() - start})
        model = self._mount(trial)
        on_step()
        mounted = time.perf_counter()
        scores = runner.score(model, on_step)
        seconds = {"program_and_mount": mounted - start, "score": time.perf_counter() - mounted}
        told = time.perf_counter()
        facts = self._facts(trial, runner, model)
        return Outcome(scores, facts, {**seconds, "facts": time.perf_counter() - told} if facts else seconds)

    def close(self) -> None:
        """Give back temporary files."""
        for runner in self._runners.values():
            runner.close()
        self._runners = {}

    def _runner(self, task: str) -> Runner:
        if task not in self._runners:
            setup = self._setup
            self._runners[task] = open_runner(
                setup.plan.task(task), setup.items[task], self._bench, self._progress
            )
        return self._runners[task]

    def _mount(self, trial: Trial) -> Any:
        hardware = self._setup.plan.variant(trial.variant).hardware
        return self._bench.mount(
            hardware.with_ideal_cells() if trial.kind == "converters" else hardware,
            trial.seed or 0,
            trial.time_s or 0.0,
            session=self._setup.plan.session,
            ranges=self._setup.ranges.get(trial.variant),
        )

    def _facts(self, trial: Trial, runner: Runner, model: Any) -> dict[str, Json]:
        """Return coverage and ranges of a hardware: told once, by its "converters" trial of the first task; and its
        layers.
        """
        weights, hardware = self._bench.weight_file, self._setup.plan.variant(trial.variant).hardware
        if tells_layers(trial, self._setup.plan):
            layers = layers_of(model, weights, hardware, runner.example(), trial)
            return {f"layers/{trial.variant}": layers.to_dict()}
        if trial.kind != "converters" or trial.task != self._setup.plan.tasks[0].label:
            return {}
        return {
            f"coverage/{trial.variant}": asdict(coverage_of(model, weights, hardware, runner.example())),
            f"ranges_id/{trial.variant}": self._bench.state.chip.ranges_id,
        }


def streams_plan(plan: Scored, weight_file: WeightFile, choice: Stream) -> bool:
    """Say whether models go through memory layer by layer, for all tasks of a plan alike. Raises BadInput where they
    shall and a task asks questions, which need a model that fits.
    """
    asks = next((task.label for task in plan.tasks if task.kind != "text"), None)
    if asks is not None and choice == "always":
        raise BadInput(
            "--stream",
            got=choice,
            why=f"{asks} asks questions, and only texts are scored layer by layer",
            do="leave --stream out, or score a text",
        )
    return asks is None and any(streams(choice, weight_file, variant.hardware) for variant in plan.variants)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch, and kernels with it, use so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def coverage_from_json(data: Json) -> Coverage:
    """Read the coverage in a fact."""
    rows = tuple(CoverageRow(**{**row, "shape": tuple(row["shape"])}) for row in data["rows"])
    return Coverage(rows, data["tokens"], tuple(data["unused"]))


def check_same_file(plan: Scored, weights: str) -> None:
    """Raise BadInput where a weight file is not the plan's."""
    if plan.weights != weights:
        raise BadInput(
            "weight file",
            got=weights,
            why=f"the plan is for {plan.weights}",
            do="use the weight file that the plan was made for, or make a new plan",
        )


def check_ranges(variant: str, planned: str | None, calibrated: str) -> None:
    """Raise BadInput where a plan that is complete names other converter ranges than calibration gives."""
    if planned is not None and planned != calibrated:
        raise BadInput(
            f"converter ranges of {variant}",
            got=calibrated,
            why=f"the plan is for {planned}",
            do="make a new plan; calibration has changed since that one was made",
        )
