"""Charts of a sign-off: the loss over time, chip by chip and beside its margin, and noise layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aimc_sim.report.charts import LETTER, WIDE, Chart, Point, Rows, Scale
from aimc_sim.report.words import tick
from aimc_sim.signoff.report.figures import Measure, measure_of

MAX_NAMED_CHIPS = 40
FAR = 6.0  # a margin so many times beyond everything else is named at the edge and not drawn to scale


@dataclass(frozen=True)
class Losses:
    """The loss that a verdict is about, in the unit that is shown.

    means, ends: one a time, where an end that is unknown is the mean; chips: a list of them for each time.
    """

    measure: Measure
    margin: float
    converters: float
    times_s: list[float]
    means: list[float]
    ends: list[Point]
    chips: list[list[float]]

    @classmethod
    def of(cls, document: dict[str, Any]) -> Losses:
        """Take the losses of a report's document."""
        verdict, rows = document["verdict"], document["rows"]
        measure = measure_of(verdict["metric"])
        key, by = measure.key, measure.scale
        figures = [at[key] for at in rows["times"]]
        ends = [
            [
                figure["mean"] if end is None or not math.isfinite(end) else end
                for end in figure["interval_95"]
            ]
            for figure in figures
        ]
        return cls(
            measure,
            by * verdict["margin"],
            by * rows["converters_only"][key],
            [at["time_s"] for at in rows["times"]],
            [by * figure["mean"] for figure in figures],
            [(by * low, by * high) for low, high in ends],
            [[by * chip[key] for chip in at["chips"]] for at in rows["times"]],
        )

    def axis(self, scale: Scale) -> str:
        """Write the title of an axis."""
        return f"{axis_of(self.measure)}{' (log)' if scale.log else ''}"

    def span(self) -> tuple[float, float, bool]:
        """Return (low, high, log) of a scale from zero, or the lowest value, to just above everything.

        A margin far beyond the data stays outside. Logarithmic where values differ by more than 10×, over four decades
        at most.
        """
        chips = [value for at in self.chips for value in at]
        values = [self.converters, *chips, *(end for ends in self.ends for end in ends)]
        high, low = max(values), min(0.0, *values)
        if self.margin <= 2.5 * high:
            high = max(high, self.margin)
        if self.margin > 0 and min(chips) > 0:
            floor = high / 1e4
            positive = [max(value, floor) for value in (*chips, self.converters, min(self.margin, high))]
            if high > 10 * min(positive):
                least = min(value for value in (*positive, *values) if value >= floor)
                return least / 1.3, high * 1.3, True
        return low, max(high * 1.06, 1e-6), False


def axis_of(measure: Measure) -> str:
    """Name the loss with its unit, as an axis says it."""
    return f"{measure.short}, {measure.many}"


def over_time(document: dict[str, Any], width: int) -> str:
    """Draw the loss over log time: mean, band of its 95 % interval, chips as dots, margin and converters-only lines."""
    losses = Losses.of(document)
    chart = Chart("time", f"{losses.measure.short} over time", width, 340 if width == WIDE else 300)
    low, high, log = losses.span()
    y, x = chart.y_scale(low, high, log=log), _time_scale(chart, losses.times_s)
    chart.y_axis(y, losses.axis(y))
    chart.x_title("time since programming (log)")
    places = [x(time_s) for time_s in losses.times_s]
    last = -math.inf
    for place, time_s in zip(places, losses.times_s, strict=True):
        chart.line("tick", (place, place), (chart.bottom, chart.bottom + 5))
        if place - last >= 34:
            chart.x_label(place, tick(time_s))
            last = place
    lows, highs = ([y(ends[side]) for ends in losses.ends] for side in (0, 1))
    if len(places) > 1:
        around = [*zip(places, lows, strict=True), *reversed([*zip(places, highs, strict=True)])]
        chart.path("band", around, closed=True)
    else:
        chart.line("whisker", (places[0], places[0]), (lows[0], highs[0]))
    levels = [
        ("reference", losses.converters, "converters only"),
        ("margin", losses.margin, f"margin {losses.margin:g}"),
    ]
    levels = [level for level in levels if y.holds(level[1])]
    for kind, value, _ in levels:
        chart.line(kind, (chart.left, chart.right), (y(value), y(value)))
    for place, chips in zip(places, losses.chips, strict=True):
        for value in chips:
            chart.dot("chip", place, y(value), 3.2)
    means = [(place, y(mean)) for place, mean in zip(places, losses.means, strict=True)]
    if len(means) > 1:
        chart.path("mean", means)
    for place, mean in means:
        chart.dot("mean-dot", place, mean, 4.6)
    for kind, value, name in levels:
        others = [y(other) for other_kind, other, _ in levels if other_kind != kind]
        _name_level(chart, kind, y(value), name, (places, lows, highs), others)
    points = "; ".join(
        f"{at['time']}: {mean:.3g}" for at, mean in zip(document["rows"]["times"], losses.means, strict=True)
    )
    outside = (
        ", above the plot" if losses.margin > y.high else ", below the plot" if losses.margin < y.low else ""
    )
    where = f"The margin is {losses.margin:g}{outside}."
    return chart.svg(f"Mean over chips at each time, {losses.measure.many}. {points}. {where}")


