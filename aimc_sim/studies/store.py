"""The store of a long study: one SQLite file, one row a finished trial or measurement, written once and never changed.

A row is there whole or not at all (SQLite's rollback journal, synced to the disk), so a process that is killed at any
instant loses at most what it was computing. It has a hash of what it says, so that one that was edited is refused.
Processes on the same store share its work out by claims with a lease: a claim of a process that died on this machine is
free at once, of one on another machine when its lease ends. The file may lie on a file system that all machines see, if
that has working locks.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimc_sim import files
from aimc_sim.errors import AimcError, BadInput
from aimc_sim.identity import Difference, canonical, canonical_json, differences_of, listed, shown
from aimc_sim.studies.owner import is_dead, new_owner

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


def _another(differences: Sequence[Difference]) -> str:
    return f"it belongs to another plan: {listed(differences)}"


@dataclass(frozen=True)
class Kind:
    """This says what a kind of study calls its store and a row, and what its user can do. another: why another plan's
    is refused; otherwise: what to do then; restart: how to begin again.
    """

    store: str = "store"
    row: str = "row"
    another: Callable[[Sequence[Difference]], str] = _another
    otherwise: str = "choose another folder with -o"
    restart: str = "delete it and begin again"


@dataclass(frozen=True)
class Row:
    """A row is a finished trial or measurement: what it gave as JSON text, and seconds by stage."""

    scores: str
    seconds: dict[str, float]


class Store:
    """A store keeps the rows of a study while it is open; a context manager. Each method is one transaction.

    path: made where there is none; None keeps all in memory. plan: whose rows they are, a spec, by its id; None opens
    what is there for any. code: version of what computes rows, which must not be mixed with another's.

    computed_by: the code behind the rows, where that is not ``code``: then they can be read, and none be added.

    Raises BadInput where the file belongs to another plan, and says what differs, or has a row that was changed;
    nothing is changed then. A store that was made here and that BadInput leaves empty goes again: it would refuse the
    corrected plan.
    """

    def __init__(self, path: Path | None, plan: Any, kind: Kind = Kind(), code: str = "") -> None:
        self.path, self.code, self.kind = path, code, kind
        self.owner = new_owner()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        mine = None if plan is None else {
            "plan": canonical_json(canonical(plan)), "plan_id": plan.id, "code": code
        }  # fmt: skip
        if plan is None and path is not None and not path.is_file():
            raise self._refusal("there is no such file", "check the path")
        with self._as_bad_input():
            self._connection = _connect(path)
            try:
                with self._transaction() as run:
                    self._made = self._open(run, mine)
                    self._rows(run), self._facts(run)
            except BaseException:
                self._connection.close()
                raise
        written_by = self._identity["code"]
        self.computed_by = None if written_by == code or plan is None else written_by

    def check_resumable(self) -> None:
        """Raise BadInput where other code has computed what is there: rows of both must not be mixed."""
        if self.computed_by is not None:
            raise self._refusal(
                f"its cells were scored by {self.computed_by}, and this is {self.code}; "
                "scores of both must not be mixed"
            )

    def rows(self) -> dict[str, Row]:
        """Return every finished row by name. Raises BadInput for one that was changed since it was written."""
        with self._transaction("DEFERRED") as run:
            return self._rows(run)

    def values(self) -> dict[str, Any]:
        """Return what every finished row says, by name. Raises BadInput as `rows`."""
        return {name: json.loads(row.scores) for name, row in self.rows().items()}

    def finished(self) -> set[str]:
        """Return the names of the finished rows."""
        with self._transaction("DEFERRED") as run:
            return {name for (name,) in run.execute("SELECT name FROM cells")}

    def facts(self) -> dict[str, Any]:
        """Return what was found out about the plan: items of tasks, coverage, converter ranges. Raises as `rows`."""
        with self._transaction("DEFERRED") as run:
            return self._facts(run)

    def state(self, name: str, value: Any) -> None:
        """Record a fact. Raises BadInput where the store holds another value: then this is not the same study."""
        with self._transaction() as run:
            self._state(run, name, canonical_json(value))

    def claim(self, name: str) -> bool:
        """Take a row, for as long as this process lives and renews its lease. False: finished, or another's."""
        with self._transaction() as run:
            now = time.time()  # waiting for the transaction can take longer than a lease
            if run.execute("SELECT 1 FROM cells WHERE name = ?", (name,)).fetchone():
                return False
            claim = run.execute("SELECT owner, expires FROM claims WHERE name = ?", (name,)).fetchone()
            if claim and claim[0] != self.owner and claim[1] > now and not is_dead(claim[0]):
                return False
            run.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (name, self.owner, now + LEASE_S))
        if self._thread is None and self.path is not None:
            self._thread = threading.Thread(target=self._renew, daemon=True)
            self._thread.start()
        return True

    def finish(
        self, name: str, scores: Any, facts: Mapping[str, Any], seconds: Mapping[str, float], worker: str
    ) -> None:
        """Write a finished row with the facts that came with it, and drop its claim.

        Where another process was faster its row stays; raises AimcError if that says something else.
        """
        with self._transaction() as run:
            for fact, value in facts.items():
                self._state(run, fact, canonical_json(value))
            self._write(run, name, canonical_json(scores), canonical_json(dict(seconds)), worker)
            run.execute("DELETE FROM claims WHERE name = ?", (name,))

    def merge(self, path: Path) -> int:
        """Take over rows and facts of another store of this plan, all or none → how many rows are new here.

        Raises BadInput where it is of another plan, of other code or says of a fact something else than this one, and
        AimcError where it does so of a row.
        """
        with Store(path, None, self.kind) as other, self._transaction() as run:
            other._check_plan(self._identity)
            if other._identity["code"] != self._identity["code"]:
                raise other._refusal(
                    f"its rows are of {other._identity['code']}, and those here of {self._identity['code']}",
                    "merge what one version has computed, on machines of one kind",
                )
            before = run.total_changes
            with other._transaction("DEFERRED") as theirs:
                for name, value, _ in theirs.execute("SELECT * FROM facts"):
                    self._state(run, name, value)
                facts = run.total_changes - before
                for name, scores, seconds, worker, _ in theirs.execute("SELECT * FROM cells"):
                    self._write(run, name, scores, seconds, worker)
            return run.total_changes - before - facts

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

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._transaction("DEFERRED") as run:
            rows = "SELECT name FROM cells UNION ALL SELECT name FROM claims WHERE owner != ?"
            empty = run.execute(rows, (self.owner,)).fetchone() is None
        self.close()
        if self.path is not None and self._made and empty and kind is not None and issubclass(kind, BadInput):
            self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        """Extend the leases while a row is being computed, which may take longer than one."""
        while not self._over.wait(RENEW_S):
            with self._transaction() as run:
                run.execute(
                    "UPDATE claims SET expires = ? WHERE owner = ?", (time.time() + LEASE_S, self.owner)
                )

    # -- opening ----------------------------------------------------------------------------------------------

    def _open(self, run: sqlite3.Connection, mine: Mapping[str, str] | None) -> bool:
        """Make the tables, or read whose they are → whether they were made."""
        schema = run.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in run.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        made = schema == 0 and not tables and mine is not None
        if made and mine is not None:
            _make(run, mine)
        elif schema == 0 and tables == {"plan", "found"}:
            if mine is None:  # somebody else's file is read, not changed
                raise self._refusal(
                    "it is of version 0.1", "go on with it once by its own command, then merge it"
                )
            self._take_sweep_of_0_1(run)
        elif schema == 0:
            raise self._foreign()
        elif schema != _SCHEMA:
            raise self._refusal(
                f"it was begun by another version of aimc-sim ({self.kind.store}s of schema {schema}, not {_SCHEMA})"
            )
        self._identity = dict(run.execute("SELECT name, value FROM identity").fetchall())
        if not {"plan", "code"} <= self._identity.keys():
            raise self._foreign()
        if mine is not None:
            self._check_plan(mine)
        return made

    def _check_plan(self, mine: Mapping[str, str]) -> None:
        old, new = json.loads(self._identity["plan"]), json.loads(mine["plan"])
        differences = differences_of(old, new, beside={"hardware_id"})
        if differences and self._identity.get("plan_id") != mine["plan_id"]:
            raise self._refusal(self.kind.another(differences))

    def _take_sweep_of_0_1(self, run: sqlite3.Connection) -> None:
        """Bring what a sweep or placement study of version 0.1 has measured into our tables."""
        plans = run.execute("SELECT id, json FROM plan").fetchall()
        values = run.execute("SELECT name, json FROM found").fetchall()
        if not plans:
            raise self._foreign()
        run.execute("DROP TABLE plan")
        run.execute("DROP TABLE found")
        _make(run, {"plan": plans[0][1], "plan_id": plans[0][0], "code": ""})
        for name, value in values:
            self._write(run, name, value, "{}", "")

    # -- rows -------------------------------------------------------------------------------------------------

    def _rows(self, run: sqlite3.Connection) -> dict[str, Row]:
        rows = {}
        for name, scores, seconds, worker, told in run.execute("SELECT * FROM cells"):
            self._check_hash(f"{self.kind.row} {name}", told, name, scores, seconds, worker)
            rows[name] = Row(scores, json.loads(seconds))
        return rows

    def _facts(self, run: sqlite3.Connection) -> dict[str, Any]:
        facts = {}
        for name, value, told in run.execute("SELECT * FROM facts"):
            self._check_hash(f"fact {name}", told, name, value)
            facts[name] = json.loads(value)
        return facts

    def _check_hash(self, what: str, told: str, *row: str) -> None:
        if _hash(*row) != told:
            why = f"{what} was changed since it was written: its hash is another"
            raise self._refusal(why, f"put back a copy of the file, or {self.kind.restart}")

    def _write(self, run: sqlite3.Connection, name: str, scores: str, seconds: str, worker: str) -> None:
        before = run.execute("SELECT scores FROM cells WHERE name = ?", (name,)).fetchone()
        if before is None:
            row = (name, scores, seconds, worker)
            run.execute("INSERT INTO cells VALUES (?, ?, ?, ?, ?)", (*row, _hash(*row)))
        elif before[0] != scores:
            raise AimcError(
                f"{self.kind.row} {name} was computed twice, with different results. Next: check that every machine "
                "has the same processor features and versions (aimc-sim doctor)."
            )

    def _state(self, run: sqlite3.Connection, name: str, value: str) -> None:
        before = run.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        if before is None:
            run.execute("INSERT INTO facts VALUES (?, ?, ?)", (name, value, _hash(name, value)))
        elif before[0] != value:
            raise BadInput(
                f"{self.kind.store}: {name}",
                got=shown(json.loads(value)),
                why=f"the {self.kind.store} says {shown(json.loads(before[0]))}, so this is not the same study",
                do="resume on a machine with the same versions and processor features, or choose another folder",
            )

    # -- SQLite -----------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        run = self._connection
        with self._lock, self._as_bad_input():
            run.execute(f"BEGIN {kind}")
            try:
                yield run
            except BaseException:
                if run.in_transaction:  # an error such as a full disk has rolled back already
                    run.execute("ROLLBACK")
                raise
            run.execute("COMMIT")

    @contextmanager
    def _as_bad_input(self) -> Iterator[None]:
        """Turn errors of SQLite into errors about the file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            why = f"it cannot be used ({error})"
            do = "check the path and its permissions, or choose another folder with -o"
            if "full" in str(error):
                why = "the disk is full"
                do = "free some space and run the same command again: it goes on where it stopped"
            raise self._refusal(why, do) from None
        except sqlite3.DatabaseError:
            raise self._foreign() from None

    def _refusal(self, why: str, do: str | None = None) -> BadInput:
        return BadInput(self.kind.store, got=str(self.path), why=why, do=do or self.kind.otherwise)

    def _foreign(self) -> BadInput:
        why = f"it is damaged, or not a {self.kind.store}"
        return self._refusal(why, "move it away, or choose another folder with -o")


def put_aside(path: Path) -> None:
    """Rename an old store to ``….old``, where there is one."""
    if path.exists():
        files.replace(path, path.with_name(path.name + ".old"))


def _make(run: sqlite3.Connection, identity: Mapping[str, str]) -> None:
    for statement in _TABLES.split(";\n"):
        run.execute(statement)
    for table in ("identity", "facts", "cells"):
        for change, when in _CHANGES.items():
            run.execute(_FIXED.format(table, change, when.format(table)))
    run.executemany("INSERT INTO identity VALUES (?, ?)", identity.items())
    run.execute(f"PRAGMA user_version = {_SCHEMA}")


def _hash(*row: str) -> str:
    return hashlib.sha256(canonical_json(row).encode()).hexdigest()


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path or ":memory:", timeout=120.0, isolation_level=None, check_same_thread=False
    )
    # A rollback journal, not a write-ahead log: that needs shared memory, which network file systems lack.
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    return connection
