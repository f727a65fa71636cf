"""What a result measured, whatever its task: losses by item, figures by row of a report, and how they are written.

A text gives sums over windows (nll, kl, agree); a task with right and wrong answers gives `acc` (0 or 1) a question and
`choice`, the answer chosen. Verdict and report see only what is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.report import words
from aimc_sim.signoff.design.tasks import HarnessTask, TextTask
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.results import AnswersResult, Result, TextResult, floats
from aimc_sim.signoff.execution.scores import TrialScores
from aimc_sim.signoff.report.answer_flips import flips_of, flips_of_one, same_answers
from aimc_sim.signoff.statistics import Components, Estimate, estimate, paired


@dataclass(frozen=True)
class Measure:
    """A measure says how the loss that a verdict is about is shown.

    key: of its figures in the rows of a report. short: its name on an axis. one, many: the unit in words, of which a
    number in the report's data holds 1 / scale; unit: of such a number. item: what it is a mean over.
    """

    key: str
    short: str
    one: str
    many: str
    item: str
    unit: str
    scale: float = 1.0

    def units(self, shown: str | float) -> str:
        """Write the unit in words after a number as it is shown."""
        return self.one if shown in (1, "1") else self.many

    def write(self, value: float | None) -> str:
        """Write a number of the report's data in the unit in words."""
        return words.sig(None if value is None else self.scale * value)

    def limit(self, margin: float) -> str:
        """Write a margin, as it was given."""
        return f"{self.scale * margin:g}"

    def span(self, bounds: Sequence[float | None]) -> str:
        """Write two bounds in the unit in words; empty where one is missing."""
        return words.interval(bounds, scale=self.scale)


@dataclass(frozen=True)
class Column:
    """A column shows one figure of the results. write: how its numbers are written."""

    key: str
    title: str
    write: Callable[[float | None], str]


NATS = ("nat per token", "nats per token", "window", "nats per token")
KL = Measure("kl_nats", "KL divergence", *NATS)
LOSS = Measure("loss_increase_nats", "Loss increase", *NATS)
POINTS = ("percentage point", "percentage points", "question", "share of questions")
ACCURACY = Measure("loss", "Loss of accuracy", *POINTS, scale=100.0)
TEXT_COLUMNS = (
    Column("perplexity", "Perplexity", words.perplexity),
    Column("kl_nats", "KL, nats", words.divergence),
    Column("agreement", "Top-1 agreement", words.percent),
)
ANSWER_COLUMNS = (
    Column("acc", "Accuracy", words.percent),
    Column("loss", "Loss, points", words.points),
    Column("agreement", "Same answers", words.percent),
)


def measure_of(metric: str) -> Measure:
    """Return the measure of a metric: "kl", "loss", or any that is right or wrong."""
    return {"kl": KL, "loss": LOSS}.get(metric, ACCURACY)


def loss_in_words(metric: str) -> str:
    """Name a loss by that metric, for a sentence."""
    mark = "accuracy" if metric == "acc" else metric
    of_texts = {
        "kl": "KL divergence from the digital model",
        "loss": "increase of the loss over the digital model",
    }
    return of_texts.get(metric, f"loss of {mark} against the digital model")


def columns_of(metric: str) -> tuple[Column, ...]:
    """Return the columns of the results of a task with that metric."""
    return ANSWER_COLUMNS if measure_of(metric) is ACCURACY else TEXT_COLUMNS


@dataclass(frozen=True)
class Figure:
    """A figure is a mean over chips and items. components: None where the figure is derived from another."""

    mean: float
    interval: tuple[float, float]
    components: Components | None = None

    @classmethod
    def of(cls, estimate: Estimate, low: float = -math.inf, high: float = math.inf) -> Figure:
        """Return an estimate of a figure that lies within bounds."""
        first, last = estimate.interval
        unknown = math.isinf(first) and math.isinf(last)
        bounded = (first, last) if unknown else (min(max(first, low), high), min(max(last, low), high))
        return cls(estimate.mean, bounded, estimate.components)


class Figures(Protocol):
    """Figures give a report what it needs from a result."""

    measure: Measure

    def row(self, trial: Trial) -> dict[str, float | None]:
        """Return figures of one trial over all items."""

    def at(self, time_s: float) -> dict[str, Figure]:
        """Return figures over all chips at one time."""

    def about(self) -> dict[str, Any]:
        """Say what was scored: the part of a report's document that says so."""

    def by_item(self) -> dict[str, Any]:
        """Return scores of every item: what a later comparison pairs on."""

    def flips(self, time_s: float, seed: int) -> dict[str, Any] | None:
        """Count answers that differ from the digital model's at one time, JSON-ready; None where nothing is right or
        wrong. seed: of the chip whose test is shown.
        """


def figures_of(result: Result) -> Figures:
    """Return the figures of a result, by what its scores are."""
    return AnswerFigures(result) if isinstance(result, AnswersResult) else TextFigures(result)


