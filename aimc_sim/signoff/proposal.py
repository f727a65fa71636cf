"""A sign-off before it runs: what is asked for, checked, with what its margins need; and the run."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput, options_as_arguments
from aimc_sim.hardware import Hardware
from aimc_sim.report.pages import prepare_folder
from aimc_sim.report.shown import Shown
from aimc_sim.signoff.design.margins import note_on
from aimc_sim.signoff.design.needs import needs_of, write_need
from aimc_sim.signoff.design.plan_file import Asked, Resolved, read_plan, resolve
from aimc_sim.signoff.design.trials import trials_of
from aimc_sim.signoff.execution.run import JOURNAL, run_plan
from aimc_sim.signoff.report.document import document_of
from aimc_sim.signoff.report.files import summary_of, write, write_all
from aimc_sim.signoff.report.findings import findings_of
from aimc_sim.signoff.report.previous import add_previous, check_previous
from aimc_sim.signoff.report.saved import Side
from aimc_sim.signoff.verdict import Verdict, side_of
from aimc_sim.spec import nearest
from aimc_sim.units import exact_duration, parse_duration
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.integrity import check_weights

if TYPE_CHECKING:
    from rich.console import Console

OF_THE_PLAN = ("chips", "times", "margin", "device", "seed", "session", "alpha", "looks", "threads", "metric")
OF_SAMPLES = ("sequences", "length", "text_seed")
OF_A_FILE = ("context", "limit_tokens")
OF_A_TASK = (*OF_SAMPLES, *OF_A_FILE, "batch", "text", "tasks", "num_fewshot", "limit", "tasks_dir", "rows")
OF_THE_RUN = ("output", "engine", "workers", "address", "stream", "restart", "progress")


@dataclass(frozen=True, repr=False)
class Proposal(Shown):
    """A proposal is a sign-off that can run. command: the line that makes the same report again; empty where none can
    say it.
    """

    weights: WeightFile
    asked: Asked
    resolved: Resolved
    previous: Side | None
    command: str

    @property
    def notes(self) -> list[str]:
        """What a user should know before hours are spent: devices that are left out, margins that are hardly meant."""
        wide = (note_on(task.margin) for task in self.resolved.plan.tasks if task.kind == "harness")
        return [*self.resolved.left_out, *dict.fromkeys(filter(None, wide))]

    @property
    def summary(self) -> str:
        """What would run, in one line."""
        plan = self.resolved.plan
        counts = ((len(plan.seeds), "chip"), (len(plan.times_s), "time"), (len(plan.tasks), "task"))
        said = " × ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts)
        return f"{said} on {', '.join(variant.label for variant in plan.variants)}: {len(trials_of(plan))} scores"

    def to_dict(self) -> dict[str, Any]:
        """Return the plan in short, and under ``power`` what the margins need, by what the plan file expects."""
        plan = self.resolved.plan
        needs = needs_of(self.resolved, self.asked, self.weights)
        return {
            "plan_id": plan.id,
            "cells": len(trials_of(plan)),
            "chips": len(plan.seeds),
            "times_s": list(plan.times_s),
            "hardware": [variant.label for variant in plan.variants],
            "tasks": [task.label for task in plan.tasks],
            "looks": [{"chips": chips, "alpha": alpha} for chips, alpha in plan.look_alphas],
            **({"power": needs} if needs else {}),
        }

    def print_on(self, console: Console) -> None:
        """Print the plan in short, a line each."""
        document = self.to_dict()
        needs = document.pop("power", [])
        lines = [f"{key}: {value}" for key, value in document.items()]
        for line in (*lines, *(f"power of {write_need(need)}" for need in needs)):
            console.print(line, soft_wrap=True)

    def run(
        self,
        output: str | Path | None = None,
        *,
        engine: str = "local",
        workers: int | None = 1,
        address: str | None = None,
        stream: str = "auto",
        restart: bool = False,
        progress: Progress | None = None,
    ) -> Verdict:
        """Score every trial, judge, and write the reports, if there is a folder for them: see `sign_off`."""
        _check_choice("engine", engine, ("local", "ray"))
        _check_choice("stream", stream, ("auto", "always", "never"))
        _check_count("--workers", workers)
        check_weights(self.weights, progress)
        folder = None if output is None else Path(output)
        if folder is not None:
            prepare_folder(folder)
        study = run_plan(
            self.resolved.plan, self.weights, text_path=self.resolved.text_paths, questions=self.resolved.questions,
            progress=progress, verified=True, journal=folder and folder / JOURNAL, restart=restart,
            engine=cast(Any, engine), workers=workers, address=address, stream=cast(Any, stream),
        )  # fmt: skip
        documents = [
            document_of(each.result, weight_file=self.weights, command=self.command, findings=each)
            for each in findings_of(study)
        ]
        if self.previous is not None:
            add_previous(documents, self.previous)
        if len(documents) == 1:
            return Verdict(tuple(documents), None, tuple(write(documents[0], folder) if folder else ()))
        overview = summary_of(documents, self.resolved.plan.id, self.resolved.left_out, self.command)
        return Verdict(
            tuple(documents), overview, tuple(write_all(documents, overview, folder) if folder else ())
        )


@options_as_arguments
def sign_off(
    weights: str | Path | WeightFile | None = None,
    *,
    margin: float | None = None,
    chips: int | None = None,
    times: str | float | Sequence[str | float] | None = None,
    output: str | Path | None = None,
    plan: str | Path | None = None,
    hardware: Hardware | Mapping[str, Any] | str | Path | Sequence[Hardware | str | Path] | None = None,
    device: str | None = None,
    tasks: str | Sequence[str] | None = None,
    tasks_dir: str | Path | None = None,
    rows: str | Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    metric: str | None = None,
    text: str | Path | None = None,
    sequences: int | None = None,
    length: int | None = None,
    text_seed: int | None = None,
    context: int | None = None,
    limit_tokens: int | None = None,
    seed: int | None = None,
    session: int | None = None,
    batch: int | None = None,
    alpha: float | None = None,
    looks: str | Sequence[int] | None = None,
    engine: str = "local",
    workers: int | None = 1,
    threads: int | None = None,
    address: str | None = None,
    stream: str = "auto",
    previous: str | Path | Verdict | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> Verdict:
    """Decide over chips and times whether a model survives: `aimc-sim signoff` as a function.


    weights: a weight file; not needed where the plan names one. plan: a TOML file, whose keys the other arguments
    replace. margin: the largest acceptable loss: nats per token of a text, of questions a share, such as 0.02.
    chips: 5 unless told. times: since programming, as "1h,1d", a list, or seconds; "1m,1h,1d,1y" unless told.
    output: a folder for the reports and the journal, with which an interrupted run goes on; None writes nothing.
    hardware: a preset, a TOML file, tables, or several of them, instead of the weight file's own. device: other cells,
    several with commas, or a family such as "all-pcm".

    What is scored: samples of the model itself (sequences, length, text_seed), a text (text, context, limit_tokens), or
    tasks of lm-evaluation-harness (tasks, tasks_dir, rows, limit, num_fewshot). metric: of texts "kl" or "loss".
    batch: windows a forward, of questions tokens. seed: of the first chip; session: the draw of the frozen 1/f noise.
    alpha: one-sided error; looks: numbers of chips after which to stop once it is clear, such as "3,5,8".

    engine: "local" or "ray" (address: of its cluster). workers: processes; None for as many as pay off, in a script
    that guards its main module. threads: of each. stream: layer by layer through memory, "auto", "always", "never".
    previous: an earlier verdict or its folder, for the paired difference. restart: put an old journal aside.
    progress(stage, done, total) is called as work gets done.

    Raises BadInput before anything is computed where the weight file is damaged or what is asked for does not fit.

    >>> import aimc_sim
    >>> verdict = aimc_sim.sign_off("model.h5", chips=2, times=["1m", 3600.0], margin=50.0, sequences=2, length=16)
    >>> print(verdict)
    perplexity...
    PASS...
    """
    given = locals()
    proposal = propose(**{name: value for name, value in given.items() if name not in OF_THE_RUN})
    return proposal.run(**{name: given[name] for name in OF_THE_RUN})


def propose(
    weights: str | Path | WeightFile | None = None,
    *,
    plan: str | Path | None = None,
    hardware: Any = None,
    previous: str | Path | Verdict | None = None,
    **options: Any,
) -> Proposal:
    """Check what is asked for; options, and errors about them, as `sign_off` has them. A plan may stand for weights."""
    if isinstance(weights, (str, Path)) and Path(weights).suffix == ".toml":
        weights, plan = None, weights
    options = {name: _plain(name, value) for name, value in options.items() if value is not None}
    asked, folder = (Asked(), Path()) if plan is None else (read_plan(Path(plan)), Path(plan).parent)
    if plan is not None:
        _check_no_task_option(options)
    elif "tasks" not in options:
        _check_choice("metric", options.get("metric", "kl"), ("kl", "loss"))
        _check_one_text(options)
    _check_count("--threads", options.get("threads"))
    source = folder / _named_weights(asked, plan) if weights is None else weights
    file = WeightFile.of(source)
    with _named_as_options():
        asked = _laid_over(asked, options)
        chosen = _hardware(hardware)
        default = Hardware.load("ideal") if chosen or asked.hardware is not None else file.hardware
        resolved = resolve(asked, file.id, default, folder, chosen)
    before = None if previous is None else side_of(previous)
    if before is not None:
        check_previous(before, resolved.plan)
    command, both = "", weights is not None and plan is not None
    if isinstance(hardware, (str, Path, type(None))) and not isinstance(previous, Verdict) and not both:
        more = {"previous": previous, "hardware": hardware}
        command = _command_line(Path(plan or file.path), resolved, {**options, **more}, plan is not None)
    return Proposal(file, asked, resolved, before, command)


def _plain(name: str, value: Any) -> Any:
    """Return an argument as a plan holds it. Folders of the caller count from here, not from a plan's folder."""
    if name == "times" and not isinstance(value, str):
        entries = value if isinstance(value, Sequence) else [value]
        return ",".join(
            entry if isinstance(entry, str) else exact_duration(parse_duration(entry)) for entry in entries
        )
    if name == "tasks" and not isinstance(value, str):
        return ",".join(value)
    if name in ("tasks_dir", "rows"):
        return str(Path(value).absolute())
    if name == "looks" and isinstance(value, str):
        try:
            return [int(part) for part in value.split(",")]
        except ValueError:
            raise BadInput(
                "--looks", got=value, why="looks are numbers of chips", do="write them like 3,5,8,12,20"
            ) from None
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _hardware(source: Any) -> list[Hardware]:
    """Return the hardware that was given instead of the plan's, if it was; a path counts from here."""
    several = isinstance(source, Sequence) and not isinstance(source, str)
    return [] if source is None else [Hardware.load(each) for each in (source if several else [source])]


