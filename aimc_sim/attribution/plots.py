"""Charts of an explanation: the waterfall, each effect apart, a map of layers, and what clips."""

from __future__ import annotations

import math
from typing import Any

from aimc_sim.report.charts import LETTER, WIDE, Chart, Rows, Scale
from aimc_sim.report.words import fixed, places, rare

RAREST = 1e-4  # %, the left end of what clips (ten times that on narrow screens): smaller shares stand there


def falls(document: dict[str, Any], width: int) -> str:
    """Draw the waterfall: each effect's step from the loss before it to the loss after it, and the total."""
    effects, total = document["effects"], document["kl_nats"]["total"]
    decimals = places(total["mean"])
    afters = [effect["kl_nats"]["total"]["mean"] for effect in effects]
    befores = [document["kl_nats"]["start"]["mean"], *afters[:-1]]
    names = [*(effect["name"] for effect in effects), "Total"]
    title, step = "Where the loss comes from", 36
    chart = Rows("falls", title, width, names, step, right=_room(decimals), top=8, bottom=46)
    ends = [_ends(effect["kl_nats"]["step"], before) for effect, before in zip(effects, befores, strict=True)]
    ends.append(_ends(total))
    x = _value_scale(chart, [*afters, *(high for _, high in ends)], afters)
    chart.x_axis(x, "KL, nats per token", 5 if width == WIDE else 4)
    chart.name_rows()
    for row, (before, after) in enumerate(zip([*befores, 0.0], [*afters, total["mean"]], strict=True)):
        y, last = chart.middle(row), row == len(effects)
        kind = "bar total" if last else "bar" if after >= before else "bar less"
        chart.bar(kind, (x(before), x(after)), y - 11, 22)
        if not last:
            chart.line("link", (x(after), x(after)), (y - 11, chart.middle(row + 1) + 11))
        sign = "" if last else "+" if after >= before else "−"
        _whisker(chart, x, ends[row], y, max(before, after), f"{sign}{fixed(abs(after - before), decimals)}")
    listed = "; ".join(f"{effect['name']} {effect['kl_nats']['step']['mean']:.3g}" for effect in effects)
    return chart.svg(
        f"Steps in nats per token, in the order of the signal: {listed}. Total {total['mean']:.3g}."
    )


def apart(document: dict[str, Any], width: int) -> str:
    """Draw two bars an effect: what it costs alone, and what would be won back without it."""
    effects, decimals = document["effects"], places(document["kl_nats"]["total"]["mean"])
    pairs = [(effect["kl_nats"]["alone"], effect["kl_nats"]["won_back"]) for effect in effects]
    names, title = [effect["name"] for effect in effects], "Each effect alone, and all but it"
    chart = Rows("apart", title, width, names, 48, right=_room(decimals), bottom=46)
    means = [part["mean"] for pair in pairs for part in pair]
    x = _value_scale(chart, [*means, *(_ends(part)[1] for pair in pairs for part in pair)], means)
    chart.x_axis(x, "KL, nats per token", 5 if width == WIDE else 4)
    chart.legend([("bar alone", "alone"), ("bar won", "won back without it")])
    chart.name_rows()
    for row, pair in enumerate(pairs):
        for part, kind, y in zip(pair, ("bar alone", "bar won"), (-8.5, 8.5), strict=True):
            middle = chart.middle(row) + y
            chart.bar(kind, (x(0.0), x(part["mean"])), middle - 7.5, 15)
            _whisker(chart, x, _ends(part), middle, max(part["mean"], 0.0), fixed(part["mean"], decimals))
    listed = "; ".join(
        f"{name} alone {alone['mean']:.3g}, won back {won['mean']:.3g}"
        for name, (alone, won) in zip(names, pairs, strict=True)
    )
    return chart.svg(f"{listed}.")


