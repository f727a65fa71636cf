"""Stored files of 0.1 opened by the code as it is: what a journal holds, and how going on is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from golden.inputs import HERE, SIGNOFF, SWEEP, command, inside

JOURNAL, SWEPT = HERE / "signoff" / "journal.sqlite", HERE / "sweep" / "sweep.sqlite"
OTHER = "aimc-sim 0.0.1 (sources 000000000000), on a machine of another kind"


def rows(path: Path, statement: str) -> list[Any]:
    """Rows of a database."""
    base = sqlite3.connect(path)
    try:
        return base.execute(statement).fetchall()
    finally:
        base.close()


def code_of_journal() -> str:
    """The version of the code that scored the stored journal."""
    found: str = dict(rows(JOURNAL, "SELECT name, value FROM identity"))["code"]
    return found


def code_of_sweep() -> str:
    """The version of the code that measured the stored sweep."""
    found: str = json.loads(rows(SWEPT, "SELECT json FROM plan")[0][0])["code"]
    return found


def copied(path: Path, folder: Path) -> Path:
    """A copy of a stored file, alone in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, folder / path.name))


def _with_code(path: Path, code: str) -> Path:
    """The same, as if other code had begun it, and not ended. SQLite's triggers keep a journal from that: they go."""
    base = sqlite3.connect(path)
    with base:
        if path.name == JOURNAL.name:
            base.execute("DROP TRIGGER identity_UPDATE")
            base.execute("UPDATE identity SET value = ? WHERE name = 'code'", (code,))
            base.execute("DROP TRIGGER cells_DELETE")
            base.execute("DELETE FROM cells WHERE name = (SELECT max(name) FROM cells)")
        else:
            plan = json.loads(base.execute("SELECT json FROM plan").fetchone()[0])
            base.execute("UPDATE plan SET id = '0', json = ?", (json.dumps({**plan, "code": code}),))
    base.close()
    return path


def _refused(*line: object, folder: Path) -> str:
    with inside(HERE):
        done = command(*line, "-o", folder)
    assert done.exit_code == 2, done.output
    said = " ".join(done.stderr[done.stderr.index("error: ") :].split())
    return said.replace(str(folder), "FOLDER")


def refusals() -> dict[str, str]:
    """The sentences that refuse to go on with a journal or a sweep of other code, or of another plan.

    CODE stands for the version of the code that runs, which no test can know.
    """
    from golden.internals import running_code

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        found = {}
        _with_code(copied(JOURNAL, folder / "a"), OTHER)
        found["journal of other code"] = _refused(*SIGNOFF, folder=folder / "a")
        copied(JOURNAL, folder / "b")
        other_plan = ["0.5" if part == 0.4 else part for part in SIGNOFF]
        found["journal of another plan"] = _refused(*other_plan, folder=folder / "b")
        _with_code(copied(SWEPT, folder / "c"), OTHER)
        found["sweep of other code"] = _refused(*SWEEP, folder=folder / "c")
        _with_code(copied(SWEPT, folder / "d"), running_code(sweep=True))
        found["sweep of another plan"] = _refused(*SWEEP, "--seed", 1, folder=folder / "d")
    return {what: said.replace(running_code(), "CODE") for what, said in found.items()}


def journal() -> dict[str, Any]:
    """What the stored journal is: its schema, its plan's id, and the names of what it holds."""
    identity = dict(rows(JOURNAL, "SELECT name, value FROM identity"))
    return {
        "cells": sorted(name for (name,) in rows(JOURNAL, "SELECT name FROM cells")),
        "facts": sorted(name for (name,) in rows(JOURNAL, "SELECT name FROM facts")),
        "identity": sorted(identity),
        "plan_id": identity["plan_id"],
        "schema": rows(JOURNAL, "PRAGMA user_version")[0][0],
    }
