"""``aimc-sim signoff FILE``: chips × times against the digital model, a report, and a verdict as exit code."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer

from aimc_sim.cli.console import print_json, progress_bars
from aimc_sim.errors import BadInput
from aimc_sim.units import format_duration, parse_durations


def command(
    file: Path = typer.Argument(help="A weight file."),
    margin: float = typer.Option(..., "--margin", help="Largest acceptable loss, nats per token."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for report.html and report.json."),
    chips: int = typer.Option(5, "--chips", help="How many chips are simulated."),
    times: str = typer.Option("1m,1h,1d,1y", "--times", help="Times since programming."),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    metric: str = typer.Option(
        "kl", help="kl: divergence from the digital model. loss: increase of its loss."
    ),
    text: Path | None = typer.Option(
        None, "--text", help="Score this text, not samples of the model itself."
    ),
    sequences: int | None = typer.Option(None, help="Samples of the model itself; 16 unless told."),
    length: int | None = typer.Option(None, help="Tokens a sample; 128 unless told."),
    text_seed: int | None = typer.Option(None, help="Seed of the samples; 1 unless told."),
    context: int | None = typer.Option(None, help="Tokens a window of --text; 1,024 unless told."),
    limit_tokens: int | None = typer.Option(None, help="Only the first tokens of --text."),
    seed: int = typer.Option(0, help="Seed of the first chip; the others count on from it."),
    session: int = typer.Option(0, help="Which draw of the frozen 1/f noise."),
    batch: int | None = typer.Option(None, help="Windows a forward; by default about 1,024 tokens."),
    alpha: float = typer.Option(0.025, help="One-sided error of the verdict."),
    as_json: bool = typer.Option(False, "--json", help="Write the report's JSON to stdout too."),
) -> None:
    """Decide over chips and times whether the model survives."""
    from aimc_sim.evaluate.text import SelfText, file_text
    from aimc_sim.hardware import Hardware
    from aimc_sim.signoff.plan import make_plan
    from aimc_sim.spec import nearest
    from aimc_sim.weightfile import WeightFile

    if metric not in ("kl", "loss"):
        raise BadInput(
            "metric", got=metric, why="there is no such metric", do=nearest(metric, ("kl", "loss"))
        )
    chosen_metric: Literal["kl", "loss"] = "kl" if metric == "kl" else "loss"
    own = {"sequences": sequences, "length": length, "seed": text_seed}
    _check_one_text(text is not None, own, {"context": context, "limit-tokens": limit_tokens})
    weights = WeightFile(file)
    chosen = weights.hardware if hardware is None else Hardware.load(hardware)
    with _named_as_options():
        spec = (
            file_text(text, limit_tokens)
            if text is not None
            else SelfText.parse({key: value for key, value in own.items() if value is not None}, "text")
        )
        plan = make_plan(
            weights=weights.id,
            hardware=chosen,
            chips=chips,
            times_s=parse_durations(times),
            margin_nats=margin,
            text=spec,
            seed=seed,
            context=context,
            batch=batch,
            metric=chosen_metric,
            alpha=alpha,
            session=session,
        )

    from aimc_sim.signoff.report import document_of, prepare_folder, write
    from aimc_sim.signoff.run import check_weights, run_plan

    with progress_bars(quiet=as_json) as report:
        check_weights(weights, report)
        prepare_folder(output)
        result = run_plan(plan, weights, text_path=text, progress=report, verified=True)
    document = document_of(result, weight_file=weights, command=_command_line(file, plan, hardware, text))
    paths = write(document, output)
    if as_json:
        print_json(document)
    else:
        _print(document, paths)
    if not document["verdict"]["pass"]:
        raise typer.Exit(1)


_OPTIONS = {
    "sign-off plan: margin_nats": "--margin",
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


def _command_line(file: Path, plan: Any, hardware: str | None, text: Path | None) -> str:
    """The line that makes the same report again: every value that is not a default of the command."""
    parts = [
        "aimc-sim",
        "signoff",
        str(file),
        "--chips",
        str(len(plan.seeds)),
        "--times",
        ",".join(_exact(t) for t in plan.times_s),
        "--margin",
        f"{plan.margin_nats!r}",
    ]
    if hardware is not None:
        parts += ["--hardware", hardware]
    if text is not None:
        parts += ["--text", str(text), "--context", str(plan.context)]
        parts += [] if plan.text.limit_tokens is None else ["--limit-tokens", str(plan.text.limit_tokens)]
    else:
        parts += ["--sequences", str(plan.text.sequences), "--length", str(plan.text.length)]
        parts += [] if plan.text.seed == 1 else ["--text-seed", str(plan.text.seed)]
    for option, value, default in (
        ("--metric", plan.metric, "kl"),
        ("--seed", plan.seeds[0], 0),
        ("--session", plan.session, 0),
        ("--alpha", plan.alpha, 0.025),
    ):
        parts += [] if value == default else [option, str(value)]
    parts += ["--batch", str(plan.batch), "-o", "OUT"]
    return shlex.join(parts)


def _exact(seconds: float) -> str:
    """A duration that parses back to the same number."""
    from aimc_sim.units import parse_duration

    named = format_duration(seconds)
    return named if parse_duration(named) == seconds else f"{seconds!r}s"


def _print(document: dict[str, Any], paths: tuple[Path, Path]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from aimc_sim.signoff.words import nats_text, perplexity_text

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 120
    table = Table(box=None, pad_edge=False, header_style="bold", title=None)
    for column in ("", "perplexity", "KL, nats", "agreement"):
        table.add_column(column, justify="left" if not column else "right")
    rows = document["rows"]
    table.add_row("digital", *_figures(rows["digital"]))
    table.add_row("converters only (ideal cells)", *_figures(rows["converters_only"]))
    for at in rows["times"]:
        low, high = at["kl_nats"]["interval_95"]
        name = f"{len(at['chips'])} {'chip' if len(at['chips']) == 1 else 'chips'}, {at['time']}"
        between = "" if low is None or high is None else f" ({nats_text(low)} to {nats_text(high)})"
        table.add_row(
            Text(name, style="bold"),
            perplexity_text(at["perplexity"]["mean"]),
            f"{nats_text(at['kl_nats']['mean'])}{between}",
            f"{100 * at['agreement']['mean']:.1f} %",
        )
        for chip in at["chips"]:
            table.add_row(Text(f"  seed {chip['seed']}", style="dim"), *_figures(chip))
    console.print(table)
    verdict = document["verdict"]
    console.print()
    console.print(
        Text("PASS" if verdict["pass"] else "FAIL", style="bold green" if verdict["pass"] else "bold red")
    )
    console.print(verdict["summary"], markup=False)
    for note in document["notes"]:
        console.print(f"note: {note}", markup=False, style="dim")
    for path in reversed(paths):
        console.print(str(path), markup=False, soft_wrap=True)


def _figures(scores: dict[str, Any]) -> tuple[str, str, str]:
    from aimc_sim.signoff.words import nats_text, perplexity_text

    return (
        perplexity_text(scores["perplexity"]),
        nats_text(scores["kl_nats"]),
        f"{100 * scores['agreement']:.1f} %",
    )
