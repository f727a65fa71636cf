"""Runs a plan: every trial on an engine, through its journal, and keeps what it cost apart from what it found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.streamed import Stream
from aimc_sim.programming import program
from aimc_sim.signoff.design.plan import Plan
from aimc_sim.signoff.design.tasks import HarnessTask, TextTask
from aimc_sim.signoff.design.trials import Trial, trials_of
from aimc_sim.signoff.execution.answers import marker
from aimc_sim.signoff.execution.bench import (
    ModelBench,
    Setup,
    check_ranges,
    check_same_file,
    coverage_from_json,
    streams_plan,
    threads,
)
from aimc_sim.signoff.execution.engine import Schedule, drive
from aimc_sim.signoff.execution.engine_ray import RayPool
from aimc_sim.signoff.execution.journal import open_journal
from aimc_sim.signoff.execution.layers import Layers
from aimc_sim.signoff.execution.results import Result, result_of
from aimc_sim.signoff.execution.scores import Json, TrialScores
from aimc_sim.signoff.execution.tasks import prepare, steps_of, tokens_of
from aimc_sim.signoff.statistics.crossed import paired
from aimc_sim.signoff.statistics.sequential import Look, look_at
from aimc_sim.studies.memory import default_workers
from aimc_sim.studies.sources import code_version
from aimc_sim.studies.store import Store
from aimc_sim.studies.workers import InProcess, Pool, Processes
from aimc_sim.weightfile.integrity import check_weights

if TYPE_CHECKING:
    from aimc_sim.chip.ranges import Ranges
    from aimc_sim.evaluate.questions import Questions
    from aimc_sim.weightfile import WeightFile

EngineName = Literal["local", "ray"]
JOURNAL = "journal.sqlite"
_SMALL_WORK = 1e12  # multiply-accumulates below which starting processes costs more than it saves
TextPath = str | Path | Mapping[str, Path] | None  # one file, or one a task by its label
Mark = Callable[[Trial, TrialScores], TrialScores]


@dataclass(frozen=True)
class Study:
    """A finished plan: one result a task and hardware, in the plan's order. timings: seconds of the whole."""

    plan: Plan
    results: tuple[Result, ...]
    timings: dict[str, float] = field(compare=False)

    @property
    def only(self) -> Result:
        """The result of a plan with one task and one hardware."""
        if len(self.results) != 1:
            raise BadInput(
                "study", got=f"{len(self.results)} results", why="one was expected", do="go through .results"
            )
        return self.results[0]


def run_plan(
    plan: Plan,
    weight_file: WeightFile,
    *,
    text_path: TextPath = None,
    questions: Mapping[str, Questions] | None = None,
    progress: Progress | None = None,
    verified: bool = False,
    journal: str | Path | None = None,
    restart: bool = False,
    engine: EngineName = "local",
    workers: int | None = 1,
    address: str | None = None,
    stream: Stream = "auto",
) -> Study:
    """Run every trial of `plan`. progress(stage, done, total) is called as work gets done.

    text_path: the file of texts that are one; questions: those of each task of lm-evaluation-harness, by its label.
    journal: a file that finished trials are written to, and read from when it is there: a run that was killed goes on
    where it stopped, and several processes share the work; None keeps all in memory. restart: put an old journal
    aside first. engine: "local" or "ray" (address: of its cluster; None starts one here). workers: processes, 1 for
    this one, None for as many as pay off. stream: whether models go through memory layer by layer; "auto" where they do
    not fit; scores do not depend on it. verified: `check_weights` has just been called, so the file is not read for
    that again.

    Raises BadInput before anything is computed where the weight file is damaged or the plan does not fit it or the
    text, or where the journal belongs to another plan, or to other code and is not complete.
    """
    start = time.perf_counter()
    check_same_file(plan, weight_file.id)
    streams_plan(plan, weight_file, stream)
    path = None if journal is None else Path(journal)
    code = "" if path is None else code_version(ModelBench.__module__)
    with open_journal(path, plan, code, restart=restart) as store:
        complete = {trial.name for trial in trials_of(plan)} <= store.finished()
        if plan.looks is None and not complete:  # with looks, a plan may have ended before its last trial
            store.check_resumable()
        if not verified:
            check_weights(weight_file, progress)
        if progress is not None:
            progress("preparing texts and questions", 0, 1)
        with threads(plan.threads):
            sources = _sources(plan, text_path, questions or {})
            items = _items(plan, weight_file, sources, store, progress)
            mark = _marker(plan, weight_file, questions or {}, items)
            ranges: dict[str, Ranges] = {}
            if store.computed_by is None and not complete:
                ranges = _ranges(plan, weight_file, store, progress)
        prepared = time.perf_counter()
        setup = Setup(plan, weight_file.path.resolve(), items, ranges, stream)
        pool = partial(_pool, engine, workers, setup, weight_file, progress, address)
        study = _run(plan, items, store, pool, progress, mark)
    stages = {"prepare": prepared - start, **study.timings, "total": time.perf_counter() - start}
    results = tuple(
        replace(result, timings={**stages, **result.timings, "total": stages["total"]})
        for result in study.results
    )
    return Study(study.plan, results, stages)


