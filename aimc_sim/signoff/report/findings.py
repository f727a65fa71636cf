"""What a finished study says about each of its parts: verdict, yields, lifetime, and where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from aimc_sim.signoff.execution.results import Result
from aimc_sim.signoff.execution.run import Study
from aimc_sim.signoff.report.figures import Figures, figures_of
from aimc_sim.signoff.report.judgement import AtTime, Judgement, among_tasks, at_times, decide
from aimc_sim.signoff.statistics import (
    Lifetime,
    PopulationYield,
    YieldInterval,
    chips_needed,
    holm,
    lifetime,
    population_yield,
    yield_interval,
)

CLAIMS = (0.9, 0.95)


@dataclass(frozen=True)
class Findings:
    """Findings say what was seen of one task on one hardware.

    passed: the verdict's, after Holm's correction over the tasks of the same hardware (p_holm). p_value: of the gate at
    its worst time. on_items, population: yields at the worst time. decision: how the looks ended; "fixed" without any.
    """

    result: Result
    figures: Figures
    times: tuple[AtTime, ...]
    verdict: Judgement
    passed: bool
    p_value: float
    p_holm: float
    on_items: YieldInterval
    population: PopulationYield
    worst_seed: int
    lifetime: Lifetime
    decision: str

    @property
    def summary(self) -> str:
        """The verdict in a sentence."""
        late = self.verdict.passed and not self.passed
        return among_tasks(self.result.part, self.verdict) if late else self.verdict.summary

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, JSON-ready, keys in a fixed order; None where a number does not exist."""
        on_items, everywhere, ages = self.on_items, self.population, self.lifetime
        return {
            "hardware": self.result.part.variant.label,
            "task": self.result.part.task.label,
            "pass": self.passed,
            "decision": self.decision,
            "chips": len(self.result.part.seeds),
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "yield_on_these_items": {
                "passes": on_items.passes,
                "chips": on_items.chips,
                "share": on_items.share,
                "interval_95": list(on_items.interval),
                "lower_bound_95": on_items.lower,
            },
            "yield_of_the_population": {
                "share": everywhere.share,
                "lower_bound_95": everywhere.lower,
                "loss_of_95_percent_of_chips": everywhere.percentile_95,
                "caveat": everywhere.caveat,
            },
            "chips_needed": {f"{claim:g}": chips_needed(claim) for claim in CLAIMS},
            "worst_chip": {"seed": self.worst_seed, "loss": everywhere.worst},
            "lifetime": {
                "crossed_s": ages.crossed_s,
                "shown_s": ages.shown_s,
                "interval_s": [ages.low_s, ages.high_s],
                "alpha": ages.alpha,
                "first_s": ages.first_s,
                "last_s": ages.last_s,
                "chips_s": list(ages.chips_s),
            },
            "looks": [
                {"chips": look.chips, "alpha": look.alpha, "outcome": look.outcome}
                for look in self.result.looks
            ],
        }


def findings_of(study: Study) -> tuple[Findings, ...]:
    """Make the findings of every part. Tasks of one hardware are corrected together; each hardware is a question of
    its own.
    """
    parts = [alone(result) for result in study.results]
    if study.plan.looks is not None:  # they share the error out among the tasks beforehand (plan.look_alphas)
        return tuple(parts)
    adjusted: dict[int, float] = {}
    for variant in study.plan.variants:
        mine = [at for at, part in enumerate(parts) if part.result.part.variant.label == variant.label]
        adjusted |= zip(mine, holm([parts[at].p_value for at in mine]), strict=True)
    return tuple(
        replace(part, p_holm=adjusted[at], passed=part.passed and adjusted[at] <= study.plan.alpha)
        for at, part in enumerate(parts)
    )


def alone(result: Result) -> Findings:
    """Make the findings of one result by itself: nothing to correct for."""
    figures, part = figures_of(result), result.part
    times = at_times(result, figures)
    last = result.looks[-1].outcome if result.looks else "fixed"
    verdict = decide(part, times, undecidable=last == "undecidable")
    p_value = max(at.gate.p_value for at in times)  # of passing at all times (intersection-union)
    loss, margin, (losses, weights) = verdict.worst.gate.loss, part.task.margin, result.losses()
    means = loss.chip_means
    return Findings(
        result,
        figures,
        times,
        verdict,
        passed=verdict.passed and (bool(result.looks) or p_value <= part.alpha),
        p_value=p_value,
        p_holm=p_value,
        on_items=yield_interval(sum(mean <= margin for mean in means), len(means)),
        population=population_yield(loss, margin),
        worst_seed=part.seeds[max(range(len(means)), key=lambda chip: means[chip])],
        lifetime=lifetime(
            part.times_s, losses, margin, weights=weights, alpha=part.alpha, marks=weights is None
        ),
        decision=last,
    )
