"""Flips, several tasks, yields, lifetimes, looks and power: known values, exact laws by simulation, and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

from aimc_sim.errors import BadInput
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.signoff.report.findings import findings_of
from aimc_sim.signoff.statistics import (
    Expected,
    alpha_of_looks,
    chips_needed,
    holm,
    lifetime,
    look_at,
    mcnemar,
    needed,
    non_inferior,
    paired,
    population_yield,
    power,
    yield_interval,
)
from aimc_sim.signoff.statistics.sequential import LOOKS
from aimc_sim.testing import AlphaLedger, assert_binomial, must_reject


def draws(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64]:
    size = math.prod(shape)
    counter = np.zeros((-(-size // 4), 4), dtype=np.uint32)
    counter[:, 0], counter[:, 1] = np.arange(len(counter)), 77
    return normals(counter, key_of(seed)).reshape(-1)[:size].astype(np.float64).reshape(shape)


def test_mcnemar_is_the_sign_test_of_the_flips() -> None:
    reference = np.array([1.0] * 12 + [0.0] * 8)
    chip = reference.copy()
    chip[:7], chip[12:14] = 0.0, 1.0
    found = mcnemar(chip, reference)
    assert (found.lost, found.won) == (7, 2)
    assert found.p_value == pytest.approx(stats.binomtest(7, 9, 0.5).pvalue)
    assert mcnemar(reference, reference).p_value == 1.0


def test_holm_adjusts_in_the_order_given() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.6, 0.5]) == (1.0, 1.0)
    assert holm([]) == ()


def test_yields_have_exact_intervals_and_claims_their_chips() -> None:
    found = yield_interval(5, 5)
    assert found.interval == pytest.approx((0.025 ** (1 / 5), 1.0))
    assert found.lower == pytest.approx(0.05 ** (1 / 5))
    expected = stats.binomtest(7, 10).proportion_ci(0.95, "exact")
    assert yield_interval(7, 10).interval == pytest.approx((expected.low, expected.high))
    assert (chips_needed(0.9), chips_needed(0.95), chips_needed(0.99)) == (29, 59, 299)
    assert (chips_needed(0.9, failures=1), chips_needed(0.5)) == (46, 5)


def test_the_yield_of_the_population_keeps_its_error(ledger: AlphaLedger) -> None:
    """Chips alone differ: the bound is the exact one of a normal sample, wrong in 5 of 100 studies."""
    chips, margin, studies = 6, 1.3, 1200
    truth = float(special.ndtr(margin))
    tables = np.repeat(draws((studies, chips, 1), 3), 4, axis=2)
    bounds = np.array([population_yield(paired(table, 0.0), margin).lower for table in tables])
    assert_binomial(
        int((bounds > truth).sum()), trials=studies, probability=0.05, alpha=ledger.spend("yields: bound")
    )
    with must_reject():  # the estimated share is no bound
        shares = np.array([population_yield(paired(table, 0.0), margin).share for table in tables])
        assert_binomial(int((shares > truth).sum()), trials=studies, probability=0.05, alpha=1e-9)


def test_a_lifetime_of_answers_is_shown_where_the_gate_passes() -> None:
    losses = np.zeros((2, 5, 200))
    losses[:, :, 0], losses[:, :, 1] = 1.0, -1.0  # one answer lost on every chip, one won
    for margin in (0.02, 0.03):
        passed = non_inferior(-losses[0], np.zeros(200), margin).passed
        found = lifetime((60.0, 86400.0), losses, margin)
        assert (found.shown_s == 86400.0) is passed, margin


def test_chips_of_right_and_wrong_answers_claim_no_more_than_their_count() -> None:
    """Without a flip nothing scatters, and a Gaussian spread of zero would claim everything."""
    for chips in (2, 5):
        found = population_yield(paired(np.zeros((chips, 50)), 0.0), 0.1)
        assert found.lower == pytest.approx(0.05 ** (1 / chips))


def test_items_widen_the_yield_and_few_chips_are_said_to_be_few() -> None:
    chips = 0.1 * draws((8, 1), 5)
    items = draws((1, 30), 6)
    items -= items.mean()
    quiet, noisy = (paired(chips + spread * items, 0.0) for spread in (0.0, 1.0))
    assert population_yield(quiet, 0.6).lower > population_yield(noisy, 0.6).lower
    assert population_yield(quiet, 0.6).percentile_95 < population_yield(noisy, 0.6).percentile_95
    assert "fewer than 59 chips" in population_yield(quiet, 0.6).caveat
    assert population_yield(quiet, 0.6).worst == max(quiet.chip_means)
    assert population_yield(paired(chips[:1] + draws((1, 30), 6), 0.0), 1.0).lower == 0.0


def test_from_59_chips_on_the_yield_is_a_rank() -> None:
    """Whatever the chips' distribution: log-normal ones, of which a Gaussian bound is wrong in a third of studies."""
    n, chips, sigma = 500, 60, 0.5
    means = np.exp(sigma * draws((n, chips, 1), 61))
    truth = math.exp(sigma * float(special.ndtri(0.95)))
    found = [population_yield(paired(np.repeat(table, 4, axis=1), 0.0), truth) for table in means]
    assert np.mean([one.percentile_95 < truth for one in found]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)
    assert np.mean([one.lower > 0.95 for one in found]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)
    assert found[0].percentile_95 == pytest.approx(max(means[0, :, 0])), "the worst of 59 to 92"
    assert found[0].caveat == ""
    alone = population_yield(paired(means[0], 0.0), truth)
    assert "one item only" in alone.caveat


