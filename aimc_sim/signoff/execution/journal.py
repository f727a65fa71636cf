"""The journal of a plan: one SQLite file, one row a finished trial, written once and never changed.

A row is there whole or not at all (SQLite's rollback journal, synced to the disk), so a process that is killed at any
instant loses at most the trials in flight. It has a hash of what it says, so that one that was edited is refused.
Processes on the same journal share its trials out by claims with a lease: a claim of a process that died on this
machine is free at once, of one on another machine when its lease ends. The file may lie on a file system that all
machines see, if that has working locks.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aimc_sim.errors import AimcError, BadInput
from aimc_sim.identity import canonical, canonical_json, differences_of, shown
from aimc_sim.signoff.design.plan import Plan
from aimc_sim.signoff.execution.owner import is_dead, new_owner

LEASE_S = 60.0
RENEW_S = 15.0
_SCHEMA = 2  # since rows have hashes
_TABLES = """
CREATE TABLE identity (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cells (name TEXT PRIMARY KEY, scores TEXT NOT NULL, seconds TEXT NOT NULL, worker TEXT NOT NULL,
                    hash TEXT NOT NULL);
CREATE TABLE claims (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
"""
_FIXED = (
    "CREATE TRIGGER {0}_{1} BEFORE {1} ON {0} {2} BEGIN SELECT RAISE(ABORT, '{0} are written once'); END;"
)
# INSERT OR REPLACE deletes without asking the triggers of DELETE.
_CHANGES = {
    "UPDATE": "",
    "DELETE": "",
    "INSERT": "WHEN EXISTS (SELECT 1 FROM {0} WHERE name = NEW.name)",
}
_OTHERWISE = "resume with what it was begun with, choose another folder with -o, or start over with --restart"


@dataclass(frozen=True)
class Row:
    """A finished trial: its scores as JSON text, and seconds by stage."""

    scores: str
    seconds: dict[str, float]


class Store(Protocol):
    """Where finished trials go: a `Journal`, or memory."""

    scored_by: str | None  # the code behind its trials, where that is not the code that runs

    def check_resumable(self) -> None: ...
    def rows(self) -> dict[str, Row]: ...
    def finished(self) -> set[str]: ...
    def facts(self) -> dict[str, Any]: ...
    def state(self, name: str, value: Any) -> None: ...
    def claim(self, name: str) -> bool: ...
    def finish(
        self, name: str, scores: Any, facts: Mapping[str, Any], seconds: Mapping[str, float], worker: str
    ) -> None: ...


class Memory:
    """A store that ends with the process; the methods are those of `Journal`."""

    scored_by: str | None = None

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._facts: dict[str, Any] = {}

    def check_resumable(self) -> None:
        """Nothing can speak against it."""

    def rows(self) -> dict[str, Row]:
        return dict(self._rows)

    def finished(self) -> set[str]:
        return set(self._rows)

    def facts(self) -> dict[str, Any]:
        return dict(self._facts)

    def state(self, name: str, value: Any) -> None:
        self._facts[name] = value

    def claim(self, name: str) -> bool:
        return name not in self._rows

    def finish(
        self, name: str, scores: Any, facts: Mapping[str, Any], seconds: Mapping[str, float], worker: str
    ) -> None:
        self._facts |= facts
        self._rows[name] = Row(canonical_json(scores), dict(seconds))


class Journal:
    """An open journal. `open_journal` makes it. Each method is one transaction.

    scored_by: the code that scored its trials, where that is not ``code``, the code that runs: then reports can be made
    of what is there, and nothing may be added.
    """

    def __init__(self, path: Path, code: str = "", scored_by: str | None = None) -> None:
        self.path, self.scored_by, self._code = path, scored_by, code
        self.owner = new_owner()
        self._lock = threading.Lock()
        self._connection = _connect(path)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def check_resumable(self) -> None:
        """Raises BadInput where other code has scored what is there: scores of both must not be mixed."""
        if self.scored_by is not None:
            raise BadInput(
                "journal",
                got=str(self.path),
                why=f"its cells were scored by {self.scored_by}, and this is {self._code}; "
                "scores of both must not be mixed",
                do=_OTHERWISE,
            )

    def rows(self) -> dict[str, Row]:
        """Every finished trial by name. Raises BadInput for a row that was changed since it was written."""
        with self._transaction("DEFERRED") as run:
            return _rows(run, self.path)

    def finished(self) -> set[str]:
        """Names of the finished trials."""
        with self._transaction("DEFERRED") as run:
            return {name for (name,) in run.execute("SELECT name FROM cells")}

    def facts(self) -> dict[str, Any]:
        """What was found out about the plan: items of tasks, coverage, converter ranges. Raises BadInput as `rows`."""
        with self._transaction("DEFERRED") as run:
            return _facts(run, self.path)

    def state(self, name: str, value: Any) -> None:
        """Record a fact. Raises BadInput where the journal holds another value: then this is not the same study."""
        with self._transaction() as run:
            _state(run, name, canonical_json(value))

    def claim(self, name: str) -> bool:
        """Take a trial, for as long as this process lives and renews its lease. False: finished, or another's."""
        with self._transaction() as run:
            now = time.time()  # waiting for the transaction can take longer than a lease
            if run.execute("SELECT 1 FROM cells WHERE name = ?", (name,)).fetchone():
                return False
            held = run.execute("SELECT owner, expires FROM claims WHERE name = ?", (name,)).fetchone()
            if held and held[0] != self.owner and held[1] > now and not is_dead(held[0]):
                return False
            run.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (name, self.owner, now + LEASE_S))
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew, daemon=True)
            self._thread.start()
        return True

    def finish(
        self, name: str, scores: Any, facts: Mapping[str, Any], seconds: Mapping[str, float], worker: str
    ) -> None:
        """Write a finished trial with the facts that came with it, and drop its claim.

        Where another process was faster its row stays; raises AimcError if that says something else.
        """
        text = canonical_json(scores)
        with self._transaction() as run:
            for fact, value in facts.items():
                _state(run, fact, canonical_json(value))
            there = run.execute("SELECT scores FROM cells WHERE name = ?", (name,)).fetchone()
            if there and there[0] != text:
                raise AimcError(
                    f"trial {name} was scored twice, with different results. Next: check that every machine has the "
                    "same processor features and versions (aimc-sim doctor)."
                )
            if not there:
                row = (name, text, canonical_json(dict(seconds)), worker)
                run.execute("INSERT INTO cells VALUES (?, ?, ?, ?, ?)", (*row, _hash(*row)))
            run.execute("DELETE FROM claims WHERE name = ?", (name,))

    def release(self, name: str) -> None:
        """Give a claimed trial back."""
        with self._transaction() as run:
            run.execute("DELETE FROM claims WHERE name = ? AND owner = ?", (name, self.owner))

    def close(self) -> None:
        """Give back every claim and close the file."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        try:
            with self._transaction() as run:
                run.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))
        finally:
            self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _renew(self) -> None:
        """Extend the leases while a trial is being scored, which may take longer than one."""
        while not self._over.wait(RENEW_S):
            with self._transaction() as run:
                run.execute(
                    "UPDATE claims SET expires = ? WHERE owner = ?", (time.time() + LEASE_S, self.owner)
                )

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._lock, _named(self.path), _transaction(self._connection, kind) as run:
            yield run


def open_journal(path: Path, plan: Plan, code: str, *, restart: bool = False) -> Journal:
    """The journal of a plan at `path`, made where there is none.

    code: version of what computes scores; a journal of other code opens, and `Journal.check_resumable` refuses to go
    on. restart: an old journal is renamed to ``….old`` first. Raises BadInput where the file is the journal of another
    plan, and says what differs, or has a row that was changed; nothing is changed then.
    """
    if restart and path.exists():
        os.replace(path, path.with_name(path.name + ".old"))
    identity = {"plan": canonical_json(canonical(plan)), "plan_id": plan.id, "code": code}
    with _named(path):
        connection = _connect(path)
        try:
            with _transaction(connection) as run:
                schema = run.execute("PRAGMA user_version").fetchone()[0]
                if schema == 0:
                    if run.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        raise _foreign(path)
                    _make(run, identity)
                elif schema != _SCHEMA:
                    raise BadInput(
                        "journal",
                        got=str(path),
                        why=f"it was begun by another version of aimc-sim (journals of schema {schema}, not {_SCHEMA})",
                        do=_OTHERWISE,
                    )
                found = dict(run.execute("SELECT name, value FROM identity").fetchall())
                _check(path, found, plan)
                _rows(run, path)
                _facts(run, path)
        finally:
            connection.close()
    return Journal(path, code, None if found["code"] == code else found["code"])


def holds_nothing(path: Path) -> bool:
    """Whether a journal has neither a finished trial nor one that is being scored."""
    with _named(path):
        connection = _connect(path)
        try:
            with _transaction(connection) as run:
                return not any(
                    run.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("cells", "claims")
                )
        finally:
            connection.close()


def _make(run: sqlite3.Connection, identity: Mapping[str, str]) -> None:
    for statement in _TABLES.split(";\n"):
        run.execute(statement)
    for table in ("identity", "facts", "cells"):
        for change, when in _CHANGES.items():
            run.execute(_FIXED.format(table, change, when.format(table)))
    run.executemany("INSERT INTO identity VALUES (?, ?)", identity.items())
    run.execute(f"PRAGMA user_version = {_SCHEMA}")


def _check(path: Path, found: Mapping[str, str], plan: Plan) -> None:
    if "plan" not in found or "code" not in found:
        raise _foreign(path)
    mine = json.loads(canonical_json(canonical(plan)))
    differences = differences_of(json.loads(found["plan"]), mine, beside={"hardware_id"})
    if differences and found.get("plan_id") != plan.id:
        listed = "; ".join(differences[:3]) + (
            f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        )
        raise BadInput("journal", got=str(path), why=f"it belongs to another plan: {listed}", do=_OTHERWISE)


def _rows(run: sqlite3.Connection, path: Path) -> dict[str, Row]:
    found = {}
    for name, scores, seconds, worker, told in run.execute(
        "SELECT name, scores, seconds, worker, hash FROM cells"
    ):
        if _hash(name, scores, seconds, worker) != told:
            raise _changed(path, f"trial {name}")
        found[name] = Row(scores, json.loads(seconds))
    return found


def _facts(run: sqlite3.Connection, path: Path) -> dict[str, Any]:
    found = {}
    for name, value, told in run.execute("SELECT name, value, hash FROM facts"):
        if _hash(name, value) != told:
            raise _changed(path, f"fact {name}")
        found[name] = json.loads(value)
    return found


def _hash(*row: str) -> str:
    return hashlib.sha256(canonical_json(row).encode()).hexdigest()


def _changed(path: Path, what: str) -> BadInput:
    return BadInput(
        "journal",
        got=str(path),
        why=f"{what} was changed since it was written: its hash is another",
        do="put back a copy of the file, or start over with --restart",
    )


def _state(run: sqlite3.Connection, name: str, value: str) -> None:
    there = run.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    if there is None:
        run.execute("INSERT INTO facts VALUES (?, ?, ?)", (name, value, _hash(name, value)))
    elif there[0] != value:
        raise BadInput(
            f"journal: {name}",
            got=shown(json.loads(value)),
            why=f"the journal says {shown(json.loads(there[0]))}, so this is not the same study",
            do="resume on a machine with the same versions and processor features, or choose another folder",
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=120.0, isolation_level=None, check_same_thread=False)
    # A rollback journal, not a write-ahead log: that needs shared memory, which network file systems lack.
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield connection
    except BaseException:
        if connection.in_transaction:  # an error such as a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of SQLite, as errors about the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        full = "full" in str(error)
        raise BadInput(
            "journal",
            got=str(path),
            why="the disk is full" if full else f"it cannot be used ({error})",
            do="free some space and run the same command again: it goes on where it stopped"
            if full
            else "check the path and its permissions, or choose another folder with -o",
        ) from None
    except sqlite3.DatabaseError:
        raise _foreign(path) from None


def _foreign(path: Path) -> BadInput:
    return BadInput(
        "journal",
        got=str(path),
        why="it is damaged, or not a journal",
        do="move it away, or choose another folder with -o",
    )
