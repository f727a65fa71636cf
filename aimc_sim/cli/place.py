"""``aimc-sim place FILE --budget …``: which matrices stay digital."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_shown, progress_bars
from aimc_sim.cli.shared import (
    ASSUMED,
    CONTEXT,
    FILE,
    HARDWARE,
    HEAD,
    JSON,
    METRIC,
    PHASE,
    RATE,
    SEED,
    STREAMS,
    TEXT,
    TIME,
    TOKENS,
    WORKERS,
)  # fmt: skip


def command(
    ctx: typer.Context,
    weights: Path = FILE,
    budget: str = typer.Option(
        ..., help="Loss that may remain: nats per token (0.2), or a share of what analog cells lose (50%)."
    ),
    analog: float = typer.Option(0.9, help="Share of the weights that stays in tiles."),
    hardware: str | None = HARDWARE,
    profile: str | None = typer.Option(None, help="Constants of cost; by the device's name."),
    phase: str = PHASE,
    context: int = CONTEXT,
    streams: int = STREAMS,
    rate: float | None = RATE,
    head: bool = HEAD,
    assumed: bool = ASSUMED,
    moves: str = typer.Option(
        "digital,rotate,copies,devices,adc-bits",
        help="What may be done to a matrix, as far as the hardware allows it.",
    ),
    unseen: int = typer.Option(3, help="Chips that the search has not seen, for the check."),
    forwards: int = typer.Option(
        300, help="Budget of the sensitivity profile: forward passes over the text."
    ),
    chips: int = typer.Option(2, help="Chips of the search."),
    metric: str = METRIC,
    tokens: int = TOKENS,
    text: Path | None = TEXT,
    time: str = TIME,
    seed: int = SEED,
    workers: int | None = WORKERS,
    output: Path = typer.Option(
        Path("placement"),
        "-o",
        "--output",
        help="Folder; one of `aimc-sim sensitivity` has the profile already.",
    ),
    as_json: bool = JSON,
) -> None:
    """Choose which matrices stay digital, or are held better, to meet an accuracy with the least energy."""
    from aimc_sim.sizing.partition.study import choose_partition

    options = {name: value for name, value in ctx.params.items() if name != "as_json"}
    with progress_bars(quiet=as_json) as report:
        result = choose_partition(**options, progress=report)
    print_shown(result, as_json)
    if not result.passed:
        raise typer.Exit(1)
