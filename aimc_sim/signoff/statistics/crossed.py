"""Means of crossed studies: every chip answers every item.

The model is ``score = mean + chip + item + interaction``, chips and items both random, so an interval for the mean
speaks about other chips *and* other items. Components come from the method of moments (expected mean squares of the
two-way layout without replication: Cornfield & Tukey, Ann. Math. Stat. 27, 1956). Intervals combine one Student t
quantile a component, as Howe does for a sum of independent means (JASA 69, 1974) and Graybill & Wang for a sum of
variances (JASA 75, 1980):

    half-width² = [ t²(C−1)·MS_chip + t²(I−1)·max(MS_item − MS_rest, 0) ] / (C·I),  at least t²(I−1)·MS_item / (C·I)

With Gaussian effects this covers at least what it claims from two chips on, where the usual Satterthwaite
approximation falls to 90 %; its price is a few per cent of width. Items that weigh differently have Kish's effective
number less one for degrees of freedom (Survey Sampling, 1965, ch. 8). Where Student's t would claim too much the
interval is another, or wider, and the caveat says so:

- right/wrong scores and flips (see `rates`), also where chips scatter by more than a third of the rare side's share;
- scores that cannot be negative: errors are relative, and the upper end is that of the log scale, with what the spread
  of logs may be beyond what these chips and items show (the mean of log-normal scores rises with it: Zou, Huo &
  Taleban, Environmetrics 20, 2009);
- marks, by what the items cannot rule out: a share 1 − α^(1/I) of all items, none of which is among these I, may have
  any mark (the exact form of the rule of three, 3.7/I at 97.5 %), on every chip alike.

Two sets of identical scores differ by 0. Of real numbers the interval is [0, 0]: they do not agree to the last bit by
chance. Of right and wrong marks it is not: other items may flip, and n without a flip rule out no more than about 3.8/n
(the score interval at no flips, beside the exact −ln(0.025)/n = 3.7/n: the rule of three at 97.5 %).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from aimc_sim.signoff.statistics.rates import Rates
from aimc_sim.signoff.statistics.tables import Floats, bounds_of, reference_of, shares_of, table_of

ONE_CHIP = "one chip only: the interval counts items, not how chips differ"
ONE_ITEM = "one item only: the interval counts chips, not how items differ"
ONE_CELL = "one chip and one item: there is no interval"
NEAR_THE_EDGE = "scores near 0 or 1, with few answers on the rare side: the interval is widened"
FEW_FLIPS = "few answers differ from the reference's: the interval is widened"
NO_FLIPS = "no answer differs from the reference's: the interval is what so many items cannot rule out"
SKEWED = "scores that cannot be negative, and scatter by much of their mean: the upper end of the interval is widened"
SCATTER = "chips scatter by much of the rare side's share: the interval is widened"
UNSEEN = "the interval is what so many items cannot rule out of others"
STRONG_SCATTER = 0.35
MOST = 1000.0  # times the mean: who knows no more than that knows nothing
SLIGHT = 0.25  # a widening by a smaller share of the half-width goes without saying


@dataclass(frozen=True)
class Components:
    """Components are variances of the effects, in squared units of the score; None where the study cannot tell.

    >>> from aimc_sim.signoff.statistics import estimate
    >>> found = estimate([[0.2, 0.4, 0.3], [0.3, 0.5, 0.4]]).components
    >>> round(found.chip, 3), round(found.item, 3)
    (0.005, 0.01)
    """

    chip: float | None
    item: float | None
    interaction: float | None


@dataclass(frozen=True)
class _Squares:
    """These are mean squares over the number of scores: each is the part that its effect adds to the variance of the
    mean.
    """

    chip: float | None
    item: float | None
    rest: float | None


@dataclass(frozen=True)
class Estimate:
    """An estimate is a mean over chips and items with what is known about its error.

    chip_means: (chips,) mean of each chip. rates: of right/wrong scores and of flips, None for other scores.
    item_degrees: degrees of freedom of the items' mean square, items − 1 where they weigh alike. bounds: what a single
    score may be, of marks and their differences. positive: whether these are losses that cannot be gains;
    log_variance: then, of the logs of the items' means, 0 where one is 0.

    >>> from aimc_sim.signoff.statistics import estimate
    >>> found = estimate([[0.2, 0.4, 0.3], [0.3, 0.5, 0.4]])
    >>> round(found.mean, 3), found.chips, found.items
    (0.35, 2, 3)
    """

    mean: float
    components: Components
    chips: int
    items: int
    chip_means: tuple[float, ...]
    rates: Rates | None
    item_degrees: float
    bounds: tuple[float, float] | None
    positive: bool
    log_variance: float
    _squares: _Squares

    @cached_property
    def interval(self) -> tuple[float, float]:
        """(low, high) at 95 %."""
        return self.interval_at(0.025)

    def interval_at(self, alpha: float) -> tuple[float, float]:
        """Compute the two-sided (1 − 2·alpha) interval: each end is a one-sided (1 − alpha) bound."""
        half = self.half_width(alpha)
        if not math.isfinite(half):
            return self.mean - half, self.mean + half
        low, high = self._by_scatter(half, alpha)
        below, above = self._unseen(alpha)
        return min(low, self.mean - below), max(high, self.mean + above)

    def _by_scatter(self, half: float, alpha: float) -> tuple[float, float]:
        """Compute the interval by what the scores show."""
        low, high = self.mean - half, self.mean + half
        if self.rates is not None:
            low, high = self.rates.interval(half, _t(self.item_degrees, alpha))
            # To second order of the log scale: the score interval is long already.
            if self._scattered and not self.rates.difference:
                rare = max(min(self.mean, 1 - self.mean), 0.5 / self.rates.answers)
                if self.mean > 0.5:
                    low = max(low - (self.mean - low) ** 2 / (2 * rare), 0.0)
                else:
                    high = min(high + (high - self.mean) ** 2 / (2 * rare), 1.0)
            elif self._scattered and self.positive:
                high = min(high + (high - self.mean) ** 2 / (2 * self.mean), 1.0)
        elif self.positive and half > 0:
            spread = math.hypot(half / self.mean, *self._unseen_spread(alpha))
            high = self.mean * min(math.exp(min(spread, 700.0)), MOST)
        return low, high

    def _unseen_spread(self, alpha: float) -> tuple[float, float]:
        """Compute how much the log of the mean may rise by spread that items, and chips, have and these do not show."""
        chips = np.asarray(self.chip_means)
        by_chip = float(np.log(chips).var(ddof=1)) if self.chips > 1 and chips.min() > 0 else 0.0
        return (
            _excess(self.item_degrees, alpha) * self.log_variance / 2,
            _excess(self.chips - 1, alpha) * by_chip / 2,
        )

    @property
    def _scattered(self) -> bool:
        """Whether chips scatter by much of the rare side: of right or wrong, or of flips."""
        if self.rates is None or self.chips < 2:
            return False
        rare = self.mean if self.rates.difference else min(self.mean, 1 - self.mean)
        return float(np.std(self.chip_means, ddof=1)) > STRONG_SCATTER * rare

    def _unseen(self, alpha: float) -> tuple[float, float]:
        """Compute how far items that are not among these could move the mean down and up."""
        if self.bounds is None or self.items < 2:
            return 0.0, 0.0
        share = 1.0 - alpha ** (1.0 / self.items)
        return share * (self.mean - self.bounds[0]), share * (self.bounds[1] - self.mean)

    def half_width(self, alpha: float) -> float:
        """Compute the half-width of the symmetric two-sided (1 − 2·alpha) interval by quantiles of Student's t."""
        return _half_width(self._squares, self.chips, self.item_degrees, alpha)

    def item_half_width(self, alpha: float) -> float:
        """Compute what would be left of the half-width with any number of chips: the items' part. NaN with one item or
        chip.
        """
        if self._squares.item is None or self._squares.rest is None:
            return math.nan
        seen = _t(self.item_degrees, alpha) * math.sqrt(max(self._squares.item - self._squares.rest, 0.0))
        return max(seen, self._unseen(alpha)[1])

    def items_alone(self, margin: float, alpha: float) -> bool:
        """Return whether the items alone leave more doubt than the margin, and both answers open: chips cannot decide
        then.
        """
        if self.rates is not None and self.rates.variance == 0:
            return bool(self.lower(alpha) <= margin < self.upper(alpha))
        half = self.item_half_width(alpha)
        return bool(half > margin and self.mean - half <= margin < self.mean + half)

    def upper(self, alpha: float = 0.025) -> float:
        """Compute the one-sided upper (1 − alpha) confidence bound of the mean."""
        return self.interval_at(alpha)[1]

    def lower(self, alpha: float = 0.025) -> float:
        """Compute the one-sided lower (1 − alpha) confidence bound of the mean."""
        return self.interval_at(alpha)[0]

    @property
    def caveat(self) -> str:
        """What the interval leaves out, or where it was widened; empty where there is nothing to say."""
        if self.chips * self.items == 1:
            return ONE_CELL
        said = [ONE_CHIP] if self.chips == 1 else [ONE_ITEM] if self.items == 1 else []
        half = self.half_width(0.025)
        low, high = self._by_scatter(half, 0.025)
        below, above = self._unseen(0.025)
        if self.rates is not None:
            effective = self.rates.effective(half, _t(self.item_degrees, 0.025))
            if self.rates.few(effective):
                flips = FEW_FLIPS if self.rates.more or self.rates.less else NO_FLIPS
                said.append(flips if self.rates.difference else NEAR_THE_EDGE)
            if self._scattered and (self.positive or not self.rates.difference):
                said.append(SCATTER)
        elif self.positive and high - self.mean > (1 + SLIGHT) * half:
            said.append(SKEWED)
        if (
            NO_FLIPS not in said
            and max(below - (self.mean - low), above - (high - self.mean)) > SLIGHT * half
        ):
            said.append(UNSEEN)
        return "; ".join(said)


