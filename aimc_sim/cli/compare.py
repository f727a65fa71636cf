"""``aimc-sim compare A B``: two sign-offs, paired on the chips and items that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_json, print_table
from aimc_sim.errors import BadInput


def command(
    before: Path = typer.Argument(help="Folder or report.json of the sign-off to compare with."),
    after: Path = typer.Argument(help="Folder or report.json of the new sign-off."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="Folder for compare.html, .json and .md."
    ),
    margin: float | None = typer.Option(
        None, "--margin", help="Largest acceptable worsening, in the task's unit; without it no verdict."
    ),
    alpha: float = typer.Option(0.025, help="One-sided error of the verdict."),
    task: str | None = typer.Option(None, "--task", help="Only that task."),
    as_json: bool = typer.Option(False, "--json", help="Write the comparison's JSON to stdout too."),
) -> None:
    """Compare two sign-offs on the chips and items that they share."""
    from aimc_sim.signoff.report.compare import compare, write
    from aimc_sim.signoff.report.saved import load

    if output is not None and output.exists() and not output.is_dir():
        raise BadInput("output folder", got=str(output), why="it is a file", do="choose another with -o")
    document = compare(load(before), load(after), margin=margin, alpha=alpha, task=task)
    paths = [] if output is None else write(document, output)
    if as_json:
        print_json(document)
    else:
        _print(document, paths)
    if document["pass"] is False:
        raise typer.Exit(1)


def _print(document: dict[str, Any], paths: list[Path]) -> None:
    from aimc_sim.signoff.report.figures import measure_of
    from aimc_sim.signoff.report.headline import interval_of
    from aimc_sim.signoff.report.words import sig

    for part in document["parts"]:
        measure = measure_of(part["metric"])
        rows = [
            (
                at["time"],
                sig(measure.scale * at["before"]),
                sig(measure.scale * at["after"]),
                sig(measure.scale * at["mean"]),
                interval_of(at["interval_95"], measure.scale).replace("\u200b", "") or "no interval",
            )
            for at in part["times"]
        ]
        typer.echo(f"{part['name']}: {part['chips']} shared chips, {part['items']} items")
        print_table(("after", "before", "now", f"worse by, {measure.many}", "95 % interval"), rows)
        typer.echo(part["summary"])
        typer.echo()
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    if document["pass"] is not None:
        typer.echo("PASS" if document["pass"] else "FAIL")
    for path in paths:
        typer.echo(str(path))