def _time_scale(chart: Chart, times_s: Sequence[float]) -> Callable[[float], float]:
    """Scale times to pixels on a log axis; time zero stands one decade before the first other time, and one time in
    the middle.
    """
    zero = min((time_s for time_s in times_s if time_s > 0), default=10.0) / 10
    low, high = (end(time_s or zero for time_s in times_s) for end in (min, max))
    room = 10.0 if low == high else 1.0
    scale = chart.x_scale(low / room, high * room, log=True, inset=18)
    return lambda time_s: scale(time_s or zero)


def _name_level(
    chart: Chart, kind: str, y: float, name: str, band: tuple[list[float], list[float], list[float]],
    others: Sequence[float],
) -> None:  # fmt: skip
    """Name a horizontal line, above or below it at one end: where the band and other lines are farthest.

    band: pixels of its x, lower and upper edge; the lower edge has the larger numbers. others: pixels of other lines.
    """
    places, lows, highs = band
    wide = LETTER * len(name)
    best, chosen = -1.0, (chart.right, y - 6, "end")
    for anchor, first, at in (
        ("end", chart.right - wide, chart.right),
        ("start", chart.left + 4, chart.left + 4),
    ):
        under = np.linspace(first, first + wide, 5)
        for drop in (-6, 16):
            middle = y + drop - 4.5
            low, high = (np.interp(under, places, edge) for edge in (lows, highs))
            gaps = np.maximum(np.maximum(high - middle, middle - low), 0.0)
            # Beyond 12 pixels nothing touches: the first such place, at the right end and above, is the usual one.
            clear = min([12.0, float(gaps.min()), *(abs(other - middle) for other in others)])
            if clear > best:
                best, chosen = clear, (at, y + drop, anchor)
    chart.text(f"{kind}-label", chosen[0], chosen[1], name, chosen[2])


def by_chip(document: dict[str, Any], width: int) -> str:
    """Draw one line a chip: its values at all times as dots, later times darker, and the margin."""
    losses, times = Losses.of(document), document["rows"]["times"]
    seeds = [chip["seed"] for chip in times[0]["chips"]]
    named = len(seeds) <= MAX_NAMED_CHIPS
    names = [f"seed {seed}" if named else "" for seed in seeds]
    step = 22.0 if named else max(3.0, 880.0 / len(seeds))
    title = f"{losses.measure.short} of each chip"
    chart = Rows("chips", title, width, names, step, right=14, top=34, kind="label")
    low, high, log = losses.span()
    x = chart.x_scale(low, high, log=log)
    chart.x_axis(x, losses.axis(x), 5 if width == WIDE else 4)
    if x.holds(losses.margin):
        chart.limit(x(losses.margin), f"margin {losses.margin:g}")
    chart.name_rows()
    for row in range(len(seeds)):
        y, values = chart.middle(row), [x(chips[row]) for chips in losses.chips]
        chart.line("span", (min(values), max(values)), (y, y))
        for index, value in enumerate(values):
            shade = round(0.25 + 0.75 * (index + 1) / len(times), 2) if len(times) > 1 else 1.0
            chart.dot("dot", value, y, 4.6 if named else 2, opacity=shade)
    listed = ", ".join(at["time"] for at in times)
    return chart.svg(f"{len(seeds)} chips, one line each; dots from pale to dark are the times {listed}.")


