"""What a placement is worth: its loss on chips that the search has not seen, its energy, and how far both are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from aimc_sim.sizing.cost.workload import Scenario
from aimc_sim.sizing.partition.choice import Choice
from aimc_sim.sizing.partition.sensitivity import Estimate

CHIPS_OF_AN_INTERVAL = 3  # of two, Student's t reaches 12.7 standard errors and says nothing
Met = Literal["interval", "mean", "no"]


@dataclass(frozen=True)
class OverChips:
    """A figure of each chip, and of their mean its 95 % interval by Student's t; None of fewer than three chips."""

    by_chip: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, values: Sequence[float]) -> OverChips:
        """Chips are the sample; what was compared on each of them was subtracted there."""
        from scipy.stats import t

        sample, count = np.asarray(values, np.float64), len(values)
        mean = float(sample.mean())
        ends = None
        if count >= CHIPS_OF_AN_INTERVAL:
            half = float(t.ppf(0.975, count - 1)) * float(sample.std(ddof=1)) / math.sqrt(count)
            ends = (mean - half, mean + half)
        return cls(tuple(sample.tolist()), mean, ends)


@dataclass(frozen=True)
class Found:
    """A placement. bar: nats per token; loss: on the chips of the search; unseen: on chips that it has not seen, beside
    the whole model in tiles (all_unseen) and converters around ideal cells there, intervals over chips and text;
    unseen_chips: the loss of each of those chips; recovered: by either metric, the share of each of them; metric: the
    plan's; scored: placements that were. Energies are of a token, of designs that were costed as a whole."""

    choice: Choice
    bar: float
    loss: Estimate
    unseen: Estimate
    all_unseen: Estimate
    converters: Estimate
    unseen_chips: OverChips
    recovered: dict[str, OverChips]
    metric: str
    analog_share: float
    energy_j: float
    energy_all_analog_j: float
    scenario: Scenario
    activity: str
    scored: int

    @property
    def met(self) -> bool:
        """Whether the mean loss of the unseen chips is at the bar or below."""
        return self.unseen.mean <= self.bar

    @property
    def met_by(self) -> Met:
        """What is at the bar or below: the upper end of the interval, the mean alone, or neither."""
        if not self.met:
            return "no"
        ends = self.unseen_chips.interval
        return "interval" if ends is not None and ends[1] <= self.bar else "mean"

    @property
    def added_j(self) -> float:
        """What the moves together add to a token's energy, J; negative: what they save."""
        return self.energy_j - self.energy_all_analog_j

    @property
    def not_additive_j(self) -> float:
        """What the additive model, a sum over matrices that are each moved alone, is off by, J per token."""
        return self.added_j - self.choice.energy_j

    @property
    def gap_share(self) -> float | None:
        """The additive model's gap as a share of the whole placement's energy; None: unknown."""
        gap = self.choice.gap_j
        return None if gap is None else gap / self.energy_j

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document, own = asdict(self), self.recovered[self.metric]
        document["choice"]["gap_j"] = self.choice.gap_j
        return {
            **document, "added_j": self.added_j, "not_additive_j": self.not_additive_j, "gap_share": self.gap_share,
            "recovered_share": own.mean, "recovered_by_chip": own.by_chip,
            "recovered_by_metric": {metric: value.mean for metric, value in self.recovered.items()},
            "met": self.met, "met_by": self.met_by, "unit": "nats per token",
        }  # fmt: skip