class TextFigures:
    """These are the figures of a text, in windows."""

    def __init__(self, result: TextResult) -> None:
        self.measure, self._result = measure_of(result.part.task.metric), result
        self._windows, self._digital = result.windows, result.digital

    def row(self, trial: Trial) -> dict[str, float | None]:
        scores = self._result.scores[trial]
        return {
            "perplexity": scores.perplexity,
            "loss_nats": scores.loss,
            "loss_increase_nats": scores.loss - self._digital.loss,
            "kl_nats": scores.kl_nats,
            "agreement": scores.agreement,
        }

    def at(self, time_s: float) -> dict[str, Figure]:
        result = self._result
        chips = [result.chip(seed, time_s) for seed in result.part.seeds]
        # Real numbers, and no marks.
        kl, loss, agree = (
            paired([result.per_token(chip, key) for chip in chips], 0.0, result.tokens)
            for key in ("kl", "nll", "agree")
        )
        # The interval of the perplexity is about what the chip adds on this text, not about how hard the text is.
        low, high = (_exp(self._digital.loss + bound) for bound in loss.interval)
        return {
            "perplexity": Figure(_exp(self._digital.loss + loss.mean), (low, high)),
            "kl_nats": Figure.of(kl, low=0.0),
            "loss_increase_nats": Figure.of(loss),
            "agreement": Figure.of(agree, 0.0, 1.0),
        }

    def about(self) -> dict[str, Any]:
        task = self._result.part.task
        assert isinstance(task, TextTask)
        return {
            "text": {
                "id": self._windows.id,
                "windows": len(self._windows),
                "scored_tokens": self._windows.scored_tokens,
                "description": describe_text(task),
            }
        }

    def by_item(self) -> dict[str, Any]:
        def sums(scores: WindowScores) -> dict[str, Any]:
            assert scores.kl is not None
            assert scores.agree is not None
            return {"nll": scores.nll.tolist(), "kl": scores.kl.tolist(), "agree": scores.agree.tolist()}

        return {"windows": {"tokens": self._digital.tokens.tolist(), **_by_trial(self._result.scores, sums)}}

    def flips(self, time_s: float, seed: int) -> None:
        """Return None: a text has no right and wrong answers; how many tokens flip is in the agreement."""


class AnswerFigures:
    """These are the figures of questions, marked right or wrong."""

    measure = ACCURACY

    def __init__(self, result: AnswersResult) -> None:
        self._result = result

    def row(self, trial: Trial) -> dict[str, float | None]:
        scores = self._result.scores[trial]
        flips = flips_of_one(scores, self._result.digital)
        return {
            **{name: float(floats(scores, name).mean()) for name in self._marks},
            "loss": float(self._result.lost(scores).mean()),
            "agreement": float(same_answers(scores, self._result.digital).mean()),
            **flips,
        }

    def at(self, time_s: float) -> dict[str, Figure]:
        result = self._result
        chips = [result.chip(seed, time_s) for seed in result.part.seeds]
        marks = {name: estimate([floats(chip, name) for chip in chips], marks=True) for name in self._marks}
        loss = paired([result.lost(chip) for chip in chips], 0.0, marks=True)
        same = estimate([same_answers(chip, result.digital) for chip in chips])
        return {
            **{name: Figure.of(found) for name, found in marks.items()},
            "loss": Figure.of(loss),
            "agreement": Figure.of(same, 0.0, 1.0),
        }

    def about(self) -> dict[str, Any]:
        task = self._result.part.task
        assert isinstance(task, HarnessTask)
        return {
            "questions": {
                "id": task.questions_id,
                "count": task.questions,
                "description": describe_questions(task),
                "examples": list(self._result.examples),
            }
        }

    def by_item(self) -> dict[str, Any]:
        return {"answers": _by_trial(self._result.scores, TrialScores.to_json)}

    def flips(self, time_s: float, seed: int) -> dict[str, Any] | None:
        chips = {each: self._result.chip(each, time_s) for each in self._result.part.seeds}
        return flips_of(self._result.digital, chips, self._result.examples, time_s, seed)

    @property
    def _marks(self) -> list[str]:
        """Names of the metrics: `acc`, which decides, and any other one."""
        return [name for name in self._result.digital.values if name != "choice"]


def describe_questions(task: HarnessTask) -> str:
    """Say what was asked, in words."""
    shots = "" if task.num_fewshot is None else f", with {task.num_fewshot} worked examples each"
    limit = "" if task.limit is None else f" (at most {task.limit:,} of each of its parts)"
    many = "question" if task.questions == 1 else "questions"
    return f"{task.questions:,} {many} of {task.task}{limit}{shots}, marked by {task.metric}"


def describe_text(task: TextTask) -> str:
    """Say what was scored, in words."""
    text = task.text
    if text.kind == "self":
        return (
            f"{text.sequences} samples of {text.length} tokens from the digital model itself "
            f"(temperature {text.temperature:g}, seed {text.seed})"
        )
    limit = f", its first {text.limit_tokens:,} tokens" if text.limit_tokens else ""
    return f"{text.name}{limit}, in windows of {task.context:,} tokens"


def _by_trial(scores: Mapping[Trial, Any], lists: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    return {
        "digital": lists(scores[Trial("digital")]),
        "converters_only": lists(scores[Trial("converters")]),
        "chips": [
            {"seed": trial.seed, "time_s": trial.time_s, **lists(found)}
            for trial, found in scores.items()
            if trial.kind == "chip"
        ],
    }


def _exp(value: float) -> float:
    return math.exp(value) if value < 709.0 else math.inf