def _run(
    plan: Plan,
    items: Mapping[str, Json],
    store: Store,
    make_pool: Callable[[Callable[[], None]], Pool],
    progress: Progress | None,
    mark: Mark = lambda trial, scores: scores,
) -> Study:
    steps = {label: 1 + steps_of(plan.task(label), items[label]) for label in items}
    schedule = Schedule(steps)
    done = total = 0
    counted: dict[str, int] = {}

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None and done <= total:
            progress("chips × times", done, total)

    def finished(trial: Trial) -> None:
        """Count the steps of a trial at once that another process, or an earlier run, has computed."""
        nonlocal done
        counted[trial.name] = steps[trial.task]
        if sum(counted.values()) > done:
            done = sum(counted.values())
            if progress is not None:
                progress("chips × times", done, total)

    open_parts = {(variant.label, task.label) for variant in plan.variants for task in plan.tasks}
    ends: dict[tuple[str, str], tuple[int, float]] = {}
    looks: dict[tuple[str, str], list[Look]] = {part: [] for part in open_parts}
    with ExitStack() as stack:
        pool: Pool | None = None
        first = 0
        for chips, alpha in plan.look_alphas:
            trials = [
                trial
                for trial in trials_of(plan, first, chips)
                if trial.kind != "chip" or (trial.variant, trial.task) in open_parts
            ]
            total += sum(steps[trial.task] for trial in trials)
            if pool is None and not {trial.name for trial in trials} <= store.finished():
                store.check_resumable()
                pool = stack.enter_context(closing(make_pool(step)))
            if pool is not None:
                drive(trials, schedule, store, pool, finished, mark)
            first = chips
            study = _gather(plan, items, store, dict.fromkeys(open_parts, (chips, alpha)))
            final = chips == len(plan.seeds)
            for result in study.results:
                part = (result.part.variant.label, result.part.task.label)
                if plan.looks is not None:
                    looks[part].append(_look(result, alpha, final, plan.look_alphas[-1][1]))
                if final or looks[part][-1].outcome != "continue":
                    open_parts.discard(part)
                    ends[part] = (chips, alpha)
            if not open_parts:
                break
    return _gather(plan, items, store, ends, looks)


def _look(result: Result, alpha: float, final: bool, final_alpha: float) -> Look:
    losses, weights = result.losses()
    return look_at(
        [paired(table, 0.0, weights, marks=weights is None) for table in losses],
        result.part.task.margin,
        alpha,
        final=final,
        final_alpha=final_alpha,
    )


def _gather(
    plan: Plan,
    items: Mapping[str, Json],
    store: Store,
    ends: Mapping[tuple[str, str], tuple[int, float]],
    looks: Mapping[tuple[str, str], list[Look]] | None = None,
) -> Study:
    """Return the results of what the store holds: the same whoever computed it, in whatever order."""
    rows, facts = store.rows(), store.facts()
    ranges = {label: facts[f"ranges_id/{label}"] for label in (variant.label for variant in plan.variants)}
    for label, found in ranges.items():
        check_ranges(label, plan.variant(label).ranges_id, found)
    completed = plan.with_ranges(ranges)
    results, seconds = [], dict.fromkeys(("program_and_mount", "score"), 0.0)
    counted: set[str] = set()
    for variant in completed.variants:
        for task in completed.tasks:
            if (variant.label, task.label) not in ends:
                continue
            chips, alpha = ends[variant.label, task.label]
            scores, timings = {}, {}
            for trial in trials_of(completed, 0, chips):
                if trial.task != task.label or trial.variant not in ("", variant.label):
                    continue
                row = rows[trial.name]
                scores[Trial(trial.kind, trial.seed, trial.time_s)] = TrialScores.from_json(
                    json.loads(row.scores)
                )
                timings[trial.name] = sum(row.seconds.values())
                if trial.name not in counted:
                    counted.add(trial.name)
                    for stage, value in row.seconds.items():
                        seconds[stage] = seconds.get(stage, 0.0) + value
            shared: dict[str, Any] = {
                "coverage": coverage_from_json(facts[f"coverage/{variant.label}"]),
                "timings": timings,
                "looks": tuple((looks or {}).get((variant.label, task.label), ())),
                "layers": _layers(facts.get(f"layers/{variant.label}")),
                "scored_by": store.computed_by,
            }
            part = completed.part(variant.label, task.label, chips, alpha)
            results.append(result_of(part, items[task.label], scores, shared))
    return Study(completed, tuple(results), seconds)


