"""Plots as inline SVG, drawn here: they take the page's colours and fonts and need no library and no script."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from aimc_sim.report.svg import NARROW as NARROW
from aimc_sim.report.svg import WIDE as WIDE
from aimc_sim.report.svg import Scale, clip, drawing, text_at, ticks
from aimc_sim.signoff.report.figures import measure_of
from aimc_sim.signoff.report.words import tick

MAX_NAMED_CHIPS = 40


def over_time(document: dict[str, Any], width: int) -> str:
    """Metric over log time: band of the 95 % interval, mean, every chip as a dot, margin and converters-only lines."""
    verdict, rows, key = _in_units(document)
    times = rows["times"]
    height = 340 if width == WIDE else 300
    left, right, top, bottom = 44, 14, 26, 44
    y = _value_scale(document, height - bottom, top)
    x = _time_scale([at["time_s"] for at in times], left + 18, width - right - 18)
    parts = _grid_y(y, left, width - right)
    parts += [
        text_at((left + width - right) / 2, height - 6, "time since programming (log)", "axis", "middle")
    ]
    last = -1e9
    for at in times:
        at_x = x(at["time_s"])
        parts.append(
            f'<line class="tick" x1="{at_x}" x2="{at_x}" y1="{height - bottom}" y2="{height - bottom + 5}"/>'
        )
        if at_x - last >= 34:
            parts.append(text_at(at_x, height - bottom + 19, tick(at["time_s"]), "label", "middle"))
            last = at_x
    bounds = [(x(at["time_s"]), *_interval(at[key], y)) for at in times]
    if len(times) > 1:
        line = (
            " ".join(f"{a},{low}" for a, low, _ in bounds)
            + " "
            + " ".join(f"{a},{high}" for a, _, high in reversed(bounds))
        )
        parts.append(f'<polygon class="band" points="{line}"/>')
    else:
        parts += [
            f'<line class="whisker" x1="{a}" x2="{a}" y1="{low}" y2="{high}"/>' for a, low, high in bounds
        ]
    levels = [
        (rows["converters_only"][key], "converters only", "reference"),
        (verdict["margin"], f"margin {verdict['margin']:g}", "margin"),
    ]
    levels = [level for level in levels if y.low <= level[0] <= y.high]
    for value, _, kind in levels:
        parts.append(
            f'<line class="{kind}" x1="{left}" x2="{width - right}" y1="{y(value)}" y2="{y(value)}"/>'
        )
    for at in times:
        for chip in at["chips"]:
            parts.append(
                f'<circle class="chip" cx="{x(at["time_s"])}" cy="{y(clip(chip[key], y))}" r="3.2"/>'
            )
    mean = [(x(at["time_s"]), y(clip(at[key]["mean"], y))) for at in times]
    if len(mean) > 1:
        parts.append(f'<polyline class="mean" points="{" ".join(f"{a},{b}" for a, b in mean)}"/>')
    parts += [f'<circle class="mean-dot" cx="{a}" cy="{b}" r="4.6"/>' for a, b in mean]
    taken = [(a, low, high) for a, low, high in bounds]
    for value, name, kind in levels:
        others = [y(other) for other, _, other_kind in levels if other_kind != kind]
        parts.append(_level_name(name, kind, y(value), (left + 4, width - right), taken, others))
    parts.append(text_at(0, 14, _axis(verdict, y), "axis", "start"))
    points = "; ".join(f"{at['time']}: {at[key]['mean']:.3g}" for at in times)
    outside = (
        ", above the plot"
        if verdict["margin"] > y.high
        else ", below the plot"
        if verdict["margin"] < y.low
        else ""
    )
    where = f"The margin is {verdict['margin']:g}{outside}"
    unit = measure_of(verdict["metric"]).many
    description = f"Mean over chips at each time, {unit}. {points}. {where}."
    return drawing(f"time-{width}", width, height, f"{_short(verdict)} over time", description, parts)


def by_chip(document: dict[str, Any], width: int) -> str:
    """One line a chip: its values at all times as dots, later times darker, and the margin."""
    verdict, rows, key = _in_units(document)
    times = rows["times"]
    seeds = [chip["seed"] for chip in times[0]["chips"]]
    named = len(seeds) <= MAX_NAMED_CHIPS
    step = 22.0 if named else max(3.0, 880.0 / len(seeds))
    left, right, top, bottom = (70 if named else 16), 14, 34, 40
    height = int(top + bottom + step * len(seeds))
    x = _value_scale(document, left, width - right)
    parts: list[str] = []
    for value in ticks(x, 5 if width == WIDE else 4):
        parts.append(
            f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="{top}" y2="{height - bottom}"/>'
        )
        parts.append(text_at(x(value), height - bottom + 18, f"{value:g}", "label", "middle"))
    parts.append(text_at((left + width - right) / 2, height - 4, _axis(verdict, x), "axis", "middle"))
    if x.low <= verdict["margin"] <= x.high:
        m = x(verdict["margin"])
        parts.append(f'<line class="margin" x1="{m}" x2="{m}" y1="{top - 4}" y2="{height - bottom}"/>')
        anchor = "end" if m > width - right - 60 else "start" if m < left + 40 else "middle"
        parts.append(text_at(m, top - 9, f"margin {verdict['margin']:g}", "margin-label", anchor))
    for row, seed in enumerate(seeds):
        cy = round(top + step * (row + 0.5), 1)
        values = [x(clip(at["chips"][row][key], x)) for at in times]
        if named:
            parts.append(text_at(left - 10, cy + 4, f"seed {seed}", "label", "end"))
        parts.append(f'<line class="span" x1="{min(values)}" x2="{max(values)}" y1="{cy}" y2="{cy}"/>')
        for index, value in enumerate(values):
            parts.append(
                f'<circle class="dot" style="fill-opacity:{_shade(index, len(times))}" cx="{value}" cy="{cy}" '
                f'r="{4.6 if named else 2}"/>'
            )
    shown = ", ".join(at["time"] for at in times)
    description = f"{len(seeds)} chips, one line each; dots from pale to dark are the times {shown}."
    return drawing(f"chips-{width}", width, height, f"{_short(verdict)} of each chip", description, parts)


def _in_units(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Verdict and rows in the unit that is shown, and the key of the loss that the verdict is about."""
    verdict, rows = document["verdict"], document["rows"]
    measure = measure_of(verdict["metric"])
    key, by = measure.key, measure.scale
    if by == 1.0:
        return verdict, rows, key

    def times(value: float | None) -> float | None:
        return None if value is None else by * value

    scaled = {
        "converters_only": {key: times(rows["converters_only"][key])},
        "times": [
            {
                **at,
                key: {
                    "mean": times(at[key]["mean"]),
                    "interval_95": [times(end) for end in at[key]["interval_95"]],
                },
                "chips": [{**chip, key: times(chip[key])} for chip in at["chips"]],
            }
            for at in rows["times"]
        ],
    }
    return {**verdict, "margin": by * verdict["margin"]}, scaled, key


