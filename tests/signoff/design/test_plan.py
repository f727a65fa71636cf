"""A plan is a frozen value with an id; what cannot run is refused before anything does."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import FileText, SelfText
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.plan import Plan
from aimc_sim.signoff.design.trials import Trial, trials_of


def test_equal_plans_have_equal_ids_and_every_choice_counts(plan_with: Any) -> None:
    plan = plan_with()
    assert plan.id == plan_with().id
    assert Plan.parse(plan.model_dump(mode="json"), "plan") == plan
    changes: list[dict[str, Any]] = [
        {"weights": "1" * 64}, {"hardware": Hardware.load("pcm-512")}, {"chips": 5}, {"times_s": (60.0,)}, {"seed": 7},
        {"margin_nats": 0.61}, {"text": SelfText(sequences=7, length=21)}, {"metric": "loss"}, {"alpha": 0.05},
        {"session": 1}, {"threads": 2}, {"batch": 2}, {"text": FileText(name="a", sha256="0" * 64)},
    ]  # fmt: skip
    ids = {plan.id, *(plan_with(**change).id for change in changes)}
    assert len(ids) == 1 + len(changes)


def test_trials_go_chip_by_chip(plan_with: Any) -> None:
    trials = trials_of(plan_with(chips=2, seed=5))
    assert trials == (
        Trial("digital", task="text"),
        Trial("converters", None, None, "hermes-256", "text"),
        Trial("chip", 5, 60.0, "hermes-256", "text"),
        Trial("chip", 5, 86400.0, "hermes-256", "text"),
        Trial("chip", 6, 60.0, "hermes-256", "text"),
        Trial("chip", 6, 86400.0, "hermes-256", "text"),
    )


@pytest.mark.parametrize("labels", [("a b", "a-b"), ("..", "b"), ("a/b", "c"), ("a", "a")])
def test_labels_name_folders_of_their_own(plan_with: Any, labels: tuple[str, str]) -> None:
    plan = plan_with()
    table = plan.model_dump(mode="json")
    table["tasks"] = [{**table["tasks"][0], "label": label} for label in labels]
    with pytest.raises(BadInput, match=r"folder|called"):
        Plan.parse(table, "plan")


def test_times_are_sorted_and_counted_once(plan_with: Any) -> None:
    assert plan_with(times_s=(3600.0, 60.0, 3600.0)).times_s == (60.0, 3600.0)


def test_samples_are_scored_whole_and_files_in_windows(plan_with: Any) -> None:
    assert (plan_with(context=512).tasks[0].context, plan_with().tasks[0].batch) == (21, 48)
    text = FileText(name="a.txt", sha256="0" * 64)
    assert plan_with(text=text).tasks[0].context == 1024
    assert plan_with(text=text, context=512).tasks[0].batch == 2


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"chips": 0}, "chips"),
        ({"times_s": (1e12,)}, "time for device"),
        ({"times_s": (-1.0,)}, "time"),
        ({"times_s": ()}, "times_s"),
        ({"margin_nats": -0.1}, "margin_nats"),
        ({"margin_nats": float("nan")}, "plan"),
        ({"alpha": 0.7}, "alpha"),
        ({"seed": -1}, "seed"),
        ({"batch": -2}, "batch"),
    ],
)
def test_what_cannot_run_is_refused(plan_with: Any, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(BadInput, match=what):
        plan_with(**changes)


def test_a_plan_is_read_back_without_the_files_that_its_hardware_names(
    plan_with: Any, tmp_path: Path
) -> None:
    """As a worker and a journal need it."""
    faults = tmp_path / "map.csv"
    faults.write_text("matrix,row,column,polarity,state\nlayer,1,2,+,high\n")
    mapped = Hardware.load({"base": "hermes-256", "name": "mapped", "faults": {"map": str(faults)}})
    plan = plan_with(hardware=mapped)
    faults.unlink()
    assert pickle.loads(pickle.dumps(plan)) == plan
    again = Plan.parse(plan.model_dump(mode="json"), "plan")
    assert (again, again.id) == (plan, plan.id)
    assert again.variants[0].hardware == mapped


def test_the_id_of_a_hardware_is_that_of_its_tables_whatever_is_written(plan_with: Any) -> None:
    hardware = Hardware.load("hermes-256")
    table = plan_with().model_dump(mode="json")
    for said in ({"hardware_id": "0" * 16}, {}):
        del table["variants"][0]["hardware_id"]
        table["variants"][0] |= said
        assert Plan.parse(table, "plan").variants[0].hardware_id == hardware.id
        table["variants"][0].setdefault("hardware_id", "")
    table["variants"][0]["hardware"]["tile"] = 7
    with pytest.raises(BadInput, match=r"variants\.0\.hardware\.tile"):
        Plan.parse(table, "plan")


def test_a_part_is_written_flat_and_its_id_is_of_that(plan_with: Any) -> None:
    plan = plan_with(alpha=0.05)
    part = plan.part("hermes-256", "text", chips=2, alpha=0.01)
    written = part.model_dump(mode="json")
    assert list(written) == [
        "schema_version", "weights", "hardware", "hardware_id", "ranges_id", "seeds", "times_s", "session", "alpha",
        "text", "context", "batch", "metric", "margin_nats",
    ]  # fmt: skip
    assert (written["seeds"], written["alpha"], part.task) == ([0, 1], 0.01, plan.tasks[0])
    assert written["hardware"] == plan.variants[0].hardware.model_dump(mode="json")
    other = plan.model_copy(update={"tasks": (plan.tasks[0].model_copy(update={"label": "renamed"}),)})
    assert other.part("hermes-256", "renamed", chips=2, alpha=0.01).id == part.id
