"""Numbers and times in words, the same in every report."""

from __future__ import annotations

from functools import partial

import pytest

from aimc_sim.report.words import (
    between,
    db,
    divergence,
    fixed,
    interval,
    listed,
    macs,
    percent,
    perplexity,
    places,
    points,
    rare,
    shape,
    sig,
    spoken,
    tick,
    whole,
)


def test_numbers_as_people_write_them() -> None:
    assert [
        sig(value) for value in (0, 0.00001, 0.0613, 0.5, 2.0, 24.193, 1523.4, 3.2e7, float("inf"), None)
    ] == ["0", "0", "0.0613", "0.500", "2.00", "24.2", "1,523", "3.20e+07", "–", "–"]
    assert [spoken(t) for t in (0.0, 1.0, 60.0, 7200.0, 86400.0, 2_629_746.0, 31_556_952.0)] == [
        "programming",
        "1 second",
        "1 minute",
        "2 hours",
        "1 day",
        "1 month",
        "1 year",
    ]
    assert [spoken(2.6e6), tick(2.6e6), tick(60.0), tick(0.0)] == [
        "30.1 days",
        "30.1\u202fd",
        "1\u202fmin",
        "0",
    ]
    assert interval([None, 0.25]) == interval([0.1, float("inf")]) == ""
    assert interval([0.01, 0.025], scale=100.0) == "1.00–\u200b2.50"
    assert interval([0.1, 0.25]) == "0.100–\u200b0.250"
    assert interval([-0.1, 0.25]) == "-0.100 to \u200b0.250"
    assert interval([0.1, 0.25], percent) == "10.0–\u200b25.0\u202f%"
    assert interval([9.14e6, 7.65e11], perplexity) == "9.14e+06–\u200b7.65e+11"
    assert [perplexity(v) for v in (36.6006, 1246.519, 2.6454e9, None)] == [
        "36.60",
        "1,246.52",
        "2.65e+09",
        "–",
    ]
    assert [divergence(v) for v in (0, -1e-9, 0.08296, 17.9468, None)] == [
        "0.000",
        "0.000",
        "0.083",
        "17.947",
        "–",
    ]
    assert [whole(v) for v in (1.0, 0.9918, None)] == ["100\u202f%", "99.2\u202f%", "–"]
    assert shape([576, 49_152]) == "576 × 49,152"
    assert (percent(None), macs(1.5e6), macs(12)) == ("–", "1.50\u202fM", "12.0")


def test_a_minus_is_a_minus_and_nothing_is_below_zero() -> None:
    assert [fixed(v, 3) for v in (-0.0214, -0.0001, 3.0777, None)] == ["−0.021", "0.000", "3.078", "–"]
    of = partial(fixed, decimals=2)
    assert (interval([-0.5, 1.0], of), interval([0.5, 1.0], of)) == ("−0.50 to \u200b1.00", "0.50–\u200b1.00")
    assert (percent(-0.028), percent(0.511), points(-0.0149)) == ("−2.8\u202f%", "51.1\u202f%", "-1.5")
    assert [db(v) for v in (21.249, -3.0, None, float("inf"))] == ["21.2", "−3.0", "–", "–"]
    assert between("1.0\u202f%", "2.0\u202f%") == "1.0–\u200b2.0\u202f%", "the unit once"


def test_small_shares_keep_two_digits() -> None:
    shares = (0.0, 3e-7, 2e-6, 0.00123, 0.0351, 0.5, None)
    assert [rare(share).replace("\u202f", " ") for share in shares] == [
        "0", "<0.0001 %", "0.00020 %", "0.12 %", "3.5 %", "50 %", "–",
    ]  # fmt: skip


def test_names_in_a_sentence() -> None:
    assert [listed(["a", "b", "c"][:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("total", "decimals"), [(3.08, 3), (0.0713, 5), (17.9, 2), (412.0, 2), (1e-9, 6), (0.0, 6)]
)
def test_decimals_follow_the_total(total: float, decimals: int) -> None:
    assert places(total) == decimals
