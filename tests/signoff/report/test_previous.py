"""The previous release in a report: the numbers of `compare`, and what has no pair refused before anything runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import FileText, SelfText
from aimc_sim.report.pages import to_json
from aimc_sim.signoff.report import document as report
from aimc_sim.signoff.report.html import render
from aimc_sim.signoff.report.markdown import report_md
from aimc_sim.signoff.report.pairs import comparison_of as compare
from aimc_sim.signoff.report.previous import add_previous, check_previous
from aimc_sim.signoff.report.saved import Side


@pytest.mark.parametrize("asks", [False, True])
def test_a_report_holds_what_compare_says(plan_with: Any, fake: Any, asks: bool) -> None:
    def run(seed: int) -> dict[str, Any]:
        if asks:
            return report.document_of(fake.run_fake(fake.answers_plan(seed=seed), fake.FakeAnswers()))
        return report.document_of(fake.run_fake(plan_with(seed=seed)))

    before, after = Side("1.0", (run(0),)), run(1)
    assert after["previous"] is None
    wanted = compare(before, Side("now", (after,)))["parts"][0]
    add_previous([after], before)
    found = after["previous"]
    assert found["before"]["name"] == "1.0"
    assert found["before"]["plan_ids"] == [before.reports[0]["plan"]["id"]]
    assert found["times"] == wanted["times"]
    assert found["summary"] == wanted["summary"]
    assert found["chips"] == 3, "seeds 1 to 3 are shared"
    assert any("2 chips are in one sign-off only" in note for note in found["notes"])
    document = json.loads(to_json(after))
    page = render(document)
    assert "Against the previous release" in page
    assert "Worse by" in page
    assert "### Against 1.0" in report_md(document)
    other = run(1)
    assert "previous release" not in render(json.loads(to_json(other)))


def test_what_has_no_pair_is_refused_before_anything_runs(plan_with: Any, fake: Any) -> None:
    text = FileText(name="a", sha256="0" * 64)
    before = Side("old", (report.document_of(fake.run_fake(plan_with())),))
    check_previous(before, plan_with(seed=2))
    for changes, says in (
        ({"metric": "loss"}, "judged by different metrics"),
        ({"seed": 9}, "no chips are shared"),
        ({"times_s": (7.0,)}, "no times are shared"),
        ({"text": SelfText(sequences=6, length=22)}, "on different items"),
        ({"text": text}, "on different items"),
        ({"weights": "1" * 64}, "samples of a model change with its weights"),
    ):
        with pytest.raises(BadInput, match=says):
            check_previous(before, plan_with(**changes))
    of_file = report.document_of(fake.run_fake(plan_with(text=text)))
    check_previous(
        Side("old", (of_file,)), plan_with(text=text.model_copy(update={"name": "b"}), weights="1" * 64)
    )
    with pytest.raises(BadInput, match="no task on the same hardware is in both"):
        check_previous(before, fake.answers_plan())
    asked = report.document_of(fake.run_fake(fake.answers_plan(), fake.FakeAnswers()))
    plan = fake.answers_plan()
    check_previous(Side("old", (asked,)), plan)
    marked = {"questions_id": "f" * 16, "configuration": "lm_eval 9.9, tasks 1"}
    other = plan.model_copy(update={"tasks": (plan.tasks[0].model_copy(update=marked),)})
    with pytest.raises(BadInput, match="items of sums"):
        check_previous(Side("old", (asked,)), other)
    asked["plan"]["configuration"] = "lm_eval 0.4.13, tasks 1"
    with pytest.raises(BadInput, match=r"marked in different ways \(lm_eval 0\.4\.13, tasks 1; lm_eval 9\.9"):
        check_previous(Side("old", (asked,)), other)


def test_the_command_shows_the_previous_release(tiny_weights: Path, tmp_path: Path) -> None:
    def signoff(*more: object) -> Any:
        line = ("signoff", tiny_weights, "--sequences", 2, "--length", 8, "--chips", 1, "--times", "1d",
                "--margin", 50, "--workers", 1, *more)  # fmt: skip
        return CliRunner().invoke(app, [str(each) for each in line])

    first = signoff("-o", tmp_path / "old")
    assert first.exit_code == 0, first.output
    refused = signoff("--previous", tmp_path / "old", "--seed", 5, "-o", tmp_path / "new")
    assert refused.exit_code == 2
    assert "no chips are shared" in refused.stderr
    assert not (tmp_path / "new").exists()
    done = signoff("--previous", tmp_path / "old", "--session", 1, "-o", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert "against old, text on hermes-256: After 1 day the mean increase" in " ".join(done.stdout.split())
    found = json.loads((tmp_path / "new" / "report.json").read_text())
    assert found["previous"]["times"][0]["time_s"] == 86400.0
    line = shlex.split(found["command"])
    assert line[line.index("--previous") + 1] == str(tmp_path / "old")