def test_a_loss_of_zero_nats_lasts() -> None:
    found = lifetime((60.0, 86400.0), np.zeros((2, 5, 16)), 0.01, weights=np.full(16, 127.0))
    assert (found.crossed_s, found.shown_s, found.alpha) == (None, 86400.0, 0.025)


def test_a_lifetime_is_interpolated_in_log_time() -> None:
    times = (1.0, 100.0, 10_000.0)
    level = np.array([0.0, 1.0, 2.0])[:, None, None]
    noise = 0.01 * draws((1, 4, 10), 8)
    found = lifetime(times, level + noise, 1.5 + float(noise.mean()))
    assert found.crossed_s == pytest.approx(1000.0)
    assert found.low_s is not None
    assert found.high_s is not None
    assert found.low_s < 1000.0 < found.high_s
    assert found.shown_s == found.low_s
    assert len(found.chips_s) == 4


def test_a_lifetime_may_be_censored_at_either_end() -> None:
    times, losses = (1.0, 100.0), np.array([0.0, 1.0])[:, None, None] + 0.001 * draws((1, 3, 5), 9)
    never, at_once = lifetime(times, losses, 5.0), lifetime(times, losses, -1.0)
    assert (never.crossed_s, never.high_s, never.shown_s) == (None, None, 100.0)
    assert (at_once.crossed_s, at_once.shown_s) == (1.0, None)
    assert never.chips_s == (None, None, None)
    from_zero = lifetime((0.0, 100.0), losses, 0.5).crossed_s
    assert from_zero is not None
    assert 9.0 < from_zero < 11.0, "time 0 stands at one second: halfway in log t is 10 s"


def test_looks_spend_the_error_that_is_published() -> None:
    """Lan–DeMets bounds for five even looks at 2.5 %, as tables of group-sequential designs have them."""
    bounds = [-special.ndtri(alpha) for alpha in alpha_of_looks((2, 4, 6, 8, 10))]
    assert bounds == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=1e-3)
    assert alpha_of_looks((9,), 0.025) == pytest.approx((0.025,))
    pocock = alpha_of_looks(LOOKS, 0.025, "pocock")
    assert pocock[0] > 1e5 * alpha_of_looks(LOOKS)[0]


def sequential(shift: float, studies: int) -> tuple[int, float]:
    """How many studies pass by looks against a margin of 1, and the mean number of chips."""
    tables = shift + 0.5 * draws((studies, 20, 1), 21) + 0.2 * draws((studies, 1, 16), 22)
    tables = tables + 0.5 * draws((studies, 20, 16), 23)
    passed, used = 0, 0
    for table in tables:
        for chips, alpha in zip(LOOKS, alpha_of_looks(LOOKS), strict=True):
            look = look_at([paired(table[:chips], 0.0)], 1.0, alpha, final=chips == 20)
            if look.outcome != "continue":
                break
        passed += look.outcome == "pass"
        used += look.chips
    return passed, used / studies


