"""Losses as an explanation says them: all of one document with the same decimals, as they are to be added up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def places(document: dict[str, Any]) -> int:
    """Decimals that give the total four digits, from 2 to 6: 3.078 has 3, 0.07130 has 5."""
    total = abs(document["kl_nats"]["total"]["mean"])
    return min(max(3 - math.floor(math.log10(total)), 2), 6) if total > 0 else 6


def loss(value: float, decimals: int) -> str:
    """0.849, −0.012; never a zero below zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "−")


def span(bounds: Sequence[float], decimals: int) -> str:
    """Two bounds as a range; a line may break after the dash or the word."""
    low, high = bounds
    return f"{loss(low, decimals)}{'–' if low >= 0 else ' to '}\u200b{loss(high, decimals)}"


def share(value: float | None) -> str:
    """0.511 → 51.1 %; – where there is none."""
    return "–" if value is None else f"{100 * value:.1f}\u202f%".replace("-", "−")


def db(value: float | None) -> str:
    """A ratio in dB: 21.2; – where there is no noise to speak of."""
    known = value is not None and math.isfinite(value)
    return f"{value:.1f}".replace("-", "−") if known else "–"


def rare(value: float | None) -> str:
    """A small share with two digits: 0.00123 → 0.12 %, 0 → 0, 3e-7 → <0.0001 %; – where there is none."""
    if value is None:
        return "–"
    percent = 100 * value
    if not percent:
        return "0"
    if percent < 1e-4:
        return "<0.0001\u202f%"
    decimals = max(0, 1 - math.floor(math.log10(percent)))
    return f"{percent:.{decimals}f}\u202f%"
