"""Statistics of a sign-off: means over chips and items, gates, yields, lifetimes, when to stop, and how much is needed.

    crossed      estimate, paired: score = mean + chip + item + interaction
    gate         non_inferior: is the loss shown to stay within the margin?
    rates        intervals of right/wrong scores and of flips, which a Student t would misjudge near 0 and 1
    flips        exact McNemar test of one chip; Holm's correction over tasks
    yields       share of chips that pass: on this item set, and of the population
    lifetime     when the bar is crossed
    sequential   looks at fixed numbers of chips, with alpha spending
    power        chips and items that a margin needs

Coverage, error and width of all of it, by simulation with known truth: `python -m benchmarks.signoff`.
"""

from __future__ import annotations

from aimc_sim.signoff.statistics.crossed import (
    Components,
    Estimate,
    estimate,
    paired,
)
from aimc_sim.signoff.statistics.flips import McNemar, holm, mcnemar
from aimc_sim.signoff.statistics.gate import NonInferiority, non_inferior
from aimc_sim.signoff.statistics.lifetime import Lifetime, lifetime
from aimc_sim.signoff.statistics.power import Expected, Need, needed, power
from aimc_sim.signoff.statistics.sequential import Look, alpha_of_looks, look_at
from aimc_sim.signoff.statistics.yields import (
    PopulationYield,
    YieldInterval,
    chips_needed,
    population_yield,
    yield_interval,
)

__all__ = [
    "Components", "Estimate", "Expected", "Lifetime", "Look", "McNemar", "Need", "NonInferiority", "PopulationYield",
    "YieldInterval", "alpha_of_looks", "chips_needed", "estimate", "holm", "lifetime", "look_at", "mcnemar", "needed",
    "non_inferior", "paired", "population_yield", "power", "yield_interval",
]  # fmt: skip
