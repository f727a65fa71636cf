"""``aimc-sim inspect FILE``: the model, its matrices, its default hardware, and where it all came from."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_json, print_table


def command(
    file: Path = typer.Argument(help="A weight file."),
    matrices: bool = typer.Option(False, "--matrices", help="List every matrix, not one line a shape."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Show what a weight file holds."""
    from aimc_sim.weightfile import WeightFile
    from aimc_sim.weightfile.description import describe

    document = describe(WeightFile(file))
    if as_json:
        print_json(document)
    else:
        _print(document, matrices)


def _print(document: dict[str, Any], every_matrix: bool) -> None:
    text, hardware, provenance = document["calibration"], document["hardware"], document["provenance"]
    count = len(document["matrices"])
    lines = {
        "file": f"{document['file']} ({document['bytes'] / 1e6:,.1f} MB, schema {document['schema_version']})",
        "id": document["id"],
        "model": f"{document['architecture']}, {document['analog_weights']:,} weights in {count} matrices"
        + (", head tied to the embedding" if document["tied_head"] else ""),
        "digital": f"{len(document['digital'])} tensors",
        **({"adapter": _adapters(document["adapters"], count)} if document["adapters"] else {}),
        "calibration": f"{text['sequences']} × {text['length']} tokens, {text['source']}" if text else "none",
        "hardware": f"{hardware['name']} ({document['hardware_id']})",
        **{key: value for key, value in provenance.items() if isinstance(value, (str, int, float))},
    }
    for key, value in lines.items():
        typer.echo(f"{key:<12} {value}")
    for source in provenance.get("files", []):
        typer.echo(f"{'from':<12} {source['name']}, sha256 {source['sha256'][:16]}…")
    typer.echo()
    names = ("role", "rows", "cols", "dtype")
    if every_matrix:
        rows = [tuple(matrix[key] for key in ("ordinal", "name", *names)) for matrix in document["matrices"]]
        print_table(("#", "matrix", "role", "rows", "columns", "dtype"), rows)
    else:
        kinds = sorted(tuple(matrix[name] for name in names) for matrix in document["matrices"])
        grouped = [(kind, len(list(members))) for kind, members in groupby(kinds)]
        print_table(("role", "count", "rows", "columns", "dtype"), [(k[0], n, *k[1:]) for k, n in grouped])


def _adapters(adapters: list[dict[str, Any]], matrices: int) -> str:
    ranks = sorted({adapter["rank"] for adapter in adapters})
    stated = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return f"low rank, digital: {stated}, beside {len(adapters)} of {matrices} matrices"
