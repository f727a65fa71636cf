"""Two sign-offs, paired on shared chips and items, and what cannot be paired."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.report.pages import to_json
from aimc_sim.signoff.comparison import write
from aimc_sim.signoff.report import document as report
from aimc_sim.signoff.report import files
from aimc_sim.signoff.report.findings import findings_of
from aimc_sim.signoff.report.pairs import comparison_of as compare
from aimc_sim.signoff.report.saved import Side, load
from aimc_sim.signoff.statistics import paired


def text_report(plan_with: Any, fake: Any, worse: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A report whose chips have `worse` nats a token more on every window than those of the fake bench."""
    document = report.document_of(fake.run_fake(plan_with(**changes)))
    tokens = np.array(document["windows"]["tokens"])
    for chip in document["windows"]["chips"]:
        for key in ("kl", "nll"):
            chip[key] = (np.array(chip[key]) + worse * tokens).tolist()
    return document


def sides(one: dict[str, Any], two: dict[str, Any]) -> tuple[Side, Side]:
    return Side("old", (one,)), Side("new", (two,))


@pytest.mark.parametrize("metric", ["kl", "loss"])
def test_a_shift_is_found_exactly_however_noisy_the_studies_are(
    plan_with: Any, fake: Any, metric: str
) -> None:
    before = text_report(plan_with, fake, metric=metric)
    after = text_report(plan_with, fake, worse=0.03, metric=metric)
    own = before["rows"]["times"][1][{"kl": "kl_nats", "loss": "loss_increase_nats"}[metric]]["interval_95"]
    found = compare(*sides(before, after), margin=0.04)
    assert (found["pass"], found["parts"][0]["chips"], found["parts"][0]["items"]) == (True, 4, 6)
    for at in found["parts"][0]["times"]:
        assert at["mean"] == pytest.approx(0.03)
        assert at["after"] - at["before"] == pytest.approx(0.03)
        low, high = at["interval_95"]
        assert high - low < 0.01 * (own[1] - own[0]), "what both share cancels"
    assert not compare(*sides(before, after), margin=0.02)["pass"]
    back = compare(*sides(after, before), margin=0.0)
    assert back["pass"], "an improvement"
    plain = compare(*sides(before, after))
    assert (plain["pass"], plain["parts"][0]["pass"]) == (None, None)
    assert plain["parts"][0]["summary"].endswith("worse.")


def test_the_figures_are_those_of_paired(fake: Any) -> None:
    before = report.document_of(fake.run_fake(fake.answers_plan(), fake.FakeAnswers()))
    after = copy.deepcopy(before)
    for chip in after["answers"]["chips"]:
        chip["acc"][1] = 0  # one question more is lost, by every chip
    found = compare(*sides(before, after), margin=0.1)
    at = found["parts"][0]["times"][1]
    scores = [
        [chip["acc"] for chip in each["answers"]["chips"] if chip["time_s"] == 86400.0]
        for each in (before, after)
    ]
    expected = paired(-np.array(scores[1], float), -np.array(scores[0], float))
    assert at["mean"] == pytest.approx(expected.mean) == pytest.approx(1 / 60)
    assert at["interval_95"] == pytest.approx(list(expected.interval))
    chip = at["chips"][0]
    assert (chip["seed"], chip["lost"], chip["won"], chip["p_mcnemar"]) == (0, 1, 0, 1.0)
    assert found["parts"][0]["unit"] == "share of questions"


def test_identical_scores_of_a_text_differ_by_exactly_nothing(plan_with: Any, fake: Any) -> None:
    """Real numbers do not agree to the last bit by chance: the interval is [0, 0], and any margin holds."""
    one = text_report(plan_with, fake)
    found = compare(*sides(one, one), margin=0.0)
    assert found["pass"]
    for at in found["parts"][0]["times"]:
        assert (at["mean"], at["interval_95"], at["upper_bound"]) == (0.0, [0.0, 0.0], 0.0)
    assert compare(*sides(one, one))["parts"][0]["summary"].endswith("the same on every window.")


@pytest.mark.parametrize("questions", [20, 60, 1000])
def test_identical_marks_leave_what_so_many_questions_cannot_rule_out(fake: Any, questions: int) -> None:
    """Other questions may flip: the bound is the rule of three at 97.5 %, up to the width of the score interval."""
    one = report.document_of(fake.run_fake(fake.answers_plan(), fake.FakeAnswers(questions)))
    found = compare(*sides(one, one))
    at = found["parts"][0]["times"][0]
    exact = 1 - 0.025 ** (1 / questions)  # Clopper & Pearson's upper bound of no flips
    assert at["mean"] == 0.0
    assert exact <= at["upper_bound"] <= 1.1 * exact
    assert at["interval_95"] == pytest.approx([-at["upper_bound"], at["upper_bound"]])
    assert found["parts"][0]["summary"].endswith("the same on every question.")
    assert any("no answer differs from the reference's" in note for note in found["notes"])
    narrow = compare(*sides(one, one), margin=0.9 * exact)
    assert narrow["undecided"]
    assert "More shared chips cannot decide it" in narrow["parts"][0]["summary"]
    assert compare(*sides(one, one), margin=1.1 * exact)["pass"]


