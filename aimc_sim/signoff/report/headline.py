"""The first screen of a report in words: verdict, margin, effect, yields, lifetime. Every page and table shares it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from aimc_sim.report.words import interval, spoken
from aimc_sim.signoff.report.figures import measure_of

WORDS = {"pass": "Pass", "fail": "Fail", "open": "Not shown"}


@dataclass(frozen=True)
class Headline:
    """A headline is what a reader sees first. state: "pass", "fail", or "open": a fail that more chips or items could
    turn.

    Numbers are in the unit in words; interval is empty where there is none.
    """

    state: str
    summary: str
    effect: str
    unit: str
    interval: str
    bound: str
    margin: str
    margin_unit: str
    when: str
    on_items: str
    on_items_interval: str
    population: str
    population_bound: str
    lifetime: str
    lifetime_shown: str

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return WORDS[self.state]


def headline_of(verdict: dict[str, Any], statistics: dict[str, Any]) -> Headline:
    """Make the headline of a report, from the ``verdict`` and ``statistics`` of its document."""
    measure = measure_of(verdict["metric"])
    on_items, everywhere = statistics["yield_on_these_items"], statistics["yield_of_the_population"]
    crossed, still = lifetime_words(statistics["lifetime"])
    margin, effect = measure.limit(verdict["margin"]), measure.write(verdict["mean"])
    return Headline(
        state=state_of(verdict),
        summary=verdict["summary"],
        effect=effect,
        unit=measure.units(effect),
        interval=measure.span(verdict["interval_95"]),
        bound=measure.write(verdict["upper_bound"]),
        margin=margin,
        margin_unit=measure.units(margin),
        when=spoken(verdict["worst_time_s"]),
        on_items=f"{on_items['passes']} of {on_items['chips']} {'chip' if on_items['chips'] == 1 else 'chips'}",
        on_items_interval=interval(on_items["interval_95"], "{:.0f}".format, 100.0),
        population=_share(everywhere["share"]),
        population_bound=_share(everywhere["lower_bound_95"]),
        lifetime=crossed,
        lifetime_shown=still,
    )


def state_of(verdict: dict[str, Any]) -> str:
    """Return "pass", "fail" or "open"."""
    return "pass" if verdict["pass"] else "open" if verdict["undecided"] else "fail"


def lifetime_words(found: dict[str, Any]) -> tuple[str, str]:
    """Say when the mean loss crosses the margin, and how long it is shown to stay within, of a report's `lifetime`."""
    first, last = found["first_s"], found["last_s"]
    crossed, shown = found["crossed_s"], found["shown_s"]
    end = (
        f"> {spoken(last)}"
        if crossed is None
        else ("none" if first == 0 else f"< {spoken(first)}")
        if crossed == first
        else spoken(crossed)
    )
    still = "an estimate: none of it is shown" if shown is None else f"shown to {spoken(shown)}"
    return end, still


def _share(share: float | None) -> str:
    """Write a share in whole per cent, rounded towards what claims less; empty where it is unknown."""
    if share is None or not math.isfinite(share):
        return ""
    return f"{math.floor(1000 * share + 1e-9) / 10:.3g}\u202f%"
