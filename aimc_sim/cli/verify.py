"""``aimc-sim verify FILE``: reads every byte once. Exit code 1 where a checksum does not match, 2 where it is none."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_json
from aimc_sim.errors import BadInput


def command(
    file: Path = typer.Argument(help="A weight file."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Compare every byte of a weight file with its checksums.

    Exit codes: 0 whole, 1 damaged, 2 not readable as a weight file (missing, cut short, another format).
    """
    from aimc_sim.weightfile import WeightFile

    try:
        weights = WeightFile(file)
    except BadInput as error:
        if not as_json:
            raise
        details = {
            "message": str(error),
            "exit_code": 2,
            "what": error.what,
            "why": error.why,
            "do": error.do,
        }
        print_json({"file": str(file), "id": None, "ok": False, "problems": [str(error)], "error": details})
        raise typer.Exit(2) from None
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
