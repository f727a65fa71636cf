"""The pages: report.html of one task on one hardware, summary.html of several, compare.html of two sign-offs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from aimc_sim.report.html import page
from aimc_sim.report.words import spoken
from aimc_sim.signoff.report import plots
from aimc_sim.signoff.report.figures import columns_of, measure_of
from aimc_sim.signoff.report.headline import headline_of, state_of
from aimc_sim.signoff.report.plots import Strip, axis_of, strips

TEMPLATES = Path(__file__).parent / "templates"
Charts = dict[str, Callable[[int], str]]


def render(document: dict[str, Any]) -> str:
    """Write the text of report.html."""
    verdict, layers = document["verdict"], document["layers"]
    measure = measure_of(verdict["metric"])
    row, margin = Strip.of("", verdict, measure.scale, state_of(verdict)), measure.scale * verdict["margin"]
    charts: Charts = {
        "effect": partial(strips, "effect", "Effect and margin", [row], margin, axis_of(measure)),
        "over_time": partial(plots.over_time, document),
        "by_chip": partial(plots.by_chip, document),
    }
    if layers is not None and any(row["snr_db"] is not None for row in layers["matrices"]):
        charts["layers"] = partial(plots.by_layer, layers)
    return page(
        TEMPLATES / "report.html.j2",
        charts,
        d=document,
        h=headline_of(verdict, document["statistics"]),
        m=measure,
        columns=columns_of(verdict["metric"]),
        roles=None if layers is None else _by_role(layers),
        worst=next(at for at in document["rows"]["times"] if at["time_s"] == verdict["worst_time_s"]),
        scored=document["questions" if "questions" in document else "text"],
    )


def render_summary(summary: dict[str, Any]) -> str:
    """Write the text of summary.html: hardware variants side by side, task by task."""
    parts, tasks = summary["parts"], []
    charts: Charts = {}
    for index, label in enumerate(dict.fromkeys(part["task"] for part in parts)):
        mine = [part for part in parts if part["task"] == label]
        rows = [(part, headline_of(part["verdict"], part)) for part in mine]
        verdict = mine[0]["verdict"]
        measure, name = measure_of(verdict["metric"]), f"task{index}"
        bars = [Strip.of(part["hardware"], part["verdict"], measure.scale, h.state) for part, h in rows]
        title, margin = f"{label}: effect and margin by hardware", measure.scale * verdict["margin"]
        charts[name] = partial(strips, name, title, bars, margin, axis_of(measure))
        tasks.append({"label": label, "plot": name, "rows": rows, "item": measure.item, "h": rows[0][1]})
    hardware = list(dict.fromkeys(part["hardware"] for part in parts))
    states = {state_of(part["verdict"]) for part in parts}
    state = "pass" if summary["pass"] else "open" if states <= {"pass", "open"} else "fail"
    template = TEMPLATES / "summary.html.j2"
    return page(template, charts, d=summary, tasks=tasks, hardware=hardware, state=state)


def render_compare(document: dict[str, Any]) -> str:
    """Write the text of compare.html: what changed between two sign-offs, part by part."""
    charts: Charts = {}
    parts, margin = [], document["margin"]
    for index, part in enumerate(document["parts"]):
        measure, name = measure_of(part["metric"]), f"part{index}"
        states = {True: "pass", False: "open" if part["undecided"] else "fail", None: ""}
        bars = [
            Strip.of(f"after {spoken(at['time_s'])}", at, measure.scale, states[at["pass"]])
            for at in part["times"]
        ]
        limit = None if margin is None else measure.scale * margin
        title, axis = f"{part['name']}: worsening over time", f"Worse by, {measure.many}"
        charts[name] = partial(strips, name, title, bars, limit, axis)
        worst = next(at for at in part["times"] if at["time_s"] == part["worst_time_s"])
        answers = any(chip.get("p_mcnemar") is not None for chip in worst["chips"])
        parts.append({"part": part, "plot": name, "m": measure, "worst": worst, "answers": answers})
    return page(TEMPLATES / "compare.html.j2", charts, d=document, parts=parts)


def _by_role(layers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a table: matrices of one role, in the order in which roles first occur."""
    rows = []
    for role in dict.fromkeys(row["role"] for row in layers["matrices"]):
        mine = [row for row in layers["matrices"] if row["role"] == role]
        noisy = [row for row in mine if row["snr_db"] is not None]
        worst = min(noisy, key=lambda row: float(row["snr_db"]), default=None)
        rows.append(
            {
                "role": role,
                "matrices": len(mine),
                "median": median(row["snr_db"] for row in noisy) if noisy else None,
                "worst": worst and worst["snr_db"],
                "where": worst["name"] if worst else "",
                "inputs": _most([row["inputs_clipped"] for row in mine]),
                "conversions": _most([row["conversions_saturated"] for row in mine]),
            }
        )
    return rows


def _most(shares: Sequence[float | None]) -> float | None:
    return max((share for share in shares if share is not None), default=None)
