"""The gate of a sign-off: is the loss against a reference shown to stay within a margin?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from aimc_sim.errors import BadInput
from aimc_sim.signoff.statistics.crossed import Estimate, estimate_table
from aimc_sim.signoff.statistics.tables import reference_of, table_of


@dataclass(frozen=True)
class NonInferiority:
    """A gate's result says whether the loss against the reference is shown to stay within the margin.

    loss: the estimated loss, positive where the chips are worse. bound: its one-sided upper (1 − alpha) bound.

    >>> from aimc_sim.signoff.statistics import non_inferior
    >>> non_inferior([[0.9, 0.8], [0.8, 0.9]], [0.9, 0.9], margin=0.5).passed
    True
    """

    passed: bool
    loss: Estimate
    bound: float
    margin: float
    alpha: float

    @property
    def straddles(self) -> bool:
        """Whether the interval holds the margin: more chips or items could still decide."""
        return not self.passed and self.loss.lower(self.alpha) <= self.margin

    @property
    def items_alone(self) -> bool:
        """Whether it is open because of the items alone, so that no number of chips can decide it."""
        return self.straddles and self.loss.items_alone(self.margin, self.alpha)

    @property
    def p_value(self) -> float:
        """The smallest alpha at which the gate passes, at most 0.5: what `holm` takes."""
        low, high = 1e-12, 0.5 - 1e-9
        if self.loss.upper(high) > self.margin:
            return 0.5
        if self.loss.upper(low) <= self.margin:
            return low
        log_alpha = optimize.brentq(
            lambda log: self.loss.upper(math.exp(log)) - self.margin,
            math.log(low),
            math.log(high),
            xtol=1e-10,
        )
        return math.exp(float(log_alpha))


def non_inferior(
    scores: npt.ArrayLike,
    reference: npt.ArrayLike,
    margin: float,
    alpha: float = 0.025,
    *,
    higher_is_better: bool = True,
    weights: npt.ArrayLike | None = None,
    marks: bool = False,
) -> NonInferiority:
    """Decide a gate: it passes if the one-sided (1 − alpha) upper bound of the loss is at most `margin`.

    scores: (chips, items); reference: (items,), (chips, items) or one number, in the same unit as the margin.
    The loss is reference − scores where higher is better (accuracy), else scores − reference (nats). marks: as there.

    >>> from aimc_sim.signoff.statistics import non_inferior
    >>> gate = non_inferior([[2.2, 2.4], [2.3, 2.5]], [2.0, 2.1], margin=0.1, higher_is_better=False, weights=[1, 1])
    >>> gate.passed, round(gate.loss.mean, 3)
    (False, 0.3)
    """
    number = isinstance(margin, (int, float, np.integer, np.floating)) and not isinstance(margin, bool)
    if not (number and math.isfinite(margin) and margin >= 0):
        raise BadInput(
            "margin",
            got=margin,
            why="it is the largest loss that is still acceptable",
            do="give a finite number of at least 0, in the unit of the score",
        )
    if not 0.0 < alpha < 0.5:
        raise BadInput(
            "alpha",
            got=alpha,
            why="it is the chance of passing a chip that should fail",
            do="use a value between 0 and 0.5, usually 0.025",
        )
    table = table_of(scores)
    difference = reference_of(reference, table.shape) - table
    signed = difference if higher_is_better else -difference
    loss = estimate_table(signed, weights, difference=True, marks=marks)
    bound = loss.upper(alpha)
    return NonInferiority(bool(bound <= margin), loss, bound, float(margin), alpha)
