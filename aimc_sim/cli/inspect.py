"""``aimc-sim inspect FILE``: the model, its matrices, its default hardware, and where it all came from."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aimc_sim.cli.console import print_json, print_table

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile


def command(
    file: Path = typer.Argument(help="A weight file."),
    matrices: bool = typer.Option(False, "--matrices", help="List every matrix, not one line a shape."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Show what a weight file holds."""
    from aimc_sim.weightfile import WeightFile

    weights = WeightFile(file)
    if as_json:
        print_json(describe(weights))
    else:
        _print(weights, matrices)


def describe(weights: WeightFile) -> dict[str, Any]:
    """Everything that the file says about itself, without reading a weight."""
    from dataclasses import asdict

    return {
        "file": str(weights.path),
        "id": weights.id,
        "bytes": weights.path.stat().st_size,
        "schema_version": weights.schema_version,
        "architecture": _architecture(weights),
        "analog_weights": _analog_weights(weights),
        "tied_head": weights.tied,
        "matrices": [asdict(matrix) for matrix in weights.matrices],
        "digital": list(weights.digital_names),
        "adapters": [
            {"matrix": adapter.matrix, "rank": weights.adapter_ranks[adapter.matrix], "scale": adapter.scale}
            for adapter in weights.adapters
        ],
        "calibration": _calibration(weights),
        "hardware": weights.hardware.model_dump(mode="json"),
        "hardware_id": weights.hardware.id,
        "provenance": weights.provenance,
        "config": weights.config,
    }


def _architecture(weights: WeightFile) -> str:
    named = weights.config.get("architectures") or [weights.config.get("model_type", "unknown")]
    return str(named[0])


def _analog_weights(weights: WeightFile) -> int:
    return sum(matrix.rows * matrix.cols for matrix in weights.matrices)


def _calibration(weights: WeightFile) -> dict[str, Any] | None:
    from aimc_sim.errors import BadInput

    try:
        calibration = weights.calibration
    except BadInput:  # exported without: a fact about the file, not an error here
        return None
    sequences, length = calibration.token_ids.shape
    return {"source": calibration.source, "sequences": sequences, "length": length}


def _adapters(weights: WeightFile) -> str:
    ranks = sorted(set(weights.adapter_ranks.values()))
    stated = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return f"low rank, digital: {stated}, beside {len(weights.adapters)} of {len(weights.matrices)} matrices"


def _print(weights: WeightFile, every_matrix: bool) -> None:
    seen = _calibration(weights)
    text = f"{seen['sequences']} × {seen['length']} tokens, {seen['source']}" if seen else "none"
    lines = {
        "file": f"{weights.path} ({weights.path.stat().st_size / 1e6:,.1f} MB, schema {weights.schema_version})",
        "id": weights.id,
        "model": f"{_architecture(weights)}, {_analog_weights(weights):,} weights in {len(weights.matrices)} matrices"
        + (", head tied to the embedding" if weights.tied else ""),
        "digital": f"{len(weights.digital_names)} tensors",
        **({"adapter": _adapters(weights)} if weights.adapters else {}),
        "calibration": text,
        "hardware": f"{weights.hardware.name} ({weights.hardware.id})",
    }
    for key, value in lines.items():
        typer.echo(f"{key:<12} {value}")
    for key, value in weights.provenance.items():
        if isinstance(value, (str, int, float)):
            typer.echo(f"{key:<12} {value}")
    for source in weights.provenance.get("files", []):
        typer.echo(f"{'from':<12} {source['name']}, sha256 {source['sha256'][:16]}…")
    typer.echo()
    if every_matrix:
        rows = [(m.ordinal, m.name, m.role, m.rows, m.cols, m.dtype) for m in weights.matrices]
        print_table(("#", "matrix", "role", "rows", "columns", "dtype"), rows)
    else:
        kinds = sorted((m.role, m.rows, m.cols, m.dtype) for m in weights.matrices)
        grouped = [(kind, len(list(members))) for kind, members in groupby(kinds)]
        print_table(("role", "count", "rows", "columns", "dtype"), [(k[0], n, *k[1:]) for k, n in grouped])
