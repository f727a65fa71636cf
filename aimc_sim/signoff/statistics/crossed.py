"""Means of crossed studies: every chip answers every item.

The model is ``score = mean + chip + item + interaction``, chips and items both random, so an interval for the mean
speaks about other chips *and* other items. Components come from the method of moments (expected mean squares of the
two-way layout without replication: Cornfield & Tukey, Ann. Math. Stat. 27, 1956). Intervals combine one Student t
quantile a component, as Howe does for a sum of independent means (JASA 69, 1974) and Graybill & Wang for a sum of
variances (JASA 75, 1980):

    half-width² = [ t²(C−1)·MS_chip + t²(I−1)·max(MS_item − MS_rest, 0) ] / (C·I),  at least t²(I−1)·MS_item / (C·I)

With Gaussian effects this covers at least what it claims from two chips on, where the usual Satterthwaite
approximation falls to 90 %; its price is a few per cent of width. Where Student's t would claim too much the interval
is another, or wider, and the caveat says so: right/wrong scores and flips (see `rates`), and scores that cannot be
negative and are strongly skewed, whose upper end is that of the log scale.

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
from scipy import optimize, special

from aimc_sim.errors import BadInput
from aimc_sim.signoff.statistics.rates import Rates

Floats = npt.NDArray[np.float64]

ONE_CHIP = "one chip only: the interval counts items, not how chips differ"
ONE_ITEM = "one item only: the interval counts chips, not how items differ"
ONE_CELL = "one chip and one item: there is no interval"
NEAR_THE_EDGE = "scores near 0 or 1, with few answers on the rare side: the interval is widened"
FEW_FLIPS = "few answers differ from the reference's: the interval is widened"
NO_FLIPS = "no answer differs from the reference's: the interval is what so many items cannot rule out"
SKEWED = "strongly skewed scores: the upper end of the interval is widened"
STRONG_SKEW = 1.0
STRONG_SCATTER = 0.35


@dataclass(frozen=True)
class Components:
    """Variances of the effects, in squared units of the score; None where the study cannot tell."""

    chip: float | None
    item: float | None
    interaction: float | None


@dataclass(frozen=True)
class _Squares:
    """Mean squares over the number of cells: each is the part that its effect adds to the variance of the mean."""

    chip: float | None
    item: float | None
    rest: float | None


@dataclass(frozen=True)
class Estimate:
    """A mean over chips and items with what is known about its error.

    chip_means: (chips,) mean of each chip. rates: of right/wrong scores and of flips, None for other scores.
    skewed: whether these are strongly skewed scores that cannot be negative.
    """

    mean: float
    components: Components
    chips: int
    items: int
    chip_means: tuple[float, ...]
    rates: Rates | None
    skewed: bool
    _squares: _Squares

    @cached_property
    def interval(self) -> tuple[float, float]:
        """(low, high) at 95 %."""
        return self.interval_at(0.025)

    def interval_at(self, alpha: float) -> tuple[float, float]:
        """The two-sided (1 − 2·alpha) interval: each end is a one-sided (1 − alpha) bound."""
        half = self.half_width(alpha)
        low, high = self.mean - half, self.mean + half
        if self.rates is not None and math.isfinite(half):
            low, high = self.rates.interval(half, _t(max(self.items, 2) - 1, alpha))
        if self.skewed and 0 < half < math.inf:
            above = high - self.mean
            if self.rates is None:
                high = self.mean * math.exp(min(above / self.mean, 700.0))
            else:  # to second order: the score interval is long already
                high = min(high + above**2 / (2 * self.mean), 1.0)
        return low, high

    def half_width(self, alpha: float) -> float:
        """Half-width of the symmetric two-sided (1 − 2·alpha) interval by quantiles of Student's t."""
        return _half_width(self._squares, self.chips, self.items, alpha)

    def item_half_width(self, alpha: float) -> float:
        """What would be left of the half-width with any number of chips: the items' part. NaN with one item or chip."""
        if self._squares.item is None or self._squares.rest is None:
            return math.nan
        return _t(self.items - 1, alpha) * math.sqrt(max(self._squares.item - self._squares.rest, 0.0))

    def items_alone(self, margin: float, alpha: float) -> bool:
        """Whether the items alone leave more doubt than the margin, and both answers open: chips cannot decide then."""
        half = self.item_half_width(alpha)
        return bool(half > margin and self.mean - half <= margin < self.mean + half)

    def upper(self, alpha: float = 0.025) -> float:
        """One-sided upper (1 − alpha) confidence bound of the mean."""
        return self.interval_at(alpha)[1]

    def lower(self, alpha: float = 0.025) -> float:
        """One-sided lower (1 − alpha) confidence bound of the mean."""
        return self.interval_at(alpha)[0]

    @property
    def caveat(self) -> str:
        """What the interval leaves out, or where it was widened; empty where there is nothing to say."""
        if self.chips * self.items == 1:
            return ONE_CELL
        said = [ONE_CHIP] if self.chips == 1 else [ONE_ITEM] if self.items == 1 else []
        half = self.half_width(0.025)
        if self.rates is not None:
            effective = self.rates.effective(half, _t(max(self.items, 2) - 1, 0.025))
            if self.rates.few(effective):
                flips = FEW_FLIPS if self.rates.more or self.rates.less else NO_FLIPS
                said.append(flips if self.rates.difference else NEAR_THE_EDGE)
        if self.skewed and half > 0:
            said.append(SKEWED)
        return "; ".join(said)


