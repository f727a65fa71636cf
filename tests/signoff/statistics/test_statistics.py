"""The estimator against its formulas, and its coverage by simulation with our own keyed normals."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

from aimc_sim.errors import BadInput
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.signoff.statistics import estimate, non_inferior, paired
from aimc_sim.signoff.statistics.rates import Rates
from aimc_sim.testing import AlphaLedger, assert_binomial


def draws(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64]:
    """Standard normals of the given shape, keyed by the seed."""
    size = math.prod(shape)
    counter = np.zeros((-(-size // 4), 4), dtype=np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).reshape(-1)[:size].astype(np.float64).reshape(shape)


def study(
    chips: int, items: int, sigma: tuple[float, float, float], seed: int, n: int
) -> npt.NDArray[np.float64]:
    chip = sigma[0] * draws((n, chips, 1), 3 * seed)
    item = sigma[1] * draws((n, 1, items), 3 * seed + 1)
    return chip + item + sigma[2] * draws((n, chips, items), 3 * seed + 2)


def test_components_solve_the_expected_mean_squares() -> None:
    scores = np.array([[-1.0, 0.0, 2.0], [0.0, 1.5, 2.5]])
    result = estimate(scores)
    rows, columns = scores.mean(1), scores.mean(0)
    rest = ((scores - rows[:, None] - columns + scores.mean()) ** 2).sum() / 2
    assert result.mean == pytest.approx(scores.mean(), abs=1e-15)
    assert result.components.interaction == pytest.approx(rest)
    assert result.components.chip == pytest.approx((3 * rows.var(ddof=1) - rest) / 3)
    assert result.components.item == pytest.approx((2 * columns.var(ddof=1) - rest) / 2)
    assert result.chip_means == pytest.approx(rows)
    assert (result.chips, result.items, result.caveat) == (2, 3, "")


def test_the_components_are_unbiased() -> None:
    tables = study(6, 20, (0.5, 1.0, 0.8), seed=11, n=2000)
    found = np.array(
        [(e.components.chip, e.components.item, e.components.interaction) for e in map(estimate, tables)],
        dtype=float,
    )
    assert found.mean(axis=0) == pytest.approx([0.25, 1.0, 0.64], rel=0.05)


# The mean over chips alone (what is published in this field) covers far less in most of these.
REGIMES = [
    (2, 16, (1.0, 1.0, 1.0)),
    (3, 16, (1.0, 0.1, 0.1)),
    (3, 16, (0.1, 1.0, 0.3)),
    (5, 16, (1.0, 1.0, 1.0)),
    (5, 16, (1.0, 0.0, 1.0)),
    (5, 16, (0.0, 1.0, 1.0)),
    (5, 16, (0.0, 0.0, 1.0)),
    (5, 64, (0.3, 1.0, 0.3)),
    (10, 32, (0.2, 1.0, 1.0)),
]


@pytest.mark.parametrize(("chips", "items", "sigma"), REGIMES)
def test_the_interval_covers_the_truth(chips: int, items: int, sigma: tuple[float, float, float]) -> None:
    n = 2000
    results = [estimate(table) for table in study(chips, items, sigma, seed=5, n=n)]
    covered = np.mean([low <= 0.0 <= high for low, high in (r.interval for r in results)])
    assert covered >= 0.945 - 2 * math.sqrt(0.05 * 0.95 / n)


def test_the_interval_over_chips_alone_would_not_cover() -> None:
    """The negative control: a study that only counts chips is caught by the test above."""
    tables = study(5, 64, (0.3, 1.0, 0.3), seed=5, n=1000)
    means = tables.mean(axis=2)
    half = stats.t.ppf(0.975, 4) * means.std(axis=1, ddof=1) / math.sqrt(5)
    assert np.mean(np.abs(means.mean(axis=1)) <= half) < 0.93


def test_the_gate_keeps_its_error() -> None:
    """At the margin exactly, at most alpha of the studies pass."""
    tables = study(5, 32, (0.5, 1.0, 0.5), seed=17, n=2000)
    passed = np.mean(
        [non_inferior(table + 1.0, 0.0, 1.0, 0.05, higher_is_better=False).passed for table in tables]
    )
    assert passed <= 0.06


def test_an_interval_of_chips_alone_is_exact(ledger: AlphaLedger) -> None:
    """Where only chips differ the interval is Student's, and the gate's p-value is uniform."""
    tables = np.repeat(draws((4000, 5, 1), 71), 3, axis=2)
    results = [estimate(table) for table in tables]
    covered = sum(low <= 0.0 <= high for low, high in (r.interval for r in results))
    assert_binomial(covered, trials=4000, probability=0.95, alpha=ledger.spend("estimate: coverage"))
    gates = [non_inferior(table + 1.0, 0.0, 1.0, higher_is_better=False) for table in tables[:1500]]
    below = sum(gate.p_value <= 0.1 for gate in gates)
    assert_binomial(below, trials=1500, probability=0.1, alpha=ledger.spend("gate: p-value"))
    assert all(gate.passed == (gate.p_value <= 0.025) for gate in gates)


# (chips, items, mean, sigma of chips and of items on the probit scale)
ANSWERS = [
    (5, 200, 0.95, (0.4, 0.5)),
    (5, 200, 0.05, (0.02, 4.0)),
    (5, 200, 0.5, (0.1, 1.0)),
    (5, 50, 0.95, (0.05, 4.0)),
    (2, 100, 0.9, (0.3, 1.0)),
]


@pytest.mark.parametrize(("chips", "items", "mean", "sigma"), ANSWERS)
def test_right_and_wrong_answers_are_covered(
    chips: int, items: int, mean: float, sigma: tuple[float, float]
) -> None:
    n = 1000
    mu = float(special.ndtri(mean)) * math.sqrt(1 + sigma[0] ** 2 + sigma[1] ** 2)
    effects = sigma[0] * draws((n, chips, 1), 81) + sigma[1] * draws((n, 1, items), 82)
    tables = (draws((n, chips, items), 83) < mu + effects).astype(float)
    covered = np.mean([low <= mean <= high for low, high in (estimate(table).interval for table in tables)])
    assert covered >= 0.935 - 2 * math.sqrt(0.05 * 0.95 / n)
    if (items, sigma[1]) == (50, 4.0):  # negative control: mean ± t·se alone
        found = [estimate(table) for table in tables]
        assert np.mean([abs(e.mean - mean) <= e.half_width(0.025) for e in found]) < covered - 0.03


def test_intervals_of_answers_stay_where_answers_can_be() -> None:
    for answer in (0.0, 1.0):
        found = estimate(np.full((5, 40), answer))
        assert 0.0 <= found.interval[0] <= answer <= found.interval[1] <= 1.0
        assert found.interval[1] - found.interval[0] > 0.05, "40 items cannot show that it is always so"
        assert "near 0 or 1" in found.caveat
    independent = np.indices((5, 200)).sum(axis=0) % 2
    low, high = estimate(independent).interval
    assert low < 0.5 < high


def test_one_chip_with_answers_has_wilsons_interval() -> None:
    answers = np.zeros((1, 100))
    answers[0, :30] = 1.0
    t = float(special.stdtrit(99, 0.975))
    n = t**2 * 0.21 / (t**2 * 0.21 * 100 / 99 / 100)  # the sample variance divides by n − 1
    middle, spread = 0.3 + t**2 / (2 * n), t * math.sqrt(0.21 / n + t**2 / (4 * n * n))
    expected = ((middle - spread) / (1 + t**2 / n), (middle + spread) / (1 + t**2 / n))
    assert estimate(answers).interval == pytest.approx(expected)


def test_flips_have_tangos_interval_and_few_flips_a_wider_one() -> None:
    """Tango's interval solves the equation of his score test at both ends."""
    lost, won, items = 30, 10, 200
    scores = np.zeros((1, items))
    scores[0, :lost], scores[0, lost : lost + won] = 1.0, -1.0
    found = paired(scores, 0.0)
    assert found.rates is not None
    t = float(special.stdtrit(items - 1, 0.975))
    n = found.rates.effective(found.half_width(0.025), t)
    for delta in found.interval:
        a, c = 2.0, -won / items * delta * (1 - delta)
        b = -(lost + won) / items + (2 - (lost - won) / items) * delta
        less = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
        statistic = (found.mean - delta) / math.sqrt((2 * less + delta * (1 - delta)) / n)
        assert abs(statistic) == pytest.approx(t, rel=1e-6)
    few = np.zeros((1, items))
    few[0, :2] = 1.0
    assert "few answers differ" in paired(few, 0.0).caveat
    assert paired(few, 0.0).interval[1] > 0.01 + paired(few, 0.0).half_width(0.025)


