"""report.html: one self-contained page made from the report's document."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from aimc_sim.report_parts.pages import TEMPLATES, environment_of_pages
from aimc_sim.signoff import plots
from aimc_sim.signoff.words import nats, nats_text, perplexity_text, share_text, sig, spoken


@cache
def _template(name: str) -> Any:
    environment = environment_of_pages()
    environment.filters.update(
        sig=sig, percent=percent, interval=interval, spoken=spoken, macs=macs, shape=shape, nats=nats
    )
    environment.filters.update(perplexity=perplexity_text, kl=nats_text, share=share_text)
    return environment.get_template(name)


def render(document: dict[str, Any]) -> str:
    """The page. It loads nothing: style and plots are inside, and there is no script."""
    from markupsafe import Markup

    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    if "questions" in document:
        page: str = _template("answers.html.j2").render(
            d=document, css=Markup(css), lost=lost_answers(document)
        )
        return page
    # Two drawings of each plot, for wide and for narrow screens: text in a scaled drawing would get too small.
    drawn = {
        name: [Markup(draw(document, width)) for width in (plots.WIDE, plots.NARROW)]
        for name, draw in (("over_time", plots.over_time), ("by_chip", plots.by_chip))
    }
    text: str = _template("report.html.j2").render(d=document, css=Markup(css), plots=drawn)
    return text


def lost_answers(document: dict[str, Any], most: int = 10) -> list[dict[str, Any]]:
    """Questions that the digital model answers right and most chips lose at the worst time, most often lost first."""
    worst = document["verdict"]["worst_time_s"]
    chips = [chip["acc"] for chip in document["answers"]["chips"] if chip["time_s"] == worst]
    right = document["answers"]["digital"]["acc"]
    found = []
    for index, example in enumerate(document["questions"]["examples"]):
        lost = sum(chip[index] < right[index] for chip in chips)
        if lost:
            found.append({**example, "lost": lost, "chips": len(chips)})
    return sorted(found, key=lambda each: -int(each["lost"]))[:most]


def percent(share: float | None) -> str:
    """0.6912 → 69.1 %."""
    return "–" if share is None else f"{100 * share:.1f}\u202f%"


def interval(bounds: list[float], kind: str = "number") -> str:
    """Two bounds as a range in the form of a column ("percent", "perplexity", "kl"); an absent one is unknown."""
    if any(bound is None or not math.isfinite(bound) for bound in bounds):
        return "no interval"
    low, high = bounds
    if kind == "percent":
        return f"{100 * low:.1f}–\u200b{100 * high:.1f}\u202f%"
    between = "–" if low >= 0 else " to "
    written = {"perplexity": perplexity_text, "kl": nats_text}.get(kind, sig)
    # A line may break after the dash, where a narrow screen has no room for both numbers.
    return f"{written(low)}{between}\u200b{written(high)}"


def shape(sizes: list[int]) -> str:
    """576 × 49,152."""
    return " × ".join(f"{size:,}" for size in sizes)


def macs(value: float) -> str:
    """Multiply-accumulates per token: 1.2 M, 884 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{sig(value / size)}\u202f{unit}"
    return sig(value)
