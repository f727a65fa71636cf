"""Runs a plan: every cell on a bench, one after the other, and keeps what it cost apart from what it found."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.evaluate.windows import Windows
from aimc_sim.signoff.bench import Bench, OnProgress, open_bench
from aimc_sim.signoff.plan import Cell, Plan, cells_of

if TYPE_CHECKING:
    from aimc_sim.torch_bridge.coverage import Coverage
    from aimc_sim.weightfile import WeightFile


@dataclass(frozen=True)
class Result:
    """Scores of every cell of a plan, which now names its converter ranges.

    timings: seconds, the only part that differs when it is run twice.
    """

    plan: Plan
    windows: Windows
    scores: dict[Cell, WindowScores]
    coverage: Coverage
    timings: dict[str, float] = field(compare=False)

    @property
    def digital(self) -> WindowScores:
        """Scores of the digital model."""
        return self.scores[Cell("digital")]

    @property
    def converters(self) -> WindowScores:
        """Scores of the same converters around ideal cells."""
        return self.scores[Cell("converters")]

    def chip(self, seed: int, time_s: float) -> WindowScores:
        """Scores of one chip at one time."""
        return self.scores[Cell("chip", seed, time_s)]


def run_plan(
    plan: Plan,
    weight_file: WeightFile,
    *,
    text_path: str | Path | None = None,
    progress: OnProgress | None = None,
    verified: bool = False,
) -> Result:
    """Run every cell of `plan`. progress(stage, done, total) is called as work gets done.

    Raises BadInput before anything is computed where the weight file is damaged or the plan does not fit it or the
    text. verified: `check_weights` has just been called, so the file is not read for that again.
    """
    start = time.perf_counter()
    if not verified:
        check_weights(weight_file, progress)
    with open_bench(plan, weight_file, text_path, progress) as bench:
        prepared = time.perf_counter()
        result = run_cells(plan, bench, progress)
        timings = {"prepare": prepared - start, **bench.seconds, **result.timings}
    return Result(
        result.plan,
        result.windows,
        result.scores,
        result.coverage,
        {**timings, "total": time.perf_counter() - start},
    )


def check_weights(weight_file: WeightFile, progress: OnProgress | None = None) -> None:
    """Read every byte of the weight file once. Raises BadInput naming a dataset whose bytes have changed."""
    if progress is not None:
        progress("checking the file", 0, 1)
    problems = weight_file.verify()
    if problems:
        more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
        raise BadInput(
            "weight file",
            got=str(weight_file.path),
            why=f"it is damaged, in {problems[0]}{more}",
            do="copy the file again, or export it again; `aimc-sim verify` lists all the damage",
        )
    if progress is not None:
        progress("checking the file", 1, 1)


def run_cells(plan: Plan, bench: Bench, progress: OnProgress | None = None) -> Result:
    """Score every cell on a bench that is already open."""
    cells = cells_of(plan)
    done, total = 0, len(cells) * bench.steps
    scores: dict[Cell, WindowScores] = {}
    timings: dict[str, float] = {}

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("chips × times", done, total)

    for cell in cells:
        start = time.perf_counter()
        scores[cell] = bench.scores(cell, step)
        timings[name_of(cell)] = time.perf_counter() - start
    completed = plan.model_copy(update={"ranges_id": bench.ranges_id})
    return Result(completed, bench.windows, scores, bench.coverage(), timings)


def name_of(cell: Cell) -> str:
    """``digital``, ``converters`` or ``chip 3 at 3600.0 s``."""
    return cell.kind if cell.kind != "chip" else f"chip {cell.seed} at {cell.time_s} s"
