"""Intervals beside a margin as inline SVG: one for a verdict, or one a row to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aimc_sim.report.svg import WIDE, Scale, clip, drawing, text_at, ticks

FAR = 6.0  # a margin so many times beyond everything else is named at the edge and not drawn to scale


@dataclass(frozen=True)
class Strip:
    """A mean with its interval, in the unit that is shown; None: no interval. state: as of a headline, or empty."""

    label: str
    mean: float
    low: float | None
    high: float | None
    state: str = ""


def strips(name: str, title: str, rows: Sequence[Strip], margin: float | None, axis: str, width: int) -> str:
    """A row for each mean: dot and bar on one axis from zero, and the margin as a line across."""
    named = any(row.label for row in rows)
    beside = named and width == WIDE
    left, right = (216 if beside else 8), 22
    top, bottom, step = 26, 40, (34 if beside or not named else 46)
    height = int(top + bottom + step * len(rows))
    ends = [value for row in rows for value in (row.mean, row.low, row.high) if value is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    far = margin is not None and high > 0 and margin > FAR * high
    if margin is not None and not far:
        high = max(high, margin)
    room = max(high - low, 1e-9)
    x = Scale(
        low - (0.04 * room if low < 0 else 0.0), high + (0.25 if far else 0.08) * room, left, width - right
    )
    middles = [
        top + step * index + (step / 2 if beside or not named else step - 14) for index in range(len(rows))
    ]
    # Names that stand above their bars are not struck through.
    spans = [(cy - 10, cy + 12) for cy in middles] if named and not beside else [(top - 6, height - bottom)]
    parts = []
    for value in ticks(x, 6 if width == WIDE else 4):
        parts.append(_across("base" if value == 0 else "grid", x(value), spans))
        parts.append(text_at(x(value), height - bottom + 17, f"{value:g}", "label", "middle"))
    parts.append(text_at((left + width - right) / 2, height - 4, axis, "axis", "middle"))
    if margin is not None:
        at = x(margin) if not far else width - right
        line = "" if far else _across("margin", at, [(spans[0][0] - 2, spans[0][1]), *spans[1:]])
        anchor = "end" if far or at > width - right - 48 else "start" if at < left + 48 else "middle"
        parts += [line, text_at(at, 12, f"margin {margin:g}{' →' if far else ''}", "margin-label", anchor)]
    for cy, row in zip(middles, rows, strict=True):
        if beside:
            parts.append(text_at(left - 12, cy + 4.5, _short(row.label, 30), "name", "end"))
        elif named:
            parts.append(text_at(left, cy - 14, _short(row.label, 46), "name", "start"))
        if row.low is not None and row.high is not None:
            a, b = x(clip(row.low, x)), x(clip(row.high, x))
            parts.append(
                f'<rect class="interval {row.state}" x="{a}" y="{cy - 5:g}" width="{max(b - a, 1.5):.1f}" '
                'height="10" rx="5"/>'
            )
        parts.append(f'<circle class="point {row.state}" cx="{x(row.mean)}" cy="{cy:g}" r="5.5"/>')
    listed = "; ".join(
        f"{row.label or 'mean'} {row.mean:.3g}"
        + (f" ({row.low:.3g} to {row.high:.3g})" if row.low is not None and row.high is not None else "")
        for row in rows
    )
    limit = "" if margin is None else f" The margin is {margin:g}."
    return drawing(f"{name}-{width}", width, height, title, f"{axis}: {listed}.{limit}", parts)


def _across(kind: str, at: float, spans: Sequence[tuple[float, float]]) -> str:
    return "".join(
        f'<line class="{kind}" x1="{at}" x2="{at}" y1="{low:g}" y2="{high:g}"/>' for low, high in spans
    )


def _short(label: str, letters: int) -> str:
    return label if len(label) <= letters else label[: letters - 1] + "…"
