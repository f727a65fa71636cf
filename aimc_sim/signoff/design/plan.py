"""The plan of a sign-off: one frozen value that decides every number in its report, with an id by content.

Chips × times × tasks × hardware, crossed: every chip meets every task at every time on every variant of the hardware,
and a chip is the same seed everywhere (common random numbers), so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import FileText, SelfText
from aimc_sim.evaluate.windows import default_batch
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.margins import problem_of
from aimc_sim.signoff.statistics.sequential import Spending, alpha_of_looks
from aimc_sim.spec import Spec

Metric = Literal["kl", "loss"]
Seed = Annotated[int, Field(ge=0, lt=1 << 64)]
MAX_CHIPS = 4096
METRICS = {
    "kl": "KL divergence from the digital model",
    "loss": "increase of the loss over the digital model",
}


class TextTask(Spec):
    """A text, scored by the built-in metrics: a screening, not a benchmark.

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
    """Questions of a task of lm-evaluation-harness, marked right or wrong by it.

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
    margin: float = Field(ge=0)

    @field_validator("margin")
    @classmethod
    def _share(cls, margin: float) -> float:
        if margin > 1:
            raise ValueError("; ".join(problem_of(margin)))
        return margin


AnyTask = TextTask | HarnessTask


def folder_name(label: str) -> str:
    """What the folder of a task or a hardware is called."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in label)


class Variant(Spec):
    """One hardware of the study. hardware: its resolved tables, hardware_id their id; ranges_id: the converter ranges
    derived from both; None until a run has derived them, which completes the plan."""

    label: str = Field(min_length=1)
    hardware: dict[str, Any]
    hardware_id: str
    ranges_id: str | None = None


class _Part(Spec):
    """One task on one hardware: what a verdict and a report are about. The fields are those of the plan."""

    schema_version: Literal[1] = 1
    weights: str
    hardware: dict[str, Any]
    hardware_id: str
    ranges_id: str | None = None
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=MAX_CHIPS)
    times_s: tuple[float, ...] = Field(min_length=1)
    session: int = Field(default=0, ge=0)
    alpha: float = Field(default=0.025, gt=0, lt=0.5)


class TextPart(_Part):
    """A text on one hardware."""

    text: FileText | SelfText = Field(discriminator="kind")
    context: int = Field(ge=2)
    batch: int = Field(ge=1)
    metric: Metric = "kl"
    margin_nats: float = Field(ge=0)

    @property
    def margin(self) -> float:
        """The largest acceptable loss, nats per token."""
        return self.margin_nats

    @property
    def unit(self) -> str:
        """Of the margin and of losses."""
        return "nats per token"

    @property
    def metric_name(self) -> str:
        """The loss in words."""
        return METRICS[self.metric]


class AnswersPart(_Part):
    """Questions on one hardware."""

    task: str
    questions_id: str
    configuration: str | None = None
    questions: int
    limit: int | None = None
    num_fewshot: int | None = None
    metric: str = "acc"
    batch: int = Field(ge=1)
    margin: float = Field(ge=0)

    @property
    def unit(self) -> str:
        """Of the margin and of losses: 0.02 is two questions in a hundred."""
        return "share of questions"

    @property
    def metric_name(self) -> str:
        """The loss in words."""
        what = {"acc": "accuracy"}.get(self.metric, self.metric)
        return f"loss of {what} against the digital model"


Part = TextPart | AnswersPart


def _problem_of_labels(labels: Sequence[str]) -> tuple[str, str] | None:
    """Why the labels cannot name folders side by side, and what to do; None where they can."""
    for label in labels:
        if labels.count(label) > 1:
            return f"two are called {label!r}, and a report goes by its name", "give each its own name"
        if "/" in label or label in (".", ".."):
            return f"{label!r} is to name a folder", "use a name without a slash that is not dots alone"
        if [folder_name(other) for other in labels].count(folder_name(label)) > 1:
            return f"{label!r} and another name give a folder of one name", "choose clearer ones"
    return None


class Plan(Spec):
    """Chips × times × tasks × hardware, and the margins that decide.

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
        """The hardware variant of that label."""
        return next(variant for variant in self.variants if variant.label == label)

    def task(self, label: str) -> AnyTask:
        """The task of that label."""
        return next(task for task in self.tasks if task.label == label)

    def part(self, variant: str, task: str, chips: int | None = None, alpha: float | None = None) -> Part:
        """One task on one hardware, over the first `chips` chips (all unless told), at a level of its own."""
        hardware, what = self.variant(variant), self.task(task)
        shared: dict[str, Any] = {
            "weights": self.weights,
            "hardware": hardware.hardware,
            "hardware_id": hardware.hardware_id,
            "ranges_id": hardware.ranges_id,
            "seeds": self.seeds[:chips],
            "times_s": self.times_s,
            "session": self.session,
            "alpha": self.alpha if alpha is None else alpha,
        }
        own = {name: getattr(what, name) for name in type(what).model_fields if name not in ("kind", "label")}
        return (TextPart if isinstance(what, TextTask) else AnswersPart)(**shared, **own)

    def with_ranges(self, found: dict[str, str]) -> Plan:
        """The plan completed by the converter ranges of its variants (by label)."""
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


@dataclass(frozen=True, order=True)
class Cell:
    """One thing to score: the unit of work. kind: "digital", "converters" (the same around ideal cells) or "chip"."""

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
        """What has to be in the model to score it: cells that share it go to one worker, which mounts once."""
        return (self.kind, self.variant, self.seed, self.time_s)


def cells_of(plan: Plan, first: int = 0, last: int | None = None) -> tuple[Cell, ...]:
    """Cells of the chips first … last − 1 (all unless told), hardware by hardware and chip by chip, so that each is
    programmed once; those without a chip come with the first."""
    tasks = [task.label for task in plan.tasks]
    cells = [] if first else [Cell("digital", task=task) for task in tasks]
    for variant in plan.variants:
        if not first:
            cells += [Cell("converters", variant=variant.label, task=task) for task in tasks]
        cells += [
            Cell("chip", seed, time, variant.label, task)
            for seed in plan.seeds[first:last]
            for time in plan.times_s
            for task in tasks
        ]
    return tuple(cells)


def make_plan(
    *,
    weights: str,
    hardware: Hardware | Sequence[Hardware],
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
    looks: tuple[int, ...] | None = None,
    spending: Spending = "obrien-fleming",
    threads: int = 1,
) -> Plan:
    """The plan for one text and `chips` chips with seeds from `seed` on. context: of a text file, 1,024 unless told.

    Raises BadInput, before anything runs, for a time outside a device's range, a negative margin or an empty study.
    """
    # Samples are scored as they were drawn: one window each.
    length = text.length if isinstance(text, SelfText) else 1024 if context is None else context
    task = {
        "kind": "text",
        "text": text.model_dump(mode="json"),
        "context": length,
        "batch": default_batch(max(length, 1)) if batch is None else batch,
        "metric": metric,
        "margin_nats": margin_nats,
    }
    return plan_of(
        weights=weights,
        hardware=(hardware,) if isinstance(hardware, Hardware) else tuple(hardware),
        tasks=(task,),
        chips=chips,
        times_s=times_s,
        seed=seed,
        alpha=alpha,
        session=session,
        looks=looks,
        spending=spending,
        threads=threads,
    )


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
    """The plan for tables of tasks, checked: see `make_plan`. A look at more chips than there are is refused."""
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
    plan = Plan.parse(
        {
            "weights": weights,
            "variants": [
                {"label": each.name, "hardware": each.model_dump(mode="json"), "hardware_id": each.id}
                for each in hardware
            ],
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
