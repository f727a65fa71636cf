"""Times as people write them (30s, 1h, 1y) and as the simulator counts them (seconds)."""

from __future__ import annotations

import math
import re

from aimc_sim.errors import BadInput

SECONDS_PER = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
    "d": 86400.0, "w": 604800.0, "mo": 2_629_746.0, "y": 31_556_952.0,
}  # fmt: skip
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_duration(text: str | float) -> float:
    """Seconds in a duration such as ``30s``, ``1m``, ``1h``, ``1d``, ``1mo``, ``1y`` or ``0``.

    A month is a twelfth of a year and a year 365.2425 days.
    Raises BadInput for an unknown unit, a missing unit (except for 0) or a negative time.
    """
    if isinstance(text, (int, float)):
        if not math.isfinite(text) or text < 0:
            raise BadInput(
                "time",
                got=text,
                why="it counts from the end of programming, in seconds",
                do="give a finite time of at least 0",
            )
        return float(text)
    if not isinstance(text, str):
        raise BadInput(
            "time", got=text, why="it is neither a number of seconds nor a text", do="write 60 or '1m'"
        )
    match = _DURATION.fullmatch(text)
    units = "ns us ms s m h d w mo y"
    if match is None:
        why = (
            "times count from the end of programming and cannot be negative"
            if text.strip().startswith("-")
            else "it is not a number followed by a unit"
        )
        raise BadInput("time", got=text, why=why, do=f"write it like 30s, 1h or 1y (units: {units})")
    value, unit = float(match[1]), match[2].lower()
    if not unit and value == 0:
        return 0.0
    if unit not in SECONDS_PER:
        raise BadInput(
            "time",
            got=text,
            why=f"{unit!r} is not a unit of time" if unit else "the unit is missing",
            do=f"use one of {units}, for example 30s, 1h or 1y",
        )
    return value * SECONDS_PER[unit]


def parse_durations(text: str) -> tuple[float, ...]:
    """Return the seconds in a comma-separated list of durations, each of them once.
    Raises BadInput, also for an empty place.
    """
    tokens = [token.strip() for token in text.split(",")]
    example = "list times like 1m,1h,1d,1y"
    if not any(tokens):
        raise BadInput("times", got=text, why="no time was given", do=example)
    if not all(tokens):
        raise BadInput("times", got=text, why="a time is missing beside a comma", do=example)
    times = tuple(parse_duration(token) for token in tokens)
    again = next((token for index, token in enumerate(tokens) if times[index] in times[:index]), None)
    if again is not None:
        raise BadInput("times", got=text, why=f"{again} is there twice", do="list each time once")
    return times


def format_duration(seconds: float) -> str:
    """Return the shortest exact-looking name of a duration: 86400.0 → ``1d``."""
    if seconds == 0:
        return "0s"
    for unit in ("y", "mo", "d", "h", "m", "s", "ms", "us", "ns"):
        count = seconds / SECONDS_PER[unit]
        if count >= 1 and abs(count - round(count)) < 1e-9 * count:
            return f"{round(count)}{unit}"
    for unit in ("y", "d", "h", "m", "s", "ms", "us", "ns"):
        if seconds >= SECONDS_PER[unit]:
            return f"{seconds / SECONDS_PER[unit]:.3g}{unit}"
    return f"{seconds:.3g}s"


def exact_duration(seconds: float) -> str:
    """Return a duration that parses back to the same number."""
    named = format_duration(seconds)
    return named if parse_duration(named) == seconds else f"{seconds!r}s"
