"""The plan of a sign-off: one frozen value that decides every number in its report, with an id by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import FileText, SelfText
from aimc_sim.evaluate.windows import default_batch
from aimc_sim.hardware import Hardware
from aimc_sim.spec import Spec

Metric = Literal["kl", "loss"]
Seed = Annotated[int, Field(ge=0, lt=1 << 64)]
MAX_CHIPS = 4096


class Plan(Spec):
    """Chips × times on one text, and the margin that decides.

    weights: id of the weight file. hardware: the resolved tables, hardware_id their id. ranges_id: the converter ranges
    derived from both; None until a run has derived them, which completes the plan. seeds: one chip each.
    times_s: seconds since programming, rising. context: tokens a window; batch: windows a forward.
    metric: "kl", the divergence from the digital model, or "loss", the increase of its negative log-likelihood;
    margin_nats per token. alpha: one-sided error of the verdict.
    """

    schema_version: Literal[1] = 1
    weights: str
    hardware: dict[str, Any]
    hardware_id: str
    ranges_id: str | None = None
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=MAX_CHIPS)
    times_s: tuple[float, ...] = Field(min_length=1)
    session: int = Field(default=0, ge=0)
    text: FileText | SelfText = Field(discriminator="kind")
    context: int = Field(ge=2)
    batch: int = Field(ge=1)
    metric: Metric = "kl"
    margin_nats: float = Field(ge=0)
    alpha: float = Field(default=0.025, gt=0, lt=0.5)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("two chips have the same seed, so they are the same chip")
        return seeds

    @field_validator("times_s")
    @classmethod
    def _rising(cls, times: tuple[float, ...]) -> tuple[float, ...]:
        if list(times) != sorted(set(times)):
            raise ValueError("times must rise, each listed once")
        return times


@dataclass(frozen=True)
class Cell:
    """One thing to score. kind: "digital", "converters" (the same converters around ideal cells) or "chip"."""

    kind: Literal["digital", "converters", "chip"]
    seed: int | None = None
    time_s: float | None = None


def cells_of(plan: Plan) -> tuple[Cell, ...]:
    """Every cell of the plan, chip by chip, so that each chip is programmed once."""
    chips = tuple(Cell("chip", seed, time) for seed in plan.seeds for time in plan.times_s)
    return (Cell("digital"), Cell("converters"), *chips)


def make_plan(
    *,
    weights: str,
    hardware: Hardware,
    chips: int,
    times_s: tuple[float, ...],
    margin_nats: float,
    text: FileText | SelfText,
    seed: int = 0,
    context: int | None = None,
    batch: int | None = None,
    metric: Metric = "kl",
    alpha: float = 0.025,
    session: int = 0,
) -> Plan:
    """The plan for `chips` chips with seeds from `seed` on. Raises BadInput, before anything runs, for a time outside
    the device's range, a negative margin or an empty study. context: of a text file, 1,024 unless told."""
    if not 1 <= chips <= MAX_CHIPS:
        raise BadInput(
            "chips", got=chips, why="a sign-off is over simulated chips", do=f"use 1 to {MAX_CHIPS}"
        )
    for time_s in times_s:
        hardware.check_time(time_s)
    # Samples are scored as they were drawn: one window each.
    length = text.length if isinstance(text, SelfText) else 1024 if context is None else context
    return Plan.parse(
        {
            "weights": weights,
            "hardware": hardware.model_dump(mode="json"),
            "hardware_id": hardware.id,
            "seeds": list(range(seed, seed + chips)),
            "times_s": sorted(set(times_s)),
            "session": session,
            "text": text.model_dump(mode="json"),
            "context": length,
            "batch": default_batch(max(length, 1)) if batch is None else batch,
            "metric": metric,
            "margin_nats": margin_nats,
            "alpha": alpha,
        },
        "sign-off plan",
    )
