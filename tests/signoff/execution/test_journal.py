"""The journal: rows that stay, claims that do not collide, kills that lose nothing, and resuming that refuses."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.errors import AimcError, BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.identity import canonical_json
from aimc_sim.signoff.execution.journal import open_journal
from aimc_sim.studies.store import Store


def opened(path: Path, plan: Any, **options: Any) -> Store:
    return open_journal(path, plan, "code 1", **options)


def test_rows_come_back_exactly_and_are_written_once(plan_with: Any, tmp_path: Path) -> None:
    path, values = tmp_path / "j.sqlite", {"kl": [0.1, 1 / 3, 5e-324], "agree": [1, 2, 3]}
    with opened(path, plan_with()) as journal:
        assert journal.claim("a")
        journal.finish("a", values, {"fact": {"x": 1.5}}, {"score": 2.0}, "0")
        assert not journal.claim("a"), "finished"
    with opened(path, plan_with()) as journal:
        row = journal.rows()["a"]
        assert json.loads(row.scores) == values
        assert row.seconds == {"score": 2.0}
        assert journal.facts() == {"fact": {"x": 1.5}}
        journal.finish("a", values, {}, {"score": 3.0}, "1")  # the same again: the first row stays
        assert journal.rows()["a"].seconds == {"score": 2.0}
        with pytest.raises(AimcError, match="different results"):
            journal.finish("a", {"kl": [0.2]}, {}, {}, "1")
        with pytest.raises(BadInput, match="not the same study"):
            journal.state("fact", {"x": 1.6})
    raw = sqlite3.connect(path)
    for change in (
        "UPDATE cells SET scores = ''",
        "DELETE FROM cells",
        "DELETE FROM facts",
        "DELETE FROM identity",
        "INSERT OR REPLACE INTO cells VALUES ('a', '{}', '{}', '0', '')",
        "INSERT OR REPLACE INTO facts VALUES ('fact', '1', '')",
        "INSERT OR REPLACE INTO identity VALUES ('code', 'code 2')",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="written once"):
            raw.execute(change)
    raw.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE cells SET scores = '{}'", "trial a was changed"),
        ("UPDATE cells SET scores = replace(scores, '0.1', '0.2')", "trial a was changed"),
        ("UPDATE cells SET name = 'b'", "trial b was changed"),
        ("UPDATE cells SET seconds = 'no json'", "trial a was changed"),
        ("UPDATE facts SET value = '2'", "fact known was changed"),
    ],
)
def test_a_row_that_was_edited_is_refused_and_named(
    plan_with: Any, tmp_path: Path, change: str, named: str
) -> None:
    path = tmp_path / "j.sqlite"
    with opened(path, plan_with()) as journal:
        journal.claim("a")
        journal.finish("a", {"kl": [0.1]}, {"known": 1}, {"score": 2.0}, "0")
        raw = sqlite3.connect(path)
        for table in ("cells", "facts"):
            raw.execute(f"DROP TRIGGER {table}_UPDATE")
        raw.execute(change)
        raw.commit()
        raw.close()
        with pytest.raises(BadInput, match=f"{named}.*--restart"):
            journal.rows(), journal.facts()
    with pytest.raises(BadInput, match=f"{named}.*--restart"):
        opened(path, plan_with())


def test_a_journal_of_another_schema_is_refused(plan_with: Any, tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    opened(path, plan_with()).close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 1")
    raw.commit()
    raw.close()
    with pytest.raises(BadInput, match=r"begun by another version of aimc-sim \(journals of schema 1"):
        opened(path, plan_with())


def test_a_claim_keeps_others_away_until_it_ends(
    plan_with: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.sqlite"
    with opened(path, plan_with()) as mine, opened(path, plan_with()) as other:
        assert mine.claim("a")
        assert mine.claim("a"), "its own"
        assert not other.claim("a")
    with opened(path, plan_with()) as mine, opened(path, plan_with()) as other:
        assert other.claim("a"), "closing gives claims back"
        assert not mine.claim("a")
        later = time.time() + 1e4  # the lease has run out: its owner, on another machine, has gone
        monkeypatch.setattr("aimc_sim.studies.store.time.time", lambda: later)
        assert mine.claim("a")
    with opened(path, plan_with()) as again:
        assert again.claim("a"), "closing gives claims back"


def test_the_claim_of_a_dead_process_is_free_at_once(plan_with: Any, tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with opened(path, plan_with()) as journal:
        host, _, started, _ = journal.owner.rsplit(":", 3)
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        for owner, free in (
            (f"{host}:{gone.pid}:{started}:0", True),
            (
                f"{host}:{os.getpid()}:1:0",
                True,
            ),  # the number is in use again, by a process that started later
            (f"another-machine:{gone.pid}:{started}:0", False),
        ):
            raw = sqlite3.connect(path)
            raw.execute("INSERT OR REPLACE INTO claims VALUES ('a', ?, ?)", (owner, time.time() + 1e4))
            raw.commit()
            raw.close()
            assert journal.claim("a") is free, owner


def test_another_plan_or_other_code_is_refused_and_named(plan_with: Any, tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    opened(path, plan_with()).close()
    before = path.read_bytes()
    hardware = Hardware.load({"base": "hermes-256", "name": "hermes-256", "adc": {"bits": 6}})
    with pytest.raises(BadInput, match=r"variants.0.hardware.adc.bits was 8 and is 6"):
        opened(path, plan_with(hardware=hardware))
    with pytest.raises(BadInput, match=r"tasks.0.margin_nats was 0.6 and is 0.7"):
        opened(path, plan_with(margin_nats=0.7))
    with open_journal(path, plan_with(), "code 2") as journal:
        assert journal.computed_by == "code 1"
        with pytest.raises(BadInput, match="scored by code 1, and this is code 2"):
            journal.check_resumable()
    assert path.read_bytes() == before
    with opened(path, plan_with(margin_nats=0.7), restart=True) as fresh:
        assert fresh.finished() == set()
    assert path.with_name("j.sqlite.old").read_bytes() == before


def test_a_file_that_is_no_journal_is_refused(plan_with: Any, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 200)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    for name in ("text", "other"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(BadInput, match="not a journal"):
            opened(tmp_path / name, plan_with())
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(BadInput, match="cannot be used"):
        opened(tmp_path / "missing" / "j.sqlite", plan_with())


WORK = """
import itertools, json, sys
from pathlib import Path
from aimc_sim.signoff.design.plan import Plan
from aimc_sim.signoff.execution.journal import open_journal
from aimc_sim.studies.store import Store
plan = Plan.model_validate_json(Path(sys.argv[2]).read_text())
with open_journal(Path(sys.argv[1]), plan, "code 1") as journal:
    print("ready", flush=True)
    sys.stdin.readline()
    shared = {f"trial {trial}" for trial in range(60)}
    def work(trials):
        for trial in trials:
            if journal.claim(f"trial {trial}"):
                print(trial, flush=True)
                journal.finish(f"trial {trial}", {"kl": [trial / 7] * 50}, {}, {"score": 0.1}, sys.argv[3])
    while not shared <= journal.finished():
        work(range(60))
    if sys.argv[3] != "0":
        work(itertools.count(1000 * int(sys.argv[3])))
