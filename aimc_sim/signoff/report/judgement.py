"""From scores to figures and a verdict: means with intervals at every time, and the gate at the worst one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from aimc_sim.report.words import spoken
from aimc_sim.signoff.design.part import Part
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.results import Result
from aimc_sim.signoff.report.figures import Figure, Figures, loss_in_words, measure_of
from aimc_sim.signoff.statistics import NonInferiority, non_inferior


@dataclass(frozen=True)
class AtTime:
    """This is what all chips show at one time.

    figures: by name, over chips and items. chips: (chips,) of the same, one chip each, in the order of the seeds.
    gate: of the loss that the plan's metric is about, in its unit.
    """

    time_s: float
    figures: dict[str, Figure]
    chips: tuple[dict[str, float | None], ...]
    gate: NonInferiority


@dataclass(frozen=True)
class Judgement:
    """A judgement is a pass if at every listed time the one-sided upper bound of the mean effect is at most the
    margin.

    Passing at all times is passing at the worst, so several times need no correction (an intersection-union test).
    """

    passed: bool
    worst: AtTime
    summary: str


def at_times(result: Result, found: Figures) -> tuple[AtTime, ...]:
    """Return figures of every listed time, in order."""
    part, (losses, weights) = result.part, result.losses()
    return tuple(
        AtTime(
            time_s,
            found.at(time_s),
            tuple(found.row(Trial("chip", seed, time_s)) for seed in part.seeds),
            non_inferior(
                table,
                0.0,
                part.task.margin,
                part.alpha,
                higher_is_better=False,
                weights=weights,
                marks=weights is None,
            ),
        )
        for time_s, table in zip(part.times_s, losses, strict=True)
    )


def decide(part: Part, times: tuple[AtTime, ...], undecidable: bool = False) -> Judgement:
    """Judge all times together: the verdict is decided by the one with the highest bound. undecidable: the looks ended
    because no number of chips can decide.
    """
    worst = max(times, key=lambda at: (at.gate.bound, at.gate.loss.mean))
    return Judgement(worst.gate.passed, worst, _summary(part, times, worst, undecidable))


def what_could_decide(
    gates: Iterable[NonInferiority], more: str, chips: str = "chips", undecidable: bool = False
) -> str:
    """Write a sentence for an open verdict. more: items, in words."""
    if undecidable or any(gate.items_alone for gate in gates):
        return (
            f"More {chips} cannot decide it, because so few {more} alone leave more doubt than the margin: more {more} "
            "could, or a wider margin."
        )
    return f"More {chips} or more {more} could still decide."


def among_tasks(part: Part, verdict: Judgement) -> str:
    """Write the sentence of a verdict that passes by itself, and not with Holm's correction over the tasks."""
    measure, worst = measure_of(part.task.metric), verdict.worst
    margin = measure.write(part.task.margin)
    return (
        f"Not shown to be within the margin of {margin} {measure.units(margin)} once the tasks of this hardware are "
        f"counted together (Holm): after {spoken(worst.time_s)} the mean {loss_in_words(part.task.metric)} is "
        f"{measure.write(worst.gate.loss.mean)}, and alone it would pass. More chips or items could still decide."
    )


def _summary(part: Part, times: tuple[AtTime, ...], worst: AtTime, undecidable: bool) -> str:
    """Write one plain sentence that stands on its own."""
    measure, gate, name = measure_of(part.task.metric), worst.gate, loss_in_words(part.task.metric)
    mean, bound, margin = (
        measure.write(gate.loss.mean),
        measure.write(gate.bound),
        measure.limit(part.task.margin),
    )
    among = f", the worst of {len(times)} times," if len(times) > 1 else ""
    when, items = f"after {spoken(worst.time_s)}{among} the", f"{measure.item}s"
    not_shown = f"Not shown to be within the margin of {margin} {measure.units(margin)}: {when}"
    if not math.isfinite(gate.bound):
        return (
            f"{not_shown} {name} is {mean}, from one chip on one {measure.item}, which gives no interval. "
            f"Use more chips or more {items}."
        )
    if gate.straddles:
        more = what_could_decide((at.gate for at in times), items, undecidable=undecidable)
        return f"{not_shown} mean {name} is {mean}, but it may be as high as {bound}. {more}"
    start = f"{when.capitalize()} mean {name} is {mean} {measure.units(mean)}"
    if gate.passed:
        sure = f"with {100 * (1 - part.alpha):g} % confidence"
        return f"{start} and {sure} at most {bound}: within the margin of {margin}."
    return f"{start}, beyond the margin of {margin} even at the low end of its interval."
