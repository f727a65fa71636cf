"""``aimc-sim sensitivity FILE``: which matrices hurt when they are analog."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from aimc_sim.cli.console import print_shown, progress_bars
from aimc_sim.cli.shared import FILE, HARDWARE, JSON, METRIC, SEED, TEXT, TIME, TOKENS, WORKERS


def command(
    ctx: typer.Context,
    weights: Path = FILE,
    hardware: str | None = HARDWARE,
    forwards: int = typer.Option(300, help="Budget: forward passes over the text."),
    chips: int = typer.Option(2, help="Chips, the same for every matrix."),
    metric: str = METRIC,
    tokens: int = TOKENS,
    text: Path | None = TEXT,
    time: str = TIME,
    seed: int = SEED,
    workers: int | None = WORKERS,
    output: Path = typer.Option(
        Path("sensitivity"), "-o", "--output", help="Folder; a run that was killed goes on there."
    ),
    as_json: bool = JSON,
) -> None:
    """Show which matrices cost accuracy when they are analog."""
    from aimc_sim.sizing.partition.study import measure_sensitivity

    options = {name: value for name, value in ctx.params.items() if name != "as_json"}
    with progress_bars(quiet=as_json) as report:
        result = measure_sensitivity(**options, progress=report)
    print_shown(result, as_json)
    if not as_json:
        sys.stdout.write(f"{output / 'sensitivity.json'}\n{output / 'sensitivity.csv'}\n")
