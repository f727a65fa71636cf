"""Looks at fixed numbers of chips: stop as soon as the answer is clear, and keep the error of a single look.

The error is spent over the looks (Lan & DeMets, Biometrika 70, 1983) by a function of the share of chips seen:
``obrien-fleming`` 2 − 2Φ(z(α/2)/√s), which keeps nearly all of it for the end, or ``pocock`` α·ln(1 + (e − 1)·s).
The bounds come from the recursive integral of Armitage, McPherson & Rowe (J. R. Stat. Soc. A 132, 1969) for independent
increments, and each is used as a nominal level with Student's t (Jennison & Turnbull, Group Sequential Methods, 2000,
ch. 3.8). Items are the same at every look, so that looks agree more than the integral assumes: the error is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from aimc_sim.errors import BadInput
from aimc_sim.signoff.statistics.crossed import Estimate

Spending = Literal["obrien-fleming", "pocock"]
Outcome = Literal["pass", "fail", "continue", "undecidable", "undecided"]
LOOKS = (3, 5, 8, 12, 20)
_NODES, _FAR = 200, 8.0


@dataclass(frozen=True)
class Look:
    """A look says what the first `chips` chips show. alpha: its nominal one-sided level.

    outcome: "pass" and "fail" end the study; "undecidable" ends it too, because the items alone leave more doubt than
    the margin, whatever the number of chips; "continue" asks for more chips; "undecided" is the end without an answer.

    >>> from aimc_sim.signoff.statistics import Look
    >>> Look(chips=3, alpha=0.001, outcome="continue").outcome
    'continue'
    """

    chips: int
    alpha: float
    outcome: Outcome


def spent(share: float, alpha: float, spending: Spending = "obrien-fleming") -> float:
    """Return the error spent when this share of the chips has been seen."""
    if spending == "pocock":
        return alpha * math.log1p((math.e - 1) * share)
    return float(2 * special.ndtr(special.ndtri(alpha / 2) / math.sqrt(share)))


@lru_cache(maxsize=64)
def alpha_of_looks(
    looks: tuple[int, ...], alpha: float = 0.025, spending: Spending = "obrien-fleming"
) -> tuple[float, ...]:
    """Compute the nominal one-sided level of each look at so many chips, the last of which is the whole study.

    Raises BadInput for looks that do not rise.

    >>> from aimc_sim.signoff.statistics import alpha_of_looks
    >>> first, last = alpha_of_looks((5, 20))
    >>> first < last < 0.025 + 1e-12
    True
    """
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 2:
        raise BadInput(
            "looks",
            got=looks,
            why="each look sees more chips than the one before, and at least two",
            do="use for example 3,5,8,12,20",
        )
    shares = [chips / looks[-1] for chips in looks]
    levels: list[float] = []
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    points = density = np.zeros(0)  # of the score process at the last look, where it has not crossed
    before, used = 0.0, 0.0
    for share in shares:
        spend = max(spent(share, alpha, spending) - used, 1e-300)
        step = math.sqrt(share - before)

        def crossing(
            bound: float, step: float = step, points: Floats = points, density: Floats = density
        ) -> float:
            if not points.size:
                return float(special.ndtr(-bound / step))
            return float((density * special.ndtr((points - bound) / step)).sum())

        root = math.sqrt(share)
        bound = float(
            optimize.brentq(
                lambda b, spend=spend, crossing=crossing: (
                    math.log(max(crossing(b), 1e-300)) - math.log(spend)
                ),
                -_FAR,
                40 * root,
                xtol=1e-12,
            )
        )
        levels.append(float(special.ndtr(-bound / root)))
        low = -_FAR * root
        grid = low + (bound - low) * (nodes + 1) / 2
        width = weights * (bound - low) / 2
        if points.size:
            kernel = np.exp(-0.5 * ((grid[:, None] - points) / step) ** 2) / (step * math.sqrt(2 * math.pi))
            density = width * (kernel @ density)
        else:
            density = width * np.exp(-0.5 * (grid / step) ** 2) / (step * math.sqrt(2 * math.pi))
        points, before, used = grid, share, used + spend
    return tuple(levels)


Floats = npt.NDArray[np.float64]


def look_at(
    losses: Sequence[Estimate], margin: float, alpha: float, *, final: bool, final_alpha: float = 0.025
) -> Look:
    """Judge one look. losses: of the first chips, one a time; all must stay within the margin.

    alpha: the level of this look; final_alpha: that of the last one, by which the items are judged.

    >>> from aimc_sim.signoff.statistics import estimate, look_at
    >>> loss = estimate([[0.1, 0.12], [0.11, 0.1], [0.1, 0.11]])
    >>> look_at([loss], margin=0.5, alpha=0.01, final=True).outcome
    'pass'
    """
    chips = losses[0].chips
    if all(loss.upper(alpha) <= margin for loss in losses):
        return Look(chips, alpha, "pass")
    if any(loss.lower(alpha) > margin for loss in losses):
        return Look(chips, alpha, "fail")
    if any(loss.items_alone(margin, final_alpha) for loss in losses):  # as `NonInferiority.items_alone`
        return Look(chips, alpha, "undecidable")
    return Look(chips, alpha, "undecided" if final else "continue")
