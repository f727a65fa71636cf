"""The journal of a plan: its store, with one row a finished trial. See `aimc_sim.studies.store`."""

from __future__ import annotations

from pathlib import Path

from aimc_sim.signoff.design.plan import Plan
from aimc_sim.studies.store import Kind, Store, put_aside

JOURNAL = Kind(
    "journal",
    "trial",
    otherwise="resume with what it was begun with, choose another folder with -o, or start over with --restart",
    restart="start over with --restart",
)


def open_journal(path: Path | None, plan: Plan, code: str = "", *, restart: bool = False) -> Store:
    """Open the journal of a plan, made where there is none; None keeps it in memory.

    code: version of what computes scores; a journal of other code opens, and `Store.check_resumable` refuses to go on.
    restart: an old journal is renamed to ``….old`` first. Raises BadInput as `Store` does.
    """
    if restart and path is not None:
        put_aside(path)
    return Store(path, plan, JOURNAL, code)
