"""Plots as inline SVG: scales, ticks, text. Drawings take the page's colours and fonts and need no library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDE, NARROW = 720, 358  # pixels: two drawings of each plot, because text in a scaled one would get too small


@dataclass(frozen=True)
class Scale:
    """A map from data [low, high] to pixels [start, stop], linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)


def ticks(scale: Scale, about: int = 5) -> list[float]:
    """Round numbers from 0 both ways in steps of 1, 2 or 5 times a power of ten; on a log axis powers of ten, and
    between them 2 and 5 where there is room."""
    high, low = scale.high, min(scale.low, 0.0)
    if scale.log:
        decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            ticks = [round(factor * 10.0**decade, 12) for decade in decades for factor in factors]
            ticks = [tick for tick in ticks if scale.low <= tick <= high]
            if len(ticks) <= about + 2:
                break
        return ticks
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, int(high / step + 1e-9) + 1)]


def clip(value: float, scale: Scale) -> float:
    return min(max(value, scale.low), scale.high)


def text_at(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def drawing(name: str, width: int, height: int, title: str, description: str, parts: list[str]) -> str:
    kind = "wide" if width == WIDE else "narrow"
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )
