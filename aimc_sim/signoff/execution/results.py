"""What a finished plan holds of one task on one hardware."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.evaluate.windows import Windows
from aimc_sim.signoff.design.plan import AnswersPart, Cell, Part, TextPart
from aimc_sim.signoff.execution.layers import Layers
from aimc_sim.signoff.execution.tasks import CellScores, Json, window_scores, windows_from_json
from aimc_sim.signoff.statistics import Look

if TYPE_CHECKING:
    from aimc_sim.torch_bridge.coverage import Coverage


EXAMPLE_KEYS = ("id", "question", "choices", "answer")


@dataclass(frozen=True)
class _Result:
    """What any task on one hardware has. timings: seconds, the only part that differs when it is run twice. looks: what
    each look said, where the plan has several. layers: noise and saturation by matrix (`signoff.layers`), None where no
    cell has told them."""

    coverage: Coverage
    timings: dict[str, float] = field(compare=False)
    variant: str = ""
    task: str = ""
    looks: tuple[Look, ...] = ()
    layers: Layers | None = None


@dataclass(frozen=True, kw_only=True)
class TextResult(_Result):
    """Scores of a text on one hardware; the plan names its converter ranges."""

    plan: TextPart
    windows: Windows
    scores: dict[Cell, WindowScores]

    @property
    def digital(self) -> WindowScores:
        """Scores of the digital model."""
        return self.scores[Cell("digital")]

    @property
    def converters(self) -> WindowScores:
        """Scores of the same converters around ideal cells."""
        return self.scores[Cell("converters")]

    def chip(self, seed: int, time_s: float) -> WindowScores:
        """Scores of one chip at one time."""
        return self.scores[Cell("chip", seed, time_s)]


@dataclass(frozen=True, kw_only=True)
class AnswersResult(_Result):
    """Marks of questions on one hardware: arrays over questions, ``acc`` by the plan's metric, ``choice``, and more.

    examples: the questions as people read them: ``id``, ``question``, ``choices``, ``answer``.
    """

    plan: AnswersPart
    examples: tuple[dict[str, Any], ...]
    scores: dict[Cell, CellScores]

    @property
    def digital(self) -> CellScores:
        """Marks of the digital model."""
        return self.scores[Cell("digital")]

    @property
    def converters(self) -> CellScores:
        """Marks of the same converters around ideal cells."""
        return self.scores[Cell("converters")]

    def chip(self, seed: int, time_s: float) -> CellScores:
        """Marks of one chip at one time."""
        return self.scores[Cell("chip", seed, time_s)]


Result = TextResult | AnswersResult


def result_of(part: Part, items: Json, scores: dict[Cell, CellScores], shared: dict[str, Any]) -> Result:
    """The result of a part from its items and the scores of its cells. shared: fields that every result has."""
    if isinstance(part, AnswersPart):
        # In this order, whether a journal has sorted the keys or not.
        examples = tuple({key: each[key] for key in EXAMPLE_KEYS} for each in items["examples"])
        return AnswersResult(plan=part, examples=examples, scores=scores, **shared)
    windows = windows_from_json(items)
    of_windows = {cell: window_scores(each, windows) for cell, each in scores.items()}
    return TextResult(plan=part, windows=windows, scores=of_windows, **shared)