def layers(document: dict[str, Any], width: int) -> str:
    """Draw a map of SNR with all effects: one row a role, one column a layer, darker where the noise is larger."""
    matrices, roles = document["snr_db"]["matrices"], [role["role"] for role in document["snr_db"]["roles"]]
    known = [matrix for matrix in matrices if math.isfinite(matrix["all"])]
    if not known:
        return Chart("layers", "SNR of every matrix", width, 8).svg(
            "No product differs from the digital one."
        )
    low, high = min(matrix["all"] for matrix in known), max(matrix["all"] for matrix in known)
    count = 1 + max((matrix["layer"] for matrix in matrices if matrix["layer"] is not None), default=0)
    title = "SNR of every matrix with all effects"
    chart = Rows("layers", title, width, roles, 26, right=4, top=34, bottom=40)
    unit = (chart.right - chart.left) / count
    _depths(chart, low, high)
    chart.name_rows()
    worst = min(known, key=lambda matrix: float(matrix["all"]))
    by_noise = sorted(
        known, key=lambda matrix: -float(matrix["all"])
    )  # of several at one place, the worst shows
    for matrix in {(matrix["role"], matrix["layer"]): matrix for matrix in by_noise}.values():
        y, layer = chart.middle(roles.index(matrix["role"])), matrix["layer"]
        x = chart.left + (layer or 0) * unit
        wide = unit if layer is not None else min(max(unit, 14), 24)
        kind, name = "heat worst" if matrix is worst else "heat", f"{matrix['all']:.1f} dB"
        depth, told = _depth(matrix["all"], low, high), f"{matrix['name']}: {name}"
        chart.bar(kind, (x + 0.75, x + wide - 0.75), y - 11.5, 23, round_by=2, opacity=depth, title=told)
        if layer is None:
            chart.text("label", x + wide + 7, y + 4.5, f"{name}, outside the layers")
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if step * unit >= 30)
    for layer in range(0, count, every):
        chart.x_label(chart.left + (layer + 0.5) * unit, str(layer))
    chart.x_title("layer")
    return chart.svg(
        f"SNR of {len(known)} matrices from {low:.1f} to {high:.1f} dB; the lowest is {worst['name']}. "
        "The table below gives each role's median and worst."
    )


def clips(document: dict[str, Any], width: int) -> str:
    """Draw a line a role on a log axis: the share of conversions that saturate, that of the worst tile, and of
    inputs.
    """
    roles = document["saturation"]["roles"]
    names = [role["role"] for role in roles]
    chart = Rows("clips", "What clips, by role", width, names, 28, right=74)
    x = chart.x_scale(RAREST if width == WIDE else 10 * RAREST, 100.0, log=True)
    chart.x_axis(x, "share that clips, % (log)", 5 if width == WIDE else 3)
    inputs = [("fed", "inputs")] if any(role["inputs_clipped"] for role in roles) else []
    chart.legend([("seen", "conversions"), ("tile", "worst tile"), *inputs])
    chart.name_rows()
    said = []
    for row, role in enumerate(roles):
        y = chart.middle(row)
        share, tile = role["conversions_saturated"] or 0.0, role["worst"]["worst_tile_saturated"] or 0.0
        fed = role["inputs_clipped"]
        said.append(f"{role['role']} {rare(fed)}, {rare(share)} and {rare(tile)}")
        a, b, c = (x(100 * value) for value in (share, tile, fed))
        if tile:
            chart.line("range", (a, b), (y, y))
            chart.dot("tile", b, y, 5)
            chart.dot("seen", a, y, 5)
        if fed:
            chart.dot("fed", c, y, 4)
        end = c if b < c < b + 70 else b  # the number is that of the worst tile, and covers no dot
        chart.text("value", end + 10, y + 4.5, rare(tile))
    return chart.svg(f"Inputs clipped, conversions saturated, in the worst tile: {'; '.join(said)}.")


def _room(decimals: int) -> float:
    """Return the pixels for the number behind the longest bar."""
    return 22 + LETTER * (decimals + 2)


def _ends(part: dict[str, Any], offset: float = 0.0) -> tuple[float, float]:
    """Return both ends of an interval, moved by ``offset``; without one, the mean twice."""
    low, high = (part["mean"] if end is None else end for end in part["interval_95"])
    return offset + low, offset + high


def _value_scale(chart: Chart, highs: list[float], means: list[float]) -> Scale:
    """Make a scale from zero, or the lowest mean below it, to the highest end of an interval."""
    high, low = max(*highs, 1e-6), min(0.0, *means)
    return chart.x_scale(low if low < -0.005 * high else 0.0, high)


def _whisker(chart: Chart, x: Scale, ends: tuple[float, float], y: float, value: float, text: str) -> None:
    """Draw the interval of a bar, where it is wide enough to be seen, and the bar's number behind both."""
    low, high = map(x, ends)
    if high - low >= 2:
        chart.line("range", (low, high), (y, y))
    chart.text("value", max(x(value), high) + 7, y + 4.5, text)


def _depths(chart: Chart, low: float, high: float) -> None:
    """Draw what the shades of a map mean."""
    steps, size = 6, 18
    start = chart.right - steps * size - 56
    chart.text("label", start - 8, 17, f"{low:.1f}", "end")
    for index in range(steps):
        depth, x = _depth(low + (high - low) * index / (steps - 1), low, high), start + size * index
        chart.bar("heat", (x, x + size - 1), 5, 14, round_by=0, opacity=depth)
    chart.text("label", start + steps * size + 7, 17, f"{high:.1f} dB")


def _depth(value: float, low: float, high: float) -> float:
    """Return the opacity: 1 for the lowest SNR, 0.1 for the highest."""
    return round(1 - 0.9 * (value - low) / (high - low), 3) if high > low else 0.5
