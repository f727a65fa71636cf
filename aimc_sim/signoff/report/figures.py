"""What a result measured, whatever its task: losses by item, figures by row of a report, and how they are written.

A text gives sums over windows (nll, kl, agree); a task with right and wrong answers gives `acc` (0 or 1) a question and
`choice`, the answer chosen. Verdict and report see only what is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.signoff.design.plan import AnswersPart, Cell, Part, TextPart
from aimc_sim.signoff.execution.results import AnswersResult, Result, TextResult
from aimc_sim.signoff.execution.tasks import CellScores
from aimc_sim.signoff.report.answer_flips import flips_of, flips_of_one, same_answers
from aimc_sim.signoff.statistics import Components, Estimate, estimate, paired

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """How a loss that a verdict is about is shown.

    key: of its figures in the rows of a report. short: its name on an axis. one, many: the unit in words, of which a
    number in the report's data holds 1 / scale. item: what it is a mean over.
    """

    key: str
    short: str
    one: str
    many: str
    item: str
    scale: float = 1.0

    def units(self, shown: str | float) -> str:
        """The unit in words after a number as it is shown."""
        return self.one if shown in (1, "1") else self.many


@dataclass(frozen=True)
class Column:
    """A column of the results. kind: how its numbers are written ("perplexity", "kl", "percent", "points")."""

    key: str
    title: str
    kind: str


NATS = ("nat per token", "nats per token", "window")
KL = Measure("kl_nats", "KL divergence", *NATS)
LOSS = Measure("loss_increase_nats", "Loss increase", *NATS)
ACCURACY = Measure("loss", "Loss of accuracy", "percentage point", "percentage points", "question", 100.0)
TEXT_COLUMNS = (
    Column("perplexity", "Perplexity", "perplexity"),
    Column("kl_nats", "KL, nats", "kl"),
    Column("agreement", "Top-1 agreement", "percent"),
)
ANSWER_COLUMNS = (
    Column("acc", "Accuracy", "percent"),
    Column("loss", "Loss, points", "points"),
    Column("agreement", "Same answers", "percent"),
)


def measure_of(metric: str) -> Measure:
    """The measure of a metric: "kl", "loss", or any that is right or wrong."""
    return {"kl": KL, "loss": LOSS}.get(metric, ACCURACY)


def columns_of(metric: str) -> tuple[Column, ...]:
    """The columns of the results of a task with that metric."""
    return ANSWER_COLUMNS if measure_of(metric) is ACCURACY else TEXT_COLUMNS


@dataclass(frozen=True)
class Figure:
    """A mean over chips and items. components: None where the figure is derived from another."""

    mean: float
    interval: tuple[float, float]
    components: Components | None = None

    @classmethod
    def of(cls, found: Estimate, low: float = -math.inf, high: float = math.inf) -> Figure:
        """An estimate of a figure that lies within bounds."""
        first, last = found.interval
        unknown = math.isinf(first) and math.isinf(last)
        kept = (first, last) if unknown else (min(max(first, low), high), min(max(last, low), high))
        return cls(found.mean, kept, found.components)


class Figures(Protocol):
    """What a report asks of a result."""

    measure: Measure

    def losses(self) -> tuple[Floats, Floats | None]:
        """Losses (times, chips, items) by the plan's metric, in its unit; weights (items,) of their mean, if any."""

    def row(self, cell: Cell) -> dict[str, float | None]:
        """Figures of one cell over all items."""

    def at(self, time_s: float) -> dict[str, Figure]:
        """Figures over all chips at one time."""

    def about(self) -> dict[str, Any]:
        """What was scored: the part of a report's document that says so."""

    def by_item(self) -> dict[str, Any]:
        """Scores of every item: what a later comparison pairs on."""

    def flips(self, time_s: float, seed: int) -> dict[str, Any] | None:
        """Answers that differ from the digital model's at one time, JSON-ready; None where nothing is right or wrong.
        seed: of the chip whose test is shown."""


def figures_of(result: Result) -> Figures:
    """The figures of a result, by what its scores are."""
    return AnswerFigures(result) if isinstance(result, AnswersResult) else TextFigures(result)


