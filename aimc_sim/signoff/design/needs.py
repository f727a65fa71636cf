"""Before the run: what each task's margin needs, with the task's own number of items, by what the plan file expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aimc_sim.evaluate.text import windows_of_file
from aimc_sim.signoff.design.plan_file import Asked, Expect, Resolved
from aimc_sim.signoff.design.tasks import AnyTask, TextTask
from aimc_sim.signoff.statistics import Expected, needed, power

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile


def needs_of(resolved: Resolved, asked: Asked, weight_file: WeightFile) -> list[dict[str, Any]]:
    """Return one table for each task with an expectation, JSON-ready: the power of this study, and how many chips or
    items would reach the target; None where no number does. A text file is cut into windows to count them.

    alpha is what Holm's correction leaves the first of several tasks: no task needs more.
    """
    tables, alpha = [], resolved.plan.alpha / len(resolved.plan.tasks)
    for task, expect in zip(resolved.plan.tasks, asked.expectations, strict=True):
        if expect is not None:
            items = expect.items or _items(task, resolved, weight_file)
            tables.append(_needs(task, expect, items, len(resolved.plan.seeds), alpha))
    return tables


def write_need(need: dict[str, Any]) -> str:
    """Write one line about what `needs_of` found."""
    chips, items = need["chips_needed"], need["items_needed"]
    more = [
        "no number of chips" if chips is None else f"{chips} chips",
        "no number of items" if items is None else f"{items} items",
    ]
    study = f"{need['task']}: {need['with_chips']} chips x {need['with_items']} items"
    shown = f"show the margin of {need['margin']:g} with probability {need['of_this_study']:.2f}"
    wanted = f"{need['target']:g} takes {more[0]} with these items, or {more[1]} with these chips"
    return f"{study} {shown} (alpha {need['alpha']:g}); {wanted}"


def _needs(task: AnyTask, expect: Expect, items: int, chips: int, alpha: float) -> dict[str, Any]:
    expected = Expected(expect.effect, expect.chip_sd, expect.item_sd, expect.interaction_sd)
    margin, target = task.margin, expect.power
    # Spread needs two of each to be seen.
    chips, items = max(chips, 2), max(items, 2)
    of_chips = needed(expected, margin, items=items, target=target, alpha=alpha)
    of_items = needed(expected, margin, chips=chips, target=target, alpha=alpha)
    return {
        "task": task.label,
        "margin": margin,
        "alpha": alpha,
        "of_this_study": power(expected, chips, items, margin, alpha),
        "target": target,
        "chips_needed": of_chips.chips if of_chips.enough else None,
        "with_items": items,
        "items_needed": of_items.items if of_items.enough else None,
        "with_chips": chips,
    }


def _items(task: AnyTask, resolved: Resolved, weight_file: WeightFile) -> int:
    """Count questions, or windows of a text."""
    if not isinstance(task, TextTask):
        return task.questions
    if task.text.kind == "self":
        return task.text.sequences
    path = resolved.text_paths[task.label]
    return len(windows_of_file(weight_file, path, task.context, task.text.limit_tokens))