@pytest.mark.parametrize(("lost", "won"), [(6, 1), (8, 0), (5, 1)])
def test_few_flips_reach_down_to_bonett_and_prices_bound(lost: int, won: int) -> None:
    """Their Wald interval with one more flip of each kind; Tango's reaches further up."""
    items, t = 20, 1.96
    rates = Rates(lost / items, won / items, items, items, True)
    low, high = rates.interval(t * math.sqrt(rates.variance / items), t)
    p, q = (lost + 1) / (items + 2), (won + 1) / (items + 2)
    spread = t * math.sqrt((p + q - (p - q) ** 2) / (items + 2))
    assert low == pytest.approx(p - q - spread)
    assert high > p - q + spread


def test_items_that_are_not_here_are_counted() -> None:
    """One of a hundred items is lost on every chip, others now and then, and some studies have no such item."""
    chips, items, share, chance, n = 20, 200, 0.01, 0.001, 600
    always = draws((n, 1, items), 41) < special.ndtri(share)
    lost = (always | (draws((n, chips, items), 42) < special.ndtri(chance))).astype(float)
    truth = share + (1 - share) * chance
    found = [paired(table, 0.0) for table in lost]
    assert np.mean([one.interval[0] <= truth <= one.interval[1] for one in found]) >= 0.93
    assert np.mean([one.upper() < truth for one in found]) <= 0.05
    # Negative control: what the scores themselves show.
    assert np.mean([one._by_scatter(one.half_width(0.025), 0.025)[1] < truth for one in found]) > 0.05
    parts = [paired(table * 0.9, 0.0, marks=True) for table in lost]
    assert np.mean([one.upper() < 0.9 * truth for one in parts]) <= 0.05
    one_flip, none = np.zeros((5, 200)), np.zeros((5, 200))
    one_flip[0, 0] = 1.0
    assert paired(one_flip, 0.0).upper() >= 0.95 * paired(none, 0.0).upper(), "a flip tells no more than none"
    assert "cannot rule out" in paired(one_flip, 0.0).caveat
    with pytest.raises(BadInput, match="marks"):
        estimate(np.full((2, 2), 1.5), marks=True)


