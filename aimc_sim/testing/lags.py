"""Correlation at every distance at once: a draw that repeats anywhere in a field, or in another field, is found.

One Fourier transform gives the sums Σ x_i·y_(i+k) at all lags k; both laws below hold for every size, with the number
of lags paid for.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import fft, optimize, special

from aimc_sim.testing.ledger import charge
from aimc_sim.testing.records import POWER, Record, conclude


def assert_uncorrelated_at_all_lags(
    x: npt.ArrayLike, y: npt.ArrayLike | None = None, *, alpha: float
) -> Record:
    """Assert that a field of independent N(0, 1) is uncorrelated with itself, or with a field y, at every (circular)
    lag.

    x, y: one shape, (n,) or (rows, cols). Against another field the sum at a lag is normal with variance Σy² whatever
    y is, exactly; within one field, whose sides must be powers of two, its tail obeys Chernoff's bound for a quadratic
    form of normals (p is then up to tenfold too large). The statistic is the largest correlation; p counts every lag.
    Detectable: a correlation at one lag (a field that repeats has correlation 1).

    >>> import numpy as np
    >>> from aimc_sim.kernels.normal import normals
    >>> from aimc_sim.testing import assert_uncorrelated_at_all_lags
    >>> counter = np.zeros((64, 4), np.uint32)
    >>> counter[:, 0] = np.arange(64)
    >>> field = normals(counter, np.uint32([1, 2])).reshape(16, 16)
    >>> assert_uncorrelated_at_all_lags(field, alpha=1e-9).passed
    True
    """
    alpha = charge(alpha)
    a = _field(x)
    n = a.size
    if y is None:
        sums = fft.irfft2(np.abs(fft.rfft2(a)) ** 2, s=a.shape)
        return conclude(_within(sums, n, alpha))
    b = _field(y)
    if a.shape != b.shape:
        raise ValueError(f"fields of one shape are needed: got {a.shape} and {b.shape}")
    sums = fft.irfft2(fft.rfft2(a).conj() * fft.rfft2(b), s=a.shape)
    size = math.sqrt(float((b * b).sum()))
    largest = float(np.max(np.abs(sums)))
    z = largest / size if size else math.nan
    p = min(1.0, 2 * n * float(special.ndtr(-z))) if not math.isnan(z) else math.nan
    found = float(special.ndtri(POWER) - special.ndtri(alpha / (2 * n))) / math.sqrt(n)
    return conclude(
        Record("cross-correlation ~ normal", n, largest / n, p, alpha, found, "a correlation at one lag")
    )


def _field(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.atleast_2d(np.asarray(values, np.float64))


def _within(sums: npt.NDArray[np.float64], n: int, alpha: float) -> Record:
    rows, cols = sums.shape
    if n < 16 or rows & (rows - 1) or cols & (cols - 1):
        raise ValueError(
            f"the sides of the field must be powers of two, and 16 values or more: got {sums.shape}"
        )
    half = {(r, c) for r in {0, rows // 2} for c in {0, cols // 2}} - {(0, 0)}  # each pair counts twice there
    half = {(r, c) for r, c in half if r < rows and c < cols}
    twice = max((abs(float(sums[at])) for at in half), default=0.0)
    others = sums.copy()
    others[0, 0] = 0.0
    for at in half:
        others[at] = 0.0
    once = float(np.max(np.abs(others)))
    lags = (n - 1 - len(half)) // 2 + len(half)
    log_p = min(_log_tail(once, n, 8), _log_tail(twice, n, 4)) + math.log(2 * lags)
    p = min(1.0, math.exp(log_p)) if not math.isnan(log_p) else math.nan
    target = math.log(alpha / (2 * lags))
    edge = optimize.brentq(lambda s: _log_tail(s, n, 8) - target, 0.0, 4.0 * n * max(1.0, -target / n))
    found = (edge + float(special.ndtri(POWER)) * math.sqrt(n)) / n
    largest = max(once, twice / 2) / n
    return Record("autocorrelation ~ Chernoff", n, largest, p, alpha, found, "a correlation at one lag")


def _log_tail(s: float, n: int, order: int) -> float:
    """Return ln of a bound on P(Σ x_i·x_(i+k) ≥ s): min over θ of -θ·s - (n/order)·ln(1 - 4θ²).

    The sum is a quadratic form with eigenvalues cos(2πj/m), j < m, where m is the lag's order. For m = 2 they are ±1
    (order 4); among the other powers of two m = 4, with 1, 0, -1, 0, has the heaviest tail (order 8).
    """
    if s <= 0 or math.isnan(s):
        return 0.0 if s <= 0 else math.nan
    b = 8 * n / order
    theta = 2 * s / (b + math.sqrt(b * b + 16 * s * s))
    return -theta * s - n / order * math.log1p(-4 * theta * theta)
