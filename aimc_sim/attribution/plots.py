"""Bars and a map of layers as inline SVG, in the style of the sign-off's plots."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from aimc_sim.attribution.words import loss, places, rare
from aimc_sim.report.svg import NARROW as NARROW
from aimc_sim.report.svg import WIDE as WIDE
from aimc_sim.report.svg import Scale, clip, drawing, text_at, ticks

RAREST = 1e-4  # %, the left end of what clips (ten times that on narrow screens): smaller shares stand there


def falls(document: dict[str, Any], width: int) -> str:
    """The waterfall: each effect's step from the loss before it to the loss after it, and the total."""
    effects, total = document["effects"], document["kl_nats"]["total"]
    start = document["kl_nats"]["start"]["mean"]
    left, right, top, step = _label_width(effects, width), 22 + 8 * (places(document) + 2), 8, 36
    bottom, height = 46, 8 + 36 * (len(effects) + 1) + 46
    afters = [effect["kl_nats"]["total"]["mean"] for effect in effects]
    befores = [start, *afters[:-1]]
    ends = [_ends(effect["kl_nats"]["step"], before) for effect, before in zip(effects, befores, strict=True)]
    ends.append(_ends(total, 0.0))
    x = _value_scale([*afters, *(high for _, high in ends)], afters, left, width - right)
    parts = _grid_x(x, top, height - bottom, 5 if width == WIDE else 4)
    parts.append(text_at((left + width - right) / 2, height - 6, "KL, nats per token", "axis", "middle"))
    rows = [*zip(effects, befores, afters, strict=True), ({"name": "Total"}, 0.0, total["mean"])]
    for index, ((effect, before, after), (low, high)) in enumerate(zip(rows, ends, strict=True)):
        y, last = top + step * index, index == len(effects)
        kind = "bar total" if last else "bar" if after >= before else "bar less"
        parts.append(text_at(left - 10, y + step / 2 + 4.5, effect["name"], "name", "end"))
        parts.append(_bar(x, before, after, y + 7, step - 14, kind))
        if not last:
            at = x(after)
            parts.append(f'<line class="link" x1="{at}" x2="{at}" y1="{y + 7}" y2="{y + step + step - 7}"/>')
        parts += _whisker(x, low, high, y + step / 2)
        change = after - before
        edge = max(x(max(before, after)), x(clip(high, x)))
        sign = "" if last else "+" if change >= 0 else "−"
        label = f"{sign}{loss(abs(change), places(document))}"
        parts.append(text_at(edge + 7, y + step / 2 + 4.5, label, "value", "start"))
    listed = "; ".join(f"{e['name']} {e['kl_nats']['step']['mean']:.3g}" for e in effects)
    description = f"Steps in nats per token, in the order of the signal: {listed}. Total {total['mean']:.3g}."
    return drawing(f"falls-{width}", width, height, "Where the loss comes from", description, parts)


def apart(document: dict[str, Any], width: int) -> str:
    """Two bars an effect: what it costs alone, and what would be won back without it."""
    effects = document["effects"]
    left, right, top, step = _label_width(effects, width), 22 + 8 * (places(document) + 2), 30, 48
    bottom, height = 46, 30 + 48 * len(effects) + 46
    values = [(e["kl_nats"]["alone"], e["kl_nats"]["won_back"]) for e in effects]
    means = [part["mean"] for pair in values for part in pair]
    highs = [_ends(part, 0.0)[1] for pair in values for part in pair]
    x = _value_scale([*means, *highs], means, left, width - right)
    parts = _grid_x(x, top, height - bottom, 5 if width == WIDE else 4)
    parts.append(text_at((left + width - right) / 2, height - 6, "KL, nats per token", "axis", "middle"))
    for at, kind, name in ((left, "alone", "alone"), (left + 68, "won", "won back without it")):
        parts.append(f'<rect class="bar {kind}" x="{at}" y="5" width="11" height="11" rx="2"/>')
        parts.append(text_at(at + 17, 15, name, "label", "start"))
    for index, (effect, pair) in enumerate(zip(effects, values, strict=True)):
        y = top + step * index
        parts.append(text_at(left - 10, y + step / 2 + 4.5, effect["name"], "name", "end"))
        for place, (part, kind) in enumerate(zip(pair, ("alone", "won"), strict=True)):
            bar_y = y + 7 + 17 * place
            parts.append(_bar(x, 0.0, part["mean"], bar_y, 15, f"bar {kind}"))
            low, high = _ends(part, 0.0)
            parts += _whisker(x, low, high, bar_y + 7.5)
            edge = max(x(max(part["mean"], 0.0)), x(clip(high, x)))
            parts.append(
                text_at(edge + 7, bar_y + 12, loss(part["mean"], places(document)), "value", "start")
            )
    listed = "; ".join(
        f"{e['name']} alone {alone['mean']:.3g}, won back {won['mean']:.3g}"
        for e, (alone, won) in zip(effects, values, strict=True)
    )
    return drawing(f"apart-{width}", width, height, "Each effect alone, and all but it", f"{listed}.", parts)


