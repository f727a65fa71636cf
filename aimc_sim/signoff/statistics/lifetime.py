"""When the bar is crossed: between the listed times a loss is taken as linear in log t."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.signoff.statistics.crossed import Estimate, paired

START_S = 1.0  # where time 0 stands on the log axis, unless the next time is sooner


@dataclass(frozen=True)
class Lifetime:
    """A lifetime is the seconds until the mean loss crosses the margin, with an interval; None: not within the times of
    the study.

    alpha: chance of each end of the interval to be wrong, the gate's (at a look, that look's).

    crossed_s: of the mean; None is censored, later than `last_s`. low_s: None is before the first time (`from_start`
    false: not even there is the loss shown to be within the margin). high_s: None is later than the last time.
    chips_s: (chips,) each chip's own, None where censored.

    >>> from aimc_sim.signoff.statistics import lifetime
    >>> lifetime([60.0, 3600.0], [[[0.1, 0.1]] * 3, [[0.2, 0.2]] * 3], margin=0.5).crossed_s is None
    True
    """

    crossed_s: float | None
    low_s: float | None
    high_s: float | None
    first_s: float
    last_s: float
    chips_s: tuple[float | None, ...]
    alpha: float

    @property
    def shown_s(self) -> float | None:
        """How long the loss is shown to stay within the margin; None: not even at the first time."""
        return self.low_s


def lifetime(
    times_s: Sequence[float],
    losses: npt.ArrayLike,
    margin: float,
    *,
    weights: npt.ArrayLike | None = None,
    alpha: float = 0.025,
    marks: bool = False,
) -> Lifetime:
    """Estimate the time at which the mean loss crosses `margin`, with its interval.

    times_s: rising seconds. losses: (times, chips, items), the same chips and items at every time. marks: as of
    `paired`. The interval is Fieller's (J. R. Stat. Soc. B 16, 1954): times whose own interval of the loss holds the
    margin. Between two times it is that of the interpolated scores, so that what the times share (chips, items) counts
    once.

    >>> from aimc_sim.signoff.statistics import lifetime
    >>> losses = [[[0.1, 0.2], [0.2, 0.2]], [[0.7, 0.9], [0.8, 0.8]]]
    >>> 60 < lifetime([60.0, 3600.0], losses, margin=0.5).crossed_s < 3600
    True
    """
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 3 or table.shape[0] != len(times_s) or not len(times_s):
        raise BadInput(
            "losses",
            got=table.shape,
            why=f"there are {len(times_s)} times",
            do="give an array (times, chips, items)",
        )

    listed = [paired(scores, 0.0, weights, marks=marks) for scores in table]
    rated = any(one.bounds is not None for one in listed)

    def at(place: float) -> Estimate:
        first = min(int(place), len(times_s) - 1)
        share = place - first
        between = table[first] if share == 0 else (1 - share) * table[first] + share * table[first + 1]
        return paired(between, 0.0, weights)

    def bound(place: float, side: Literal["lower", "upper"]) -> float:
        if not rated:
            return float(getattr(at(place), side)(alpha))
        # Marks have intervals of their own, at the listed times; between them lies a straight line.
        ends = [float(getattr(one, side)(alpha)) for one in listed]
        return float(np.interp(place, np.arange(len(ends)), ends))

    last = len(times_s) - 1
    mean = _first_crossing(lambda place: at(place).mean, margin, last)
    low = _first_crossing(lambda place: bound(place, "upper"), margin, last)
    high = _first_crossing(lambda place: bound(place, "lower"), margin, last)
    per_chip = [at(float(index)).chip_means for index in range(last + 1)]
    chips = tuple(_time(times_s, _polyline([at_[chip] for at_ in per_chip], margin))
                  for chip in range(table.shape[1]))  # fmt: skip
    return Lifetime(
        _time(times_s, mean),
        # Upper bound above the bar from the start: nothing is shown. Never above it: shown to the last time.
        None if low == 0.0 and bound(0.0, "upper") > margin else _time(times_s, last if low is None else low),
        _time(times_s, high),
        float(times_s[0]),
        float(times_s[-1]),
        chips,
        alpha,
    )


def _first_crossing(value: Callable[[float], float], margin: float, last: int) -> float | None:
    """Return the place (index of a time, and the share of the way to the next) where the value first exceeds the
    margin.
    """
    if value(0.0) > margin:
        return 0.0
    for index in range(last):
        if value(float(index + 1)) > margin:
            inside, outside = float(index), float(index + 1)
            for _ in range(40):
                middle = (inside + outside) / 2
                inside, outside = (inside, middle) if value(middle) > margin else (middle, outside)
            return outside
    return None


def _polyline(values: Sequence[float], margin: float) -> float | None:
    if values[0] > margin:
        return 0.0
    for index in range(len(values) - 1):
        if values[index + 1] > margin:
            return index + (margin - values[index]) / (values[index + 1] - values[index])
    return None


def _time(times_s: Sequence[float], place: float | None) -> float | None:
    """Return the seconds at a place, interpolated in log t; None for none."""
    if place is None:
        return None
    first = int(place)
    share = place - first
    if share == 0:
        return float(times_s[first])
    start = times_s[first] if times_s[first] > 0 else min(START_S, 0.1 * times_s[first + 1])
    return math.exp((1 - share) * math.log(start) + share * math.log(times_s[first + 1]))