def test_only_shared_chips_and_times_count(plan_with: Any, fake: Any) -> None:
    before = text_report(plan_with, fake, chips=4, times_s=(60.0, 3600.0))
    after = text_report(plan_with, fake, chips=3, seed=2, times_s=(3600.0, 86400.0))
    part = compare(*sides(before, after))["parts"][0]
    assert [chip["seed"] for chip in part["times"][0]["chips"]] == [2, 3]
    assert [at["time_s"] for at in part["times"]] == [3600.0]
    assert "3 chips are in one sign-off only" in " ".join(compare(*sides(before, after))["notes"])


def test_one_chip_has_a_comparison_and_a_caveat(plan_with: Any, fake: Any) -> None:
    one = text_report(plan_with, fake, chips=1)
    found = compare(*sides(one, one))
    assert any("one chip only" in note for note in found["notes"])


def test_what_is_no_pair_is_refused(plan_with: Any, fake: Any) -> None:
    base = text_report(plan_with, fake)
    for change, message in (
        (lambda other: other["text"].update(id="else"), "scored on different items"),
        (lambda other: other["verdict"].update(metric="loss"), "judged by different metrics"),
        (lambda other: other["plan"].update(seeds=[7, 8, 9, 10]), "no chips are shared"),
        (lambda other: other["plan"].update(times_s=[1.0, 2.0]), "no times are shared"),
        (lambda other: other["statistics"].update(task="another"), "no task on the same hardware is in both"),
    ):
        other = copy.deepcopy(base)
        change(other)
        with pytest.raises(BadInput, match=message):
            compare(*sides(base, other))
    answers = report.document_of(fake.run_fake(fake.answers_plan(), fake.FakeAnswers()))
    answers["statistics"]["task"] = "text"
    with pytest.raises(BadInput, match="different items"):
        compare(*sides(base, answers))
    mixed = copy.deepcopy(answers)
    mixed["statistics"]["task"] = "sums"
    both = Side("a", (base, mixed)), Side("b", (base, mixed))
    with pytest.raises(BadInput, match="different units"):
        compare(*both, margin=0.1)
    assert compare(*both, margin=0.1, task="sums")["pass"] is not None
    with pytest.raises(BadInput, match=r"for 2 percentage points use 0\.02"):
        compare(*both, margin=2, task="sums")
    assert len(compare(*both)["parts"]) == 2


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({"questions": 20}, {"questions": 21}, r"asked differently \(20 and 21 questions\).*with its --limit"),
        ({"num_fewshot": 0}, {"num_fewshot": 5, "configuration": "lm_eval 1, tasks b"},
         r"asked differently \(with 0 and 5 worked examples\).*with its --num-fewshot"),
        ({}, {}, "as many questions in the same way, of different rows"),
        ({}, {"configuration": "lm_eval 2, tasks a"}, r"marked in different ways \(lm_eval 1, tasks a; lm_eval 2"),
        ({"questions": 20}, {"questions": 21, "configuration": "lm_eval 2, tasks a"}, "20 and 21 questions; lm_eval 1"),
        ({"configuration": None}, {"questions": 21}, "different questions, or marked in different ways"),
    ],
)  # fmt: skip
def test_what_differs_between_questions_is_said(
    fake: Any, before: dict[str, Any], after: dict[str, Any], says: str
) -> None:
    one = report.document_of(fake.run_fake(fake.answers_plan(), fake.FakeAnswers()))
    two = copy.deepcopy(one)
    for document, changes in ((one, before), (two, after)):
        document["plan"].update({"configuration": "lm_eval 1, tasks a", **changes})
    two["questions"]["id"] = "f" * 16
    with pytest.raises(BadInput, match=says):
        compare(*sides(one, two))


def test_other_hardware_on_each_side_is_one_pair_and_several_go_by_name(plan_with: Any, fake: Any) -> None:
    base = text_report(plan_with, fake)
    other = copy.deepcopy(base)
    other["statistics"]["hardware"] = "mine"
    assert compare(*sides(base, other))["parts"][0]["name"] == "text, hermes-256 to mine"
    both = Side("a", (base, other))
    found = compare(both, Side("b", (other,)))
    assert [part["hardware"] for part in found["parts"]] == [["mine", "mine"]]
    assert found["notes"][0] == "text on hermes-256 is in a only"


