"""Flips of one chip against the digital model, and several tasks at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from aimc_sim.errors import BadInput


@dataclass(frozen=True)
class McNemar:
    """A McNemar test counts answers that differ. lost: items that only the reference answers right; won: that only the
    chip does. p_value: exact, two-sided.

    It is about this one chip on these items. Pooled over chips it would take one item for as many as there are chips,
    and reject far too often.

    >>> from aimc_sim.signoff.statistics import mcnemar
    >>> mcnemar([0, 0, 1, 1], [1, 1, 1, 0]).lost
    2
    """

    lost: int
    won: int
    p_value: float


def mcnemar(chip: npt.ArrayLike, reference: npt.ArrayLike) -> McNemar:
    """Test one chip's right and wrong answers against the reference's by McNemar's exact test (Psychometrika 12, 1947;
    exact: the sign test of the flips).

    chip, reference: (items,) of right (1) and wrong (0). Raises BadInput for several chips or other scores.

    >>> from aimc_sim.signoff.statistics import mcnemar
    >>> mcnemar([0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]).p_value
    0.0625
    """
    mine, theirs = np.asarray(chip, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if mine.ndim != 1 or mine.shape != theirs.shape or mine.size == 0:
        raise BadInput(
            "flips",
            got=(mine.shape, theirs.shape),
            why="the test is about one chip against one reference on the same items",
            do="give two arrays (items,); for several chips use paired()",
        )
    if not np.isin(mine, (0.0, 1.0)).all() or not np.isin(theirs, (0.0, 1.0)).all():
        raise BadInput("flips", why="answers are right or wrong", do="give 1 and 0")
    lost, won = int(((mine == 0) & (theirs == 1)).sum()), int(((mine == 1) & (theirs == 0)).sum())
    p = float(stats.binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0
    return McNemar(lost, won, p)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for their number, in the order given: a claim holds at alpha if its own is at most alpha.

    Holm, Scand. J. Stat. 6 (1979): with it the chance of one false claim or more is at most alpha, however the tasks
    depend on each other.

    >>> from aimc_sim.signoff.statistics import holm
    >>> holm([0.02, 0.02, 0.02])
    (0.06, 0.06, 0.06)
    """
    for p in p_values:
        if not (math.isfinite(p) and 0 <= p <= 1):
            raise BadInput("p-value", got=p, why="it is a probability", do="give numbers from 0 to 1")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
