"""Counts as people write them: 500k, 2M, 1.5B."""

from __future__ import annotations

import re
from decimal import Decimal

from aimc_sim.errors import BadInput

_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
_COUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([kKmMbB]?)")


def parse_count(text: str, what: str) -> int:
    """Read a whole number above 0, with k, M or B for thousands, millions or billions. Raises BadInput for anything
    else.
    """
    match = _COUNT.fullmatch(text.strip())
    value = Decimal(match[1].replace("_", "")) * _FACTORS[match[2].lower()] if match else Decimal(0)
    if value < 1 or value != int(value):
        raise BadInput(what, got=text, why="it is not a whole number above 0", do="write it like 500k or 2M")
    return int(value)


def parse_part(text: str) -> tuple[int, int]:
    """Read ``i/n`` → (i, n). Raises BadInput unless 0 ≤ i < n."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    part = (int(match[1]), int(match[2])) if match else (0, 0)
    if not part[0] < part[1]:
        raise BadInput("part", got=text, why="parts count from 0", do="write i/n with i below n, such as 0/4")
    return part
