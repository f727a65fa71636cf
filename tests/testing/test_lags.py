"""Correlation at all lags: a right field passes, and one that repeats or leans on its neighbour does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.testing import (
    AlphaLedger,
    StatisticalFailure,
    assert_uncorrelated_at_all_lags,
    must_reject,
)
from aimc_sim.testing.lags import _log_tail
from aimc_sim.testing.ledger import uncharged

ALPHA = 1e-9


def field(seed: int, rows: int = 256, cols: int = 128) -> npt.NDArray[np.float64]:
    counter = np.zeros((rows * cols // 4, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).reshape(rows, cols).astype(np.float64)


def test_right_fields_pass(ledger: AlphaLedger) -> None:
    name = "lags: a right field"
    record = assert_uncorrelated_at_all_lags(field(1), alpha=ledger.spend(name))
    assert record.detectable < 0.06
    assert_uncorrelated_at_all_lags(field(1).ravel(), alpha=ledger.spend(name))
    record = assert_uncorrelated_at_all_lags(field(1), field(2), alpha=ledger.spend(name))
    assert record.detectable < 0.06


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("distance", [1, 16, 64])
@pytest.mark.parametrize("rho", [0.08, -0.08])
def test_a_correlation_at_any_distance_is_found(axis: int, distance: int, rho: float) -> None:
    z = field(3)
    leaning = (z + rho * np.roll(z, distance, axis=axis)) / np.sqrt(1 + rho * rho)
    with must_reject():
        assert_uncorrelated_at_all_lags(leaning, alpha=ALPHA)
    shifted = np.sqrt(1 - rho * rho) * field(4) + rho * np.roll(z, distance, axis=axis)
    with must_reject():
        assert_uncorrelated_at_all_lags(z, shifted, alpha=ALPHA)


def test_a_tile_that_repeats_is_found_also_at_half_the_field() -> None:
    with must_reject():
        assert_uncorrelated_at_all_lags(np.tile(field(5, 64), (4, 1)), alpha=ALPHA)
    with must_reject():
        assert_uncorrelated_at_all_lags(np.tile(field(5, 128), (2, 1)), alpha=ALPHA)


@pytest.mark.parametrize("order", [8, 16, 64, 1024])
def test_the_bound_holds_for_every_order_of_a_lag(order: int) -> None:
    """ln E e^(θS)/n of a lag of this order stays below that of order 4, for all θ: so does every tail."""
    eigenvalues = np.cos(2 * np.pi * np.arange(order) / order)
    for theta in np.linspace(0.01, 0.49, 25):
        assert -0.5 * np.log1p(-2 * theta * eigenvalues).mean() <= -np.log1p(-4 * theta**2) / 8 + 1e-12


def test_the_tail_is_close_to_the_normal_one_and_above_it() -> None:
    n = 10**6
    for z in (5.0, 7.0):
        assert -z * z / 2 <= _log_tail(z * n**0.5, n, 8) <= -z * z / 2 + 0.01
    assert _log_tail(0.0, n, 8) == 0


def test_fields_that_do_not_fit_are_refused() -> None:
    with uncharged():
        with pytest.raises(ValueError, match="powers of two"):
            assert_uncorrelated_at_all_lags(np.ones((3, 32)), alpha=ALPHA)
        with pytest.raises(ValueError, match="one shape"):
            assert_uncorrelated_at_all_lags(field(1), field(1)[:128], alpha=ALPHA)
        with pytest.raises(StatisticalFailure):
            assert_uncorrelated_at_all_lags(field(1), np.zeros((256, 128)), alpha=ALPHA)
