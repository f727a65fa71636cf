"""Numbers and times as a report says them."""

from __future__ import annotations

import math
import re

from aimc_sim.units import SECONDS_PER, format_duration

_WORDS = {"y": "year", "mo": "month", "d": "day", "h": "hour", "m": "minute", "s": "second"}


def _parts(time_s: float) -> tuple[str, str]:
    """Number and unit of a time: exact where that is short, else to three digits in the largest unit."""
    named = re.fullmatch(r"([0-9.]+)([a-z]+)", format_duration(time_s))
    if named is not None and len(named[1]) <= 3:
        return named[1], named[2]
    unit = next((u for u in ("y", "mo", "d", "h", "m") if time_s >= SECONDS_PER[u]), "s")
    return f"{time_s / SECONDS_PER[unit]:.3g}", unit


def spoken(time_s: float) -> str:
    """A time for people: 3600.0 → ``1 hour``, 2.6e6 → ``30.1 days``."""
    if time_s == 0:
        return "programming"
    value, unit = _parts(time_s)
    if unit not in _WORDS:
        return f"{value} {unit}"
    return f"{value} {_WORDS[unit]}" + ("" if value == "1" else "s")


def tick(time_s: float) -> str:
    """A time for an axis: ``1 min`` (a lone m could be a month or a metre), ``1 d``."""
    if time_s == 0:
        return "0"
    value, unit = _parts(time_s)
    return f"{value}\u202f{'min' if unit == 'm' else unit}"


def nats(value: float | str) -> str:
    """The unit of a number: ``nat`` after exactly 1, else ``nats``."""
    return "nat" if value in (1, "1") else "nats"


def sig(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, never in scientific notation below a million: 0.0613, 24.2, 1,523."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or abs(value) < 0.5 * 10.0 ** (-digits - 1):
        return "0"
    if abs(value) >= 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def between(low: str, high: str) -> str:
    """A range of two written numbers; a line may break after its dash, where a narrow screen lacks room for both."""
    return f"{low}{' to ' if low.startswith('-') else '–'}\u200b{high}"


def perplexity_text(value: float | None) -> str:
    """A perplexity, the same in every table: 36.60, 1,246.52, 2.65e+09."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2e}"


def nats_text(value: float | None) -> str:
    """A divergence in nats, the same in every table: 0.083, 17.947. Rounding errors below zero are zero."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value if abs(value) >= 5e-4 else 0.0:.3f}"


def share_text(share: float | None) -> str:
    """A share of a whole: exactly 1 is 100 %, anything less has a decimal."""
    if share is None:
        return "–"
    return "100\u202f%" if share == 1 else f"{100 * share:.1f}\u202f%"


def points_text(share: float | None) -> str:
    """A difference of shares in percentage points, the same in every table: 1.9, -0.5."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share if abs(share) >= 5e-4 else 0.0:.1f}"


def rare_text(share: float | None) -> str:
    """A share that may be very small: 0, < 0.01 %, 0.35 %."""
    if share is None:
        return "–"
    if share == 0:
        return "0"
    return "< 0.01\u202f%" if share < 1e-4 else f"{100 * share:.2f}\u202f%"
