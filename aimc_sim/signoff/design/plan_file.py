"""A plan as people write it: a TOML file, or the options of the command, which have the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from aimc_sim import devices
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import SelfText, file_text
from aimc_sim.evaluate.windows import default_batch
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.plan import Plan, plan_of
from aimc_sim.signoff.design.tasks import Metric
from aimc_sim.signoff.statistics.sequential import Spending
from aimc_sim.spec import Spec, nearest, read_toml
from aimc_sim.units import format_duration, parse_durations

if TYPE_CHECKING:
    from aimc_sim.evaluate.questions import Questions

DEFAULT_CHIPS, DEFAULT_TIMES = 5, "1m,1h,1d,1y"


class Expect(Spec):
    """An expectation (``[expect]``) says what the loss should be, for the power calculation; in the margin's unit.

    items: how many to reckon with, those that the task has unless told.
    """

    effect: float
    chip_sd: float = Field(ge=0)
    item_sd: float = Field(ge=0)
    interaction_sd: float = Field(default=0.0, ge=0)
    items: int | None = Field(default=None, ge=2)
    power: float = Field(default=0.9, gt=0, lt=1)


class AskedTask(Spec):
    """A ``[[task]]`` table asks for a task of lm-evaluation-harness by name, a text file, or samples of the model
    itself.

    label: the task's name or "text", unless told. margin and metric: the plan's, unless told. tasks_dir, rows, limit:
    folders of YAML files and of local rows, and how many questions; the plan's, unless told. expect: of this task.
    """

    label: str | None = None
    harness: str | None = None
    tasks_dir: str | None = None
    rows: str | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    text: str | None = None
    context: int | None = None
    limit_tokens: int | None = None
    sequences: int | None = None
    length: int | None = None
    text_seed: int | None = None
    batch: int | None = None
    metric: str | None = None
    margin: float | None = None
    expect: Expect | None = None

    @property
    def name(self) -> str:
        """Its label."""
        return self.label or self.harness or "text"


_OF_TEXTS = ("text", "context", "limit_tokens", "sequences", "length", "text_seed")
_OF_QUESTIONS = ("tasks_dir", "rows", "limit", "num_fewshot")


class Asked(Spec):
    """This is a plan file as it was written. Paths are relative to it."""

    weights: str | None = None
    hardware: str | tuple[str, ...] | None = None
    device: str | None = None
    chips: int | None = None
    times: str = DEFAULT_TIMES
    margin: float | None = None
    metric: Metric = "kl"
    tasks_dir: str | None = None
    rows: str | None = None
    limit: int | None = None
    looks: tuple[int, ...] | None = None
    spending: Spending = "obrien-fleming"
    seed: int = 0
    session: int = 0
    alpha: float = 0.025
    threads: int = 1
    task: tuple[AskedTask, ...] = (AskedTask(),)
    expect: Expect | None = None

    @property
    def shares_only(self) -> bool:
        """Whether every task asks questions. Else what the plan says in a unit means nats, and only its texts."""
        return all(task.harness is not None for task in self.task)

    @property
    def expectations(self) -> tuple[Expect | None, ...]:
        """What is expected of each task: its own, else the plan's where that is in its unit."""
        return tuple(
            task.expect or (self.expect if self.shares_only or task.harness is None else None)
            for task in self.task
        )


@dataclass(frozen=True)
class Resolved:
    """A resolved plan can run: it comes with the text files and questions of its tasks, and devices of a family that
    cannot take part, and why.
    """

    plan: Plan
    text_paths: dict[str, Path]
    questions: dict[str, Questions]
    left_out: tuple[str, ...]


def read_plan(path: Path) -> Asked:
    """Read the plan in a TOML file. Raises BadInput naming the nearest key where one is unknown."""
    return Asked.parse(read_toml(path), str(path))


def resolve(
    asked: Asked, weights: str, default: Hardware, folder: Path = Path(), hardware: Sequence[Hardware] = ()
) -> Resolved:
    """Make the plan for a weight file (its id and default hardware). hardware: instead of what the plan names.

    Raises BadInput before anything runs.
    """
    times = parse_durations(asked.times)
    named = (asked.hardware,) if isinstance(asked.hardware, str) else asked.hardware or ()
    chosen = list(hardware)
    if not chosen and named:
        chosen = [Hardware.load(folder / name if name.endswith(".toml") else name) for name in named]
        _check_names(named, chosen)
    chosen = chosen or [default]
    chosen, left_out = variants_of(chosen, asked.device, times)
    paths: dict[str, Path] = {}
    questions: dict[str, Questions] = {}
    tasks: list[dict[str, Any]] = []
    for task in asked.task:
        _check_keys(task)
        if task.harness is not None:
            questions[task.name] = _questions_of(asked, task, folder)
            tasks.append(_harness_task(asked, task, questions[task.name]))
        else:
            if task.text is not None:
                paths[task.name] = folder / task.text
            tasks.append(_text_task(asked, task, paths.get(task.name)))
    last = DEFAULT_CHIPS if asked.looks is None else asked.looks[-1] if asked.looks else 0
    plan = plan_of(
        weights=weights,
        hardware=chosen,
        tasks=tasks,
        chips=last if asked.chips is None else asked.chips,
        times_s=times,
        seed=asked.seed,
        alpha=asked.alpha,
        session=asked.session,
        looks=asked.looks,
        spending=asked.spending,
        threads=asked.threads,
    )
    return Resolved(plan, paths, questions, tuple(left_out))


