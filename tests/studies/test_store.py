"""The store of a study: what machines computed apart becomes one, and version 0.1's sweeps are taken over."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import AimcError, BadInput
from aimc_sim.identity import canonical_json
from aimc_sim.sizing.measurements import SWEEP
from aimc_sim.spec import Spec
from aimc_sim.studies.store import Store


class Plan(Spec):
    """A plan of two numbers."""

    a: int = 1
    b: int = 2


def filled(
    path: Path,
    rows: dict[str, object],
    facts: dict[str, object] | None = None,
    plan: Plan | None = None,
    code: str = "code 1",
) -> Path:
    """A store with these rows."""
    with Store(path, plan or Plan(), code=code) as store:
        for name, value in rows.items():
            assert store.claim(name)
            store.finish(name, value, facts or {}, {"score": 1.0}, "0")
    return path


def test_two_stores_of_one_plan_become_one(tmp_path: Path) -> None:
    mine = filled(tmp_path / "mine", {"x": [1.5], "y": [2.5]}, {"fact": 1})
    theirs = filled(tmp_path / "theirs", {"y": [2.5], "z": [1 / 3]}, {"fact": 1, "other": {"k": 2}})
    before = theirs.read_bytes()
    with Store(mine, Plan(), code="code 1") as store:
        assert store.merge(theirs) == 1, "both had y"
        assert store.merge(theirs) == 0
        assert store.values() == {"x": [1.5], "y": [2.5], "z": [1 / 3]}
        assert store.facts() == {"fact": 1, "other": {"k": 2}}
        assert not store.claim("z"), "finished"
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    ("rows", "facts", "plan", "code", "said"),
    [
        ({"y": [9.0]}, {}, Plan(), "code 1", "row y was computed twice, with different results"),
        ({"z": [1.0]}, {"fact": 2}, Plan(), "code 1", "fact: got '2'. the store says 1, so this is not the same study"),
        ({"z": [1.0]}, {}, Plan(b=3), "code 1", "it belongs to another plan: b was 3 and is 2"),
        ({"z": [1.0]}, {}, Plan(), "code 2", "its rows are of code 2, and those here of code 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_merged(
    rows: dict[str, object], facts: dict[str, object], plan: Plan, code: str, said: str, tmp_path: Path
) -> None:
    mine = filled(tmp_path / "mine", {"y": [2.5]}, {"fact": 1})
    theirs = filled(tmp_path / "theirs", {"a": [0.0], **rows}, facts, plan, code)
    with Store(mine, Plan(), code="code 1") as store:
        with pytest.raises(AimcError) as error:
            store.merge(theirs)
        assert said in str(error.value)
        assert (store.finished(), store.facts()) == ({"y"}, {"fact": 1})


def test_a_row_of_the_other_store_that_was_edited_is_refused(tmp_path: Path) -> None:
    mine, theirs = filled(tmp_path / "mine", {}), filled(tmp_path / "theirs", {"y": [2.5]})
    with sqlite3.connect(theirs) as raw:
        raw.execute("DROP TRIGGER cells_UPDATE")
        raw.execute("UPDATE cells SET scores = '[9.0]'")
    with Store(mine, Plan(), code="code 1") as store:
        with pytest.raises(BadInput, match="row y was changed since it was written"):
            store.merge(theirs)
        with pytest.raises(BadInput, match="no such file"):
            store.merge(tmp_path / "nowhere")
        assert store.finished() == set()
    assert not (tmp_path / "nowhere").exists()


def test_the_command_merges_stores(tmp_path: Path) -> None:
    rows: dict[str, dict[str, object]] = {"mine": {"x": 1}, "one": {"y": 2}, "two": {"y": 2, "z": 3}}
    mine, *others = (str(filled(tmp_path / name, each)) for name, each in rows.items())
    done = CliRunner().invoke(app, ["merge", mine, *others, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "store": mine,
        "new": dict(zip(others, (1, 1), strict=True)),
        "finished": 3,
    }
    again = CliRunner().invoke(app, ["merge", mine, *others])
    assert again.stdout.splitlines() == [f"{others[0]}: 0 new", f"{others[1]}: 0 new", f"{mine}: 3 finished"]
    nowhere = CliRunner().invoke(app, ["merge", str(tmp_path / "nowhere"), mine])
    assert (nowhere.exit_code, "no such file" in nowhere.output) == (2, True)
    assert not (tmp_path / "nowhere").exists()


def test_a_sweep_is_refused_by_its_fields_and_kept_whole(tmp_path: Path) -> None:
    with Store(tmp_path / "s", Plan(), SWEEP) as store:
        store.finish("n", [1.5], {}, {}, "0")
        with pytest.raises(AimcError, match="measurement n was computed twice"):
            store.finish("n", [9.0], {}, {}, "0")
    with Store(tmp_path / "s", Plan(), SWEEP) as store:
        assert store.values() == {"n": [1.5]}
    with pytest.raises(BadInput, match=r"the folder holds another sweep: its b differs\. "):
        Store(tmp_path / "s", Plan(b=3), SWEEP)
    with pytest.raises(BadInput, match=r"its a, b differ\. "):
        Store(tmp_path / "s", Plan(a=0, b=3), SWEEP)
    (tmp_path / "t").write_text("no database, and long enough to be looked at" * 20)
    with pytest.raises(BadInput, match="damaged, or not a sweep"):
        Store(tmp_path / "t", Plan(), SWEEP)


def of_version_0_1(path: Path, plan: Plan) -> Path:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE plan (id TEXT PRIMARY KEY, json TEXT NOT NULL)")
        raw.execute("CREATE TABLE found (name TEXT PRIMARY KEY, json TEXT NOT NULL)")
        raw.execute("INSERT INTO plan VALUES (?, ?)", (plan.id, canonical_json(plan.model_dump())))
        raw.execute("INSERT INTO found VALUES ('n', '[1.5]')")
    raw.close()
    return path


def test_a_sweep_of_version_0_1_is_taken_over_and_one_of_another_plan_stays_as_it_is(tmp_path: Path) -> None:
    path = of_version_0_1(tmp_path / "s", Plan())
    before = path.read_bytes()
    with pytest.raises(BadInput, match="its b differs"):
        Store(path, Plan(b=3), SWEEP)
    assert path.read_bytes() == before
    for _ in range(2):
        with Store(path, Plan(), SWEEP) as store:
            assert store.values() == {"n": [1.5]}
    with Store(of_version_0_1(tmp_path / "t", Plan()), Plan(), SWEEP) as store:
        assert store.merge(path) == 0


def test_a_store_that_bad_input_leaves_empty_goes_again(tmp_path: Path) -> None:
    """It would refuse the corrected plan. One with a row, or that was there before, stays."""

    def refuse(path: Path, row: bool) -> None:
        with Store(path, Plan()) as store:
            store.state("fact", 1)
            if row:
                store.claim("x")
                store.finish("x", 1, {}, {}, "0")
            raise BadInput("margin", why="it is not one")

    filled(tmp_path / "old", {})
    for name, row in (("new", False), ("begun", True), ("old", False)):
        with pytest.raises(BadInput, match="margin"):
            refuse(tmp_path / name, row)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "old"]


def test_a_store_in_memory_holds_rows_and_facts() -> None:
    with Store(None, Plan()) as store:
        assert store.claim("x")
        store.finish("x", [1 / 3], {"fact": 1}, {"score": 2.0}, "0")
        assert (store.values(), store.facts(), store.finished()) == ({"x": [1 / 3]}, {"fact": 1}, {"x"})
        assert not store.claim("x")