def layers(document: dict[str, Any], width: int) -> str:
    """A map of SNR with all effects: one row a role, one column a layer, darker where the noise is larger."""
    matrices, roles = document["snr_db"]["matrices"], [r["role"] for r in document["snr_db"]["roles"]]
    known = [m for m in matrices if math.isfinite(m["all"])]
    if not known:
        return drawing(
            f"layers-{width}", width, 8, "SNR of every matrix", "No product differs from the digital one.", []
        )
    low, high = min(m["all"] for m in known), max(m["all"] for m in known)
    count = 1 + max((m["layer"] for m in matrices if m["layer"] is not None), default=0)
    left, right, top, step, bottom = 52, 4, 34, 26, 40
    height = top + step * len(roles) + bottom
    unit = (width - left - right) / count
    parts = _legend(low, high, left, width - right)
    worst = min(known, key=lambda m: float(m["all"]))
    cells: dict[tuple[str, int | None], dict[str, Any]] = {}
    for matrix in sorted(known, key=lambda m: -float(m["all"])):  # of several at one place, the worst stays
        cells[matrix["role"], matrix["layer"]] = matrix
    for index, role in enumerate(roles):
        parts.append(text_at(left - 10, top + step * index + step / 2 + 4.5, role, "name", "end"))
    for (role, layer), matrix in cells.items():
        y = top + step * roles.index(role)
        at = left + (layer or 0) * unit
        wide = unit if layer is not None else min(max(unit, 14), 24)
        kind = "heat worst" if matrix is worst else "heat"
        title = escape(f"{matrix['name']}: {matrix['all']:.1f} dB")
        parts.append(
            f'<rect class="{kind}" style="fill-opacity:{_depth(matrix["all"], low, high)}" x="{at + 0.75:.1f}" '
            f'y="{y + 1.5}" width="{max(wide - 1.5, 0.5):.1f}" height="{step - 3}" rx="2"><title>{title}</title></rect>'
        )
        if layer is None:
            name = f"{matrix['all']:.1f} dB, outside the layers"
            parts.append(text_at(at + wide + 7, y + step / 2 + 4.5, name, "label", "start"))
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 1000) if n * unit >= 30)
    for layer in range(0, count, every):
        at = left + (layer + 0.5) * unit
        parts.append(text_at(at, height - bottom + 18, str(layer), "label", "middle"))
    parts.append(text_at((left + width - right) / 2, height - 4, "layer", "axis", "middle"))
    description = (
        f"SNR of {len(known)} matrices from {low:.1f} to {high:.1f} dB; the lowest is {worst['name']}. "
        "The table below gives each role's median and worst."
    )
    return drawing(
        f"layers-{width}", width, height, "SNR of every matrix with all effects", description, parts
    )


