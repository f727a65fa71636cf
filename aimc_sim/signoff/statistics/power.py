"""Before the run: how many chips and items a margin needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from aimc_sim.errors import BadInput

MOST_CHIPS, MOST_ITEMS = 4096, 10_000_000


@dataclass(frozen=True)
class Expected:
    """An expectation describes the loss in its unit: the mean, and standard deviations of the effects.

    From a small study: the root of the components of its estimate. By guess: for right/wrong answers of which a share f
    flips the other way on a chip, item_sd and interaction_sd are at most √f together.

    >>> from aimc_sim.signoff.statistics import Expected
    >>> Expected(effect=0.0, chip_sd=0.01, item_sd=0.1, interaction_sd=0.1).chip_sd
    0.01
    """

    effect: float
    chip_sd: float
    item_sd: float
    interaction_sd: float


@dataclass(frozen=True)
class Need:
    """A need is the smallest study that reaches the power, or the largest tried where none does (`enough` false).

    >>> from aimc_sim.signoff.statistics import Expected, needed
    >>> needed(Expected(0.0, 0.01, 0.1, 0.1), 0.05, items=200).enough
    True
    """

    chips: int
    items: int
    power: float
    enough: bool


def power(expected: Expected, chips: int, items: int, margin: float, alpha: float = 0.025) -> float:
    """Compute the probability that the gate passes, for Gaussian effects: noncentral t with Satterthwaite's degrees of
    freedom.

    (Satterthwaite, Biometrics Bulletin 2, 1946; the half-width is that of `estimate`.) chips and items from 2 on.

    >>> from aimc_sim.signoff.statistics import Expected, power
    >>> 0.5 < power(Expected(0.0, 0.01, 0.1, 0.1), chips=5, items=200, margin=0.05) < 1
    True
    """
    if chips < 2 or items < 2:
        raise BadInput(
            "study",
            got=(chips, items),
            why="spread needs two chips and two items to be seen",
            do="use at least 2",
        )
    by_chip = expected.chip_sd**2 / chips + expected.interaction_sd**2 / (chips * items)
    by_item = expected.item_sd**2 / items
    variance = by_chip + by_item
    if variance <= 0:
        return float(expected.effect <= margin)
    t_chip, t_item = (float(special.stdtrit(n - 1, 1 - alpha)) for n in (chips, items))
    half = math.sqrt(t_chip**2 * by_chip + t_item**2 * by_item)
    degrees = variance**2 / (by_chip**2 / (chips - 1) + by_item**2 / (items - 1))
    shift, error = (margin - expected.effect) / math.sqrt(variance), half / math.sqrt(variance)
    if shift > 30:  # beyond the tables of the noncentral t; a normal tail is exact enough there
        return float(special.ndtr(shift - error))
    return 1.0 - float(special.nctdtr(degrees, shift, error))


def needed(
    expected: Expected,
    margin: float,
    *,
    items: int | None = None,
    chips: int | None = None,
    target: float = 0.9,
    alpha: float = 0.025,
) -> Need:
    """Find the fewest chips for so many items, or items for so many chips, that pass with probability `target`.

    >>> from aimc_sim.signoff.statistics import Expected, needed
    >>> needed(Expected(0.0, 0.01, 0.1, 0.1), 0.05, items=200).chips <= 5
    True
    """
    if (items is None) == (chips is None) or not 0 < target < 1:
        raise BadInput(
            "power",
            got=(chips, items, target),
            why="one of chips and items is given, the other is sought",
            do="give items=… or chips=…, and a target between 0 and 1",
        )

    def study(n: int) -> tuple[int, int]:
        return (n, items) if items is not None else (chips or 0, n)

    def reached(n: int) -> float:
        return power(expected, *study(n), margin, alpha)

    most = MOST_CHIPS if items is not None else MOST_ITEMS
    low, high = 1, 2
    while high < most and reached(high) < target:
        low, high = high, min(2 * high, most)
    if reached(high) < target:
        return Need(*study(high), reached(high), False)
    while high - low > 1:  # power rises with n
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= target else (middle, high)
    return Need(*study(high), reached(high), True)