"""


@pytest.mark.under_load
def test_kills_lose_nothing_and_two_processes_do_not_collide(plan_with: Any, tmp_path: Path) -> None:
    """Two processes share one journal; one of them is killed, again and again, in the middle. They begin together, for
    importing takes longer than all the trials, and one that is to be killed goes on with trials of its own."""
    path, plan_file = tmp_path / "j.sqlite", tmp_path / "plan.json"
    plan_file.write_text(canonical_json(plan_with().model_dump(mode="json")))
    opened(path, plan_with()).close()

    def start(number: int) -> subprocess.Popen[str]:
        line = [sys.executable, "-c", WORK, str(path), str(plan_file), str(number)]
        worker = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    def begin(worker: subprocess.Popen[str]) -> None:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()

    said: list[str] = []
    steady = start(0)
    victims = [start(1), start(2)]
    begin(steady)
    for number, victim in enumerate(victims, 1):
        begin(victim)
        assert victim.stdout is not None
        for _ in range(4 * number):
            said.append(victim.stdout.readline().strip())
        victim.send_signal(signal.SIGKILL)
        rest, _ = victim.communicate()
        assert victim.returncode == -signal.SIGKILL
        said += rest.split()
    out, _ = steady.communicate(timeout=300)
    said += out.split()
    with opened(path, plan_with()) as journal:
        rows = journal.rows()
    assert {f"trial {trial}" for trial in range(60)} <= rows.keys() <= {f"trial {trial}" for trial in said}
    assert all(json.loads(row.scores)["kl"][0] == int(name[5:]) / 7 for name, row in rows.items())
    assert len(said) - len(rows) <= len(victims), "only trials in flight were computed twice"
