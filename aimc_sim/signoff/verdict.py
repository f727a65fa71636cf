"""From scores to figures and a verdict: means with intervals at every time, and the gate at the worst one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.signoff.plan import METRICS as METRICS
from aimc_sim.signoff.plan import Part, TextPart
from aimc_sim.signoff.results import AnswersResult, Result, TextResult
from aimc_sim.signoff.statistics import Estimate, NonInferiority, estimate, non_inferior
from aimc_sim.signoff.tasks import CellScores
from aimc_sim.signoff.words import nats, sig, spoken

Floats = npt.NDArray[np.float64]


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
class AnswersAtTime:
    """All chips at one time, on questions. figures: means over chips and questions, of ``acc`` (the plan's metric) and
    of every other one."""

    time_s: float
    figures: dict[str, Estimate]
    chips: tuple[CellScores, ...]
    gate: NonInferiority


@dataclass(frozen=True)
class Verdict:
    """Pass if at every listed time the one-sided upper bound of the mean effect is at most the margin.

    Passing at all times is passing at the worst, so several times need no correction (an intersection-union test).
    """

    passed: bool
    worst: AtTime | AnswersAtTime
    summary: str


def at_times(result: Result) -> tuple[AtTime, ...] | tuple[AnswersAtTime, ...]:
    """Figures of every listed time, in order."""
    return answers_at_times(result) if isinstance(result, AnswersResult) else text_at_times(result)


def text_at_times(result: TextResult) -> tuple[AtTime, ...]:
    """Those of a text."""
    return tuple(_at_time(result, time_s) for time_s in result.plan.times_s)


def answers_at_times(result: AnswersResult) -> tuple[AnswersAtTime, ...]:
    """Those of questions."""
    return tuple(_answers_at_time(result, time_s) for time_s in result.plan.times_s)


def decide(plan: Part, times: Sequence[AtTime | AnswersAtTime]) -> Verdict:
    """The verdict over all times, decided by the one with the highest bound."""
    worst = max(times, key=lambda at: (at.gate.bound, at.gate.loss.mean))
    return Verdict(worst.gate.passed, worst, _summary(plan, times, worst))


def effect(plan: Part, at: AtTime | AnswersAtTime) -> Estimate:
    """The estimate that the plan's metric decides on."""
    if isinstance(at, AnswersAtTime) or not isinstance(plan, TextPart):
        return at.gate.loss
    return at.kl if plan.metric == "kl" else at.loss_increase


def losses_of(result: Result) -> tuple[Floats, Floats]:
    """Losses (times, chips, items) by the plan's metric, in its unit; weights (items,): a window's tokens, or 1."""
    if isinstance(result, AnswersResult):
        right = np.asarray(result.digital.values["acc"], np.float64)
        lost = [
            [right - result.chip(seed, time_s).values["acc"] for seed in result.plan.seeds]
            for time_s in result.plan.times_s
        ]
        return np.array(lost), np.ones(len(right))
    plan, digital = result.plan, result.digital
    tokens = digital.tokens.astype(np.float64)

    def loss(seed: int, time_s: float) -> Floats:
        chip = result.chip(seed, time_s)
        assert chip.kl is not None
        return chip.kl / tokens if plan.metric == "kl" else (chip.nll - digital.nll) / tokens

    return np.array([[loss(seed, time_s) for seed in plan.seeds] for time_s in plan.times_s]), tokens


def _answers_at_time(result: AnswersResult, time_s: float) -> AnswersAtTime:
    plan, digital = result.plan, result.digital.values
    chips = tuple(result.chip(seed, time_s) for seed in plan.seeds)
    tables = {name: np.stack([chip.values[name] for chip in chips]) for name in digital if name != "choice"}
    gate = non_inferior(tables["acc"], digital["acc"], plan.margin, plan.alpha)
    return AnswersAtTime(time_s, {name: estimate(table) for name, table in tables.items()}, chips, gate)


def _at_time(result: TextResult, time_s: float) -> AtTime:
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


def _summary(plan: Part, times: Sequence[AtTime | AnswersAtTime], worst: AtTime | AnswersAtTime) -> str:
    """One plain sentence that stands on its own."""
    text = isinstance(plan, TextPart)
    mean, bound = sig(worst.gate.loss.mean), sig(worst.gate.bound)
    margin, when = f"{plan.margin:g}", "after " + spoken(worst.time_s)
    per, more = (f" {nats(mean)} per token", "text") if text else ("", "questions")
    not_shown = f"Not shown to be within the margin of {margin}" + (
        f" {nats(plan.margin)} per token" if text else ""
    )
    among = f", the worst of {len(times)} times," if len(times) > 1 else ""
    what = plan.metric_name
    if not math.isfinite(worst.gate.bound):
        return (
            f"{not_shown}: {when}{among} the {what} is {mean}, from one chip on one "
            f"{'window of text' if text else 'question'}, which gives no interval. Use more chips or more {more}."
        )
    if worst.gate.passed:
        return (
            f"{when.capitalize()}{among} the mean {what} is {mean}{per} and with "
            f"{100 * (1 - plan.alpha):g} % confidence at most {bound}: within the margin of {margin}."
        )
    if worst.gate.straddles:
        return (
            f"{not_shown}: {when}{among} the mean {what} is {mean}, but it may be as high as {bound}. "
            f"More chips or more {more} could still decide."
        )
    return (
        f"{when.capitalize()}{among} the mean {what} is {mean}{per}, beyond the margin of {margin} "
        "even at the low end of its interval."
    )
