"""What a sweep has measured so far: one SQLite file, a row a measurement, written once, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.identity import canonical_json

_TABLES = (
    "CREATE TABLE IF NOT EXISTS plan (id TEXT PRIMARY KEY, json TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS found (name TEXT PRIMARY KEY, json TEXT NOT NULL)",
)


class Store:
    """An open store. A process that is killed at any instant loses what was being measured, nothing else.

    path: the file, made where there is none. plan: whose measurements they are; raises BadInput where the file belongs
    to another plan, and says what differs, without changing anything.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any], plan_id: str) -> None:
        self._path = path
        try:
            self._base = sqlite3.connect(path, timeout=30.0)
            with self._base:
                for table in _TABLES:
                    self._base.execute(table)
                there = self._base.execute("SELECT id, json FROM plan").fetchall()
                if not there:
                    self._base.execute(
                        "INSERT INTO plan VALUES (?, ?)", (plan_id, canonical_json(dict(plan)))
                    )
        except sqlite3.DatabaseError as error:
            raise BadInput(
                "sweep",
                got=str(path),
                why=f"it cannot be opened ({error})",
                do="choose another folder with -o",
            ) from None
        if there and there[0][0] != plan_id:
            self._base.close()
            raise BadInput(
                "sweep", got=str(path), why=f"the folder holds another sweep: {_difference(there[0][1], plan)}",
                do="choose another folder with -o, or delete that file",
            )  # fmt: skip

    def found(self) -> dict[str, Any]:
        """Every measurement by name."""
        return {name: json.loads(text) for name, text in self._base.execute("SELECT name, json FROM found")}

    def keep(self, measured: Mapping[str, Any]) -> None:
        """Write measurements together; those that are there stay as they are."""
        rows = [(name, canonical_json(value)) for name, value in measured.items()]
        with self._base:
            self._base.executemany("INSERT OR IGNORE INTO found VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _difference(there: str, plan: Mapping[str, Any]) -> str:
    """The fields in which two plans differ."""
    old = json.loads(there)
    fields = [
        name for name in sorted({*old, *plan}) if old.get(name) != json.loads(canonical_json(plan.get(name)))
    ]
    return (
        f"its {', '.join(fields)} {'differs' if len(fields) == 1 else 'differ'}"
        if fields
        else "its id differs"
    )
