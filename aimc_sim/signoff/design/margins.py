"""Margins of questions, which are shares: 0.01 is one percentage point."""

from __future__ import annotations

from aimc_sim.errors import BadInput

WIDE = 0.5  # from here on a verdict says little


def check_share(margin: float, what: str = "--margin") -> None:
    """Raise BadInput for a margin that is no share: 2 where 2 points are meant. what: its name."""
    if margin > 1:
        raise BadInput(
            what,
            got=margin,
            why="it is a share of questions, of which 0.01 is one percentage point",
            do=f"for {margin:g} percentage points use {margin / 100:g}" if margin <= 100 else "use 0 to 1",
        )


def note_on(margin: float) -> str:
    """Return a warning about a margin that was hardly meant; empty for others."""
    if margin < WIDE:
        return ""
    return (
        f"the margin of {margin:g} is {100 * margin:g} percentage points, which hardly any model loses: "
        f"a margin of {margin:g} points is written {margin / 100:g}"
    )