def _short(verdict: dict[str, Any]) -> str:
    return measure_of(verdict["metric"]).short


def _axis(verdict: dict[str, Any], scale: Scale) -> str:
    unit = measure_of(verdict["metric"]).many
    return f"{_short(verdict)}, {unit}{' (log)' if scale.log else ''}"


def _shade(index: int, count: int) -> float:
    """Opacity of a time's dots: the last is solid."""
    return round(0.25 + 0.75 * (index + 1) / count, 2) if count > 1 else 1.0


def _value_scale(document: dict[str, Any], start: float, stop: float) -> Scale:
    """From zero (or the lowest value) to just above everything; a margin far beyond the data stays outside.

    Logarithmic where values differ by more than 10×, over four decades at most.
    """
    verdict, rows, key = _in_units(document)
    values = [rows["converters_only"][key]]
    for at in rows["times"]:
        values += [chip[key] for chip in at["chips"]]
        values += [bound for bound in at[key]["interval_95"] if bound is not None and math.isfinite(bound)]
    high, low = max(values), min(0.0, *values)
    if verdict["margin"] <= 2.5 * high:
        high = max(high, verdict["margin"])
    chips = [chip[key] for at in rows["times"] for chip in at["chips"]]
    if verdict["margin"] > 0 and min(chips) > 0:
        floor = high / 1e4
        shown = [
            max(value, floor)
            for value in (*chips, rows["converters_only"][key], min(verdict["margin"], high))
        ]
        if high > 10 * min(shown):
            above = [value for value in (*shown, *values) if value >= floor]
            return Scale(min(above) / 1.3, high * 1.3, start, stop, log=True)
    return Scale(low, max(high * 1.06, 1e-6), start, stop)


