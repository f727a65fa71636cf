"""``aimc-sim merge STORE OTHER …``: puts what other machines have computed of a study into one store."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_json


def command(
    store: Path = typer.Argument(help="journal.sqlite of a sign-off, or sweep.sqlite or sensitivity.sqlite."),
    others: list[Path] = typer.Argument(help="Files of the same study, begun elsewhere."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Put what others have computed of a study into one store.

    Only of the same plan and the same code; what both hold must agree. The study's own command then goes on from there.
    """
    from aimc_sim.studies.store import Store

    with Store(store, None) as mine:
        new = {str(other): mine.merge(other) for other in others}
        finished = len(mine.finished())
    if as_json:
        print_json({"store": str(store), "new": new, "finished": finished})
        return
    for other, rows in new.items():
        typer.echo(f"{other}: {rows} new")
    typer.echo(f"{store}: {finished} finished")
