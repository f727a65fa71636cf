"""What a finished plan holds of one task on one hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.evaluate.windows import Windows
from aimc_sim.signoff.design.part import Part
from aimc_sim.signoff.design.tasks import HarnessTask
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.layers import Layers
from aimc_sim.signoff.execution.scores import Json, TrialScores
from aimc_sim.signoff.execution.texts import window_scores, windows_from_json
from aimc_sim.signoff.statistics.sequential import Look

if TYPE_CHECKING:
    from aimc_sim.torch_bridge.coverage import Coverage


EXAMPLE_KEYS = ("id", "question", "choices", "answer")
Scores = TypeVar("Scores", WindowScores, TrialScores)


@dataclass(frozen=True, kw_only=True)
class _Result(Generic[Scores]):
    """A result holds what any task on one hardware has. scores: of the digital model, the converters around ideal
    cells, and chips.

    timings: seconds, the only part that differs when it is run twice. looks: what each look said, where the plan has
    several. layers: noise and saturation by matrix (`execution.layers`), None where no trial has told them.
    scored_by: the code behind the scores, where it is not the code that runs.
    """

    part: Part
    scores: dict[Trial, Scores]
    coverage: Coverage
    timings: dict[str, float] = field(compare=False)
    looks: tuple[Look, ...] = ()
    layers: Layers | None = None
    scored_by: str | None = None

    @property
    def digital(self) -> Scores:
        """Scores of the digital model."""
        return self.scores[Trial("digital")]

    @property
    def converters(self) -> Scores:
        """Scores of the same converters around ideal cells."""
        return self.scores[Trial("converters")]

    def chip(self, seed: int, time_s: float) -> Scores:
        """Return scores of one chip at one time."""
        return self.scores[Trial("chip", seed, time_s)]

    def _of_chips(self, loss: Callable[[Scores], F64]) -> F64:
        """Stack what chips give at each time: (times, chips, items)."""
        part = self.part
        return np.array([[loss(self.chip(seed, time_s)) for seed in part.seeds] for time_s in part.times_s])


@dataclass(frozen=True, kw_only=True)
class TextResult(_Result[WindowScores]):
    """This result holds the scores of a text on one hardware; its part names the converter ranges."""

    windows: Windows

    def losses(self) -> tuple[F64, F64 | None]:
        """Give losses (times, chips, windows) by the task's metric, nats per token; weights (windows,) of the mean."""
        key = "kl" if self.part.task.metric == "kl" else "nll"
        return self._of_chips(lambda chip: self.per_token(chip, key)), self.tokens

    @property
    def tokens(self) -> F64:
        """(windows,) how many are scored."""
        return self.digital.tokens.astype(np.float64)

    def per_token(self, scores: WindowScores, key: str) -> F64:
        """Divide a score by the windows' tokens, (windows,): of nll what it is above the digital model's."""
        values = {"kl": scores.kl, "agree": scores.agree, "nll": scores.nll - self.digital.nll}[key]
        assert values is not None
        return np.asarray(values / self.tokens, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class AnswersResult(_Result[TrialScores]):
    """This result holds the marks of questions on one hardware: arrays over questions, ``acc`` by the task's metric,
    ``choice``, and more.

    examples: the questions as people read them: ``id``, ``question``, ``choices``, ``answer``.
    """

    examples: tuple[dict[str, Any], ...]

    def losses(self) -> tuple[F64, F64 | None]:
        """Give losses (times, chips, questions) as marks; no weights."""
        return self._of_chips(self.lost), None

    def lost(self, scores: TrialScores) -> F64:
        """Take these marks off the digital model's: (questions,)."""
        return floats(self.digital, "acc") - floats(scores, "acc")


Result = TextResult | AnswersResult


def floats(scores: TrialScores, name: str) -> F64:
    """Give one of the scores as (items,) float64."""
    return np.asarray(scores.values[name], dtype=np.float64)


def result_of(part: Part, items: Json, scores: dict[Trial, TrialScores], shared: dict[str, Any]) -> Result:
    """Make the result of a part from its items and the scores of its trials. shared: fields that every result has."""
    if isinstance(part.task, HarnessTask):
        # In this order, whether a journal has sorted the keys or not.
        examples = tuple({key: each[key] for key in EXAMPLE_KEYS} for each in items["examples"])
        return AnswersResult(part=part, examples=examples, scores=scores, **shared)
    windows = windows_from_json(items)
    of_windows = {trial: window_scores(each, windows) for trial, each in scores.items()}
    return TextResult(part=part, windows=windows, scores=of_windows, **shared)
