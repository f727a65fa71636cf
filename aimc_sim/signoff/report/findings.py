"""What a finished study says about each of its parts: verdict, yields, lifetime, and where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aimc_sim.signoff.execution.results import Result
from aimc_sim.signoff.execution.run import Study
from aimc_sim.signoff.report.figures import Figures, figures_of
from aimc_sim.signoff.report.verdict import AtTime, Verdict, among_tasks, at_times, decide
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
    """One task on one hardware.

    passed: the verdict's, after Holm's correction over the tasks of the same hardware (p_holm). p_value: of the gate at
    its worst time. on_items, population: yields at the worst time. decision: how the looks ended; "fixed" without any.
    """

    result: Result
    figures: Figures
    times: tuple[AtTime, ...]
    verdict: Verdict
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
        """JSON-ready, keys in a fixed order; None where a number does not exist."""
        here, all_ = self.on_items, self.population
        return {
            "hardware": self.result.part.variant.label,
            "task": self.result.part.task.label,
            "pass": self.passed,
            "decision": self.decision,
            "chips": len(self.result.part.seeds),
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "yield_on_these_items": {
                "passes": here.passes,
                "chips": here.chips,
                "share": here.share,
                "interval_95": list(here.interval),
                "lower_bound_95": here.lower,
            },
            "yield_of_the_population": {
                "share": all_.share,
                "lower_bound_95": all_.lower,
                "loss_of_95_percent_of_chips": all_.percentile_95,
                "caveat": all_.caveat,
            },
            "chips_needed": {f"{claim:g}": chips_needed(claim) for claim in CLAIMS},
            "worst_chip": {"seed": self.worst_seed, "loss": all_.worst},
            "lifetime": lifetime_json(self.lifetime),
            "looks": [
                {"chips": look.chips, "alpha": look.alpha, "outcome": look.outcome}
                for look in self.result.looks
            ],
        }


def findings_of(study: Study) -> tuple[Findings, ...]:
    """Findings of every part. Tasks of one hardware are corrected together; each hardware is a question of its own."""
    drafts = [(result, *_judged(result)) for result in study.results]
    adjusted: dict[int, float] = {}
    for variant in study.plan.variants:
        mine = [i for i, draft in enumerate(drafts) if draft[0].part.variant.label == variant.label]
        # Looks share the error out among the tasks beforehand (plan.look_alphas), so that nothing is left to correct.
        p_values = [_p_value(drafts[i][2]) for i in mine]
        adjusted |= zip(mine, p_values if study.plan.looks else holm(p_values), strict=True)
    alpha, looks = study.plan.alpha, study.plan.looks is not None
    return tuple(_findings(*draft, adjusted[i], alpha, looks) for i, draft in enumerate(drafts))


def _p_value(times: tuple[AtTime, ...]) -> float:
    """Of passing at all times (intersection-union): the largest."""
    return max(at.gate.p_value for at in times)


def _judged(result: Result) -> tuple[Figures, tuple[AtTime, ...], Verdict]:
    figures = figures_of(result)
    times = at_times(result, figures)
    undecidable = bool(result.looks) and result.looks[-1].outcome == "undecidable"
    return figures, times, decide(result.part, times, undecidable)


def _findings(
    result: Result,
    figures: Figures,
    times: tuple[AtTime, ...],
    verdict: Verdict,
    p_holm: float,
    alpha: float,
    looks: bool,
) -> Findings:
    part, margin, worst = result.part, result.part.task.margin, verdict.worst
    means = worst.gate.loss.chip_means
    losses, weights = result.losses()
    passed = verdict.passed and (looks or p_holm <= alpha)
    return Findings(
        result,
        figures,
        times,
        verdict,
        passed,
        _p_value(times),
        p_holm,
        yield_interval(sum(mean <= margin for mean in means), len(means)),
        population_yield(worst.gate.loss, margin),
        part.seeds[max(range(len(means)), key=lambda chip: means[chip])],
        lifetime(part.times_s, losses, margin, weights=weights, alpha=part.alpha, marks=weights is None),
        result.looks[-1].outcome if result.looks else "fixed",
    )


def alone(result: Result) -> Findings:
    """Findings of one result by itself: nothing to correct for."""
    figures, times, verdict = _judged(result)
    return _findings(result, figures, times, verdict, _p_value(times), result.part.alpha, bool(result.looks))


def lifetime_json(found: Lifetime) -> dict[str, Any]:
    """A lifetime as plain data."""
    return {
        "crossed_s": found.crossed_s,
        "shown_s": found.shown_s,
        "interval_s": [found.low_s, found.high_s],
        "alpha": found.alpha,
        "first_s": found.first_s,
        "last_s": found.last_s,
        "chips_s": list(found.chips_s),
    }
