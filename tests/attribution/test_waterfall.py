"""The arithmetic of the waterfall: it adds up, whatever the losses are."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimc_sim.attribution.effect_table import Keys
from aimc_sim.attribution.effects import Effect
from aimc_sim.attribution.waterfall import figure, waterfall

NAMES = ("dac", "programming", "drift", "read_noise", "adc", "adc_errors")
EFFECTS = tuple(
    Effect(
        key,
        key,
        "",
        True,
        needs=frozenset({"adc"}) if key == "adc_errors" else frozenset(),
        acts_on=frozenset({"drift"}) if key == "read_noise" else frozenset(),
    )
    for key in NAMES
)
COST = dict(zip(NAMES, (0.1, 0.7, 1.5, 0.2, 0.05, 0.02), strict=True))


def additive(on: Keys) -> np.ndarray:
    return np.array([1.0, 1.2, 0.9]) * sum((COST[key] for key in sorted(on)), 0.01)


@given(st.integers(0, 2**32 - 1))
def test_any_loss_adds_up(salt: int) -> None:
    def loss(on: Keys) -> np.ndarray:
        words = [zlib.crc32(f"{salt} {sorted(on)} {chip}".encode()) for chip in range(3)]
        return np.array(words) / 2**31 - 0.5

    fall = waterfall(EFFECTS, loss)
    total = fall.start.mean + sum(row.step.mean for row in fall.rows)
    assert total == pytest.approx(fall.total.mean, abs=1e-12)
    alone = sum(row.alone.mean for row in fall.rows)
    assert alone == pytest.approx(fall.alone_sum.mean, abs=1e-12)
    assert fall.start.mean + alone + fall.interaction.mean == pytest.approx(fall.total.mean, abs=1e-12)
    assert fall.rows[-1].total == fall.total
    assert [row.effect for row in fall.rows] == list(EFFECTS)
    for chip in range(3):
        steps = sum(row.step.by_chip[chip] for row in fall.rows)
        assert fall.start.by_chip[chip] + steps == pytest.approx(fall.total.by_chip[chip], abs=1e-12)


def test_effects_that_only_add_have_no_interaction() -> None:
    fall = waterfall(EFFECTS, additive)
    assert fall.interaction.mean == pytest.approx(0, abs=1e-12)
    for row in fall.rows:
        gone = sum(COST[key] for key in row.gone_too)
        assert row.step.mean == pytest.approx(row.alone.mean)
        assert row.won_back.mean == pytest.approx(row.alone.mean + gone * 3.1 / 3)


def test_what_effects_cost_together_is_the_interaction() -> None:
    def loss(on: Keys) -> np.ndarray:
        return additive(on) + (0.4 if {"programming", "adc"} <= on else 0.0)

    fall = waterfall(EFFECTS, loss)
    rows = {row.effect.key: row for row in fall.rows}
    assert fall.interaction.mean == pytest.approx(0.4)
    assert rows["adc"].step.mean == pytest.approx(rows["adc"].alone.mean + 0.4)
    assert rows["programming"].won_back.mean == pytest.approx(rows["programming"].alone.mean + 0.4)
    assert rows["adc_errors"].beside == {"adc"}
    assert rows["read_noise"].beside == {"drift"}
    assert rows["adc"].gone_too == {"adc_errors"}


def test_intervals_are_of_student_over_chips() -> None:
    found = figure(np.array([1.0, 2.0, 4.5]))
    half = 4.302652729911275 * np.std([1.0, 2.0, 4.5], ddof=1) / 3**0.5
    assert found.mean == 2.5
    assert found.interval == pytest.approx((2.5 - half, 2.5 + half))
    assert figure(np.array([0.1])).interval is None
    assert figure(np.array([0.1, 0.1, 0.1])).interval == (0.1, 0.1)


def test_differences_are_taken_chip_by_chip() -> None:
    """A chip that is worse than others in every set widens the total and leaves the steps alone."""

    def loss(on: Keys) -> np.ndarray:
        return np.array([0.0, 5.0]) + sum((COST[key] for key in sorted(on)), 0.0)

    fall = waterfall(EFFECTS, loss)
    assert fall.total.interval is not None
    assert fall.total.interval[1] - fall.total.interval[0] > 10
    for row in fall.rows:
        assert row.step.interval is not None
        assert row.step.interval[1] - row.step.interval[0] < 1e-9