def clips(document: dict[str, Any], width: int) -> str:
    """A line a role on a log axis: the share of conversions that saturate, that of the worst tile, and of inputs."""
    roles = document["saturation"]["roles"]
    inputs = any(role["inputs_clipped"] for role in roles)
    left, right, top, step, bottom = 52, 74, 30, 28, 42
    height = top + step * len(roles) + bottom
    rarest = RAREST if width == WIDE else 10 * RAREST
    x = Scale(rarest, 100.0, left, width - right, log=True)
    parts = _grid_x(x, top, height - bottom, 5 if width == WIDE else 3)
    at: float = left
    for kind, name in (
        ("seen", "conversions"),
        ("tile", "worst tile"),
        *((("fed", "inputs"),) if inputs else ()),
    ):
        parts.append(f'<circle class="{kind}" cx="{at + 6:g}" cy="10" r="5"/>')
        parts.append(text_at(at + 17, 14.5, name, "label", "start"))
        at += 38 + 7.4 * len(name)
    told = []
    for index, role in enumerate(roles):
        y = top + step * (index + 0.5)
        share, worst = role["conversions_saturated"] or 0.0, role["worst"]["worst_tile_saturated"] or 0.0
        told.append(f"{role['role']} {rare(role['inputs_clipped'])}, {rare(share)} and {rare(worst)}")
        parts.append(text_at(left - 12, y + 4.5, role["role"], "name", "end"))
        a, b, c = (x(clip(100 * value, x)) for value in (share, worst, role["inputs_clipped"]))
        if worst:
            parts.append(f'<line class="range" x1="{a}" x2="{b}" y1="{y:g}" y2="{y:g}"/>')
            parts.append(f'<circle class="tile" cx="{b}" cy="{y:g}" r="5"/>')
            parts.append(f'<circle class="seen" cx="{a}" cy="{y:g}" r="5"/>')
        if role["inputs_clipped"]:
            parts.append(f'<circle class="fed" cx="{c}" cy="{y:g}" r="4"/>')
        end = c if b < c < b + 70 else b  # the number is that of the worst tile, and covers no dot
        parts.append(text_at(end + 10, y + 4.5, rare(worst), "value", "start"))
    parts.append(
        text_at((left + width - right) / 2, height - 4, "share that clips, % (log)", "axis", "middle")
    )
    description = f"Inputs clipped, conversions saturated, in the worst tile: {'; '.join(told)}."
    return drawing(f"clips-{width}", width, height, "What clips, by role", description, parts)


def _legend(low: float, high: float, left: float, right: float) -> list[str]:
    steps, size = 6, 18
    start = right - steps * size - 56
    parts = [text_at(start - 8, 17, f"{low:.1f}", "label", "end")]
    for index in range(steps):
        value = low + (high - low) * index / (steps - 1)
        parts.append(
            f'<rect class="heat" style="fill-opacity:{_depth(value, low, high)}" x="{start + size * index}" y="5" '
            f'width="{size - 1}" height="14"/>'
        )
    parts.append(text_at(start + steps * size + 7, 17, f"{high:.1f} dB", "label", "start"))
    return parts


def _depth(value: float, low: float, high: float) -> float:
    """Opacity: 1 for the lowest SNR, 0.1 for the highest."""
    return round(1 - 0.9 * (value - low) / (high - low), 3) if high > low else 0.5


def _label_width(effects: list[dict[str, Any]], width: int) -> int:
    """Pixels for the names at the left."""
    longest = max(len(effect["name"]) for effect in effects)
    return int(max(longest, 8) * (8.4 if width == WIDE else 7.9) + 12)


def _ends(part: dict[str, Any], offset: float) -> tuple[float, float]:
    """Both ends of an interval, moved by ``offset``; without one, the mean twice."""
    low, high = part["interval_95"]
    mean = part["mean"]
    return offset + (mean if low is None else low), offset + (mean if high is None else high)


def _value_scale(highs: list[float], means: list[float], start: float, stop: float) -> Scale:
    """From zero, or the lowest mean below it, to the highest end of an interval."""
    high = max(max(highs), 1e-6)
    low = min(0.0, *means)
    return Scale(low if low < -0.005 * high else 0.0, high, start, stop)


def _grid_x(x: Scale, top: float, bottom: float, about: int) -> list[str]:
    parts = []
    for value in ticks(x, about):
        kind = "base" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(value)}" x2="{x(value)}" y1="{top}" y2="{bottom}"/>')
        parts.append(text_at(x(value), bottom + 18, f"{value:g}", "label", "middle"))
    return parts


def _bar(x: Scale, before: float, after: float, y: float, height: float, kind: str) -> str:
    a, b = sorted((x(clip(before, x)), x(clip(after, x))))
    return (
        f'<rect class="{kind}" x="{a}" y="{y:g}" width="{max(b - a, 1.5):.1f}" height="{height:g}" rx="1.5"/>'
    )


def _whisker(x: Scale, low: float, high: float, y: float) -> list[str]:
    a, b = x(clip(low, x)), x(clip(high, x))
    return [f'<line class="range" x1="{a}" x2="{b}" y1="{y:g}" y2="{y:g}"/>'] if b - a >= 2 else []
