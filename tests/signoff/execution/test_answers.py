"""Questions as tasks of a sign-off: marked against the digital model, the same in every worker, in every report."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.continuations import likelihoods
from aimc_sim.evaluate.questions import load_questions
from aimc_sim.evaluate.text import load_tokenizer
from aimc_sim.hardware import Hardware
from aimc_sim.report.pages import to_json
from aimc_sim.signoff.design.cells import Cell, cells_of
from aimc_sim.signoff.design.plan import plan_of
from aimc_sim.signoff.design.tasks import HarnessTask
from aimc_sim.signoff.execution.answers import items_of, marker
from aimc_sim.signoff.execution.bench import Outcome
from aimc_sim.signoff.execution.results import AnswersResult
from aimc_sim.signoff.execution.run import run_cells, run_plan
from aimc_sim.signoff.execution.scores import CellScores
from aimc_sim.signoff.report.document import document_of
from aimc_sim.signoff.report.findings import alone, findings_of
from aimc_sim.signoff.report.html import render
from aimc_sim.torch_bridge import load_model
from aimc_sim.weightfile import WeightFile

logging.getLogger("lm_eval").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def weights(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, local_tasks: Any) -> Path:
    folder: Path = local_tasks.write_choice_task(tmp_path_factory.mktemp("tasks"))
    local_tasks.write_text_task(folder)
    return folder


def table(questions: Any, **changes: Any) -> dict[str, Any]:
    base = {
        "kind": "harness", "label": questions.name, "task": questions.name, "questions_id": questions.id,
        "questions": len(questions.items), "metric": questions.metrics[0], "batch": 64, "margin": 0.3,
    }  # fmt: skip
    return {**base, **changes}


def plan_for(weights: WeightFile, *tables: dict[str, Any], chips: int = 2, **changes: Any) -> Any:
    return plan_of(
        weights=weights.id,
        hardware=[weights.hardware],
        tasks=tables,
        chips=chips,
        times_s=(60.0, 86400.0),
        **changes,
    )


class Marked:
    """A bench of 10 questions: chip s has the first s + 2 of the 8 right answers wrong after a day, and none before."""

    def run(self, cell: Cell, on_step: Any) -> Outcome:
        right = np.array([1] * 8 + [0] * 2)
        if cell.kind == "chip" and cell.time_s == 86400.0:
            assert cell.seed is not None
            right[: cell.seed + 2] = 0
        facts: dict[str, Any] = {}
        if cell.kind == "converters":
            facts = {
                f"coverage/{cell.variant}": {"rows": [], "tokens": 1, "unused": []},
                f"ranges_id/{cell.variant}": "0" * 16,
            }
        return Outcome(CellScores({"acc": right, "choice": right - 1, "plain_acc": 0.5 * right}), facts)


def marked(**changes: Any) -> AnswersResult:
    task = {
        "kind": "harness", "label": "t", "task": "t", "questions_id": "0" * 16, "questions": 10, "margin": 0.5,
        **changes,
    }  # fmt: skip
    plan = plan_of(
        weights="w", hardware=[Hardware.load("hermes-256")], tasks=[task], chips=3, times_s=(60.0, 86400.0)
    )
    examples = [
        {"id": str(n), "question": f"Is <{n}> so?", "choices": ["no", "yes"], "answer": 1} for n in range(10)
    ]
    empty = {"lengths": [], "ids": ""}
    items = {"kind": "likelihood", "examples": examples, "contexts": empty, "continuations": empty,
             "context_of": [], "longest": 9}  # fmt: skip
    result = run_cells(plan, Marked(), {"t": items}).only
    assert isinstance(result, AnswersResult)
    return result


def test_losses_are_answers_lost_against_the_digital_model() -> None:
    result = marked()
    early, late = alone(result).times
    assert (early.gate.loss.mean, early.figures["acc"].mean) == (0.0, 0.8)
    assert late.gate.loss.mean == pytest.approx(0.3)
    assert late.gate.loss.chip_means == pytest.approx((0.2, 0.3, 0.4))
    assert late.figures["plain_acc"].mean == pytest.approx(0.25)
    assert late.gate.loss.rates is not None, "right/wrong answers have intervals of their own"
    document = document_of(result)
    assert document["verdict"]["unit"] == "share of questions"
    assert document["verdict"]["mean"] == pytest.approx(0.3)
    assert (
        "the margin of 50 percentage points: after 1 day, the worst of 2 times, the mean loss of accuracy against the "
        "digital model is 30.0, but" in document["verdict"]["summary"]
    )
    worst = document["rows"]["times"][1]["chips"][2]
    assert (worst["seed"], worst["lost"], worst["won"]) == (2, 4, 0)
    assert worst["acc"] == pytest.approx(0.4)
    assert worst["p_mcnemar"] == pytest.approx(0.125)
    assert document["answers"]["chips"][-1]["choice"] == [-1] * 4 + [0] * 4 + [-1] * 2
    assert document["statistics"]["worst_chip"]["seed"] == 2


def test_the_page_names_the_questions_that_were_lost() -> None:
    document = document_of(marked())
    assert [(each["id"], each["chips_lost"]) for each in document["flips"]["examples"]] == [
        ("0", 3),
        ("1", 3),
        ("2", 2),
        ("3", 1),
    ]
    page = render(json.loads(to_json(document)))
    assert "3 of 3 chips" in page
    assert "Is &lt;0&gt; so?" in page
    assert "<script" not in page
    assert "2 of 3 chips" in page


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_the_margin_decides(margin: float) -> None:
    found = document_of(marked(margin=margin))["verdict"]
    assert (found["outcome"], found["unit"]) == ("pass" if margin == 1.0 else "fail", "share of questions")
    if not margin:
        assert (
            "at the low end of its interval" in found["summary"]
            or "More chips or more questions" in found["summary"]
            or "More chips cannot decide it" in found["summary"]
        )


def test_a_study_asks_chips_what_it_asks_the_digital_model(weights: WeightFile, tasks: Path) -> None:
    questions = {name: load_questions(name, folder=tasks, limit=5) for name in ("sounds", "sums")}
    plan = plan_for(weights, *(table(each) for each in questions.values()))
    study = run_plan(plan, weights, questions=questions)
    sounds, sums = study.results
    assert isinstance(sounds, AnswersResult)
    assert [item["id"] for item in sounds.examples] == [f"q{n}" for n in range(5)]
    # The same requests, put to the same chip by hand.
    items = items_of(plan.task("sounds"), weights, questions["sounds"])
    mark = marker(plan.task("sounds"), items, questions["sounds"], weights)
    tokenizer = load_tokenizer(weights)
    requests = [
        (tokenizer.encode(context), tokenizer.encode(continuation))
        for item in questions["sounds"].items
        for context, continuation in item.requests
    ]
    chip = load_model(weights, seed=1, time=86400.0)
    found = likelihoods(chip, requests, 64)
    by_hand = mark(CellScores({"log": found.log, "greedy": found.greedy}))
    for name, values in sounds.chip(1, 86400.0).values.items():
        assert np.array_equal(values, by_hand.values[name])
    assert {cell.kind for cell in sums.scores} == {"digital", "converters", "chip"}
    assert sums.digital.values["choice"].tolist() == [-1] * 5
    documents = [document_of(result, weight_file=weights) for result in study.results]
    assert documents[0]["coverage"]["static_share"] == 1.0
    assert [each.result.part.task.label for each in findings_of(study)] == ["sounds", "sums"]


def test_workers_and_a_journal_give_the_same_bytes(weights: WeightFile, tasks: Path, tmp_path: Path) -> None:
    questions = {name: load_questions(name, folder=tasks, limit=4) for name in ("sounds", "sums")}
    plan = plan_for(weights, *(table(each) for each in questions.values()), chips=1)

    def text_of(**how: Any) -> list[str]:
        study = run_plan(plan, weights, questions=questions, **how)
        documents = [document_of(result, weight_file=weights) for result in study.results]
        return [to_json({**each, "timings": {}}) for each in documents]

    alone = text_of(journal=tmp_path / "journal.sqlite")
    assert text_of(journal=tmp_path / "journal.sqlite") == alone, "all from the journal"
    assert text_of(workers=2) == alone
    other = {**questions, "sounds": load_questions("sounds", folder=tasks, limit=3)}
    with pytest.raises(BadInput, match="questions of sounds"):
        run_plan(plan, weights, questions=other, journal=tmp_path / "journal.sqlite")
    with pytest.raises(BadInput, match="questions of s"):
        run_plan(plan, weights)


def test_prompts_that_leave_no_room_to_write_are_refused(
    weights: WeightFile, tmp_path: Path, local_tasks: Any
) -> None:
    folder = local_tasks.write_text_task(tmp_path, generation_kwargs={"until": [], "max_gen_toks": 256})
    questions = load_questions("sums", folder=folder, limit=1)
    with pytest.raises(BadInput, match="256 new tokens"):
        run_plan(plan_for(weights, table(questions)), weights, questions={"sums": questions})


def invoke(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_the_command_asks_tasks_and_prints_the_line_that_repeats_it(
    tiny_weights: Path, tasks: Path, tmp_path: Path
) -> None:
    line = ("signoff", tiny_weights, "--tasks", "sounds", "--tasks-dir", tasks, "--limit", 4, "--chips", 1,
            "--times", "1m", "--margin", 1.0, "--metric", "acc_norm", "--workers", 1)  # fmt: skip
    done = invoke(*line, "-o", tmp_path / "out")
    assert done.exit_code in (0, 1), done.output
    assert "accuracy" in done.stdout
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["plan"]["metric"] == "acc_norm"
    assert document["questions"]["count"] == 4
    assert f"--tasks sounds --metric acc_norm --limit 4 --tasks-dir {tasks}" in document["command"]
    assert "Questions lost" in (tmp_path / "out" / "report.html").read_text() or not document["flips"]
    assert "the margin of 1 is 100 percentage points" in done.stderr
    refused = invoke(*line[:-3], "acc_nrm", "-o", tmp_path / "other")
    assert refused.exit_code == 2
    refused = invoke(*line, "--margin", 2, "-o", tmp_path / "other")
    assert "--margin: got 2.0" in refused.stderr
    assert "for 2 percentage points use 0.02" in refused.stderr


def test_a_journal_of_answers_marked_in_another_way_is_refused(
    tiny_weights: Path, tmp_path: Path, local_tasks: Any
) -> None:
    def marked_by(regex: str) -> Any:
        steps = [{"function": "regex", "regex_pattern": regex}, {"function": "take_first"}]
        local_tasks.write_text_task(tmp_path, filter_list=[{"name": "strict", "filter": steps}])
        line = ("signoff", tiny_weights, "--tasks", "sums", "--tasks-dir", tmp_path, "--limit", 2, "--chips", 1,
                "--times", "1m", "--margin", 1.0, "--workers", 1, "-o", tmp_path / "out")  # fmt: skip
        return invoke(*line)

    done = marked_by("(the .*)")
    assert done.exit_code in (0, 1), done.output
    refused = marked_by("(an .*)")
    assert refused.exit_code == 2
    assert 'tasks.0.configuration was "lm_eval' in " ".join(refused.output.split())
    assert marked_by("(the .*)").exit_code == done.exit_code, "as it was, it goes on"


def test_a_plan_file_mixes_texts_and_questions(tiny_weights: Path, tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.h5").symlink_to(tiny_weights)
    shutil.copytree(tasks, tmp_path / "own")
    plan = """
