"""Question: do the sign-off's statistics keep what they claim, by simulation with known truth?

Goals: 95 % intervals cover at least 94.5 % for Gaussian scores from 5 chips on, 93.5 % for right/wrong scores with
means in [0.05, 0.95] from 5 chips and 200 items on, 93 % elsewhere; the gate's error at most 5 %; looks at 3, 5, 8, 12
and 20 chips keep it and save at least 30 % of chips far from the margin. Unit: per cent; width: that of the interval
over that of the naive one (mean ± t·se over chips alone, the published practice). Rival: the naive interval.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.signoff.statistics import (
    alpha_of_looks,
    estimate,
    look_at,
    mcnemar,
    non_inferior,
    paired,
    population_yield,
)
from aimc_sim.signoff.statistics.sequential import LOOKS
from benchmarks.harness import Row, command_line, show

Floats = npt.NDArray[np.float64]
STUDIES = 20_000
SMALLEST = {"STUDIES": 2}
_BLOCK = 500


def draws(shape: tuple[int, ...], seed: int) -> Floats:
    """Standard normals of a shape, keyed by the seed."""
    size = math.prod(shape)
    counter = np.zeros((-(-size // 4), 4), dtype=np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).reshape(-1)[:size].astype(np.float64).reshape(shape)


@dataclass(frozen=True)
class Regime:
    """One kind of study with known truth. table(n, seed): (n, chips, items) scores; goal: per cent."""

    name: str
    truth: float
    table: Callable[[int, int], Floats]
    goal: float
    difference: bool = False
    weights: tuple[float, ...] | None = None
    marks: bool = False


def gaussian(name: str, chips: int, items: int, sigma: tuple[float, float, float], goal: float) -> Regime:
    """Gaussian chip, item and interaction effects around 0."""

    def table(n: int, seed: int) -> Floats:
        chip = sigma[0] * draws((n, chips, 1), 4 * seed)
        item = sigma[1] * draws((n, 1, items), 4 * seed + 1)
        return chip + item + sigma[2] * draws((n, chips, items), 4 * seed + 2)

    return Regime(f"Gaussian, {chips} chips × {items}: {name}", 0.0, table, goal)


def unequal(chips: int, items: int, goal: float) -> Regime:
    """Gaussian scores whose items differ in how much chips scatter on them, from 0.1 to 10 times."""
    scale = np.geomspace(0.1, 10.0, items)

    def table(n: int, seed: int) -> Floats:
        chip, item = 0.2 * draws((n, chips, 1), 4 * seed), draws((n, 1, items), 4 * seed + 1)
        return chip + item + scale * draws((n, chips, items), 4 * seed + 2)

    return Regime(f"Gaussian, {chips} chips × {items}: unequal items", 0.0, table, goal)


def windows(chips: int, tokens: tuple[int, ...], goal: float) -> Regime:
    """Gaussian losses of windows that hold so many tokens."""

    def table(n: int, seed: int) -> Floats:
        chip, item = 0.1 * draws((n, chips, 1), 4 * seed), draws((n, 1, len(tokens)), 4 * seed + 1)
        return chip + item + 0.3 * draws((n, chips, len(tokens)), 4 * seed + 2)

    name = f"Gaussian, {chips} chips × {len(tokens)}: windows of {tokens[0]} tokens, one of {tokens[-1]}"
    return Regime(name, 0.0, table, goal, True, tuple(map(float, tokens)))


def mixture(chips: int, items: int, always: float, chance: float, goal: float, marks: bool = False) -> Regime:
    """Losses of a share of items on every chip alike, and of any answer by chance. marks: not quite whole ones."""
    size = 0.9 if marks else 1.0

    def table(n: int, seed: int) -> Floats:
        lost = draws((n, 1, items), 4 * seed + 1) < special.ndtri(always)
        lost = lost | (draws((n, chips, items), 4 * seed + 2) < special.ndtri(chance))
        return np.asarray(size * lost, dtype=np.float64)

    kind = "losses of 0.9" if marks else "flips"
    name = f"{kind}, {chips} chips × {items}: {always:g} of items always, {chance:g} of answers by chance"
    return Regime(name, size * (always + (1 - always) * chance), table, goal, True, None, marks)


def lognormal(chips: int, items: int, sigma: float, goal: float) -> Regime:
    """Positive scores with strongly skewed items, such as divergences of windows."""

    def table(n: int, seed: int) -> Floats:
        chip, item = 0.2 * draws((n, chips, 1), 4 * seed), sigma * draws((n, 1, items), 4 * seed + 1)
        rest = 0.2 * draws((n, chips, items), 4 * seed + 2)
        return np.exp(chip + item + rest - (0.08 + sigma**2) / 2)

    return Regime(f"skewed, {chips} chips × {items}: log-normal items", 1.0, table, goal)


def answers(
    name: str,
    chips: int,
    items: int,
    mean: float,
    sigma: tuple[float, float],
    goal: float,
    two_kinds: bool = False,
) -> Regime:
    """Right/wrong: P(right) = Φ(mu + chip + item). two_kinds: items are easy or hard, nothing between."""
    spread = math.sqrt(1 + sigma[0] ** 2)

    def share(mu: float) -> float:
        if two_kinds:
            return (
                float(special.ndtr((mu + sigma[1]) / spread) + special.ndtr((mu - sigma[1]) / spread)) / 2
                - mean
            )
        return float(special.ndtr(mu / math.hypot(spread, sigma[1]))) - mean

    mu = float(optimize.brentq(share, -40, 40))

    def table(n: int, seed: int) -> Floats:
        item = draws((n, 1, items), 4 * seed + 1)
        effects = sigma[1] * (np.sign(item) if two_kinds else item) + sigma[0] * draws(
            (n, chips, 1), 4 * seed
        )
        return np.asarray(draws((n, chips, items), 4 * seed + 2) < mu + effects, dtype=np.float64)

    return Regime(f"answers, {chips} chips × {items}, mean {mean:g}: {name}", mean, table, goal)


def flips(
    name: str,
    chips: int,
    items: int,
    right: float,
    lose: float,
    gain: float,
    sigma: tuple[float, float],
    goal: float,
) -> Regime:
    """Losses against the digital model: right answers lost and wrong ones won, as +1 and −1."""
    scale = math.sqrt(1 + sigma[0] ** 2 + sigma[1] ** 2)
    at_lose, at_gain = (float(special.ndtri(p)) * scale if p else -math.inf for p in (lose, gain))

    def table(n: int, seed: int) -> Floats:
        digital = draws((n, 1, items), 4 * seed + 3) < special.ndtri(right)
        chip, item = sigma[0] * draws((n, chips, 1), 4 * seed), sigma[1] * draws((n, 1, items), 4 * seed + 1)
        z = draws((n, chips, items), 4 * seed + 2)
        return np.where(digital, z < at_lose + chip + item, -1.0 * (z < at_gain - chip + item)).astype(float)

    truth = right * lose - (1 - right) * gain
    return Regime(f"flips, {chips} chips × {items}, loss {truth:+.3f}: {name}", truth, table, goal, True)


REGIMES = (
    gaussian("chips dominate", 5, 200, (1.0, 0.3, 0.3), 94.5),
    gaussian("items dominate", 5, 200, (0.02, 1.0, 0.3), 94.5),
    gaussian("interaction dominates", 5, 200, (0.0, 0.1, 1.0), 94.5),
    gaussian("all alike", 5, 16, (0.3, 1.0, 1.0), 94.5),
    gaussian("all alike", 20, 200, (0.1, 1.0, 1.0), 94.5),
    unequal(5, 200, 94.5),
    gaussian("chips dominate", 2, 16, (1.0, 0.3, 0.3), 93.0),
    gaussian("items dominate", 3, 16, (0.1, 1.0, 0.3), 93.0),
    lognormal(5, 16, 0.5, 93.0),
    lognormal(5, 64, 1.0, 93.0),
    lognormal(5, 16, 1.0, 93.0),
    lognormal(20, 16, 1.0, 93.0),
    windows(5, (1024, 1024, 1024, 50), 93.0),
    windows(5, (1024, 1024, 100), 93.0),
    answers("answers independent", 5, 200, 0.5, (0.0, 0.0), 93.5),
    answers("chips dominate", 5, 200, 0.3, (0.4, 0.5), 93.5),
    answers("chips dominate", 5, 200, 0.95, (0.4, 0.5), 93.5),
    answers("chips differ widely", 5, 200, 0.95, (1.0, 0.3), 93.5),
    answers("chips differ widely", 20, 200, 0.95, (0.8, 0.5), 93.5),
    answers("chips differ widely", 5, 200, 0.3, (1.5, 0.5), 93.5),
    answers("items dominate", 5, 200, 0.05, (0.02, 4.0), 93.5),
    answers("items dominate", 5, 200, 0.95, (0.1, 2.0), 93.5),
    answers("unequal items", 5, 200, 0.7, (0.1, 3.0), 93.5, two_kinds=True),
    answers("all alike", 10, 500, 0.9, (0.2, 1.0), 93.5),
    answers("few items", 5, 50, 0.95, (0.05, 4.0), 93.0),
    answers("few chips", 2, 200, 0.95, (0.3, 1.0), 93.0),
    answers("beyond", 5, 200, 0.99, (0.1, 1.0), 93.0),
    flips("few flips", 5, 200, 0.5, 0.02, 0.02, (0.1, 1.0), 93.0),
    flips("items dominate", 5, 200, 0.8, 0.05, 0.0, (0.0, 3.0), 93.0),
    flips("all alike", 5, 200, 0.5, 0.1, 0.05, (0.3, 0.5), 93.0),
    flips("chips dominate", 5, 200, 0.8, 0.05, 0.0, (0.5, 0.2), 93.0),
    flips("many flips", 10, 500, 0.5, 0.3, 0.1, (0.1, 1.0), 93.0),
    mixture(5, 200, 0.01, 0.002, 93.0),
    mixture(20, 200, 0.01, 0.001, 93.0),
    mixture(20, 100, 0.02, 0.004, 93.0),
    mixture(20, 200, 0.01, 0.001, 93.0, marks=True),
)


def tables_of(regime: Regime, studies: int) -> Iterator[Floats]:
    """The studies of a regime, a block at a time."""
    for block in range(-(-studies // _BLOCK)):
        yield from regime.table(min(_BLOCK, studies - block * _BLOCK), block)


def coverage(regime: Regime, studies: int) -> dict[str, float]:
    """Shares in per cent: covered by ours and by the naive interval, bound below the truth; ratio of the widths."""
    ours = naive = over = 0
    width = naive_width = 0.0
    for table in tables_of(regime, studies):
        of_differences = regime.difference
        found = paired(table, 0.0, regime.weights, marks=regime.marks) if of_differences else estimate(table)
        low, high = found.interval
        means = np.average(table, axis=1, weights=regime.weights)
        half = (
            float(special.stdtrit(len(means) - 1, 0.975)) * float(means.std(ddof=1)) / math.sqrt(len(means))
        )
        ours += low <= regime.truth <= high
        naive += abs(float(means.mean()) - regime.truth) <= half
        over += high < regime.truth
        width, naive_width = width + high - low, naive_width + 2 * half
    share = 100 / studies
    return {"ours": ours * share, "naive": naive * share, "over": over * share, "width": width / naive_width}


def sequential(shift: float, studies: int, margin: float = 1.0) -> tuple[float, float, float]:
    """Per cent that pass, per cent of 20 chips saved, and per cent that a single look at 20 would pass."""
    alphas = alpha_of_looks(LOOKS)
    passed = single = 0
    chips_used = 0
    items = 64
    for block in range(-(-studies // _BLOCK)):
        n = min(_BLOCK, studies - block * _BLOCK)
        tables = (
            shift
            + 0.5 * draws((n, LOOKS[-1], 1), 4 * block)
            + 0.3 * draws((n, 1, items), 4 * block + 1)
            + 0.5 * draws((n, LOOKS[-1], items), 4 * block + 2)
        )
        for table in tables:
            for chips, alpha in zip(LOOKS, alphas, strict=True):
                final = chips == LOOKS[-1]
                look = look_at([paired(table[:chips], 0.0)], margin, alpha, final=final)
                if look.outcome != "continue":
                    break
            passed += look.outcome == "pass"
            chips_used += look.chips
            single += non_inferior(table, 0.0, margin, higher_is_better=False).passed
    share = 100 / studies
    return passed * share, 100 - chips_used * share / LOOKS[-1], single * share


def yield_bound(chips: int, items: int, studies: int) -> float:
    """Per cent of studies whose lower bound of the population's yield exceeds the truth (claimed: 5)."""
    wrong = 0
    truth = float(special.ndtr(1.5))
    for block in range(-(-studies // _BLOCK)):
        n = min(_BLOCK, studies - block * _BLOCK)
        tables = (
            draws((n, chips, 1), 4 * block)
            + 3.0 * draws((n, 1, items), 4 * block + 1)
            + 3.0 * draws((n, chips, items), 4 * block + 2)
        )
        wrong += sum(population_yield(paired(table, 0.0), 1.5).lower > truth for table in tables)
    return 100 * wrong / studies


def pooled_mcnemar(studies: int) -> float:
    """Per cent of studies without any loss in which a McNemar test pooled over 5 chips claims one at 5 %."""
    regime = flips("null", 5, 200, 0.5, 0.2, 0.2, (0.0, 3.0), 0.0)
    wrong = 0
    for table in tables_of(regime, studies):
        lost, won = (np.asarray(table == sign, dtype=np.float64).reshape(-1) for sign in (1.0, -1.0))
        kept = lost + won > 0
        wrong += mcnemar(won[kept], lost[kept]).p_value <= 0.05 if kept.any() else 0
    return 100 * wrong / studies


def measure(studies: int = STUDIES) -> list[Row]:
    """Every figure of the module's question."""
    rows = []
    for regime in REGIMES:
        found = coverage(regime, studies)
        rows += [
            Row(regime.name, found["ours"], "% covered", regime.goal, at_least=True),
            Row("  by the naive interval", found["naive"], "% covered"),
            Row("  width over the naive one", found["width"], "×"),
            Row("  one-sided error of the gate at the margin", found["over"], "%", 5.0),
        ]
    fewer = max(studies // 4, 1)
    for name, shift, goal in (
        ("at the margin", 1.0, 5.0),
        ("far below it", -1.0, None),
        ("far above it", 4.0, None),
    ):
        passed, saved, single = sequential(shift, fewer)
        rows += [
            Row(f"looks at 3, 5, 8, 12, 20 chips, mean {name}: pass", passed, "%", goal),
            Row("  a single look at 20: pass", single, "%"),
            Row("  chips saved", saved, "%", 30.0 if goal is None else None, at_least=True),
        ]
    for chips, items in ((5, 200), (20, 200), (59, 50)):
        name = f"yield of the population, {chips} × {items}: bound above the truth"
        rows.append(Row(name, yield_bound(chips, items, fewer), "%", 6.0))
    rows.append(Row("McNemar pooled over 5 chips (not used): false alarms", pooled_mcnemar(fewer), "%"))
    return rows


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Command line: a table, or JSON; --studies for a quick look."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = command_line("Calibration of the sign-off's statistics by simulation.", globals(), words)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(words)
    rows = measure(options.studies)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        show(f"Calibration over {options.studies:,} simulated studies a regime", rows)
    return rows


if __name__ == "__main__":
    main()