def estimate(scores: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, marks: bool = False) -> Estimate:
    """Estimate the mean of scores (chips, items) with a 95 % interval that counts chips and items.

    weights: (items,) positive, such as tokens a window; the mean then weighs items by them (a ratio estimator,
    linearised: Cochran, Sampling Techniques, ch. 6). marks: the scores are shares between 0 and 1, of which 0 and 1
    alone are always taken for marks. Raises BadInput for an empty study or values that are not finite.

    >>> from aimc_sim.signoff.statistics import estimate
    >>> low, high = estimate([[0.2, 0.4, 0.3], [0.3, 0.5, 0.4], [0.1, 0.4, 0.2]]).interval
    >>> low < 0.31 < high
    True
    """
    return estimate_table(table_of(scores), weights, difference=False, marks=marks)


def paired(
    scores: npt.ArrayLike,
    reference: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    marks: bool = False,
) -> Estimate:
    """Estimate the mean difference scores − reference; scores (chips, items), reference (items,), (chips, items) or one
    number.

    Without weights, differences of −1, 0 and 1 alone are flips of right and wrong marks, and n items without any leave
    about 3.8/n open; with weights they are real numbers, of which identical ones leave nothing open.
    The reference is the digital model on the same items, or an earlier release on the same chips and items. marks: both
    are shares between 0 and 1, or their difference already.

    >>> from aimc_sim.signoff.statistics import paired
    >>> round(paired([[2.2, 2.4], [2.3, 2.5]], [2.0, 2.1], weights=[128, 128]).mean, 3)
    0.3
    """
    table = table_of(scores)
    return estimate_table(table - reference_of(reference, table.shape), weights, difference=True, marks=marks)