def test_releases_with_other_weights_are_compared_by_their_loss(plan_with: Any, fake: Any) -> None:
    """Less divergence from a digital model that is worse itself is no gain."""
    old, new = text_report(plan_with, fake), text_report(plan_with, fake)
    new["plan"]["weights"] = "1" * 64
    for chip in new["windows"]["chips"]:
        chip["kl"] = (0.5 * np.array(chip["kl"])).tolist()
        chip["nll"] = (np.array(chip["nll"]) + 0.3 * np.array(new["windows"]["tokens"])).tolist()
    found = compare(*sides(old, new), margin=0.1)
    assert found["pass"] is False
    assert (found["parts"][0]["metric"], found["parts"][0]["times"][0]["mean"]) == (
        "loss",
        pytest.approx(0.3),
    )
    assert "its own digital model" in found["notes"][0]
    new["plan"]["weights"] = old["plan"]["weights"]
    assert compare(*sides(old, new), margin=0.1)["pass"], "on one digital model it would be"


def test_tasks_of_one_hardware_are_corrected_together(plan_with: Any, fake: Any) -> None:
    """One difference with an upper bound just within the margin passes alone, and not as one of two."""
    base = text_report(plan_with, fake)
    noisy = copy.deepcopy(base)
    for chip in noisy["windows"]["chips"]:
        lift = 0.01 * np.array(noisy["windows"]["tokens"]) * np.arange(6) * (1 + chip["seed"])
        chip["kl"] = (np.array(chip["kl"]) + lift).tolist()
    bound = compare(*sides(base, noisy))["parts"][0]["times"][-1]["upper_bound"]
    second = [copy.deepcopy(each) for each in (base, noisy)]
    for each in second:
        each["statistics"]["task"] = "again"
    margin = 1.001 * bound
    assert compare(*sides(base, noisy), margin=margin)["pass"]
    two = compare(Side("old", (base, second[0])), Side("new", (noisy, second[1])), margin=margin)
    assert [part["pass"] for part in two["parts"]] == [False, False]
    assert "(Holm)" in two["parts"][0]["summary"]
    assert two["undecided"]


def test_files_are_read_and_written(plan_with: Any, fake: Any, tmp_path: Path) -> None:
    for name, worse in (("old", 0.0), ("new", 0.01)):
        (tmp_path / name).mkdir()
        text = to_json(text_report(plan_with, fake, worse=worse))
        (tmp_path / name / "report.json").write_text(text)
    found = compare(load(tmp_path / "old"), load(tmp_path / "new" / "report.json"), margin=0.1)
    paths = write(found, tmp_path / "out")
    assert [path.name for path in paths] == ["compare.json", "compare.html", "compare.md"]
    assert json.loads(paths[0].read_text())["pass"] is True
    assert "<script" not in paths[1].read_text()
    assert paths[2].read_text().startswith("## Pass: ")
    again = write(
        compare(load(tmp_path / "old"), load(tmp_path / "new" / "report.json"), margin=0.1), tmp_path / "b"
    )
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def written(folder: Path, plan_with: Any, fake: Any, **changes: Any) -> Path:
    """The folder of a sign-off of two hardware variants."""
    pair = (Hardware.load("hermes-256"), Hardware.load("pcm-512"))
    study = fake.run_fake_study(plan_with(hardware=pair, **changes))
    documents = [report.document_of(each.result, findings=each) for each in findings_of(study)]
    folder.mkdir(exist_ok=True)
    files.write_all(documents, files.summary_of(documents, study.plan.id, [], ""), folder)
    return folder


def test_a_folder_holds_the_reports_that_its_summary_lists(plan_with: Any, fake: Any, tmp_path: Path) -> None:
    folder = written(tmp_path / "one", plan_with, fake)
    stale = folder / "another" / "text"
    stale.mkdir(parents=True)
    (stale / "report.json").write_text(to_json(text_report(plan_with, fake, seed=9)))
    found = load(folder)
    assert [each["statistics"]["hardware"] for each in found.reports] == ["hermes-256", "pcm-512"]
    assert found.name == "one"

    other = written(tmp_path / "two", plan_with, fake, seed=3)
    mixed = Path("pcm-512") / "text" / "report.json"
    (folder / mixed).write_bytes((other / mixed).read_bytes())
    with pytest.raises(BadInput, match="reports of different plans lie in one folder"):
        load(folder)
    (other / "report.json").write_bytes((other / mixed).read_bytes())
    with pytest.raises(BadInput, match=r"report\.json and summary\.json in it are of different plans"):
        load(other)
    (other / "report.json").unlink()
    (other / mixed).unlink()
    with pytest.raises(BadInput, match="it cannot be read"):
        load(other)
    (other / "summary.json").write_text("{}")
    with pytest.raises(BadInput, match="not the summary of a sign-off"):
        load(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "it cannot be read"),
        ("{", "it is not JSON"),
        ("[]", "not the report of a sign-off"),
        ('{"format": "aimc-sim sign-off", "schema_version": 99}', "reads schema_version 1"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=message):
        load(path)
    with pytest.raises(BadInput, match=r"there is no report\.json in it"):
        load(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    found = folder / "empty"
    found.mkdir()
    return found
