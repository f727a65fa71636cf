"""Recovery: its two ends, a value by hand, and an interval that keeps what it claims."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from benchmarks.recovery import recovery

CLEAN = np.array([1.0, 2.0, 3.0, 1.5])
TOKENS = np.array([100.0, 50.0, 80.0, 120.0])
CHIP = np.array([[0.02], [-0.01], [0.03]])
NOISY = CLEAN + 0.3 + CHIP + 0.02 * np.array([[1, -1, 0, 1], [0, 1, -1, 0], [-1, 0, 1, -1]])


def test_nothing_and_everything() -> None:
    nothing = recovery(NOISY, CLEAN, NOISY, TOKENS)
    assert nothing.value == pytest.approx(0.0, abs=1e-12)
    assert nothing.interval == pytest.approx((0.0, 0.0), abs=1e-12), (
        "the chips are the same, so nothing is uncertain"
    )
    all_of_it = recovery(NOISY, CLEAN, np.broadcast_to(CLEAN, NOISY.shape), TOKENS)
    assert all_of_it.value == pytest.approx(1.0)
    assert all_of_it.interval == pytest.approx((1.0, 1.0))


def test_the_value_is_that_of_the_definition() -> None:
    trained = NOISY - 0.12 + 0.01 * np.array([[1, 0, -1, 1], [-1, 1, 0, 0], [0, -1, 1, -1]])
    found = recovery(NOISY, CLEAN, trained, TOKENS)

    def mean(table: np.ndarray) -> float:
        return float((table * TOKENS).sum(-1).mean() / TOKENS.sum())

    clean, noisy = mean(CLEAN), mean(NOISY)
    assert found.value == pytest.approx((noisy - mean(trained)) / (noisy - clean))
    assert found.lost == pytest.approx(noisy - clean)
    assert found.regained == pytest.approx(noisy - mean(trained))
    low, high = found.interval
    assert low < found.value < high
    assert high - low < 0.6


def test_where_noise_costs_nothing_there_is_no_share() -> None:
    with pytest.raises(BadInput, match="no share"):
        recovery(NOISY - 0.3, CLEAN, NOISY, TOKENS)