def _layers(fact: Json | None) -> Layers | None:
    return None if fact is None else Layers.from_json(fact)


def _sources(
    plan: Plan, text_path: TextPath, questions: Mapping[str, Questions]
) -> dict[str, str | Path | Questions | None]:
    """Say where the items of each task come from."""
    paths = text_path if isinstance(text_path, Mapping) else {task.label: text_path for task in plan.tasks}
    return {
        task.label: (paths if isinstance(task, TextTask) else questions).get(task.label)
        for task in plan.tasks
    }


def _marker(
    plan: Plan, weight_file: WeightFile, questions: Mapping[str, Questions], items: Mapping[str, Json]
) -> Mark:
    """Mark the answers of every task of questions; scores of texts stay as they are."""
    marks = {}
    for task in plan.tasks:
        if isinstance(task, HarnessTask):
            marks[task.label] = marker(task, items[task.label], questions.get(task.label), weight_file)
    return lambda trial, scores: marks[trial.task](scores) if trial.task in marks else scores


def _items(
    plan: Plan,
    weight_file: WeightFile,
    sources: Mapping[str, str | Path | Questions | None],
    store: Store,
    progress: Progress | None,
) -> dict[str, Json]:
    """Return the items of every task, from the store where they are there. What comes from outside is compared either
    way.
    """
    facts, items = store.facts(), {}
    for task in plan.tasks:
        name = f"items/{task.label}"
        if name not in facts or not isinstance(task, TextTask) or task.text.kind == "file":
            store.state(name, prepare(task, weight_file, sources[task.label], progress))
    facts = store.facts()
    for task in plan.tasks:
        items[task.label] = facts[f"items/{task.label}"]
    return items


def _ranges(
    plan: Plan, weight_file: WeightFile, store: Store, progress: Progress | None
) -> dict[str, Ranges]:
    """Return the converter ranges of every variant, derived once for all workers, and held against the plan and the
    store.
    """
    ranges_of = {}
    for variant in plan.variants:
        chip = program(weight_file, plan.seeds[0], variant.hardware, progress=progress)
        check_ranges(variant.label, variant.ranges_id, chip.ranges_id)
        store.state(f"ranges_id/{variant.label}", chip.ranges_id)
        ranges_of[variant.label] = chip.ranges
    return ranges_of


def _pool(
    engine: EngineName,
    workers: int | None,
    setup: Setup,
    weight_file: WeightFile,
    progress: Progress | None,
    address: str | None,
    on_step: Callable[[], None],
) -> Pool:
    """Make the engine's pool of workers."""
    if engine == "ray":
        return RayPool(setup, workers, address)

    if workers is None:
        parameters = sum(matrix.rows * matrix.cols for matrix in weight_file.matrices)
        tokens = max(tokens_of(task, setup.items[task.label]) for task in setup.plan.tasks)
        workers = workers_for(parameters, tokens, len(trials_of(setup.plan)), setup.plan.threads)
    if workers == 1:
        return InProcess(partial(ModelBench, setup, progress), on_step)
    return Processes(partial(ModelBench, setup), workers, on_step)


def workers_for(parameters: int, tokens: int, trials: int, threads: int = 1) -> int:
    """Return how many worker processes pay off; 1, this one itself, for little work.

    parameters: of the model; tokens: scored by one trial; trials: of the plan; threads: of one worker.
    """
    if float(parameters) * (tokens + 500) * trials < _SMALL_WORK:
        return 1
    # Two bytes a weight in the tiles, and as much again while a matrix is programmed.
    return default_workers(4 * parameters, trials, threads)
