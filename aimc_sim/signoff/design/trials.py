"""A plan crosses chips × times × tasks × hardware into trials; scoring reads of it what is here, and no more.

Every chip meets every task at every time on every variant of the hardware,
and a chip is the same seed everywhere (common random numbers), so that differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, Field, ValidationInfo

from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.tasks import AnyTask
from aimc_sim.spec import Spec


def _id_of_tables(_: str, so_far: ValidationInfo) -> str:
    hardware = so_far.data.get("hardware")  # None where its tables are refused
    return "" if hardware is None else str(hardware.id)


# The id of a spec's `hardware`, the field above it: derived, and written for those who read the spec.
HardwareId = Annotated[str, Field(validate_default=True), AfterValidator(_id_of_tables)]


class Variant(Spec):
    """A variant gives one hardware of the study its label. ranges_id: the converter ranges derived from it and the
    weights; None until a run has derived them, which completes the plan."""

    label: str = Field(min_length=1)
    hardware: Hardware
    hardware_id: HardwareId = ""
    ranges_id: str | None = None


class Scored(Protocol):
    """This is a `Plan` as far as scoring reads it; there each field is explained."""

    @property
    def weights(self) -> str: ...
    @property
    def variants(self) -> tuple[Variant, ...]: ...
    @property
    def tasks(self) -> tuple[AnyTask, ...]: ...
    @property
    def seeds(self) -> tuple[int, ...]: ...
    @property
    def times_s(self) -> tuple[float, ...]: ...
    @property
    def session(self) -> int: ...
    @property
    def threads(self) -> int: ...
    def variant(self, label: str) -> Variant: ...
    def task(self, label: str) -> AnyTask: ...


@dataclass(frozen=True, order=True)
class Trial:
    """A trial is one thing to score, the unit of work. kind: "digital", "converters" (the same around ideal cells) or
    "chip".
    """

    kind: Literal["digital", "converters", "chip"]
    seed: int | None = None
    time_s: float | None = None
    variant: str = ""
    task: str = ""

    @property
    def name(self) -> str:
        """Its name in a journal: ``chip/hermes-256/text/3/3600.0``."""
        parts = (self.kind, self.variant, self.task, self.seed, self.time_s)
        return "/".join(str(part) for part in parts if part not in (None, ""))

    @property
    def mount(self) -> tuple[str, str, int | None, float | None]:
        """What has to be in the model to score it: trials that share it go to one worker, which mounts once."""
        return (self.kind, self.variant, self.seed, self.time_s)


def trials_of(plan: Scored, first: int = 0, last: int | None = None) -> tuple[Trial, ...]:
    """Return trials of the chips first … last − 1 (all unless told), hardware by hardware and chip by chip, so that
    each is programmed once; those without a chip come with the first.
    """
    tasks = [task.label for task in plan.tasks]
    trials = [] if first else [Trial("digital", task=task) for task in tasks]
    for variant in plan.variants:
        if not first:
            trials += [Trial("converters", variant=variant.label, task=task) for task in tasks]
        trials += [
            Trial("chip", seed, time, variant.label, task)
            for seed in plan.seeds[first:last]
            for time in plan.times_s
            for task in tasks
        ]
    return tuple(trials)
