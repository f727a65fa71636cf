"""From scores to figures and a verdict: means with intervals at every time, and the gate at the worst one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.signoff.plan import Part
from aimc_sim.signoff.run import Result
from aimc_sim.signoff.statistics import Estimate, NonInferiority, estimate, non_inferior
from aimc_sim.signoff.words import nats, sig, spoken

Floats = npt.NDArray[np.float64]
METRICS = {
    "kl": "KL divergence from the digital model",
    "loss": "increase of the loss over the digital model",
}


@dataclass(frozen=True)
class AtTime:
    """All chips at one time. kl and loss_increase in nats per token, agreement a share of tokens.

    perplexity: geometric mean over chips; its interval is the digital perplexity × exp(interval of the loss increase),
    so it is about what the chip adds on this text, not about how hard the text is.
    """

    time_s: float
    kl: Estimate
    loss_increase: Estimate
    agreement: Estimate
    perplexity: float
    perplexity_interval: tuple[float, float]
    chips: tuple[WindowScores, ...]
    gate: NonInferiority


@dataclass(frozen=True)
class Verdict:
    """Pass if at every listed time the one-sided upper bound of the mean effect is at most the margin.

    Passing at all times is passing at the worst, so several times need no correction (an intersection-union test).
    """

    passed: bool
    worst: AtTime
    summary: str


def at_times(result: Result) -> tuple[AtTime, ...]:
    """Figures of every listed time, in order."""
    return tuple(_at_time(result, time_s) for time_s in result.plan.times_s)


def decide(plan: Part, times: tuple[AtTime, ...]) -> Verdict:
    """The verdict over all times, decided by the one with the highest bound."""
    worst = max(times, key=lambda at: (at.gate.bound, at.gate.loss.mean))
    return Verdict(worst.gate.passed, worst, _summary(plan, times, worst))


def effect(plan: Part, at: AtTime) -> Estimate:
    """The estimate that the plan's metric decides on."""
    return at.kl if plan.metric == "kl" else at.loss_increase


def losses_of(result: Result) -> tuple[Floats, Floats]:
    """Losses (times, chips, windows) by the plan's metric, nats per token; tokens (windows,), which weigh them."""
    plan, digital = result.plan, result.digital
    tokens = digital.tokens.astype(np.float64)

    def loss(seed: int, time_s: float) -> Floats:
        chip = result.chip(seed, time_s)
        assert chip.kl is not None
        return chip.kl / tokens if plan.metric == "kl" else (chip.nll - digital.nll) / tokens

    return np.array([[loss(seed, time_s) for seed in plan.seeds] for time_s in plan.times_s]), tokens


def _at_time(result: Result, time_s: float) -> AtTime:
    plan, digital = result.plan, result.digital
    chips = tuple(result.chip(seed, time_s) for seed in plan.seeds)
    tokens = digital.tokens.astype(np.float64)
    kl = np.stack([chip.kl for chip in chips if chip.kl is not None]) / tokens
    loss = (np.stack([chip.nll for chip in chips]) - digital.nll) / tokens
    agree = np.stack([chip.agree for chip in chips if chip.agree is not None]) / tokens
    increase = estimate(loss, tokens)
    low, high = (_exp(digital.loss + bound) for bound in increase.interval)
    gate = non_inferior(
        kl if plan.metric == "kl" else loss,
        0.0,
        plan.margin_nats,
        plan.alpha,
        higher_is_better=False,
        weights=tokens,
    )
    return AtTime(
        time_s,
        estimate(kl, tokens),
        increase,
        estimate(agree, tokens),
        _exp(digital.loss + increase.mean),
        (low, high),
        chips,
        gate,
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 709.0 else math.inf


def _summary(plan: Part, times: tuple[AtTime, ...], worst: AtTime) -> str:
    """One plain sentence that stands on its own."""
    mean, bound = sig(worst.gate.loss.mean), sig(worst.gate.bound)
    margin, when = f"{plan.margin_nats:g}", "after " + spoken(worst.time_s)
    not_shown = f"Not shown to be within the margin of {margin} {nats(plan.margin_nats)} per token"
    among = f", the worst of {len(times)} times," if len(times) > 1 else ""
    what = METRICS[plan.metric]
    if not math.isfinite(worst.gate.bound):
        return (
            f"{not_shown}: {when}{among} the {what} is {mean}, from one chip on one window of text, "
            "which gives no interval. Use more chips or more text."
        )
    if worst.gate.passed:
        return (
            f"{when.capitalize()}{among} the mean {what} is {mean} {nats(mean)} per token and with "
            f"{100 * (1 - plan.alpha):g} % confidence at most {bound}: within the margin of {margin}."
        )
    if worst.gate.straddles:
        return (
            f"{not_shown}: {when}{among} the mean {what} is {mean}, but it may be as high as {bound}. "
            "More chips or more text could still decide."
        )
    return (
        f"{when.capitalize()}{among} the mean {what} is {mean} {nats(mean)} per token, beyond the margin of {margin} "
        "even at the low end of its interval."
    )
