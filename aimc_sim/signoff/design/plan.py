"""The plan of a sign-off: one frozen value that decides every number in its report, with an id by content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.margins import check_share
from aimc_sim.signoff.design.part import Part
from aimc_sim.signoff.design.tasks import AnyTask
from aimc_sim.signoff.design.trials import Variant
from aimc_sim.signoff.statistics.sequential import Spending, alpha_of_looks
from aimc_sim.spec import Spec

Seed = Annotated[int, Field(ge=0, lt=1 << 64)]
MAX_CHIPS = 4096


def folder_name(label: str) -> str:
    """Name the folder of a task or a hardware."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in label)


def _problem_of_labels(labels: Sequence[str]) -> tuple[str, str] | None:
    """Say why the labels cannot name folders side by side, and what to do; None where they can."""
    for label in labels:
        if labels.count(label) > 1:
            return f"two are called {label!r}, and a report goes by its name", "give each its own name"
        if "/" in label or label in (".", ".."):
            return f"{label!r} is to name a folder", "use a name without a slash that is not dots alone"
        if [folder_name(other) for other in labels].count(folder_name(label)) > 1:
            return f"{label!r} and another name give a folder of one name", "choose clearer ones"
    return None


class Plan(Spec):
    """A plan lists chips × times × tasks × hardware, and the margins that decide.

    weights: id of the weight file. seeds: one chip each, the same for every task and hardware. times_s: seconds since
    programming, rising. alpha: one-sided error of the verdict. looks: numbers of chips after which a part may stop, the
    last of which is all of them; None for one look at the end. threads: of one worker; part of the plan because the
    last bits of float32 products depend on it (those of the products in the tiles do not).
    """

    schema_version: Literal[2] = 2
    weights: str
    variants: tuple[Variant, ...] = Field(min_length=1)
    tasks: tuple[Annotated[AnyTask, Field(discriminator="kind")], ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=MAX_CHIPS)
    times_s: tuple[float, ...] = Field(min_length=1)
    session: int = Field(default=0, ge=0)
    alpha: float = Field(default=0.025, gt=0, lt=0.5)
    looks: tuple[int, ...] | None = None
    spending: Spending = "obrien-fleming"
    threads: int = Field(default=1, ge=1)

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

    @field_validator("variants", "tasks")
    @classmethod
    def _labels(cls, entries: Any) -> Any:
        problem = _problem_of_labels([entry.label for entry in entries])
        if problem is not None:
            raise ValueError("; ".join(problem))
        return entries

    def variant(self, label: str) -> Variant:
        """Return the hardware variant of that label."""
        return next(variant for variant in self.variants if variant.label == label)

    def task(self, label: str) -> AnyTask:
        """Return the task of that label."""
        return next(task for task in self.tasks if task.label == label)

    def part(self, variant: str, task: str, chips: int | None = None, alpha: float | None = None) -> Part:
        """Return one task on one hardware, over the first `chips` chips (all unless told), at a level of its own."""
        return Part(
            weights=self.weights,
            variant=self.variant(variant),
            task=self.task(task),
            seeds=self.seeds[:chips],
            times_s=self.times_s,
            session=self.session,
            alpha=self.alpha if alpha is None else alpha,
        )

    def with_ranges(self, found: dict[str, str]) -> Plan:
        """Return the plan completed by the converter ranges of its variants (by label)."""
        variants = tuple(
            variant.model_copy(update={"ranges_id": found.get(variant.label, variant.ranges_id)})
            for variant in self.variants
        )
        return self.model_copy(update={"variants": variants})

    @property
    def look_alphas(self) -> tuple[tuple[int, float], ...]:
        """(chips, one-sided level) of every look. With several looks the tasks share the error out evenly."""
        if self.looks is None:
            return ((len(self.seeds), self.alpha),)
        alphas = alpha_of_looks(self.looks, self.alpha / len(self.tasks), self.spending)
        return tuple(zip(self.looks, alphas, strict=True))


def plan_of(
    *,
    weights: str,
    hardware: Sequence[Hardware],
    tasks: Sequence[dict[str, Any]],
    chips: int,
    times_s: tuple[float, ...],
    seed: int = 0,
    alpha: float = 0.025,
    session: int = 0,
    looks: tuple[int, ...] | None = None,
    spending: str = "obrien-fleming",
    threads: int = 1,
) -> Plan:
    """Make the plan for tables of tasks and `chips` chips with seeds from `seed` on.

    Raises BadInput, before anything runs, for a time outside a device's range, a margin that is no share, an empty
    study, or looks that do not end with all chips.
    """
    if not 1 <= chips <= MAX_CHIPS:
        raise BadInput(
            "chips", got=chips, why="a sign-off is over simulated chips", do=f"use 1 to {MAX_CHIPS}"
        )
    if looks is not None and (not looks or looks[-1] != chips):
        raise BadInput(
            "looks",
            got=looks,
            why=f"the last look sees the whole study, which has {chips} chips",
            do="end the looks with the number of chips",
        )
    for variant in hardware:
        for time_s in times_s:
            variant.check_time(time_s)
    names = [each.name for each in hardware]
    for what, labels in (("hardware", names), ("task", [task.get("label", "text") for task in tasks])):
        problem = _problem_of_labels(labels)
        if problem is not None:  # here, because the plan would show whole tables as what it got
            raise BadInput(what, got=labels, why=problem[0], do=problem[1])
    for at, task in enumerate(tasks):
        if task["kind"] == "harness" and isinstance(task["margin"], (int, float)):
            check_share(task["margin"], f"sign-off plan: tasks.{at}.harness.margin")
    plan = Plan.parse(
        {
            "weights": weights,
            "variants": [{"label": each.name, "hardware": each.model_dump(mode="json")} for each in hardware],
            "tasks": list(tasks),
            "seeds": list(range(seed, seed + chips)),
            "times_s": sorted(set(times_s)),
            "session": session,
            "alpha": alpha,
            "looks": None if looks is None else list(looks),
            "spending": spending,
            "threads": threads,
        },
        "sign-off plan",
    )
    _ = plan.look_alphas  # looks that do not rise are refused here
    return plan