def estimate_table(
    table: Floats, weights: npt.ArrayLike | None, *, difference: bool, marks: bool
) -> Estimate:
    chips, items = table.shape
    share = shares_of(weights, items)
    mean = float((table * share).sum(axis=1).mean() / items)
    chip_means = (table * share).mean(axis=1)
    # Linearised scores have the plain mean of the weighted estimator, and its variance to first order.
    squares = _mean_squares(mean + (table - mean) * share)
    rates = None if difference and weights is not None else _rates(table, share, difference)
    bounds = bounds_of(table, difference) if marks or rates is not None else None
    positive = mean > 0 and _one_sided(table, rates)
    degrees = max(items**2 / float((share**2).sum()) - 1.0, 1.0)
    means_of_chips = tuple(float(value) for value in chip_means)
    components = _components(squares, chips, items)
    by_item = table.mean(axis=0)
    logs = positive and rates is None and items > 1 and by_item.min() > 0
    log_variance = float(np.log(by_item).var(ddof=1)) if logs else 0.0
    return Estimate(
        mean,
        components,
        chips,
        items,
        means_of_chips,
        rates,
        degrees,
        bounds,
        positive,
        log_variance,
        squares,
    )


def _rates(table: Floats, share: Floats, difference: bool) -> Rates | None:
    """Return shares of right and wrong, or of +1 and −1; None for scores of another kind or weighed ones.

    Differences that are all 0 do not show their kind, so weights tell: right and wrong marks have none."""
    known = np.isin(table, (-1.0, 0.0, 1.0) if difference else (0.0, 1.0))
    if not known.all() or not np.all(share == 1.0):
        return None
    more, less = float((table > 0).mean()), float((table < 0).mean() if difference else (table == 0).mean())
    return Rates(more, less, table.size, table.shape[1], difference)


