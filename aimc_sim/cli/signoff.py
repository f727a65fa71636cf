"""``aimc-sim signoff FILE``: chips × times against the digital model, a report, and a verdict as exit code."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import typer

from aimc_sim.cli.console import print_json, progress_bars
from aimc_sim.cli.signoff_show import print_parts, print_report
from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from aimc_sim.signoff.design.plan_file import Asked, Resolved
    from aimc_sim.weightfile import WeightFile


def command(
    file: Path = typer.Argument(help="A weight file, or a plan (TOML) that names one."),
    margin: float | None = typer.Option(
        None,
        "--margin",
        help="Largest acceptable loss: nats per token of a text, of questions a share, such as 0.02.",
    ),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for the report and the journal."),
    chips: int | None = typer.Option(None, "--chips", help="How many chips are simulated; 5 unless told."),
    times: str | None = typer.Option(
        None, "--times", help="Times since programming; 1m,1h,1d,1y unless told."
    ),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    device: str | None = typer.Option(
        None, "--device", help="Other cells: a device, several with commas, or a family such as all-pcm."
    ),
    tasks: str | None = typer.Option(
        None, "--tasks", help="Tasks of lm-evaluation-harness, such as arc_easy,piqa; not a text then."
    ),
    tasks_dir: Path | None = typer.Option(None, "--tasks-dir", help="A folder of YAML files with own tasks."),
    rows: Path | None = typer.Option(None, "--rows", help="A folder of local rows, for the tasks afm_…"),
    limit: int | None = typer.Option(None, "--limit", help="Only the first questions of each task."),
    num_fewshot: int | None = typer.Option(
        None,
        "--num-fewshot",
        help="Worked examples in front of each question; the task's own number unless told.",
    ),
    metric: str | None = typer.Option(
        None,
        help="Of texts, kl: divergence from the digital model, or loss: increase of its loss. Of tasks, such as acc.",
    ),
    text: Path | None = typer.Option(
        None, "--text", help="Score this text, not samples of the model itself."
    ),
    sequences: int | None = typer.Option(None, help="Samples of the model itself; 16 unless told."),
    length: int | None = typer.Option(None, help="Tokens a sample; 128 unless told."),
    text_seed: int | None = typer.Option(None, help="Seed of the samples; 1 unless told."),
    context: int | None = typer.Option(None, help="Tokens a window of --text; 1,024 unless told."),
    limit_tokens: int | None = typer.Option(None, help="Only the first tokens of --text."),
    seed: int | None = typer.Option(None, help="Seed of the first chip; the others count on from it."),
    session: int | None = typer.Option(None, help="Which draw of the frozen 1/f noise."),
    batch: int | None = typer.Option(
        None, help="Windows a forward, of questions tokens; by default about 1,024 tokens."
    ),
    alpha: float | None = typer.Option(None, help="One-sided error of the verdict; 0.025 unless told."),
    looks: str | None = typer.Option(
        None, "--looks", help="Stop as soon as it is clear after so many chips, such as 3,5,8,12,20."
    ),
    engine: str = typer.Option("local", "--engine", help="local: processes here. ray: a cluster."),
    workers: int | None = typer.Option(None, "--workers", help="Processes; as many as pay off unless told."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of each process; 1 unless told."),
    address: str | None = typer.Option(None, "--address", help="Of a Ray cluster; none: one is started."),
    stream: str = typer.Option(
        "auto", "--stream", help="auto: go layer by layer where a model does not fit memory. always, never."
    ),
    previous: Path | None = typer.Option(
        None, "--previous", help="Folder of an earlier sign-off: the report shows the paired difference."
    ),
    restart: bool = typer.Option(False, "--restart", help="Put an old journal aside and begin again."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check the plan, show it and the study that the margin needs, and stop."
    ),
    as_json: bool = typer.Option(False, "--json", help="Write the report's JSON to stdout too."),
) -> None:
    """Decide over chips and times whether the model survives."""
    from aimc_sim.hardware import Hardware
    from aimc_sim.signoff.design.margins import note_on
    from aimc_sim.signoff.design.plan_file import Asked, read_plan, resolve
    from aimc_sim.signoff.report.previous import add_previous, check_previous
    from aimc_sim.signoff.report.saved import load
    from aimc_sim.spec import nearest
    from aimc_sim.weightfile import WeightFile

    for what, value, known in (
        ("metric", metric, ("kl", "loss")),
        ("engine", engine, ("local", "ray")),
        ("stream", stream, ("auto", "always", "never")),
    ):
        if value is not None and value not in known and (what != "metric" or tasks is None):
            raise BadInput(what, got=value, why=f"there is no such {what}", do=nearest(value, known))
    for what, count in (("--workers", workers), ("--threads", threads)):
        if count is not None and count < 1:
            raise BadInput(what, got=count, why="a count of at least one is needed", do="use 1 or more")
    chosen_engine: Literal["local", "ray"] = "ray" if engine == "ray" else "local"
    own = {"sequences": sequences, "length": length, "text_seed": text_seed}
    of_file = {"context": context, "limit_tokens": limit_tokens}
    from_file = file.suffix == ".toml"
    if not from_file and tasks is None:
        _check_one_text(text is not None, own, of_file)
    base = read_plan(file) if from_file else Asked()
    folder = file.parent if from_file else Path()
    if from_file and base.weights is None:
        raise BadInput(
            "weights", got=str(file), why="the plan names no weight file", do='add weights = "model.h5"'
        )
    weights_path = folder / base.weights if from_file and base.weights is not None else file
    weights = WeightFile(weights_path)
    changes = {
        "chips": chips, "times": times, "margin": margin, "device": device, "seed": seed,
        "session": session, "alpha": alpha, "looks": None if looks is None else _counts(looks),
        "threads": threads,
    }  # fmt: skip
    if tasks is None:
        changes["metric"] = metric
    of_task: dict[str, Any] = {
        **own, **of_file, "batch": batch, "text": None if text is None else str(text),
        "tasks": tasks, "num_fewshot": num_fewshot, "metric": None if tasks is None else metric,
        "limit": limit, "tasks_dir": _absolute(tasks_dir), "rows": _absolute(rows),
    }  # fmt: skip
    if from_file:
        _check_no_task_option(of_task)
    with _named_as_options():
        asked = _laid_over(base, changes, of_task)
        if hardware is not None:  # a path of the command line counts from here, not from the plan's folder
            asked = asked.model_copy(update={"hardware": (str(Path(hardware).absolute()),)}) if hardware.endswith(
                ".toml"
            ) else asked.model_copy(update={"hardware": (hardware,)})  # fmt: skip
        default = weights.hardware if asked.hardware is None else Hardware.load("ideal")
        resolved = resolve(asked, weights.id, default, folder)
    wide = (note_on(task.margin) for task in resolved.plan.tasks if task.kind == "harness")
    for line in (*resolved.left_out, *dict.fromkeys(filter(None, wide))):
        sys.stderr.write(f"note: {line}\n")
    before = None if previous is None else load(previous)
    if before is not None:
        check_previous(before, resolved.plan)
    if dry_run:
        _show_plan(resolved, asked, weights, as_json)
        return

    from aimc_sim.report.pages import prepare_folder
    from aimc_sim.signoff.execution.run import JOURNAL, run_plan
    from aimc_sim.signoff.report.document import document_of
    from aimc_sim.signoff.report.files import summary_of, write, write_all
    from aimc_sim.signoff.report.findings import findings_of
    from aimc_sim.weightfile.integrity import check_weights

    with progress_bars(quiet=as_json) as report:
        check_weights(weights, report)
        prepare_folder(output)
        study = run_plan(
            resolved.plan, weights, text_path=resolved.text_paths, questions=resolved.questions,
            progress=report, verified=True,
            journal=output / JOURNAL, restart=restart, engine=chosen_engine, workers=workers, address=address,
            stream=cast(Any, stream),
        )  # fmt: skip
    line = _command_line(file, resolved, {**changes, "previous": previous}, of_task, hardware, from_file)
    documents = [
        document_of(each.result, weight_file=weights, command=line, findings=each)
        for each in findings_of(study)
    ]
    if before is not None:
        add_previous(documents, before)
    passed = all(document["verdict"]["pass"] for document in documents)
    if len(documents) > 1:
        summary = summary_of(documents, resolved.plan.id, resolved.left_out, line)
        paths = write_all(documents, summary, output)
        print_json(summary) if as_json else print_parts(documents, summary, paths)
    else:
        paths = write(documents[0], output)
        print_json(documents[0]) if as_json else print_report(documents[0], paths)
    if not passed:
        raise typer.Exit(1)


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(
            "--looks", got=text, why="looks are numbers of chips", do="write them like 3,5,8,12,20"
        ) from None


def _absolute(folder: Path | None) -> str | None:
    """A folder of the command line counts from here, not from a plan's folder."""
    return None if folder is None else str(folder.absolute())


def _laid_over(base: Asked, changes: Mapping[str, Any], of_task: Mapping[str, Any]) -> Asked:
    """The plan with the options that were given; those about what is scored make up its task, or tasks by name."""
    from aimc_sim.signoff.design.plan_file import Asked

    document = base.model_dump(mode="json")
    document |= {key: value for key, value in changes.items() if value is not None}
    given = {key: value for key, value in of_task.items() if value is not None}
    names = given.pop("tasks", None)
    if names is not None:
        document["task"] = [{"harness": name.strip(), **given} for name in names.split(",") if name.strip()]
    elif given:
        document["task"] = [{"label": "text", **given}]
    return Asked.parse({key: value for key, value in document.items() if value is not None}, "sign-off plan")


def _check_no_task_option(of_task: Mapping[str, Any]) -> None:
    for key, value in of_task.items():
        if value is not None:
            option = "--" + key.replace("_", "-")
            raise BadInput(
                option, got=value, why="the plan file says what is scored", do="put it into a [[task]] table"
            )


def _show_plan(resolved: Resolved, asked: Asked, weights: WeightFile, as_json: bool) -> None:
    """What would run, and what the margins need, by what the plan file expects."""
    from aimc_sim.signoff.design.needs import needs_of, spoken_need
    from aimc_sim.signoff.design.trials import trials_of

    plan = resolved.plan
    document: dict[str, Any] = {
        "plan_id": plan.id,
        "cells": len(trials_of(plan)),
        "chips": len(plan.seeds),
        "times_s": list(plan.times_s),
        "hardware": [variant.label for variant in plan.variants],
        "tasks": [task.label for task in plan.tasks],
        "looks": [{"chips": chips, "alpha": alpha} for chips, alpha in plan.look_alphas],
    }
    needs = needs_of(resolved, asked, weights)
    if needs:
        document["power"] = needs
    if as_json:
        print_json(document)
        return
    document.pop("power", None)
    for key, value in document.items():
        typer.echo(f"{key}: {value}")
    for each in needs:
        typer.echo("power of " + spoken_need(each))