@dataclass(frozen=True)
class NonInferiority:
    """Result of the gate: is the loss against the reference shown to stay within the margin?

    loss: the estimated loss, positive where the chips are worse. bound: its one-sided upper (1 − alpha) bound.
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
        rates = self.loss.rates
        nothing_varies = rates is not None and rates.variance == 0
        return self.straddles and (nothing_varies or self.loss.items_alone(self.margin, self.alpha))

    @property
    def p_value(self) -> float:
        """The smallest alpha at which the gate passes, at most 0.5: what `holm` takes."""
        low, high = 1e-12, 0.5 - 1e-9
        if self.loss.upper(high) > self.margin:
            return 0.5
        if self.loss.upper(low) <= self.margin:
            return low
        found = optimize.brentq(
            lambda log: self.loss.upper(math.exp(log)) - self.margin,
            math.log(low),
            math.log(high),
            xtol=1e-10,
        )
        return math.exp(float(found))


def estimate(scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Estimate:
    """Mean of scores (chips, items) with a 95 % interval that counts chips and items.

    weights: (items,) positive, such as tokens a window; the mean then weighs items by them (a ratio estimator,
    linearised: Cochran, Sampling Techniques, ch. 6). Raises BadInput for an empty study or values that are not finite.
    """
    table = _table(scores)
    return _estimate(table, weights, difference=False)


def paired(scores: npt.ArrayLike, reference: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Estimate:
    """Mean difference scores − reference; scores (chips, items), reference (items,), (chips, items) or one number.

    Without weights, differences of −1, 0 and 1 alone are flips of right and wrong marks, and n items without any leave
    about 3.8/n open; with weights they are real numbers, of which identical ones leave nothing open.
    The reference is the digital model on the same items, or an earlier release on the same chips and items.
    """
    table = _table(scores)
    return _estimate(table - _reference(reference, table.shape), weights, difference=True)


def non_inferior(
    scores: npt.ArrayLike,
    reference: npt.ArrayLike,
    margin: float,
    alpha: float = 0.025,
    *,
    higher_is_better: bool = True,
    weights: npt.ArrayLike | None = None,
) -> NonInferiority:
    """Gate: pass if the one-sided (1 − alpha) upper bound of the loss is at most `margin`.

    scores: (chips, items); reference: (items,), (chips, items) or one number, in the same unit as the margin.
    The loss is reference − scores where higher is better (accuracy), else scores − reference (nats).
    """
    if not (isinstance(margin, (int, float)) and math.isfinite(margin) and margin >= 0):
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
    table = _table(scores)
    difference = _reference(reference, table.shape) - table
    loss = _estimate(difference if higher_is_better else -difference, weights, difference=True)
    bound = loss.upper(alpha)
    return NonInferiority(bool(bound <= margin), loss, bound, float(margin), alpha)


def _estimate(table: Floats, weights: npt.ArrayLike | None, difference: bool) -> Estimate:
    chips, items = table.shape
    share = _shares(weights, items)
    mean = float((table * share).sum(axis=1).mean() / items)
    chip_means = (table * share).mean(axis=1)
    # Linearised scores have the plain mean of the weighted estimator, and its variance to first order.
    linear = mean + (table - mean) * share
    squares = _mean_squares(linear)
    rates = None if difference and weights is not None else _rates(table, share, difference)
    skewed = mean > 0 and _one_sided(table, rates) and _is_skewed(linear, mean, rates)
    found = tuple(float(value) for value in chip_means)
    return Estimate(mean, _components(squares, chips, items), chips, items, found, rates, skewed, squares)


def _rates(table: Floats, share: Floats, difference: bool) -> Rates | None:
    """Shares of right and wrong, or of +1 and −1; None for scores of another kind or weighed ones.

    Differences that are all 0 do not show their kind, so weights tell: right and wrong marks have none."""
    known = np.isin(table, (-1.0, 0.0, 1.0) if difference else (0.0, 1.0))
    if not known.all() or not np.all(share == 1.0):
        return None
    more, less = float((table > 0).mean()), float((table < 0).mean() if difference else (table == 0).mean())
    return Rates(more, less, table.size, table.shape[1], difference)


def _one_sided(table: Floats, rates: Rates | None) -> bool:
    """Whether losses cannot, or hardly ever, be gains: the mean is then a scale, and errors are relative."""
    if rates is not None:
        return rates.difference and rates.less <= 0.2 * rates.more
    return bool(np.all(table >= 0))


def _is_skewed(table: Floats, mean: float, rates: Rates | None) -> bool:
    """By the sample skewness of chip means or item means (adjusted: Joanes & Gill, The Statistician 47, 1998). Of
    flips, whose interval knows how items are skewed, by their scatter over chips: a few chips do not show more."""
    by_chip = table.mean(axis=1)
    if rates is not None:
        return len(by_chip) > 1 and float(by_chip.std(ddof=1)) > STRONG_SCATTER * mean
    return max(_skewness(by_chip), _skewness(table.mean(axis=0))) > STRONG_SKEW


def _skewness(values: Floats) -> float:
    n = len(values)
    centred = values - values.mean()
    spread = float((centred**2).mean())
    if n < 3 or spread <= 1e-24 * float(values.mean()) ** 2:
        return 0.0
    return float((centred**3).mean()) / math.pow(spread, 1.5) * math.sqrt(n * (n - 1)) / (n - 2)


def _table(scores: npt.ArrayLike) -> Floats:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise BadInput(
            "scores",
            got=table.shape,
            why="a study has one row a chip and one column an item",
            do="give an array (chips, items) with at least one of each",
        )
    if not np.all(np.isfinite(table)):
        chip, item = (int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise BadInput(
            f"scores[{chip}, {item}]",
            got=float(table[chip, item]),
            why="a score must be finite",
            do="score that chip again",
        )
    return table


def _reference(reference: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    values = np.asarray(reference, dtype=np.float64)
    if values.shape not in ((), shape[1:], shape):
        raise BadInput(
            "reference",
            got=values.shape,
            why=f"the scores have shape {shape}",
            do=f"give one number, {shape[1:]} or {shape}",
        )
    return values


def _shares(weights: npt.ArrayLike | None, items: int) -> Floats:
    """Weights (items,) scaled to a mean of 1."""
    if weights is None:
        return np.ones(items)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (items,) or not np.all(np.isfinite(values)) or not np.all(values > 0):
        raise BadInput(
            "weights",
            got=values.tolist(),
            why=f"there are {items} items",
            do="give one positive number an item",
        )
    return np.asarray(values / values.mean())


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


def _t(degrees: int, alpha: float) -> float:
    return float(special.stdtrit(degrees, 1.0 - alpha))


def _half_width(squares: _Squares, chips: int, items: int, alpha: float) -> float:
    t_chip = _t(chips - 1, alpha) if chips > 1 else 0.0
    t_item = _t(items - 1, alpha) if items > 1 else 0.0
    if squares.chip is None and squares.item is None:
        return math.inf
    if squares.chip is None or squares.item is None or squares.rest is None:
        part = t_chip**2 * (squares.chip or 0.0) + t_item**2 * (squares.item or 0.0)
        return math.sqrt(part)
    both = t_chip**2 * squares.chip + t_item**2 * max(squares.item - squares.rest, 0.0)
    return math.sqrt(max(both, t_item**2 * squares.item))
