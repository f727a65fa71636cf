"""``aimc-sim verify FILE``: reads every byte once. Exit code 1 where a checksum does not match."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_json


def command(
    file: Path = typer.Argument(help="A weight file."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Compare every byte of a weight file with its checksums."""
    from aimc_sim.weightfile import WeightFile

    weights = WeightFile(file)
    problems = weights.verify()
    if as_json:
        print_json({"file": str(file), "id": weights.id, "ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            typer.echo(f"damaged: {problem}")
        typer.echo("next: copy the file again, or export it again")
    else:
        typer.echo(f"ok: {file} holds what its manifest says (id {weights.id})")
    if problems:
        raise typer.Exit(1)
