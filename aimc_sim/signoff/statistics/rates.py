"""Intervals for scores that are right or wrong, and for their differences, in crossed studies.

Near 0 and 1 a mean ± t·se covers too little: the variance of a share moves with the share. Score intervals let it move:
Wilson's for a share (J. Am. Stat. Assoc. 22, 1927), Tango's for a difference of paired shares (Stat. Med. 17, 1998).
Both are for independent answers; answers of a crossed study are not, and their *effective* number (variance of one
answer over variance of the mean: Korn & Graubard, Survey Methodology 24, 1998; Franco et al., J. Survey Stat. Methodol.
7, 2019) takes the place of n. With fewer than `FEW` effective answers on the rare side the interval is widened to hold
a second one too: mean ± t·se for a share, Bonett & Price's for flips (J. Educ. Behav. Stat. 37, 2012).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

FEW = 10.0
Interval = tuple[float, float]


@dataclass(frozen=True)
class Rates:
    """Rates are shares of all answers: `more` and `less`. Of right/wrong scores: right and wrong. Of differences: +1
    and −1.
    """

    more: float
    less: float
    answers: int
    items: int
    difference: bool

    @property
    def mean(self) -> float:
        """Mean score: the share that is right, or the difference of the two shares."""
        return self.more - self.less if self.difference else self.more

    @property
    def variance(self) -> float:
        """Variance of one answer."""
        spread = self.more + self.less if self.difference else self.more
        return max(spread - self.mean**2, 0.0)

    def effective(self, half_width: float, quantile: float) -> float:
        """Count the independent answers that would give mean ± half_width at this quantile; the items where nothing
        varies.
        """
        if half_width <= 0 or self.variance == 0 or quantile <= 0:  # quantiles of error 0.5 are 0
            return float(self.items)
        return min(quantile**2 * self.variance / half_width**2, float(self.answers))

    def few(self, effective: float) -> bool:
        """Return whether the rare side has too few effective answers to trust one interval alone."""
        return effective * (max(self.more, self.less) if self.difference else min(self.more, self.less)) < FEW

    def interval(self, half_width: float, quantile: float) -> Interval:
        """Compute the score interval, widened where the rare side has few answers."""
        n = self.effective(half_width, quantile)
        score = _tango if self.difference else _wilson
        low, high = score(self, n, quantile)
        if self.few(n):
            if self.difference:
                other = _bonett_price(self, n, quantile)
            else:
                other = (self.mean - half_width, self.mean + half_width)
            low, high = min(low, other[0]), max(high, other[1])
        return max(low, -1.0 if self.difference else 0.0), min(high, 1.0)


def _wilson(rates: Rates, n: float, quantile: float) -> Interval:
    p, c = rates.more, quantile**2 / n
    middle, spread = p + c / 2, math.sqrt(c * p * (1 - p) + c * c / 4)
    return (middle - spread) / (1 + c), (middle + spread) / (1 + c)


def _bonett_price(rates: Rates, n: float, quantile: float) -> Interval:
    more, less = (rates.more * n + 1) / (n + 2), (rates.less * n + 1) / (n + 2)
    middle = more - less
    spread = quantile * math.sqrt(max(more + less - middle**2, 0.0) / (n + 2))
    return middle - spread, middle + spread


def _tango(rates: Rates, n: float, quantile: float) -> Interval:
    def rejected(delta: float) -> bool:
        a, c = 2.0, -rates.less * delta * (1 - delta)
        b = -rates.more - rates.less + (2 - rates.more + rates.less) * delta
        less = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = max(2 * less + delta * (1 - delta), 0.0) / n
        return (rates.mean - delta) ** 2 > quantile**2 * variance

    return _edge(rejected, rates.mean, -1.0), _edge(rejected, rates.mean, 1.0)


def _edge(rejected: Callable[[float], bool], inside: float, outside: float) -> float:
    for _ in range(60):  # bisection to the last bit
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
    return outside
