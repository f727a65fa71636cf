"""How many chips of a hundred would pass: on this item set, and of the population of chips and items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from aimc_sim.errors import BadInput
from aimc_sim.signoff.statistics.crossed import Estimate

_MOST_SIGMAS = 6.0
RANKED_FROM = 59  # chips from which the worst one bounds the 5th percentile at 95 % confidence


@dataclass(frozen=True)
class YieldInterval:
    """A yield interval bounds the share of chips that pass on this item set. interval: exact, two-sided 95 %; lower:
    one-sided 95 %.

    >>> from aimc_sim.signoff.statistics import yield_interval
    >>> yield_interval(29, 29).lower > 0.9
    True
    """

    passes: int
    chips: int
    interval: tuple[float, float]
    lower: float

    @property
    def share(self) -> float:
        """passes / chips."""
        return self.passes / self.chips


def yield_interval(passes: int, chips: int) -> YieldInterval:
    """Bound the share of chips that pass *on this item set* by Clopper & Pearson's exact interval (Biometrika 26,
    1934).

    >>> from aimc_sim.signoff.statistics import yield_interval
    >>> low, high = yield_interval(5, 5).interval
    >>> round(low, 3), high
    (0.478, 1.0)
    """
    if chips < 1 or not 0 <= passes <= chips:
        raise BadInput(
            "yield",
            got=f"{passes} of {chips}",
            why="passes are counted among chips",
            do="give 0 to chips passes, and one chip or more",
        )
    ends = _clopper_pearson(passes, chips, 0.025)
    return YieldInterval(passes, chips, ends, _clopper_pearson(passes, chips, 0.05)[0])


def chips_needed(claim: float, *, failures: int = 0, confidence: float = 0.95) -> int:
    """Count the chips that a claim "yield of at least `claim`" needs when so many of them fail: 29 for 0.90, 59 for
    0.95.

    Wilks, Ann. Math. Stat. 12 (1941): the smallest n whose exact lower bound reaches the claim.

    >>> from aimc_sim.signoff.statistics import chips_needed
    >>> chips_needed(0.90), chips_needed(0.95)
    (29, 59)
    """
    if not 0 < claim < 1 or failures < 0 or not 0 < confidence < 1:
        raise BadInput(
            "claim",
            got=(claim, failures, confidence),
            why="a claim and its confidence lie between 0 and 1, failures are counted",
            do="use for example chips_needed(0.9)",
        )
    low, high = failures, max(2 * failures, 1)

    def reached(n: int) -> bool:
        return n > failures and _clopper_pearson(n - failures, n, 1 - confidence)[0] >= claim

    while not reached(high):
        low, high = high, 2 * high
    while high - low > 1:  # the bound rises with n
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class PopulationYield:
    """A population yield is the share of all chips whose mean loss over all items stays within the margin.

    share: estimated; lower: its one-sided 95 % bound, 0 where not even half is shown. percentile_95: the upper 95 %
    bound of the loss that 95 % of chips stay below. Below 59 chips both are tolerance bounds of Gaussian chips; from
    there on, and for marks, lower is at most the exact bound of the chips that stay within the margin here, and
    percentile_95 is a rank. worst: the largest loss of a chip.

    >>> from aimc_sim.signoff.statistics import estimate, population_yield
    >>> population_yield(estimate([[0.1, 0.12], [0.11, 0.1], [0.1, 0.11]]), margin=0.5).share > 0.9
    True
    """

    share: float
    lower: float
    percentile_95: float
    worst: float
    caveat: str


def population_yield(loss: Estimate, margin: float, *, confidence: float = 0.95) -> PopulationYield:
    """Estimate the yield and the tolerance bound of the population from an estimate of the loss.

    From 59 chips on the bound of the 95th percentile is the chip whose rank bounds it whatever the chips' distribution
    (Wilks 1941), plus the items' part. Below, chips are taken as Gaussian:
    the exact factor k of a normal sample (noncentral t: Krishnamoorthy & Mathew, Statistical Tolerance Regions, 2009,
    ch. 2) is applied to the spread of the chip means, which holds the interaction too and so is on the safe side; what
    it allows for chips and what the items need are added in quadrature (Zou & Donner, Stat. Med. 27, 2008):

        bound of the quantile p = mean + z(p)·S + √( (k(p) − z(p))²·S² + h² ),   S² = variance of the chip means,
                                                                                 h = the items' part of the half-width

    >>> from aimc_sim.signoff.statistics import estimate, population_yield
    >>> found = population_yield(estimate([[0.1, 0.12], [0.11, 0.1], [0.1, 0.11]]), margin=0.5)
    >>> found.lower <= found.share
    True
    """
    worst, chips = max(loss.chip_means), loss.chips
    if chips < 2 or loss.components.chip is None:
        return PopulationYield(math.nan, 0.0, math.inf, worst, "one chip only: a yield needs several")
    spread = float(np.asarray(loss.chip_means).std(ddof=1))
    sigma = math.sqrt(max(loss.components.chip, 0.0))
    room = margin - loss.mean
    share = float(special.ndtr(room / sigma)) if sigma > 0 else float(room >= 0)
    half = loss.item_half_width(1 - confidence)
    half = 0.0 if math.isnan(half) else half

    def beyond(z: float) -> float:
        allowed = (_tolerance_factor(z, chips, confidence) - z) * spread
        return z * spread + math.hypot(allowed, half)

    ranked = _ranked(loss.chip_means, 0.95, confidence)
    lower = _content(beyond, room)
    if ranked is not None or loss.bounds is not None:
        passes = sum(mean <= margin for mean in loss.chip_means)
        lower = min(lower, _clopper_pearson(passes, chips, 1 - confidence)[0])
    far = loss.mean + beyond(float(special.ndtri(0.95))) if ranked is None else ranked + half
    said = [] if ranked is not None else [
        f"fewer than {RANKED_FROM} chips: a tolerance bound for Gaussian chips, not a rank"
    ]  # fmt: skip
    if loss.items == 1:
        said.append("one item only: how items differ is not counted")
    return PopulationYield(share, lower, far, worst, "; ".join(said))


def _ranked(means: Sequence[float], share: float, confidence: float) -> float | None:
    """Return the smallest of the chips' losses that is beyond this share of all chips with confidence; None: too few
    chips.
    """
    chips = len(means)
    for rank in range(1, chips + 1):
        if special.bdtr(rank - 1, chips, share) >= confidence:
            return sorted(means)[rank - 1]
    return None


def _tolerance_factor(z: float, chips: int, confidence: float) -> float:
    """Return k of a normal sample for the quantile z."""
    return float(special.nctdtrit(chips - 1, z * math.sqrt(chips), confidence)) / math.sqrt(chips)


def _content(beyond: Callable[[float], float], room: float) -> float:
    """Return the largest share of chips whose bound stays within the room; 0 below one half."""
    if beyond(0.0) > room:
        return 0.0
    low, high = 0.0, _MOST_SIGMAS
    if beyond(high) <= room:
        return float(special.ndtr(high))
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) <= room else (low, middle)
    return float(special.ndtr(low))


def _clopper_pearson(passes: int, chips: int, alpha: float) -> tuple[float, float]:
    low = 0.0 if passes == 0 else float(special.betaincinv(passes, chips - passes + 1, alpha))
    high = 1.0 if passes == chips else float(special.betaincinv(passes + 1, chips - passes, 1 - alpha))
    return low, high
