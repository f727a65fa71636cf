"""A sign-off beside that of the previous release: the comparison of `compare`, as a part of each report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aimc_sim.signoff.design.plan import Plan
from aimc_sim.signoff.report.pairs import check_metric, compare_part, matched, refuse_items, shared, side_of
from aimc_sim.signoff.report.saved import Document, Side


def check_previous(before: Side, plan: Plan) -> None:
    """Raise BadInput, before anything runs, where an earlier sign-off has no task of the plan, or one that it has was
    scored on other items, by another metric, or on no chip or time of the plan."""
    planned = [
        {
            "plan": plan.part(variant.label, task.label).model_dump(mode="json"),
            "statistics": {"hardware": variant.label, "task": task.label},
            "verdict": {"metric": task.metric},
        }
        for variant in plan.variants
        for task in plan.tasks
    ]
    pairs, _ = matched(before, Side("this plan", tuple(planned)), None)
    for old, new in pairs:
        check_metric(old, new)
        shared(old, new)
        items = [_items(report["plan"]) for report in (old, new)]
        if items[0] != items[1]:
            own = any(report["plan"].get("text", {}).get("kind") == "self" for report in (old, new))
            refuse_items(old, new, [str(each) for each in items], own)


def add_previous(documents: Sequence[Document], before: Side) -> None:
    """Fill ``previous`` of every report that has a partner in an earlier sign-off: docs/signoff.md says with what."""
    pairs, _ = matched(before, Side("this", tuple(documents)), None)
    for old, new in pairs:
        new["previous"] = {
            "before": side_of(before, [old]),
            **compare_part(old, new, None, new["plan"]["alpha"]),
        }


def _items(plan: Document) -> dict[str, Any]:
    """Return what a part of a plan scores, by content."""
    if "text" not in plan:
        return {"questions": plan["questions_id"]}
    text = {key: value for key, value in plan["text"].items() if key != "name"}
    if text["kind"] == "self":
        text["weights"] = plan["weights"]
    return {**text, "context": plan["context"]}