class TextFigures:
    """A text, in windows."""

    def __init__(self, result: TextResult) -> None:
        self.measure, self._result, self._plan = measure_of(result.plan.metric), result, result.plan
        self._windows = result.windows
        self._digital = result.digital
        self._tokens = self._digital.tokens.astype(np.float64)

    def losses(self) -> tuple[Floats, Floats]:
        key = "kl" if self.measure is KL else "nll"
        return _table(self._plan, lambda cell: self._per_token(cell, key)), self._tokens

    def row(self, cell: Cell) -> dict[str, float | None]:
        scores = self._result.scores[cell]
        return {
            "perplexity": scores.perplexity,
            "loss_nats": scores.loss,
            "loss_increase_nats": scores.loss - self._digital.loss,
            "kl_nats": scores.kl_nats,
            "agreement": scores.agreement,
        }

    def at(self, time_s: float) -> dict[str, Figure]:
        chips = [Cell("chip", seed, time_s) for seed in self._plan.seeds]
        kl, loss, agree = (
            paired(
                [self._per_token(cell, key) for cell in chips], 0.0, self._tokens
            )  # real numbers, and no marks
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
        return {
            "text": {
                "id": self._windows.id,
                "windows": len(self._windows),
                "scored_tokens": self._windows.scored_tokens,
                "description": describe_text(self._plan),
            }
        }

    def by_item(self) -> dict[str, Any]:
        def sums(scores: WindowScores) -> dict[str, Any]:
            assert scores.kl is not None
            assert scores.agree is not None
            return {"nll": scores.nll.tolist(), "kl": scores.kl.tolist(), "agree": scores.agree.tolist()}

        return {"windows": {"tokens": self._digital.tokens.tolist(), **_by_cell(self._result.scores, sums)}}

    def flips(self, time_s: float, seed: int) -> None:
        """A text has no right and wrong answers; how many tokens flip is in the agreement."""

    def _per_token(self, cell: Cell, key: str) -> Floats:
        """(windows,) of a score a token; of nll what it is above the digital model's."""
        scores = self._result.scores[cell]
        values = {"kl": scores.kl, "agree": scores.agree, "nll": scores.nll - self._digital.nll}[key]
        assert values is not None
        return np.asarray(values / self._tokens, dtype=np.float64)


class AnswerFigures:
    """Questions, marked right or wrong."""

    measure = ACCURACY

    def __init__(self, result: AnswersResult) -> None:
        self._result, self._plan = result, result.plan
        self._digital = _floats(result.digital, "acc")

    def losses(self) -> tuple[Floats, None]:
        def lost(cell: Cell) -> Floats:
            return self._digital - _floats(self._result.scores[cell], "acc")

        return _table(self._plan, lost), None

    def row(self, cell: Cell) -> dict[str, float | None]:
        scores = self._result.scores[cell]
        flips = flips_of_one(scores, self._result.digital)
        return {
            **{name: float(_floats(scores, name).mean()) for name in self._marks},
            "loss": float((self._digital - _floats(scores, "acc")).mean()),
            "agreement": float(same_answers(scores, self._result.digital).mean()),
            **flips,
        }

    def at(self, time_s: float) -> dict[str, Figure]:
        chips = [self._result.scores[Cell("chip", seed, time_s)] for seed in self._plan.seeds]
        marks = {name: estimate([_floats(chip, name) for chip in chips], marks=True) for name in self._marks}
        loss = paired([self._digital - _floats(chip, "acc") for chip in chips], 0.0, marks=True)
        same = estimate([same_answers(chip, self._result.digital) for chip in chips])
        return {
            **{name: Figure.of(found) for name, found in marks.items()},
            "loss": Figure.of(loss),
            "agreement": Figure.of(same, 0.0, 1.0),
        }

    def about(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "questions": {
                "id": plan.questions_id,
                "count": plan.questions,
                "description": describe_questions(plan),
                "examples": list(self._result.examples),
            }
        }

    def by_item(self) -> dict[str, Any]:
        return {"answers": _by_cell(self._result.scores, CellScores.to_json)}

    def flips(self, time_s: float, seed: int) -> dict[str, Any] | None:
        chips = {each: self._result.scores[Cell("chip", each, time_s)] for each in self._plan.seeds}
        return flips_of(self._result.digital, chips, self._result.examples, time_s, seed)

    @property
    def _marks(self) -> list[str]:
        """Names of the metrics: `acc`, which decides, and any other one."""
        return [name for name in self._result.digital.values if name != "choice"]


def describe_questions(plan: AnswersPart) -> str:
    """What was asked, in words."""
    shots = "" if plan.num_fewshot is None else f", with {plan.num_fewshot} worked examples each"
    limit = "" if plan.limit is None else f" (at most {plan.limit:,} of each of its parts)"
    many = "question" if plan.questions == 1 else "questions"
    return f"{plan.questions:,} {many} of {plan.task}{limit}{shots}, marked by {plan.metric}"


def describe_text(plan: TextPart) -> str:
    """What was scored, in words."""
    text = plan.text
    if text.kind == "self":
        return (
            f"{text.sequences} samples of {text.length} tokens from the digital model itself "
            f"(temperature {text.temperature:g}, seed {text.seed})"
        )
    limit = f", its first {text.limit_tokens:,} tokens" if text.limit_tokens else ""
    return f"{text.name}{limit}, in windows of {plan.context:,} tokens"


def _table(plan: Part, of: Callable[[Cell], Floats]) -> Floats:
    """(times, chips, items) of what one chip gives at one time."""
    return np.array([[of(Cell("chip", seed, time_s)) for seed in plan.seeds] for time_s in plan.times_s])


def _by_cell(scores: Mapping[Cell, Any], lists: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    return {
        "digital": lists(scores[Cell("digital")]),
        "converters_only": lists(scores[Cell("converters")]),
        "chips": [
            {"seed": cell.seed, "time_s": cell.time_s, **lists(found)}
            for cell, found in scores.items()
            if cell.kind == "chip"
        ],
    }


def _floats(scores: CellScores, name: str) -> Floats:
    return np.asarray(scores.values[name], dtype=np.float64)


def _exp(value: float) -> float:
    return math.exp(value) if value < 709.0 else math.inf