def _named_weights(asked: Asked, plan: str | Path | None) -> str:
    if asked.weights is not None:
        return asked.weights
    if plan is None:
        raise BadInput(
            "weights", why="nothing says what to sign off", do="give a weight file, or a plan that names one"
        )
    raise BadInput(
        "weights", got=str(plan), why="the plan names no weight file", do='add weights = "model.h5"'
    )


def _laid_over(asked: Asked, options: Mapping[str, Any]) -> Asked:
    """Return the plan with the options that were given; those about what is scored make up its task, or tasks
    by name.
    """
    document = asked.model_dump(mode="json")
    of_task = {name: options[name] for name in OF_A_TASK if name in options}
    of_plan = {name: options[name] for name in OF_THE_PLAN if name in options}
    names = of_task.pop("tasks", None)
    if names is not None:
        of_task |= {"metric": of_plan.pop("metric")} if "metric" in of_plan else {}
        document["task"] = [{"harness": name.strip(), **of_task} for name in names.split(",") if name.strip()]
    elif of_task:
        document["task"] = [{"label": "text", **of_task}]
    document |= of_plan
    return Asked.parse({key: value for key, value in document.items() if value is not None}, "sign-off plan")


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(what, got=value, why=f"there is no such {what}", do=nearest(value, known))