def _check_names(entries: Sequence[str], hardware: Sequence[Hardware]) -> None:
    """Refuse two entries whose hardware has one name; what they are called in the plan tells them apart."""
    first: dict[str, str] = {}
    for entry, chip in zip(entries, hardware, strict=False):
        other = first.get(chip.name)
        if other is None:
            first[chip.name] = entry
            continue
        file = next((each for each in (entry, other) if each.endswith(".toml")), None)
        raise BadInput(
            "hardware",
            got=[other, entry],
            why=f"both are called {chip.name!r}, and a report goes by its hardware's name",
            do="list it once" if file is None or entry == other else f"change `name` in {file}, or add one",
        )


def _check_keys(task: AskedTask) -> None:
    """Refuse keys about what is not scored, instead of ignoring them."""
    for key in _OF_QUESTIONS if task.harness is None else _OF_TEXTS:
        if getattr(task, key) is not None:
            raise BadInput(
                f"task {task.name}: {key}",
                got=getattr(task, key),
                why="it is about questions, and this task is a text"
                if task.harness is None
                else f"it is about a text, and this task is {task.harness}",
                do=f"leave out {key}, or put it into a [[task]] of its own",
            )


def _questions_of(asked: Asked, task: AskedTask, folder: Path) -> Questions:
    # late: lm-evaluation-harness is of an extra, and plans of texts do without it
    from aimc_sim.evaluate.questions import load_questions

    def where(name: str | None) -> Path | None:
        return None if name is None else folder / name

    assert task.harness is not None
    return load_questions(
        task.harness,
        folder=where(task.tasks_dir or asked.tasks_dir),
        rows=where(task.rows or asked.rows),
        limit=asked.limit if task.limit is None else task.limit,
        num_fewshot=task.num_fewshot,
    )


def _harness_task(asked: Asked, task: AskedTask, questions: Questions) -> dict[str, Any]:
    shared = asked.margin if asked.shares_only else None
    metric = task.metric or ("acc" if "acc" in questions.metrics else questions.metrics[0])
    questions.check_metric(metric)
    return {
        "kind": "harness",
        "label": task.name,
        "task": task.harness,
        "questions_id": questions.id,
        "configuration": questions.configuration,
        "questions": len(questions.items),
        "limit": asked.limit if task.limit is None else task.limit,
        "num_fewshot": task.num_fewshot,
        "metric": metric,
        "batch": 1024 if task.batch is None else task.batch,
        "margin": _margin(task, shared, f"as a share: 0.02 is two of 100 questions ({task.name})"),
    }


def _text_task(asked: Asked, task: AskedTask, path: Path | None) -> dict[str, Any]:
    spec: Any
    if path is not None:
        spec, length = file_text(path, task.limit_tokens), task.context or 1024
    else:
        own = {"sequences": task.sequences, "length": task.length, "seed": task.text_seed}
        spec = SelfText.parse({key: value for key, value in own.items() if value is not None}, "text")
        length = spec.length
    return {
        "kind": "text",
        "label": task.name,
        "text": spec.model_dump(mode="json"),
        "context": length if task.context is None or task.text is None else task.context,
        "batch": default_batch(max(length, 1)) if task.batch is None else task.batch,
        "metric": task.metric or asked.metric,
        "margin_nats": _margin(task, asked.margin, "in nats per token"),
    }


def _margin(task: AskedTask, shared: float | None, unit: str) -> float:
    margin = shared if task.margin is None else task.margin
    if margin is None:
        raise BadInput(
            "--margin",
            why="a verdict needs the largest loss that is still acceptable",
            do=f"give --margin, or margin in the plan file, {unit}",
        )
    return margin


def variants_of(
    hardware: Sequence[Hardware], device: str | None, times_s: Sequence[float]
) -> tuple[list[Hardware], list[str]]:
    """Return hardware with other cells: a device, several with commas between, or a family, ``all-pcm``.

    Of a family those take part that the hardware can hold and whose data reach every time; the others are returned as
    lines that say why not. A device that is asked for by name raises BadInput instead.
    """
    if device is None:
        return list(hardware), []
    if not device.startswith("all"):
        names = [name.strip() for name in device.split(",") if name.strip()]
        return [each.with_device(name) for each in hardware for name in names], []
    prefix = device.removeprefix("all").removeprefix("-")
    family = [name for name in devices.names() if name.startswith(f"{prefix}-") or not prefix]
    if not family:
        known = sorted({f"all-{name.split('-')[0]}" for name in devices.names() if "-" in name})
        raise BadInput("--device", got=device, why="no device is of that family", do=nearest(device, known))
    chosen, left_out = [], []
    for each in hardware:
        for name in family:
            try:
                variant = each.with_device(name)
                for time_s in times_s:
                    variant.check_time(time_s)
            except BadInput as error:
                left_out.append(f"{name} is left out: {error.why or error}")
                continue
            chosen.append(variant)
    if not chosen:
        raise BadInput(
            "--device",
            got=device,
            why="none of the family can take part: " + "; ".join(left_out),
            do=f"choose other times than {', '.join(map(format_duration, times_s))}, or other hardware",
        )
    return chosen, left_out
