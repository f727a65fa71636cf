"""What a profile and a partition say: losses on chips that a search has not seen, energies, how far they are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aimc_sim.evaluate.snr import decibels
from aimc_sim.files import write_together
from aimc_sim.hardware import Hardware
from aimc_sim.report.pages import to_json
from aimc_sim.report.shown import Shown, table_of
from aimc_sim.sizing.cost.workload import Scenario
from aimc_sim.sizing.partition import words
from aimc_sim.sizing.partition.choice import Choice
from aimc_sim.sizing.partition.moves import placement_file
from aimc_sim.sizing.partition.sensitivity import Estimate, Shares

if TYPE_CHECKING:
    from rich.console import Console

CHIPS_OF_AN_INTERVAL = 3  # of two, Student's t reaches 12.7 standard errors and says nothing
Met = Literal["interval", "mean", "no"]


@dataclass(frozen=True)
class OverChips:
    """This holds a figure of each chip, and of their mean the 95 % interval by Student's t; None of fewer than three
    chips.
    """

    by_chip: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, values: Sequence[float]) -> OverChips:
        """Take chips as the sample; what was compared on each of them was subtracted there."""
        from scipy.stats import t

        sample, count = np.asarray(values, np.float64), len(values)
        mean = float(sample.mean())
        ends = None
        if count >= CHIPS_OF_AN_INTERVAL:
            half = float(t.ppf(0.975, count - 1)) * float(sample.std(ddof=1)) / math.sqrt(count)
            ends = (mean - half, mean + half)
        return cls(tuple(sample.tolist()), mean, ends)


@dataclass(frozen=True, repr=False)
class Sensitivity(Shares, Shown):
    """A sensitivity is a finished profile: which matrices cost accuracy when they are analog, the worst first.

    >>> from aimc_sim.sizing import measure_sensitivity
    >>> profile = measure_sensitivity("model.h5", forwards=20, chips=1, tokens=64, workers=1)
    >>> profile.matrices[0].share >= profile.matrices[-1].share
    True
    """

    @property
    def summary(self) -> str:
        """What the whole model in tiles loses, in one sentence."""
        return words.of_sensitivity(self)[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, units in the names."""
        rows = []
        for matrix in self.matrices:
            row = asdict(matrix)
            row["sqnr_db"] = float(decibels(row.pop("noise")))
            rows.append({**row, "measured": matrix.measured})
        return {
            "plan": self.plan.model_dump(mode="json"), "plan_id": self.plan.id, "metric": self.plan.metric,
            "unit": "nats per token", "forward_passes": self.forwards,
            "all_analog": asdict(self.all), "converters_only": asdict(self.converters), "matrices": rows,
        }  # fmt: skip

    def print_on(self, console: Console) -> None:
        """Print the losses, and the matrices that cost most."""
        console.print("\n".join(words.of_sensitivity(self)), soft_wrap=True)
        console.print(table_of(*words.worst(self)))

    def write(self, folder: Path) -> None:
        """Write sensitivity.json and sensitivity.csv, both or none."""
        document = self.to_dict()
        write_together({
            folder / "sensitivity.json": to_json(document), folder / "sensitivity.csv": words.csv_of(document),
        })  # fmt: skip


@dataclass(frozen=True, repr=False)
class Partition(Shown):
    """A partition says which matrices leave the tiles or are held better.

    bar: nats per token; loss: on the chips of the search; unseen: on chips that it has not seen, beside the whole model
    in tiles (all_unseen) and converters around ideal cells there, intervals over chips and text; unseen_chips: the loss
    of each of those chips; recovered: by either metric, the share of each of them; metric: the plan's; scored:
    partitions that were. Energies are of a token, of designs that were costed as a whole. original, hardware: without
    and with the partition; sensitivity: the profile that it began with; file: what `write` has written.

    >>> from aimc_sim.sizing import choose_partition
    >>> partition = choose_partition("model.h5", "99%", forwards=20, chips=1, tokens=64, unseen=1, workers=1)
    >>> partition.bar > 0
    True
    """

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
    original: Hardware
    hardware: Hardware
    sensitivity: Sensitivity
    file: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether the bar is met: see ``met``."""
        return self.met

    @property
    def summary(self) -> str:
        """What is done to how many matrices, and whether the bar is met."""
        lines = words.of_partition(self)
        return f"{lines[0]} {words.MET[self.met_by]}."

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, units in the names."""
        recovered, apart = self.recovered[self.metric], ("original", "hardware", "sensitivity", "file")
        document = {name: value for name, value in asdict(self).items() if name not in apart}
        document["choice"]["gap_j"] = self.choice.gap_j
        return {
            **document, "added_j": self.added_j, "not_additive_j": self.not_additive_j, "gap_share": self.gap_share,
            "recovered_share": recovered.mean, "recovered_by_chip": recovered.by_chip,
            "recovered_by_metric": {metric: value.mean for metric, value in self.recovered.items()},
            "met": self.met, "met_by": self.met_by, "unit": "nats per token",
            **({} if self.file is None else {"file": str(self.file)}),
        }  # fmt: skip

    def print_on(self, console: Console) -> None:
        """Print the profile, what is done to which matrices, and what that leaves."""
        self.sensitivity.print_on(console)
        lines = words.of_partition(self) + ([] if self.file is None else [str(self.file)])
        console.print("\n".join(lines), soft_wrap=True)

    def write(self, folder: Path) -> Partition:
        """Write placement.toml (the hardware) and placement.json, both or none, and return it with its file."""
        note, file = "\n".join(words.of_partition(self)), folder / "placement.toml"
        write_together({
            file: placement_file(self.original, self.hardware, note),
            folder / "placement.json": to_json(self.to_dict()),
        })  # fmt: skip
        return replace(self, file=file)