def _check_count(what: str, count: int | None) -> None:
    if count is not None and count < 1:
        raise BadInput(what, got=count, why="a count of at least one is needed", do="use 1 or more")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_no_task_option(options: Mapping[str, Any]) -> None:
    for name in OF_A_TASK:
        if name in options:
            why = "the plan file says what is scored"
            raise BadInput(_option(name), got=options[name], why=why, do="put it into a [[task]] table")


def _check_one_text(options: Mapping[str, Any]) -> None:
    """Refuse options of the text that is not scored, instead of ignoring them."""
    samples = "it is about samples of the model, and --text names a file", "leave out"
    a_file = "it is about the file that --text names, and there is none", "give"
    names, (why, mend) = (OF_SAMPLES, samples) if "text" in options else (OF_A_FILE, a_file)
    for name in names:
        if name in options:
            do = f"leave out {_option(name)}, or {mend} --text"
            raise BadInput(_option(name), got=options[name], why=why, do=do)


_FIELDS = {
    "sign-off plan: tasks.0.text.margin_nats": "--margin",
    "sign-off plan: tasks.0.harness.margin": "--margin",
    "sign-off plan: tasks.0.text.batch": "--batch",
    "sign-off plan: tasks.0.harness.batch": "--batch",
    "sign-off plan: tasks.0.text.context": "--context",
    "sign-off plan: seeds": "--seed",
    "text: seed": "--text-seed",
    **{f"sign-off plan: {name}": f"--{name}" for name in ("margin", "alpha", "batch", "context", "session")},
    **{f"text: {name}": f"--{name}" for name in ("sequences", "length")},
}