def test_chips_that_scatter_by_much_of_what_is_rare() -> None:
    """P(right) = Φ(μ + z), 5 chips, mean 0.95: one chip in five is bad, and few studies see how bad."""
    mean, sigma, n = 0.95, 1.0, 800
    mu = float(special.ndtri(mean)) * math.sqrt(1 + sigma**2)
    tables = (draws((n, 5, 200), 43) < mu + sigma * draws((n, 5, 1), 44)).astype(float)
    found = [estimate(table) for table in tables]
    covered = np.mean([low <= mean <= high for low, high in (one.interval for one in found)])
    assert covered >= 0.935 - 2 * math.sqrt(0.05 * 0.95 / n)
    assert any("chips scatter" in one.caveat for one in found)


def test_log_normal_items_few_of_them() -> None:
    n = 800
    scores = np.exp(draws((n, 1, 16), 45) + 0.2 * draws((n, 5, 1), 46) - (1.0 + 0.04) / 2)
    found = [estimate(table) for table in np.repeat(scores, 1, axis=1)]
    assert np.mean([one.upper() < 1.0 for one in found]) <= 0.05
    plain = [one.mean + one.half_width(0.025) for one in found]
    assert np.mean([bound < 1.0 for bound in plain]) > 0.08, "Student's t"


def test_items_that_weigh_little_are_hardly_items() -> None:
    weights = np.array([1024.0, 1024.0, 100.0])
    tables = study(5, 3, (0.1, 1.0, 0.3), seed=47, n=1500)
    found = [paired(table, 0.0, weights) for table in tables]
    kish = weights.sum() ** 2 / (weights**2).sum() - 1
    assert found[0].item_degrees == pytest.approx(kish)
    covered = np.mean([low <= 0.0 <= high for low, high in (one.interval for one in found)])
    assert covered >= 0.945 - 2 * math.sqrt(0.05 * 0.95 / 1500)


