"""The assertions themselves: their p-values against hand-made truth, their power, and the ledger's rules."""

from __future__ import annotations

import math
import pickle

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.testing import (
    AlphaLedger,
    LedgerError,
    Record,
    StatisticalFailure,
    assert_binomial,
    assert_bits,
    assert_distribution,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
    must_reject,
)
from aimc_sim.testing.ledger import Entry, active, uncharged

NAME = "assertions: a right sample"


def draw(n: int, seed: int = 5) -> npt.NDArray[np.float32]:
    counter = np.zeros((-(-n // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).ravel()[:n]


def test_right_samples_pass_and_say_what_they_would_have_found(ledger: AlphaLedger) -> None:
    z, other = draw(1_000_000), draw(1_000_000, seed=6)
    record = assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend(NAME))
    assert record.detectable == pytest.approx(8.43e-3, rel=0.01)  # 6.11e-3 and the power's 2.33e-3
    record = assert_variance(z, sigma=1, mean=0, alpha=ledger.spend(NAME))
    assert record.detectable == pytest.approx(0.0060, rel=0.02)
    assert_variance(z * 3 + 7, sigma=3, alpha=ledger.spend(NAME))
    record = assert_uncorrelated(z, other, alpha=ledger.spend(NAME))
    assert record.detectable == pytest.approx(8.43e-3, rel=0.01)
    record = assert_distribution(z, cdf=special.ndtr, alpha=ledger.spend(NAME))
    assert record.detectable == pytest.approx(4.9e-3, rel=0.02)
    record = assert_binomial(int((z > 0).sum()), trials=z.size, probability=0.5, alpha=ledger.spend(NAME))
    assert record.detectable == pytest.approx(4.22e-3, rel=0.01)
    assert_binomial(0, trials=10, probability=0.01, alpha=ledger.spend(NAME))


def test_the_thresholds_are_those_of_the_exact_laws() -> None:
    """An effect just inside the acceptance region passes and one just outside fails."""
    n, alpha = 10_000, 1e-6
    half = np.ones(n // 2)
    plan = np.concatenate([half, -half])  # mean 0, mean square 1
    edge = -float(special.ndtri(alpha / 2)) / math.sqrt(n)
    with uncharged():
        assert_mean_normal(plan + 0.999 * edge, mean=0, sigma=1, alpha=alpha)
        low, high = (math.sqrt(q / n) for q in special.chdtri(n, [1 - alpha / 2, alpha / 2]))
        assert_variance(plan * low * 1.0001, sigma=1, mean=0, alpha=alpha)
        assert_variance(plan * high * 0.9999, sigma=1, mean=0, alpha=alpha)
        grid = (np.arange(n) + 0.5) / n
        shift = math.sqrt(math.log(2 / alpha) / (2 * n)) - 0.5 / n
        assert_distribution(grid, cdf=lambda x: x + 0.999 * shift, alpha=alpha)
    with must_reject(alpha):
        assert_mean_normal(plan + 1.001 * edge, mean=0, sigma=1, alpha=alpha)
    for scale in (low * 0.9999, high * 1.0001):
        with must_reject(alpha):
            assert_variance(plan * scale, sigma=1, mean=0, alpha=alpha)
    with must_reject(alpha):
        assert_distribution(grid, cdf=lambda x: x + 1.001 * shift, alpha=alpha)


def test_the_binomial_is_exact_where_it_can_be_counted_by_hand() -> None:
    with uncharged():
        record = assert_binomial(0, trials=3, probability=0.5, alpha=0.2)
    assert record.p_value == pytest.approx(0.25)
    with must_reject(0.3):
        assert_binomial(3, trials=3, probability=0.5, alpha=0.3)


def test_the_correlation_is_exact_for_a_tiny_sample() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    y = np.array([2.0, 1.0, 4.0, 3.0])  # r = 0.6; for n = 4 the two-sided p is 1 − |r|
    with uncharged():
        record = assert_uncorrelated(x, y, alpha=1e-3)
    assert record.statistic == pytest.approx(0.6)
    assert record.p_value == pytest.approx(0.4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_rejected(bad: float) -> None:
    x = np.append(draw(100), bad)
    for check in (
        lambda: assert_mean_normal(x, mean=0, sigma=1, alpha=0.01),
        lambda: assert_variance(x, sigma=1, alpha=0.01),
        lambda: assert_distribution(
            x, cdf=lambda v: np.where(np.isfinite(v), special.ndtr(v), np.nan), alpha=0.01
        ),
    ):
        with np.errstate(invalid="ignore"), uncharged(), pytest.raises(StatisticalFailure):
            check()


def test_a_constant_sample_has_no_correlation_to_speak_of() -> None:
    with uncharged(), pytest.raises(StatisticalFailure):
        assert_uncorrelated(np.ones(10), draw(10), alpha=0.01)


def test_samples_too_small_for_the_law_are_refused() -> None:
    with uncharged():
        with pytest.raises(ValueError, match="at least 2"):
            assert_variance([1.0], sigma=1, alpha=0.01)
        with pytest.raises(ValueError, match="pairs are needed: got 4 and 5"):
            assert_uncorrelated(draw(4), draw(5), alpha=0.01)
        with pytest.raises(ValueError, match="trials"):
            assert_binomial(5, trials=4, probability=0.5, alpha=0.01)
        with pytest.raises(ValueError, match="between 0 and 1"):
            assert_mean_normal([0.0], mean=0, sigma=1, alpha=0.0)


def test_bits_are_compared_as_bits() -> None:
    assert_bits(np.array([np.nan, 0.0]), np.array([np.nan, 0.0]))
    with pytest.raises(AssertionError, match="1 of 2 values differ, first at flat index 1"):
        assert_bits(np.array([1.0, 0.0]), np.array([1.0, -0.0]))
    with pytest.raises(AssertionError, match="float32"):
        assert_bits(np.zeros(2, np.float32), np.zeros(2))


def test_must_reject_complains_when_nothing_is_rejected() -> None:
    with pytest.raises(AssertionError, match="a wrong implementation passed"), must_reject():
        assert_mean_normal([0.0], mean=0, sigma=1, alpha=0.01)
    with pytest.raises(AssertionError, match="barely"), must_reject():
        assert_mean_normal([3.0], mean=0, sigma=1, alpha=0.01)


def test_a_failure_carries_its_record_across_processes() -> None:
    record = Record("mean ~ normal", 4, 9.0, 1e-12, 1e-9, 0.1, "a shift of the mean")
    again = pickle.loads(pickle.dumps(StatisticalFailure(record)))
    assert again.record == record
    assert "p = 1e-12" in str(again)


class TestLedger:
    def test_an_unregistered_assertion_fails(self, ledger: AlphaLedger) -> None:
        with pytest.raises(LedgerError, match="not in the ledger"):
            ledger.spend("made up")
        with pytest.raises(LedgerError, match="not from the ledger"):
            assert_mean_normal([0.0], mean=0, sigma=1, alpha=1e-9)

    def test_an_alpha_is_good_for_one_assertion_and_as_often_as_registered(self) -> None:
        book = AlphaLedger({"a": Entry(1e-9)})
        alpha = book.spend("a")
        with active(book):
            assert_mean_normal([0.0], mean=0, sigma=1, alpha=alpha)
            with pytest.raises(LedgerError, match="used twice"):
                assert_mean_normal([0.0], mean=0, sigma=1, alpha=alpha)
        with pytest.raises(LedgerError, match="registered 1 times and was made 2 times"):
            book.spend("a")

    def test_the_sum_may_not_exceed_the_budget(self) -> None:
        assert AlphaLedger({"a": Entry(1e-7, 10)}).total == pytest.approx(1e-6)
        with pytest.raises(LedgerError, match=r"adds up to 1\.1e-06"):
            AlphaLedger({"a": Entry(1e-7, 11)})
        with pytest.raises(LedgerError, match="times >= 1"):
            AlphaLedger({"a": Entry(1e-7, 0)})

    def test_a_file_with_an_unknown_key_is_refused(self, tmp_path: object) -> None:
        path = tmp_path / "ledger.toml"  # type: ignore[operator]
        path.write_text('[assertions]\n"a" = { alpha = 1e-9, count = 2 }\n')
        with pytest.raises(LedgerError, match="alpha and times"):
            AlphaLedger.load(path)
        path.write_text("buget = 1e-6\n")
        with pytest.raises(LedgerError, match="buget"):
            AlphaLedger.load(path)