@contextlib.contextmanager
def _named_as_options() -> Iterator[None]:
    """Let errors about a field of the plan name the option that it came from."""
    try:
        yield
    except BadInput as error:
        options = (option for name, option in _FIELDS.items() if f"{error.what}.".startswith(f"{name}."))
        raise BadInput(next(options, error.what), got=error.got, why=error.why, do=error.do) from None


def _command_line(source: Path, resolved: Resolved, options: Mapping[str, Any], from_file: bool) -> str:
    """Return the line that makes the same report again: every value that is not a default of the command."""
    plan = resolved.plan
    names = [*OF_THE_PLAN, "previous", *OF_A_TASK]
    if options.get("tasks") is not None:  # the metric is theirs
        names.remove("metric")
        names.insert(names.index("limit"), "metric")
    given = {name: options[name] for name in names if options.get(name) is not None}
    if not from_file:
        task = plan.tasks[0]
        given |= {"chips": len(plan.seeds), "margin": task.margin, "batch": task.batch}
        given["times"] = ",".join(exact_duration(time_s) for time_s in plan.times_s)
        if task.kind == "harness":
            if len(plan.tasks) == 1:  # tasks choose metrics of their own unless told
                given["metric"] = task.metric
        elif task.text.kind == "self":
            given |= {"sequences": task.text.sequences, "length": task.text.length}
        else:
            given["context"] = task.context
    if options["hardware"] is not None:
        given["hardware"] = options["hardware"]
    if "looks" in given:
        given["looks"] = ",".join(map(str, given["looks"]))
    words = [word for name, value in given.items() for word in (_option(name), str(value))]
    return shlex.join(["aimc-sim", "signoff", str(source), *words, "-o", "OUT"])