def test_what_is_no_number_is_refused() -> None:
    scores = np.zeros((2, 3))
    for reference in ([0.0, math.nan, 0.0], "none"):
        with pytest.raises(BadInput, match="reference"):
            paired(scores, reference)
    with pytest.raises(BadInput, match="scores"):
        estimate([["a", "b"]])
    assert non_inferior(scores, 0.0, np.float32(1.0)).passed


def test_skewed_scores_get_a_longer_upper_end_and_say_so() -> None:
    scores = np.exp(1.5 * draws((1, 40), 91)) + 0.1 * np.abs(draws((5, 40), 92))
    found = estimate(scores)
    assert "scatter by much of their mean" in found.caveat
    assert found.interval[1] - found.mean > found.mean - found.interval[0]
    assert paired(scores, 100.0).caveat == "", "a difference of both signs is no scale"


def test_equal_weights_change_nothing_and_tokens_weigh() -> None:
    scores = study(4, 6, (1.0, 1.0, 1.0), seed=2, n=1)[0]
    assert estimate(scores, np.full(6, 127)) == estimate(scores)
    tokens = np.array([127, 127, 127, 127, 127, 30])
    weighted = estimate(scores, tokens)
    assert weighted.mean == pytest.approx((scores * tokens).sum() / (4 * tokens.sum()))
    assert weighted.chip_means == pytest.approx((scores * tokens).sum(1) / tokens.sum())


def test_one_chip_is_the_t_interval_over_items_and_says_so() -> None:
    scores = np.array([[-1.0, 2.0, 4.0, 3.0]])
    result = estimate(scores)
    low, high = stats.t.interval(0.95, 3, scores.mean(), stats.sem(scores[0]))
    assert result.interval == pytest.approx((low, high))
    assert "one chip" in result.caveat
    assert result.components.chip is None


def test_one_item_counts_chips_and_one_cell_has_no_interval() -> None:
    scores = np.array([[-1.0], [2.0], [4.0]])
    result = estimate(scores)
    low, high = stats.t.interval(0.95, 2, scores.mean(), stats.sem(scores[:, 0]))
    assert result.interval == pytest.approx((low, high))
    assert "one item" in result.caveat
    assert estimate([[3.0]]).interval == (-math.inf, math.inf)
    assert not non_inferior([[0.0]], 0.0, 1.0).passed


def test_direction_of_the_gate() -> None:
    accuracy = np.array([[0.50, 0.52], [0.51, 0.53], [0.50, 0.53]])
    reference = np.array([0.52, 0.54])
    assert non_inferior(accuracy, reference, 0.1).passed
    assert not non_inferior(accuracy, reference, 0.001).passed
    assert non_inferior(accuracy, reference, 0.05).loss.mean == pytest.approx(0.015)
    nats = non_inferior(accuracy, 0.0, 0.7, higher_is_better=False)
    assert nats.passed
    assert nats.loss.mean == pytest.approx(accuracy.mean())
    assert paired(accuracy, reference).mean == pytest.approx(-0.015)


def test_straddling_differs_from_failing() -> None:
    scores = np.array([[0.9, 1.1], [1.0, 1.2]])
    assert non_inferior(scores, 0.0, 1.2, higher_is_better=False).straddles
    assert not non_inferior(scores, 0.0, 0.0001, higher_is_better=False, alpha=0.2).straddles


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: estimate([1.0, 2.0]), "scores"),
        (lambda: estimate(np.zeros((0, 3))), "scores"),
        (lambda: estimate([[1.0, math.nan]]), r"scores\[0, 1\]"),
        (lambda: estimate([[1.0, 2.0]], [1.0, 0.0]), "weights"),
        (lambda: paired([[1.0, 2.0]], [1.0, 2.0, 3.0]), "reference"),
        (lambda: non_inferior([[1.0, 2.0]], 0.0, -1.0), "margin"),
        (lambda: non_inferior([[1.0, 2.0]], 0.0, 1.0, 0.7), "alpha"),
    ],
)
def test_bad_input_is_named(call: object, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        call()  # type: ignore[operator]
