"""Assertions about samples, each by the exact law of its statistic; the Record says what it could detect.

All are two-sided. ``alpha`` is the probability of failing a right implementation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from aimc_sim.testing.ledger import charge
from aimc_sim.testing.records import POWER, Record, conclude

Array = npt.NDArray[np.floating[Any]]


def _flat(sample: npt.ArrayLike, at_least: int) -> npt.NDArray[np.float64]:
    values = np.asarray(sample, dtype=np.float64).ravel()
    if values.size < at_least:
        raise ValueError(f"the sample has {values.size} values and the law needs at least {at_least}")
    return values


def assert_mean_normal(sample: npt.ArrayLike, *, mean: float, sigma: float, alpha: float) -> Record:
    """Assert the mean of independent N(mean, sigma²): (x̄ − mean)·√n / sigma ~ N(0, 1), exactly.

    sample: any shape, flattened; sigma is known, in the sample's unit. For other parents with a variance the
    law holds in the limit of large n. Detectable effect: a shift of the mean, in the sample's unit.

    >>> from aimc_sim.testing import assert_mean_normal
    >>> assert_mean_normal([0.1, -0.2, 0.05], mean=0.0, sigma=1.0, alpha=1e-9).passed
    True
    """
    alpha, x = charge(alpha), _flat(sample, 1)
    root = math.sqrt(x.size)
    z = (float(x.mean()) - mean) * root / sigma
    shift = float(special.ndtri(POWER) - special.ndtri(alpha / 2)) * sigma / root
    p = float(2 * special.ndtr(-abs(z)))
    return conclude(Record("mean ~ normal", x.size, z, p, alpha, shift, "a shift of the mean"))


def assert_variance(
    sample: npt.ArrayLike, *, sigma: float, alpha: float, mean: float | None = None
) -> Record:
    """Assert the variance of independent N(mean, sigma²): Σ(x − x̄)² / sigma² ~ χ²(n − 1), exactly.

    With a known ``mean``: Σ(x − mean)² / sigma² ~ χ²(n). sample: any shape, flattened. The law leans on the
    normal parent: a heavier tail widens it. Detectable effect: relative error of sigma, the larger side.

    >>> from aimc_sim.testing import assert_variance
    >>> assert_variance([0.9, -1.1, 0.2, 1.3], sigma=1.0, alpha=1e-9).law
    'variance ~ chi-square'
    """
    alpha, x = charge(alpha), _flat(sample, 2)
    degrees = x.size - 1 if mean is None else x.size
    deviation = x - (x.mean() if mean is None else mean)
    statistic = float(deviation @ deviation) / sigma**2
    law = stats.chi2(degrees)
    p = float(2 * min(law.cdf(statistic), law.sf(statistic)))
    found = detectable_sigma(degrees, alpha)
    record = Record(
        "variance ~ chi-square", x.size, statistic, min(p, 1.0), alpha, found, "a relative error of sigma"
    )
    return conclude(record)


def detectable_sigma(degrees: int, alpha: float) -> float:
    """Compute the relative error of sigma, of either sign, that a χ² test of this many degrees finds with probability
    POWER.

    >>> from aimc_sim.testing import detectable_sigma
    >>> round(detectable_sigma(90_200, 1e-9), 4)
    0.02
    """
    law = stats.chi2(degrees)
    wider = math.sqrt(law.isf(alpha / 2) / law.ppf(1 - POWER)) - 1
    narrower = 1 - math.sqrt(law.ppf(alpha / 2) / law.isf(1 - POWER))
    return max(wider, narrower)


def sample_size_for_sigma(relative_error: float, *, alpha: float) -> int:
    """Count the independent normal values that `assert_variance` needs to find this error of sigma with probability
    POWER.

    Raises ValueError unless 0 < relative_error < 1.

    >>> from aimc_sim.testing import sample_size_for_sigma
    >>> sample_size_for_sigma(0.02, alpha=1e-9)
    90201
    """
    if not 0 < relative_error < 1 or not 0 < alpha < 1:
        raise ValueError(f"both lie between 0 and 1: relative_error {relative_error}, alpha {alpha}")
    low, high = 1, 2
    while detectable_sigma(high, alpha) > relative_error:
        low, high = high, 2 * high
    while high - low > 1:  # the detectable error falls with n
        middle = (low + high) // 2
        low, high = (low, middle) if detectable_sigma(middle, alpha) <= relative_error else (middle, high)
    return high


def assert_uncorrelated(x: npt.ArrayLike, y: npt.ArrayLike, *, alpha: float) -> Record:
    """Assert that n independent pairs, one of them normal, do not correlate: r·√((n − 2)/(1 − r²)) ~ t(n − 2), exactly,
    for Pearson's r.

    x, y: equal sizes, flattened, at least 4 pairs. The detectable correlation is by Fisher's
    atanh(r) ~ N(atanh(rho), 1/(n − 3)), good to O(1/n). The statistic of the record is r.

    >>> from aimc_sim.testing import assert_uncorrelated
    >>> assert_uncorrelated([1, 2, 3, 4, 5], [2, 1, 4, 1, 2], alpha=1e-9).passed
    True
    """
    alpha, a, b = charge(alpha), _flat(x, 4), _flat(y, 4)
    if a.size != b.size:
        raise ValueError(f"pairs are needed: got {a.size} and {b.size} values")
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    r = max(-1.0, min(1.0, float(a @ b) / scale)) if scale else math.nan
    p = float(special.betainc(a.size / 2 - 1, 0.5, 1 - r * r))  # both tails of Student's t
    found = math.tanh(float(special.ndtri(POWER) - special.ndtri(alpha / 2)) / math.sqrt(a.size - 3))
    return conclude(Record("correlation ~ Fisher", a.size, r, p, alpha, found, "a correlation"))


def assert_distribution(
    sample: npt.ArrayLike, *, cdf: Callable[[npt.NDArray[np.float64]], Array], alpha: float
) -> Record:
    """Assert the law of n independent values: P(sup|F_n − F| > e) ≤ 2·exp(−2·n·e²)
    (Dvoretzky–Kiefer–Wolfowitz–Massart).

    sample: any shape, flattened; cdf: (n,) sorted values → (n,) probabilities. The bound holds for every n and
    every continuous law (and is conservative for a discrete one). Detectable effect: a distance sup|F − F₀|.

    >>> from aimc_sim.testing import assert_distribution
    >>> assert_distribution([0.2, 0.5, 0.9], cdf=lambda x: x, alpha=1e-9).passed
    True
    """
    alpha, x = charge(alpha), np.sort(_flat(sample, 1))
    expected = np.asarray(cdf(x), dtype=np.float64)
    n = x.size
    steps = np.arange(n, dtype=np.float64)
    # np.max propagates NaN, so a NaN anywhere contradicts the null
    distance = float(np.max([np.max((steps + 1) / n - expected), np.max(expected - steps / n)]))
    p = 2 * math.exp(-2 * n * distance**2) if not math.isnan(distance) else math.nan
    found = math.sqrt(math.log(2 / alpha) / (2 * n)) + math.sqrt(math.log(2 / (1 - POWER)) / (2 * n))
    return conclude(
        Record("distribution ~ DKW", n, distance, min(p, 1.0), alpha, found, "a distance of the laws")
    )


def assert_binomial(successes: int, *, trials: int, probability: float, alpha: float) -> Record:
    """Assert a count of independent events: successes ~ Binomial(trials, probability), exactly.

    Two-sided p: twice the smaller tail. Detectable effect: a change of the probability, the larger side,
    from the quantiles of the beta law (Clopper–Pearson turned round).

    >>> from aimc_sim.testing import assert_binomial
    >>> assert_binomial(48, trials=100, probability=0.5, alpha=1e-9).passed
    True
    """
    alpha, law = charge(alpha), stats.binom(trials, probability)
    if not 0 <= successes <= trials:
        raise ValueError(f"successes are counted among {trials} trials, got {successes}")
    p = float(2 * min(law.cdf(successes), law.sf(successes - 1)))
    high, low = int(law.isf(alpha / 2)) + 1, int(law.ppf(alpha / 2)) - 1  # first counts that are rejected
    more = float(stats.beta.ppf(POWER, high, trials - high + 1)) - probability if high <= trials else math.inf
    fewer = probability - float(stats.beta.ppf(1 - POWER, low + 1, trials - low)) if low >= 0 else math.inf
    sides = [side for side in (more, fewer) if math.isfinite(side)]
    return conclude(
        Record(
            "count ~ binomial", trials, float(successes), min(p, 1.0), alpha,
            max(sides) if sides else math.inf, "a change of the probability",
        )
    )  # fmt: skip


def assert_bits(actual: npt.ArrayLike, expected: npt.ArrayLike) -> None:
    """Assert equal dtype, shape and bits: for what is exact by contract. -0.0 differs from 0.0, equal NaNs are equal.

    >>> import numpy as np
    >>> from aimc_sim.testing import assert_bits
    >>> assert_bits(np.float32([1, np.nan]), np.float32([1, np.nan]))
    """
    a, b = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    if a.dtype != b.dtype or a.shape != b.shape:
        raise AssertionError(f"{a.dtype}{a.shape} is not {b.dtype}{b.shape}")
    differ = (
        (a.view(np.uint8) != b.view(np.uint8)).reshape(a.size, -1).any(axis=1)
        if a.size
        else np.zeros(0, bool)
    )
    if differ.any():
        first = int(np.argmax(differ))
        raise AssertionError(
            f"{int(differ.sum())} of {a.size} values differ, first at flat index {first}: "
            f"{a.flat[first]!r} is not {b.flat[first]!r}"
        )
