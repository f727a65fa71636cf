"""The pages: report.html of one task on one hardware, summary.html of several, compare.html of two sign-offs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from aimc_sim.report.pages import TEMPLATES, environment_of_pages
from aimc_sim.report.svg import NARROW, WIDE
from aimc_sim.signoff.report import layer_plot, plots
from aimc_sim.signoff.report.figures import columns_of, measure_of
from aimc_sim.signoff.report.headline import headline_of, interval_of, state_of
from aimc_sim.signoff.report.strips import Strip, strips
from aimc_sim.signoff.report.words import (
    between,
    nats_text,
    perplexity_text,
    points_text,
    rare_text,
    share_text,
    sig,
    spoken,
)

WRITTEN = {"perplexity": perplexity_text, "kl": nats_text, "points": points_text}


@cache
def _template(name: str) -> Any:
    environment = environment_of_pages(Path(__file__).parent / "templates")
    environment.filters.update(
        sig=sig, percent=percent, interval=interval, spoken=spoken, macs=macs, shape=shape, share=share_text,
        rare=rare_text, written=written, scaled=scaled,
    )  # fmt: skip
    return environment.get_template(name)


def page(template: str, draw: dict[str, Callable[[int], str]], **values: Any) -> str:
    """A page. It loads nothing: style and plots are inside, and there is no script.

    draw: plots by name, drawn twice, for wide and for narrow screens: text in a scaled drawing would get too small.
    """
    from markupsafe import Markup

    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    drawn = {name: [Markup(of(width)) for width in (WIDE, NARROW)] for name, of in draw.items()}
    text: str = _template(template).render(css=Markup(css), plots=drawn, **values)
    return text


def render(document: dict[str, Any]) -> str:
    """report.html."""
    headline = headline_of(document)
    layers = document["layers"]
    draw: dict[str, Callable[[int], str]] = {
        "effect": lambda width: effect_strip(document, width),
        "over_time": lambda width: plots.over_time(document, width),
        "by_chip": lambda width: plots.by_chip(document, width),
    }
    if layers is not None and any(row["snr_db"] is not None for row in layers["matrices"]):
        draw["layers"] = lambda width: layer_plot.by_layer(document, width)
    return page(
        "report.html.j2",
        draw,
        d=document,
        h=headline,
        m=measure_of(document["verdict"]["metric"]),
        columns=columns_of(document["verdict"]["metric"]),
        roles=None if layers is None else layer_plot.by_role(layers),
        worst=next(
            at for at in document["rows"]["times"] if at["time_s"] == document["verdict"]["worst_time_s"]
        ),
        scored=document["questions" if "questions" in document else "text"],
    )


def render_summary(summary: dict[str, Any]) -> str:
    """summary.html: hardware variants side by side, task by task."""
    parts = summary["parts"]
    labels = list(dict.fromkeys(part["task"] for part in parts))
    draw: dict[str, Callable[[int], str]] = {}
    tasks = []
    for index, label in enumerate(labels):
        mine = [part for part in parts if part["task"] == label]
        rows = [(part, headline_of({"verdict": part["verdict"], "statistics": part})) for part in mine]
        draw[f"task{index}"] = _side_by_side(f"task{index}", label, mine)
        tasks.append(
            {
                "label": label,
                "plot": f"task{index}",
                "rows": rows,
                "item": measure_of(mine[0]["verdict"]["metric"]).item,
                "margin": rows[0][1].margin,
                "unit": rows[0][1].margin_unit,
            }
        )
    hardware = list(dict.fromkeys(part["hardware"] for part in parts))
    states = {state_of(part["verdict"]) for part in parts}
    state = "pass" if summary["pass"] else "open" if states <= {"pass", "open"} else "fail"
    return page("summary.html.j2", draw, d=summary, tasks=tasks, hardware=hardware, state=state)


def _side_by_side(name: str, label: str, parts: list[dict[str, Any]]) -> Callable[[int], str]:
    verdict = parts[0]["verdict"]
    margin, axis = measure_of(verdict["metric"]).scale * verdict["margin"], axis_of(verdict["metric"])
    rows = [strip_of(part["hardware"], part["verdict"]) for part in parts]
    return lambda width: strips(name, f"{label}: effect and margin by hardware", rows, margin, axis, width)


def render_compare(document: dict[str, Any]) -> str:
    """compare.html: what changed between two sign-offs, part by part."""
    draw: dict[str, Callable[[int], str]] = {}
    parts = []
    for index, part in enumerate(document["parts"]):
        measure = measure_of(part["metric"])
        draw[f"part{index}"] = _worsening(f"part{index}", part, document["margin"])
        worst = next(at for at in part["times"] if at["time_s"] == part["worst_time_s"])
        answers = any(chip.get("p_mcnemar") is not None for chip in worst["chips"])
        parts.append({"part": part, "plot": f"part{index}", "m": measure, "worst": worst, "answers": answers})
    return page("compare.html.j2", draw, d=document, parts=parts)


def _worsening(name: str, part: dict[str, Any], margin: float | None) -> Callable[[int], str]:
    measure = measure_of(part["metric"])
    by = measure.scale
    rows = []
    for at in part["times"]:
        low, high = (None if end is None else by * end for end in at["interval_95"])
        state = {True: "pass", False: "open" if part["undecided"] else "fail", None: ""}[at["pass"]]
        rows.append(Strip(f"after {spoken(at['time_s'])}", by * at["mean"], low, high, state))
    limit, axis = None if margin is None else by * margin, f"Worse by, {measure.many}"
    return lambda width: strips(name, f"{part['name']}: worsening over time", rows, limit, axis, width)


def effect_strip(document: dict[str, Any], width: int) -> str:
    """The effect at the worst time with its interval, and the margin."""
    verdict = document["verdict"]
    row, margin = strip_of("", verdict), measure_of(verdict["metric"]).scale * verdict["margin"]
    return strips("effect", "Effect and margin", [row], margin, axis_of(verdict["metric"]), width)


def strip_of(label: str, verdict: dict[str, Any]) -> Strip:
    """The effect that a verdict is about, in the unit that is shown."""
    scale = measure_of(verdict["metric"]).scale
    low, high = (None if end is None else scale * end for end in verdict["interval_95"])
    return Strip(label, scale * verdict["mean"], low, high, state_of(verdict))


def axis_of(metric: str) -> str:
    """The loss that a metric is about, with its unit."""
    measure = measure_of(metric)
    return f"{measure.short}, {measure.many}"


def percent(share: float | None) -> str:
    """0.6912 → 69.1 %."""
    return "–" if share is None else f"{100 * share:.1f}\u202f%"


def written(value: float | None, kind: str) -> str:
    """A number in the form of a column: "perplexity", "kl", "points" or "percent"."""
    return WRITTEN.get(kind, percent)(value)


def interval(bounds: list[float], kind: str = "number") -> str:
    """Two bounds as a range in the form of a column; an absent one is unknown."""
    if not interval_of(bounds):
        return "no interval"
    low, high = bounds
    if kind == "percent":
        return f"{100 * low:.1f}–\u200b{100 * high:.1f}\u202f%"
    of = WRITTEN.get(kind, sig)
    return between(of(low), of(high))


def scaled(bounds: list[float | None], scale: float) -> str:
    """Two bounds in the unit that is shown."""
    return interval_of(bounds, scale) or "no interval"


def shape(sizes: list[int]) -> str:
    """576 × 49,152."""
    return " × ".join(f"{size:,}" for size in sizes)


def macs(value: float) -> str:
    """Multiply-accumulates per token: 1.2 M, 884 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{sig(value / size)}\u202f{unit}"
    return sig(value)
