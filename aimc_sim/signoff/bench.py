"""The bench that a cell is measured on: one model skeleton, re-mounted for every chip and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.account import coverage_of
from aimc_sim.evaluate.metrics import Reference, WindowScores, score
from aimc_sim.evaluate.text import SelfText, file_text, windows_of_file, windows_of_samples
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.plan import Cell, Plan

if TYPE_CHECKING:
    from aimc_sim.torch_bridge.coverage import Coverage
    from aimc_sim.weightfile import WeightFile

OnProgress = Callable[[str, int, int], None]


class Bench(Protocol):
    """What a sign-off needs to know about the world: the windows, and how to score a cell on them."""

    windows: Windows

    def scores(self, cell: Cell, on_step: Callable[[], None]) -> WindowScores:
        """Scores of one cell, against the digital model; on_step is called `steps` times on the way."""

    @property
    def steps(self) -> int:
        """Calls of on_step that one cell makes."""

    def coverage(self) -> Coverage:
        """Which products run in the tiles."""

    @property
    def ranges_id(self) -> str | None:
        """Id of the converter ranges that every chip of the plan uses; None before a chip was programmed."""


class ModelBench:
    """The real bench. `open_bench` makes it."""

    def __init__(self, plan: Plan, weight_file: WeightFile, hardware: Hardware, reference: Reference) -> None:
        self.windows = reference.windows
        self._plan, self._weights, self._hardware, self._reference = plan, weight_file, hardware, reference
        self._model: Any | None = None
        self._chip: tuple[int, Any] | None = None
        self.ranges_id: str | None = None
        self.seconds = {"program_and_mount": 0.0, "score": 0.0}

    @property
    def steps(self) -> int:
        """One for programming and mounting, one a batch."""
        return 1 + sum(1 for _ in self.windows.batches(self._plan.batch))

    def scores(self, cell: Cell, on_step: Callable[[], None]) -> WindowScores:
        """Mount what the cell names, then score every window."""
        if cell.kind == "digital":
            for _ in range(self.steps):
                on_step()
            return self._reference.own_scores
        start = time.perf_counter()
        model = self._mounted(cell)
        on_step()
        mounted = time.perf_counter()
        scores = score(
            model,
            self.windows,
            self._plan.batch,
            reference=self._reference,
            on_batch=lambda done, total: on_step(),
        )
        self.seconds["program_and_mount"] += mounted - start
        self.seconds["score"] += time.perf_counter() - mounted
        return scores

    def coverage(self) -> Coverage:
        """One short forward through the mounted model."""
        if self._model is None:
            raise BadInput("coverage", why="no chip has been mounted yet", do="score a cell first")
        return coverage_of(self._model, self._weights, self._hardware, self.windows.rows[0])

    def _mounted(self, cell: Cell) -> Any:
        from aimc_sim.programming import program
        from aimc_sim.torch_bridge import build_model, mount

        if self._model is None:
            self._model = build_model(self._weights, self._hardware)
        if cell.kind == "converters":
            chip, time_s = program(self._weights, 0, self._hardware.with_ideal_cells()), 0.0
        else:
            assert cell.seed is not None
            assert cell.time_s is not None
            if self._chip is None or self._chip[0] != cell.seed:
                self._chip = (cell.seed, program(self._weights, cell.seed, self._hardware))
            chip, time_s = self._chip[1], cell.time_s
        self._note_ranges(chip.ranges_id)
        mount(self._model, chip.at(time_s, self._plan.session))
        return self._model

    def _note_ranges(self, found: str) -> None:
        if found != (self.ranges_id or self._plan.ranges_id or found):
            raise BadInput(
                "converter ranges",
                got=found,
                why=f"the plan is for {self.ranges_id or self._plan.ranges_id}",
                do="make a new plan; calibration has changed since that one was made",
            )
        self.ranges_id = found


@contextmanager
def open_bench(
    plan: Plan,
    weight_file: WeightFile,
    text_path: str | Path | None = None,
    progress: OnProgress | None = None,
) -> Iterator[ModelBench]:
    """The bench of a plan: the digital model writes (or the file brings) the text and is scored on it.

    Raises BadInput where the weight file or the text is not the plan's. Temporary files go when the block ends.
    """
    from aimc_sim.torch_bridge import load_digital

    if plan.weights != weight_file.id:
        raise BadInput(
            "weight file",
            got=weight_file.id,
            why=f"the plan is for {plan.weights}",
            do="use the weight file that the plan was made for, or make a new plan",
        )
    hardware = Hardware.load(plan.hardware)
    digital = load_digital(weight_file)
    windows = windows_of(plan, weight_file, digital, text_path, progress)

    def scored(done: int, total: int) -> None:
        if progress is not None:
            progress("digital model", done, total)

    with Reference(digital, windows, plan.batch, on_batch=scored) as reference:
        del digital
        yield ModelBench(plan, weight_file, hardware, reference)


def windows_of(
    plan: Plan,
    weight_file: WeightFile,
    digital: Any,
    text_path: str | Path | None,
    progress: OnProgress | None,
) -> Windows:
    """The plan's windows, from its text file or sampled from the digital model."""
    if isinstance(plan.text, SelfText):
        return windows_of_samples(digital, plan.text, progress)
    if text_path is None or file_text(text_path).sha256 != plan.text.sha256:
        raise BadInput(
            "text file",
            got=str(text_path),
            why=f"the plan is for {plan.text.name} as it was",
            do="give that file, or make a new plan",
        )
    return windows_of_file(weight_file, text_path, plan.context, plan.text.limit_tokens)