_OPTIONS = {
    "sign-off plan: tasks.0.text.margin_nats": "--margin",
    "sign-off plan: tasks.0.harness.margin": "--margin",
    "sign-off plan: tasks.0.text.batch": "--batch",
    "sign-off plan: tasks.0.harness.batch": "--batch",
    "sign-off plan: tasks.0.text.context": "--context",
    "sign-off plan: margin": "--margin",
    "sign-off plan: alpha": "--alpha",
    "sign-off plan: batch": "--batch",
    "sign-off plan: context": "--context",
    "sign-off plan: session": "--session",
    "sign-off plan: seeds": "--seed",
    "text: sequences": "--sequences",
    "text: length": "--length",
    "text: seed": "--text-seed",
}


@contextlib.contextmanager
def _named_as_options() -> Iterator[None]:
    """Errors about a field of the plan name the option that it came from."""
    try:
        yield
    except BadInput as error:
        found = next(
            (name for name in _OPTIONS if error.what == name or error.what.startswith(f"{name}.")), None
        )
        if found is None:
            raise
        raise BadInput(_OPTIONS[found], got=error.got, why=error.why, do=error.do) from None


def _check_one_text(from_file: bool, own: dict[str, int | None], of_file: dict[str, int | None]) -> None:
    """Refuse options of the text that is not scored, instead of ignoring them."""
    for key, value in (own if from_file else of_file).items():
        if value is not None:
            option = "--text-seed" if key == "seed" else f"--{key}"
            raise BadInput(
                option,
                got=value,
                why="it is about samples of the model, and --text names a file"
                if from_file
                else "it is about the file that --text names, and there is none",
                do=f"leave out {option}, or {'leave out' if from_file else 'give'} --text",
            )


def _command_line(
    file: Path,
    resolved: Resolved,
    changes: Mapping[str, Any],
    of_task: Mapping[str, Any],
    hardware: str | None,
    from_file: bool,
) -> str:
    """The line that makes the same report again: every value that is not a default of the command."""
    from aimc_sim.signoff.design.plan_file import exact_duration

    plan, parts = resolved.plan, ["aimc-sim", "signoff", str(file)]
    given = {key: value for key, value in {**changes, **of_task}.items() if value is not None}
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
    if hardware is not None:
        given["hardware"] = hardware
    if "looks" in given:
        given["looks"] = ",".join(map(str, given["looks"]))
    for key, value in given.items():
        parts += ["--" + key.replace("_", "-"), str(value)]
    return shlex.join([*parts, "-o", "OUT"])