def _time_scale(times: list[float], start: float, stop: float) -> Any:
    """Pixels on a log axis; time zero stands one decade before the first other time."""
    positive = [time for time in times if time > 0]
    zero = min(positive) / 10 if positive else 1.0
    logs = [math.log10(time if time > 0 else zero) for time in times]
    if max(logs) == min(logs):
        return lambda time: round((start + stop) / 2, 1)
    scale = Scale(min(logs), max(logs), start, stop)
    return lambda time: scale(math.log10(time if time > 0 else zero))


def _interval(value: dict[str, Any], y: Scale) -> tuple[float, float]:
    """Pixels of an interval; an unbounded side ends at the mean."""
    low, high = (
        bound if bound is not None and math.isfinite(bound) else value["mean"]
        for bound in value["interval_95"]
    )
    return y(clip(low, y)), y(clip(high, y))


def _grid_y(y: Scale, left: float, right: float) -> list[str]:
    parts = []
    if y.log:
        parts.append(f'<line class="base" x1="{left}" x2="{right}" y1="{y.start}" y2="{y.start}"/>')
    for value in ticks(y):
        kind = "base" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(text_at(left - 8, y(value) + 4, f"{value:g}", "label", "end"))
    return parts


def _level_name(
    name: str,
    kind: str,
    at_y: float,
    ends: tuple[float, float],
    taken: list[tuple[float, float, float]],
    others: list[float],
) -> str:
    """The name of a horizontal line, above or below it at one end: where the band and other lines are farthest.

    ends: pixels where a name may begin and end. taken: (x, low, high) pixels of the band. others: pixels of lines.
    """
    wide = 7.2 * len(name)
    found: tuple[float, float, str] | None = None
    best = -1.0
    for side, begin in (("end", ends[1] - wide), ("start", ends[0])):
        for drop in (-6, 16):
            middle = at_y + drop - 4.5
            gaps = [abs(other - middle) for other in others]
            for step in range(5):
                low, high = _band_at(begin + wide * step / 4, taken)
                gaps.append(max(high - middle, middle - low, 0.0))
            # Beyond 12 pixels nothing touches: the first such place, at the right end and above, is the usual one.
            clear = min([12.0, *gaps])
            if clear > best:
                best, found = clear, (ends[1] if side == "end" else ends[0], at_y + drop, side)
    assert found is not None
    return text_at(found[0], found[1], name, f"{kind}-label", found[2])


def _band_at(x: float, taken: list[tuple[float, float, float]]) -> tuple[float, float]:
    """(lower, upper) edge of the band at pixel x, as pixels: the lower edge is the larger number."""
    if x <= taken[0][0]:
        return taken[0][1:]
    for (x0, low0, high0), (x1, low1, high1) in pairwise(taken):
        if x <= x1:
            share = (x - x0) / (x1 - x0)
            return low0 + share * (low1 - low0), high0 + share * (high1 - high0)
    return taken[-1][1:]