def test_looks_keep_the_error_and_save_chips() -> None:
    at_margin, _ = sequential(1.0, 1500)
    assert at_margin / 1500 <= 0.035
    far, chips = sequential(-1.0, 100)
    assert far == 100
    assert chips <= 14


def test_a_study_that_items_alone_leave_open_is_undecidable() -> None:
    items = 3.0 * draws((1, 10), 31)
    table = items + 0.1 * draws((3, 10), 32)
    assert look_at([paired(table - table.mean(), 0.0)], 0.5, 0.001, final=False).outcome == "undecidable"
    near = 0.4 + draws((3, 40), 33)
    assert look_at([paired(near, 0.0)], 0.5, 0.001, final=False).outcome == "continue"
    assert look_at([paired(np.zeros((3, 100)), 0.0)], 0.02, 1e-5, final=False).outcome == "undecidable", (
        "no flips"
    )
    assert look_at([paired(near, 0.0)], 0.5, 0.025, final=True).outcome == "undecided"
    assert look_at([paired(near + 9.0, 0.0)], 0.5, 0.025, final=False).outcome == "fail"
    assert (
        look_at([paired(near - 9.0, 0.0), paired(near, 0.0)], 0.5, 0.025, final=False).outcome == "continue"
    )


@pytest.mark.parametrize("looks", [None, (3, 4)])
def test_an_open_verdict_says_what_could_decide_it(plan_with: Any, fake: Any, looks: Any) -> None:
    """Windows that differ much leave more doubt than the margin: more chips are no help, and are not offered."""
    plan = plan_with(metric="loss", margin_nats=0.4, looks=looks)
    found = findings_of(fake.run_fake_study(plan, fake.Uneven()))[0]
    assert found.decision == ("fixed" if looks is None else "undecidable")
    assert found.verdict.worst.gate.straddles
    assert found.summary.endswith(
        "More chips cannot decide it, because so few windows alone leave more doubt than the margin: "
        "more windows could, or a wider margin."
    )
    chips_differ = findings_of(fake.run_fake_study(plan_with(margin_nats=0.55)))[0]
    assert chips_differ.verdict.worst.gate.straddles
    assert chips_differ.summary.endswith("More chips or more windows could still decide.")


def test_power_is_the_share_of_studies_that_pass() -> None:
    expected, chips, items, studies = Expected(0.0, 0.3, 0.8, 0.5), 8, 40, 1500
    tables = 0.3 * draws((studies, chips, 1), 41) + 0.8 * draws((studies, 1, items), 42)
    tables = tables + 0.5 * draws((studies, chips, items), 43)
    passed = np.mean([non_inferior(t, 0.0, 0.5, higher_is_better=False).passed for t in tables])
    assert power(expected, chips, items, 0.5) == pytest.approx(passed, abs=0.05)
    for need in (needed(expected, 0.5, items=items), needed(expected, 0.5, chips=chips)):
        assert need.enough
        assert need.power >= 0.9
        fewer = (need.chips - 1, items) if need.items == items else (chips, need.items - 1)
        assert power(expected, *fewer, 0.5) < 0.9
    assert not needed(Expected(0.0, 0.1, 10.0, 0.1), 0.5, items=20).enough, "items alone exceed the margin"


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: mcnemar(np.ones((2, 3)), np.ones((2, 3))), "flips"),
        (lambda: mcnemar([0.5], [1.0]), "flips"),
        (lambda: holm([math.nan]), "p-value"),
        (lambda: yield_interval(3, 2), "yield"),
        (lambda: chips_needed(1.0), "claim"),
        (lambda: lifetime([1.0], np.zeros((2, 1, 1)), 1.0), "losses"),
        (lambda: alpha_of_looks((5, 3)), "looks"),
        (lambda: needed(Expected(0, 1, 1, 1), 1.0), "power"),
        (lambda: power(Expected(0, 1, 1, 1), 1, 5, 1.0), "study"),
    ],
)
def test_bad_input_is_named(call: object, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        call()  # type: ignore[operator]
