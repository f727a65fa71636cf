"""Margins of questions, which are shares: 0.01 is one percentage point."""

from __future__ import annotations

from aimc_sim.errors import BadInput

WIDE = 0.5  # from here on a verdict says little


def check_share(margin: float) -> None:
    """Raise BadInput for a margin that is no share: 2 where 2 points are meant."""
    if margin > 1:
        why, do = problem_of(margin)
        raise BadInput("--margin", got=margin, why=why, do=do)


def problem_of(margin: float) -> tuple[str, str]:
    """Reason and remedy for a margin above 1."""
    return (
        "it is a share of questions, of which 0.01 is one percentage point",
        f"for {margin:g} percentage points use {margin / 100:g}" if margin <= 100 else "use 0 to 1",
    )


def note_on(margin: float) -> str:
    """A warning about a margin that was hardly meant; empty for others."""
    if margin < WIDE:
        return ""
    return (
        f"the margin of {margin:g} is {100 * margin:g} percentage points, which hardly any model loses: "
        f"a margin of {margin:g} points is written {margin / 100:g}"
    )
