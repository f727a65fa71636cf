"""A task says what is scored, a text or questions, and which loss is still acceptable."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aimc_sim.evaluate.text import FileText, SelfText
from aimc_sim.spec import Spec

Metric = Literal["kl", "loss"]


class TextTask(Spec):
    """A text task scores a text by the built-in metrics: a screening, not a benchmark.

    context: tokens a window; batch: windows a forward. metric: "kl", the divergence from the digital model, or "loss",
    the increase of its negative log-likelihood; margin_nats per token.
    """

    kind: Literal["text"] = "text"
    label: str = Field(default="text", min_length=1)
    text: FileText | SelfText = Field(discriminator="kind")
    context: int = Field(ge=2)
    batch: int = Field(ge=1)
    metric: Metric = "kl"
    margin_nats: float = Field(ge=0)

    @property
    def margin(self) -> float:
        """The largest acceptable loss, nats per token."""
        return self.margin_nats


class HarnessTask(Spec):
    """A harness task asks the questions of a task of lm-evaluation-harness, marked right or wrong by it.

    task: its name there; questions_id: of what is asked and how it is marked, by content, and questions how many;
    configuration: the harness's version and what it marks by, rows aside, which is in that id too, to name what has
    changed; limit, num_fewshot: as they were asked for. metric: of the harness, higher being better; margin: the
    largest loss of it, as a share. batch: tokens a forward.
    """

    kind: Literal["harness"] = "harness"
    label: str = Field(min_length=1)
    task: str = Field(min_length=1)
    questions_id: str = Field(pattern="^[0-9a-f]{16}$")
    configuration: str | None = None
    questions: int = Field(ge=1)
    limit: int | None = Field(default=None, ge=1)
    num_fewshot: int | None = Field(default=None, ge=0)
    metric: str = Field(default="acc", min_length=1)
    batch: int = Field(default=1024, ge=1)
    margin: float = Field(ge=0, le=1)


AnyTask = TextTask | HarnessTask
