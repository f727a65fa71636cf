"""Charts as inline SVG: scales, axes, bars, dots, lines, bands. They take the page's colours and fonts, and no library.

Text in a scaled drawing would get too small, so each chart is drawn twice, for wide and for narrow screens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDE, NARROW = 720, 358  # pixels
LETTER = 8.3  # pixels of the width of a letter in text of 13 pixels, in a wide font

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A scale maps data [low, high] to pixels [start, stop], linear or logarithmic; what lies outside is at the
    edge.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def holds(self, value: float) -> bool:
        """Say whether a value lies on the scale."""
        return self.low <= value <= self.high


def ticks(scale: Scale, about: int = 5) -> list[float]:
    """Return round numbers from 0 both ways in steps of 1, 2 or 5 times a power of ten; on a log axis powers of ten,
    and between them 2 and 5 where there is room.
    """
    high, low = scale.high, min(scale.low, 0.0)
    if scale.log:
        decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            numbers = [round(factor * 10.0**decade, 12) for decade in decades for factor in factors]
            numbers = [number for number in numbers if scale.low <= number <= high]
            if len(numbers) <= about + 2:
                break
        return numbers
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, int(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    """Write a number on an axis: 0.25, −5, 2e−4 below a thousandth."""
    text = f"{value:g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")
    return text.replace("-", "−")


class Chart:
    """A chart is a drawing with a plot area between `left`, `right`, `top` and `bottom` (pixels), filled from the back
    forward.
    """

    def __init__(
        self, name: str, title: str, width: int, height: float, *,
        left: float = 52, right: float = 14, top: float = 26, bottom: float = 44,
    ) -> None:  # fmt: skip
        self.left, self.right, self.top, self.bottom = left, width - right, top, height - bottom
        self.width, self.height, self._title = width, round(height), title
        self._name = f"{name}-{width}"
        self._parts: list[str] = []

    def x_scale(self, low: float, high: float, *, log: bool = False, inset: float = 0.0) -> Scale:
        """Return a scale across the plot area."""
        return Scale(low, high, self.left + inset, self.right - inset, log)

    def y_scale(self, low: float, high: float, *, log: bool = False) -> Scale:
        """Return a scale up the plot area."""
        return Scale(low, high, self.bottom, self.top, log)

    def line(self, kind: str, x: Point, y: Point) -> None:
        """Draw a straight line between two ends of x and two of y. kind: the class that styles it, here and below."""
        self._add("line", kind, x1=x[0], x2=x[1], y1=y[0], y2=y[1])

    def bar(
        self, kind: str, x: Point, y: float, height: float, *, round_by: float = 1.5, opacity: float = 1.0,
        title: str = "",
    ) -> None:  # fmt: skip
        """Draw a bar between two ends of x, in either order, of which something shows however short it is; y:
        its top.
        """
        low, high = sorted(x)
        inside, wide = f"<title>{escape(title)}</title>" if title else "", max(high - low, 1.5)
        self._add("rect", kind, inside, opacity, x=low, y=y, width=wide, height=height, rx=round_by)

    def dot(self, kind: str, x: float, y: float, radius: float, *, opacity: float = 1.0) -> None:
        """Draw a dot."""
        self._add("circle", kind, opacity=opacity, cx=x, cy=y, r=radius)

    def path(self, kind: str, points: Iterable[Point], *, closed: bool = False) -> None:
        """Draw a line through points, or the area that they enclose."""
        written = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._add("polygon" if closed else "polyline", kind, points=written)

    def text(self, kind: str, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Write a line of text on a base line."""
        self._add("text", kind, escape(text), x=x, y=y, text_anchor=anchor)

    def x_axis(self, scale: Scale, title: str, about: int = 5) -> None:
        """Draw lines up the plot area, their numbers, and the title below."""
        for value in ticks(scale, about):
            self.upright("base" if value == 0 else "grid", scale(value))
            self.x_label(scale(value), _number(value))
        self.x_title(title)

    def x_title(self, title: str) -> None:
        """Write the title below the plot area."""
        self.text("axis", (self.left + self.right) / 2, self.height - 5, title, "middle")

    def y_axis(self, scale: Scale, title: str) -> None:
        """Draw the title above, lines across, and numbers at the left."""
        if scale.log:
            self.line("base", (self.left, self.right), (self.bottom, self.bottom))
        for value in ticks(scale):
            y = scale(value)
            self.line("base" if value == 0 else "grid", (self.left, self.right), (y, y))
            self.text("label", self.left - 8, y + 4, _number(value), "end")
        self.text("axis", 0, 14, title)

    def x_label(self, x: float, text: str) -> None:
        """Write a name below the plot area."""
        self.text("label", x, self.bottom + 18, text, "middle")

    def upright(self, kind: str, x: float, rise: float = 0.0) -> None:
        """Draw a line up the plot area, and beyond its top."""
        self.line(kind, (x, x), (self.top - rise, self.bottom))

    def limit(self, x: float, text: str, *, far: bool = False) -> None:
        """Draw a line up the plot area with its name above, inside the drawing. far: the name only, at the end."""
        if not far:
            self.upright("margin", x, 4)
        room = LETTER * len(text) / 2
        anchor = "end" if far or x > self.width - room else "start" if x < room else "middle"
        self.text("margin-label", x, self.top - 9, text, anchor)

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Draw bars or dots with their names above the plot area, as (kind, name)."""
        x = self.left
        for kind, name in entries:
            if kind.startswith("bar"):
                self.bar(kind, (x, x + 11), 5.5, 11, round_by=2)
            else:
                self.dot(kind, x + 6, 11, 5)
            self.text("label", x + 17, 15.5, name)
            x += 34 + LETTER * len(name)

    def svg(self, description: str) -> str:
        """Return the drawing, with a title and a description for those who do not see it."""
        name, size = self._name, "wide" if self.width == WIDE else "narrow"
        return (
            f'<svg class="plot {size}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(self._title)}</title>'
            f'<desc id="{name}-d">{escape(description)}</desc>{"".join(self._parts)}</svg>'
        )

    def _add(
        self, tag: str, kind: str, inside: str = "", opacity: float = 1.0, **attributes: float | str
    ) -> None:
        if opacity != 1.0:
            attributes["style"] = f"fill-opacity:{opacity:g}"
        written = "".join(
            f' {name.replace("_", "-")}="{value if isinstance(value, str) else f"{round(value, 1):g}"}"'
            for name, value in attributes.items()
        )
        self._parts.append(f'<{tag} class="{kind}"{written}' + (f">{inside}</{tag}>" if inside else "/>"))


class Rows(Chart):
    """This chart has a row for each name. Where names are long and the screen is narrow, they stand above their
    rows.
    """

    def __init__(
        self, name: str, title: str, width: int, names: Sequence[str], step: float, *,
        right: float = 22, top: float = 30, bottom: float = 42, kind: str = "name",
    ) -> None:  # fmt: skip
        letters = max(map(len, names), default=0)
        self.above = width == NARROW and letters > 14
        room = 8 if self.above or not letters else max(52, LETTER * min(letters, 30) + 14)
        self.step = step + 22 if self.above else step
        height = top + self.step * len(names) + bottom
        super().__init__(name, title, width, height, left=room, right=right, top=top, bottom=bottom)
        self._depth, self._names, self._kind = step, names, kind

    def middle(self, row: int) -> float:
        """Return the pixels of the middle of a row."""
        return round(self.top + self.step * (row + 1) - self._depth / 2, 1)

    def upright(self, kind: str, x: float, rise: float = 0.0) -> None:
        """Draw a line up the plot area; names that stand above their rows are not struck through."""
        if not self.above:
            super().upright(kind, x, rise)
            return
        for row in range(len(self._names)):
            half = self._depth / 2
            self.line(kind, (x, x), (self.middle(row) - half, self.middle(row) + half))

    def name_rows(self) -> None:
        """Write the names at the left, or above."""
        for row, name in enumerate(self._names):
            most = 46 if self.above else 30
            short = name if len(name) <= most else name[: most - 1] + "…"
            if not short:
                continue
            if self.above:
                self.text(self._kind, self.left, self.middle(row) - self._depth / 2 - 4, short)
            else:
                self.text(self._kind, self.left - 12, self.middle(row) + 4.5, short, "end")
