"""A part is one task on one hardware of a plan: what a verdict and a report are about."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_serializer

from aimc_sim.identity import canonical, content_id
from aimc_sim.signoff.design.tasks import AnyTask
from aimc_sim.signoff.design.trials import Variant
from aimc_sim.spec import Spec


class Part(Spec):
    """A part is a task on a hardware, over the chips and at the level of the look that ended it; the rest is the
    plan's.
    """

    weights: str
    variant: Variant
    task: AnyTask = Field(discriminator="kind")
    seeds: tuple[int, ...]
    times_s: tuple[float, ...]
    session: int
    alpha: float

    @property
    def id(self) -> str:
        """16 hex digits of what a report holds of it."""
        return content_id(self._flat())

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        """Return it as a report holds it and as its id counts it: hardware and task side by side, and their labels
        elsewhere.
        """
        hardware, task = canonical(self.variant), canonical(self.task)
        return {
            "schema_version": 1,
            "weights": self.weights,
            **{key: value for key, value in hardware.items() if key != "label"},
            "seeds": self.seeds,
            "times_s": self.times_s,
            "session": self.session,
            "alpha": self.alpha,
            **{key: value for key, value in task.items() if key not in ("kind", "label")},
        }