@dataclass(frozen=True)
class Strip:
    """A strip shows a mean with its interval, in the unit that is shown; None: no interval. state: as of a headline,
    or empty.
    """

    label: str
    mean: float
    low: float | None
    high: float | None
    state: str = ""

    @classmethod
    def of(cls, label: str, figure: dict[str, Any], scale: float, state: str) -> Strip:
        """Make the strip of a figure in a document (its mean and interval_95), times a scale."""
        low, high = (None if end is None else scale * end for end in figure["interval_95"])
        return cls(label, scale * figure["mean"], low, high, state)


def strips(name: str, title: str, rows: Sequence[Strip], margin: float | None, axis: str, width: int) -> str:
    """Draw a row for each mean: dot and bar on one axis from zero, and the margin as a line across."""
    chart = Rows(name, title, width, [row.label for row in rows], 34, top=26, bottom=40)
    ends = [value for row in rows for value in (row.mean, row.low, row.high) if value is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    far = margin is not None and high > 0 and margin > FAR * high
    if margin is not None and not far:
        high = max(high, margin)
    room = max(high - low, 1e-9)
    x = chart.x_scale(low - (0.04 * room if low < 0 else 0.0), high + (0.25 if far else 0.08) * room)
    chart.x_axis(x, axis, 6 if width == WIDE else 4)
    if margin is not None:
        chart.limit(chart.right if far else x(margin), f"margin {margin:g}{' →' if far else ''}", far=far)
    chart.name_rows()
    said = []
    for at, row in enumerate(rows):
        y, words = chart.middle(at), f"{row.label or 'mean'} {row.mean:.3g}"
        if row.low is not None and row.high is not None:
            chart.bar(f"interval {row.state}", (x(row.low), x(row.high)), y - 5, 10, round_by=5)
            words += f" ({row.low:.3g} to {row.high:.3g})"
        chart.dot(f"point {row.state}", x(row.mean), y, 5.5)
        said.append(words)
    limit = "" if margin is None else f" The margin is {margin:g}."
    return chart.svg(f"{axis}: {'; '.join(said)}.{limit}")


def by_layer(layers: dict[str, Any], width: int) -> str:
    """Draw a dot for each matrix over its layer, a line through each layer's noisiest one."""
    rows = [row for row in layers["matrices"] if row["snr_db"] is not None]
    chart = Chart("layers", "Signal-to-noise ratio by layer", width, 300 if width == WIDE else 260)
    numbers = sorted({row["layer"] for row in rows if row["layer"] is not None})
    places: dict[int | None, float] = {layer: float(index) for index, layer in enumerate(numbers)}
    if any(row["layer"] is None for row in rows):  # a little apart from the layers
        places[None] = len(numbers) + (0.6 if numbers else 0.0)
    values = [row["snr_db"] for row in rows]
    room = max(max(values) - min(values), 2.0)
    x = chart.x_scale(-0.5, max(places.values()) + 0.5)
    y = chart.y_scale(min(0.0, min(values) - 0.1 * room), max(values) + 0.1 * room)
    chart.y_axis(y, "SNR of a product, dB (higher is cleaner)")
    chart.x_title("layer")
    every = max(1, math.ceil(len(numbers) * 26 / (chart.right - chart.left)))
    for layer in [*numbers[::every], *([None] if None in places else [])]:
        chart.x_label(x(places[layer]), "head" if layer is None else str(layer))
    for row in rows:
        chart.dot("chip", x(places[row["layer"]]), y(row["snr_db"]), 3.4)
    worst = {layer: min(row["snr_db"] for row in rows if row["layer"] == layer) for layer in numbers}
    if len(worst) > 1:
        chart.path("mean", [(x(places[layer]), y(value)) for layer, value in worst.items()])
    noisiest = min(rows, key=lambda row: float(row["snr_db"]))
    return chart.svg(
        f"{len(rows)} matrices over {len(numbers)} layers, from {min(values):.1f} to {max(values):.1f} dB. "
        f"The noisiest is {noisiest['name']}."
    )
