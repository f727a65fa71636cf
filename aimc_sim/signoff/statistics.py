"""Statistics of crossed studies: every chip answers every item.

The model is ``score = mean + chip + item + interaction``, chips and items both random, so an interval for the mean
speaks about other chips *and* other text. Components come from the method of moments (expected mean squares of the
two-way layout without replication: Cornfield & Tukey, Ann. Math. Stat. 27, 1956). Intervals combine one Student t
quantile a component, as Howe does for a sum of independent means (JASA 69, 1974) and Graybill & Wang for a sum of
variances (JASA 75, 1980):

    half-width² = [ t²(C−1)·MS_chip + t²(I−1)·max(MS_item − MS_rest, 0) ] / (C·I),  at least t²(I−1)·MS_item / (C·I)

With Gaussian effects this covers at least what it claims from two chips on, where the usual Satterthwaite
approximation falls to 90 % (tests/signoff/test_statistics.py); its price is a few per cent of width. Strongly skewed
items are the case in which it can fall short by two to three points, as any interval by t quantiles does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from aimc_sim.errors import BadInput

Floats = npt.NDArray[np.float64]

ONE_CHIP = "one chip only: the interval counts items, not how chips differ"
ONE_ITEM = "one item only: the interval counts chips, not how items differ"
ONE_CELL = "one chip and one item: there is no interval"


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

    interval: (low, high) at 95 %. chip_means: (chips,) mean of each chip. caveat: what the interval leaves out.
    """

    mean: float
    interval: tuple[float, float]
    components: Components
    chips: int
    items: int
    chip_means: tuple[float, ...]
    caveat: str
    _squares: _Squares

    def half_width(self, alpha: float) -> float:
        """Half-width of the two-sided (1 − 2·alpha) interval: mean ± this is a one-sided (1 − alpha) bound."""
        return _half_width(self._squares, self.chips, self.items, alpha)

    def upper(self, alpha: float = 0.025) -> float:
        """One-sided upper (1 − alpha) confidence bound of the mean."""
        return self.mean + self.half_width(alpha)

    def lower(self, alpha: float = 0.025) -> float:
        """One-sided lower (1 − alpha) confidence bound of the mean."""
        return self.mean - self.half_width(alpha)


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


def estimate(scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Estimate:
    """Mean of scores (chips, items) with a 95 % interval that counts chips and items.

    weights: (items,) positive, such as tokens a window; the mean then weighs items by them (a ratio estimator,
    linearised: Cochran, Sampling Techniques, ch. 6). Raises BadInput for an empty study or values that are not finite.
    """
    table = _table(scores)
    chips, items = table.shape
    share = _shares(weights, items)
    mean = float((table * share).sum(axis=1).mean() / items)
    chip_means = (table * share).mean(axis=1)
    # Linearised scores have the plain mean of the weighted estimator, and its variance to first order.
    linear = mean + (table - mean) * share
    squares = _mean_squares(linear)
    half = _half_width(squares, chips, items, 0.025)
    caveat = ONE_CELL if table.size == 1 else ONE_CHIP if chips == 1 else ONE_ITEM if items == 1 else ""
    return Estimate(
        mean,
        (mean - half, mean + half),
        _components(squares, chips, items),
        chips,
        items,
        tuple(float(value) for value in chip_means),
        caveat,
        squares,
    )


def paired(scores: npt.ArrayLike, reference: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Estimate:
    """Mean difference scores − reference; scores (chips, items), reference (items,), (chips, items) or one number."""
    table = _table(scores)
    return estimate(table - _reference(reference, table.shape), weights)


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
    loss = estimate(difference if higher_is_better else -difference, weights)
    bound = loss.upper(alpha)
    return NonInferiority(bool(bound <= margin), loss, bound, float(margin), alpha)


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


def _half_width(squares: _Squares, chips: int, items: int, alpha: float) -> float:
    t_chip = float(special.stdtrit(chips - 1, 1.0 - alpha)) if chips > 1 else 0.0
    t_item = float(special.stdtrit(items - 1, 1.0 - alpha)) if items > 1 else 0.0
    if squares.chip is None and squares.item is None:
        return math.inf
    if squares.chip is None or squares.item is None or squares.rest is None:
        part = t_chip**2 * (squares.chip or 0.0) + t_item**2 * (squares.item or 0.0)
        return math.sqrt(part)
    both = t_chip**2 * squares.chip + t_item**2 * max(squares.item - squares.rest, 0.0)
    return math.sqrt(max(both, t_item**2 * squares.item))
