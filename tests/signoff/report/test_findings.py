"""What a finished study says about its parts when they are judged together."""

from __future__ import annotations

from typing import Any

from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.plan import Plan, plan_of
from aimc_sim.signoff.report.document import document_of
from aimc_sim.signoff.report.findings import findings_of

TEXT = {"kind": "self", "sequences": 6, "length": 21}
MARGIN = 0.562  # of which the fake bench is as sure as p = 0.02


def plan_for(*labels: str) -> Plan:
    return plan_of(
        weights="0" * 64,
        hardware=[Hardware.load("hermes-256")],
        tasks=[
            {"kind": "text", "label": label, "text": TEXT, "context": 21, "batch": 4, "margin_nats": MARGIN}
            for label in labels
        ],
        chips=4,
        times_s=(60.0, 86400.0),
    )


def test_three_tasks_that_would_pass_alone_do_not_pass_together(fake: Any) -> None:
    """0.02 is below alpha = 0.025, and three times it, as Holm counts the first of three tasks, is not."""
    (alone,) = findings_of(fake.run_fake_study(plan_for("one")))
    assert (round(alone.p_value, 2), alone.p_holm, alone.passed) == (0.02, alone.p_value, True)
    together = findings_of(fake.run_fake_study(plan_for("one", "two", "three")))
    assert [each.p_value for each in together] == [alone.p_value] * 3
    assert [round(each.p_holm, 2) for each in together] == [0.06] * 3
    assert [each.verdict.passed for each in together] == [True] * 3
    for each in together:
        document = document_of(each.result, findings=each)
        assert (document["verdict"]["pass"], document["statistics"]["pass"]) == (False, False)
        assert "alone it would pass" in document["verdict"]["summary"]
