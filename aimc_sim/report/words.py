"""Numbers and times as pages, tables and sentences say them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from aimc_sim.units import SECONDS_PER, format_duration

_UNITS = {"y": "year", "mo": "month", "d": "day", "h": "hour", "m": "minute", "s": "second"}
_PREFIXES = {-6: "a", -5: "f", -4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}


def _parts(time_s: float) -> tuple[str, str]:
    """Split a time into number and unit: exact where that is short, else to three digits in the largest unit."""
    named = re.fullmatch(r"([0-9.]+)([a-z]+)", format_duration(time_s))
    if named is not None and len(named[1]) <= 3:
        return named[1], named[2]
    unit = next((u for u in ("y", "mo", "d", "h", "m") if time_s >= SECONDS_PER[u]), "s")
    return f"{time_s / SECONDS_PER[unit]:.3g}", unit


def spoken(time_s: float) -> str:
    """Write a time for people: 3600.0 → ``1 hour``, 2.6e6 → ``30.1 days``."""
    if time_s == 0:
        return "programming"
    value, unit = _parts(time_s)
    if unit not in _UNITS:
        return f"{value} {unit}"
    return f"{value} {_UNITS[unit]}" + ("" if value == "1" else "s")


def tick(time_s: float) -> str:
    """Write a time for an axis: ``1 min`` (a lone m could be a month or a metre), ``1 d``."""
    if time_s == 0:
        return "0"
    value, unit = _parts(time_s)
    return f"{value}\u202f{'min' if unit == 'm' else unit}"


def nats(value: float | str) -> str:
    """Write the unit of a number: ``nat`` after exactly 1, else ``nats``."""
    return "nat" if value in (1, "1") else "nats"


def listed(names: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def si(value: float, unit: str, digits: int = 3) -> str:
    """Write a number with its unit's prefix: 1.24e-8 J → 12.4 nJ."""
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}"
    power = max(min(math.floor(math.log10(abs(value)) / 3), 4), -6)
    return f"{value / 1000.0**power:.{digits}g} {_PREFIXES[power]}{unit}"


def sig(value: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits, never in scientific notation below a million: 0.0613, 24.2,
    1,523.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or abs(value) < 0.5 * 10.0 ** (-digits - 1):
        return "0"
    if abs(value) >= 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def fixed(value: float | None, decimals: int) -> str:
    """Write a number with so many decimals and a true minus: 0.849, −0.012; never a zero below zero, and – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def places(total: float) -> int:
    """Count the decimals that give a total four digits, from 2 to 6, for all that adds up to it: 3.078 has 3, 0.0713
    has 5.
    """
    return min(max(3 - math.floor(math.log10(abs(total))), 2), 6) if total else 6


def perplexity(value: float | None) -> str:
    """Write a perplexity, the same in every table: 36.60, 1,246.52, 2.65e+09."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2e}"


def divergence(value: float | None) -> str:
    """Write a divergence in nats, the same in every table: 0.083, 17.947. Rounding errors below zero are zero."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value if abs(value) >= 5e-4 else 0.0:.3f}"


def percent(share: float | None) -> str:
    """Write a share: 0.6912 → 69.1 %, −2.8 %."""
    return "–" if share is None else f"{100 * share:.1f}\u202f%".replace("-", "−")


def whole(share: float | None) -> str:
    """Write a share of a whole: exactly 1 is 100 %, anything less has a decimal."""
    return "100\u202f%" if share == 1 else percent(share)


def points(share: float | None) -> str:
    """Write a difference of shares in percentage points, the same in every table: 1.9, -0.5."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share if abs(share) >= 5e-4 else 0.0:.1f}"


def rare(share: float | None) -> str:
    """Write a share that may be small, with two digits: 0.00123 → 0.12 %, 0 → 0, 3e-7 → <0.0001 %; – where there is
    none.
    """
    if share is None:
        return "–"
    value = 100 * share
    if not value:
        return "0"
    if value < 1e-4:
        return "<0.0001\u202f%"
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}\u202f%"


def db(value: float | None) -> str:
    """Write a ratio in dB: 21.2; – where there is no noise to speak of."""
    return fixed(value, 1)


def macs(value: float) -> str:
    """Write multiply-accumulates per token: 1.20 M, 884 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{sig(value / size)}\u202f{unit}"
    return sig(value)


def shape(sizes: Sequence[int]) -> str:
    """Write the shape of a matrix: 576 × 49,152."""
    return " × ".join(f"{size:,}" for size in sizes)


def between(low: str, high: str) -> str:
    """Write a range of two written numbers, per cent said once; a line may break after its dash, where a narrow screen
    lacks room for both.
    """
    low = low.removesuffix("\u202f%") if high.endswith("\u202f%") else low
    return f"{low}{' to ' if low.startswith(('-', '−')) else '–'}\u200b{high}"


def interval(bounds: Sequence[float | None], write: Callable[[float], str] = sig, scale: float = 1.0) -> str:
    """Write two bounds as a range, times a scale; empty where one is missing. write: how each of them is written."""
    low, high = bounds
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return between(write(scale * low), write(scale * high))
