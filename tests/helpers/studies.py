"""Plans run on a bench of the test's own, without a file."""

from __future__ import annotations

from functools import partial
from typing import Any

from aimc_sim.aliases import Progress
from aimc_sim.signoff.design.plan import Plan
from aimc_sim.signoff.execution.journal import open_journal
from aimc_sim.signoff.execution.run import Study, _run
from aimc_sim.studies.workers import InProcess


def run_trials(plan: Plan, bench: Any, items: dict[str, Any], progress: Progress | None = None) -> Study:
    """Run a plan on a bench in this process. items: of each task."""
    with open_journal(None, plan) as store:
        return _run(plan, items, store, partial(InProcess, lambda: bench), progress)
