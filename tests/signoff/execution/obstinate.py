"""A bench for worker processes that are ended: a cell without end, and files that are given back, or never are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aimc_sim.signoff.design.cells import Cell
from aimc_sim.signoff.execution.bench import Outcome
from aimc_sim.signoff.execution.scores import CellScores


@dataclass
class Bench:
    """Makes a file where its first cell begins. hangs: it never ends deleting it."""

    file: Path
    hangs: bool = False

    def run(self, cell: Cell, on_step: Callable[[], None]) -> Outcome:
        """A cell of the task "endless" never ends."""
        self.file.touch()
        on_step()
        _endless(cell.task == "endless")
        return Outcome(CellScores({}))

    def close(self) -> None:
        """Delete the file."""
        _endless(self.hangs)
        self.file.unlink()


def _endless(holds: bool) -> None:
    while holds:
        time.sleep(0.1)
