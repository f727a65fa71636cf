"""A bench for worker processes that are ended: a trial without end, and files that are given back, or never are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.bench import Outcome
from aimc_sim.signoff.execution.scores import TrialScores


@dataclass
class Bench:
    """Makes a file where its first trial begins. hangs: it never ends deleting it."""

    file: Path
    hangs: bool = False

    def run(self, trial: Trial, on_step: Callable[[], None]) -> Outcome:
        """A trial of the task "endless" never ends."""
        self.file.touch()
        on_step()
        _endless(trial.task == "endless")
        return Outcome(TrialScores({}))

    def close(self) -> None:
        """Delete the file."""
        _endless(self.hangs)
        self.file.unlink()


def _endless(holds: bool) -> None:
    while holds:
        time.sleep(0.1)