def _one_sided(table: Floats, rates: Rates | None) -> bool:
    """Return whether losses cannot, or hardly ever, be gains: the mean is then a scale, and errors are relative."""
    if rates is not None:
        return rates.difference and rates.less <= 0.2 * rates.more
    return bool(np.all(table >= 0))


def _mean_squares(table: Floats) -> _Squares:
    chips, items = table.shape
    mean = table.mean()
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    by_chip = items * float(((rows - mean) ** 2).sum()) / (chips - 1) if chips > 1 else None
    by_item = chips * float(((columns - mean) ** 2).sum()) / (items - 1) if items > 1 else None
    rest = None
    if chips > 1 and items > 1:
        residual = table - rows[:, None] - columns[None, :] + mean
        rest = float((residual**2).sum()) / ((chips - 1) * (items - 1))
    return _Squares(*(None if value is None else value / table.size for value in (by_chip, by_item, rest)))


def _components(squares: _Squares, chips: int, items: int) -> Components:
    if squares.chip is None or squares.item is None or squares.rest is None:
        # One chip: its items vary by item and interaction together; one item likewise.
        return Components(
            None if squares.chip is None else squares.chip * chips,
            None if squares.item is None else squares.item * items,
            None,
        )
    return Components(
        max(squares.chip - squares.rest, 0.0) * chips,
        max(squares.item - squares.rest, 0.0) * items,
        squares.rest * chips * items,
    )


def _excess(degrees: float, alpha: float) -> float:
    """Return the share by which a variance may be above its estimate, at twice alpha: it is one doubt of several.

    None below 3 degrees of freedom, where Student's t leaves as much open."""
    return degrees / float(special.chdtri(degrees, 1.0 - 2.0 * alpha)) - 1.0 if degrees >= 3 else 0.0


def _t(degrees: float, alpha: float) -> float:
    return float(special.stdtrit(degrees, 1.0 - alpha))


def _half_width(squares: _Squares, chips: int, item_degrees: float, alpha: float) -> float:
    t_chip = _t(chips - 1, alpha) if chips > 1 else 0.0
    t_item = _t(item_degrees, alpha)
    if squares.chip is None and squares.item is None:
        return math.inf
    if squares.chip is None or squares.item is None or squares.rest is None:
        part = t_chip**2 * (squares.chip or 0.0) + t_item**2 * (squares.item or 0.0)
        return math.sqrt(part)
    both = t_chip**2 * squares.chip + t_item**2 * max(squares.item - squares.rest, 0.0)
    return math.sqrt(max(both, t_item**2 * squares.item))