weights = "tiny.h5"
times = "1m"
chips = 1
margin = 5.0
tasks_dir = "own"
limit = 3

[[task]]
sequences = 2
length = 8

[[task]]
harness = "sounds"
{margin}
"""
    (tmp_path / "plan.toml").write_text(plan.format(margin="margin = 0.5"))
    done = invoke("signoff", tmp_path / "plan.toml", "-o", tmp_path / "out", "--workers", 1)
    assert done.exit_code in (0, 1), done.output
    assert sorted(path.name for path in (tmp_path / "out" / "hermes-256").iterdir()) == ["sounds", "text"]
    (tmp_path / "plan.toml").write_text(plan.format(margin=""))
    refused = invoke("signoff", tmp_path / "plan.toml", "-o", tmp_path / "out2")
    assert refused.exit_code == 2
    assert "as a share" in refused.output, "a margin in nats is none of questions"
    (tmp_path / "plan.toml").write_text(plan.format(margin="margin = 0.5\ncontext = 9"))
    refused = invoke("signoff", tmp_path / "plan.toml", "-o", tmp_path / "out2")
    assert "it is about a text" in refused.output


def test_cells_of_questions_are_named_like_those_of_texts(weights: WeightFile) -> None:
    task = {
        "kind": "harness",
        "label": "t",
        "task": "t",
        "questions_id": "0" * 16,
        "questions": 1,
        "margin": 0.1,
    }
    plan = plan_for(weights, task, chips=1)
    assert isinstance(plan.task("t"), HarnessTask)
    assert cells_of(plan)[-1].name == "chip/hermes-256/t/0/86400.0"
    with pytest.raises(
        BadInput, match=r"0\.01 is one percentage point.* Next: for 2 percentage points use 0\.02"
    ):
        plan_for(weights, {**task, "margin": 2.0})
    with pytest.raises(BadInput, match="use 0 to 1"):
        plan_for(weights, {**task, "margin": 250.0})


def test_a_margin_that_is_hardly_meant_is_named_in_points() -> None:
    assert not any("percentage points" in note for note in document_of(marked(margin=0.49))["notes"])
    (note,) = (each for each in document_of(marked(margin=0.9))["notes"] if "percentage points" in each)
    assert "the margin of 0.9 is 90 percentage points" in note
    assert "a margin of 0.9 points is written 0.009" in note
