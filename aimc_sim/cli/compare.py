"""``aimc-sim compare A B``: two sign-offs, paired on the chips and items that they share."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_shown


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
    from aimc_sim.errors import as_command
    from aimc_sim.signoff.comparison import compare

    comparison = as_command(compare)(before, after, margin=margin, alpha=alpha, task=task, output=output)
    print_shown(comparison, as_json)
    if comparison.passed is False:
        raise typer.Exit(1)
