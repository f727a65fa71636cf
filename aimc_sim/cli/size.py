"""``aimc-sim size MODEL``: tiles, energy, latency and area of a model on a hardware, from one description."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import typer

from aimc_sim.cli.console import check_file, print_json
from aimc_sim.cli.scenario import ASSUMED, CONTEXT, HEAD, PHASE, RATE, STREAMS, scenario
from aimc_sim.errors import BadInput


def command(
    model: str = typer.Argument(
        help="A weight file, a config.json, or a model of the catalogue (Llama-3.2-1B)."
    ),
    hardware: str | None = typer.Option(
        None, help="A preset or TOML file; the weight file's default, else hermes-256."
    ),
    profile: str | None = typer.Option(
        None, help="Constants of cost: a profile or TOML file; by the device's name."
    ),
    phase: str = PHASE,
    context: int = CONTEXT,
    streams: int = STREAMS,
    rate: float | None = RATE,
    head: bool = HEAD,
    rows: str | None = typer.Option(
        None, help="Rows of a tile, instead of the hardware's. Several, 128:1024 or 128,256, make a sweep."
    ),
    cols: str | None = typer.Option(
        None, help="Columns of a tile, instead of the hardware's; in a sweep of rows, as many as those."
    ),
    adc_bits: str | None = typer.Option(None, help="Bits of the ADC, instead of the hardware's: 8, or 5:9."),
    dac_bits: str | None = typer.Option(None, help="Bits of the DAC, instead of the hardware's."),
    adcs_per_tile: str | None = typer.Option(None, help="Converters that share the columns of a tile."),
    pair_columns: str | None = typer.Option(
        None, help="2: the two polarities of a weight are columns of their own."
    ),
    devices: str | None = typer.Option(None, help="Cells a polarity: 1, 2 or 1,2."),
    copies: str | None = typer.Option(None, help="Sets of tiles that hold the same weights: 2, or 1:4."),
    t_read_ns: str | None = typer.Option(None, help="Time of a read; read noise follows it."),
    device: str | None = typer.Option(None, help="Other cells for the hardware; several (a,b) make a sweep."),
    metric: str | None = typer.Option(
        None, help="Of a sweep: sqnr or ppl, measured by the simulator, or cost alone."
    ),
    chips: int = typer.Option(3, help="Chips of the best designs, for --metric ppl."),
    points: int = typer.Option(10, help="Designs whose perplexity is measured in full."),
    tokens: int = typer.Option(1024, help="Tokens of text for --metric ppl."),
    text: Path | None = typer.Option(None, "--text", help="Score this text, not the calibration text."),
    time: str = typer.Option("1d", "--time", help="Time since programming, for accuracy: 30s, 1h, 1d."),
    seed: int = typer.Option(0, help="The first chip."),
    workers: int | None = typer.Option(None, help="Processes; as many as pay off unless told."),
    experts: str = typer.Option("packed", help="packed: beside their layer; spread: on chips of their own."),
    tiles: int | None = typer.Option(
        None, help="Tiles in all: slow steps get copies until they last, for many streams."
    ),
    attention_units: int = typer.Option(1, help="Digital units for attention a layer, beside --tiles."),
    assumed: bool = ASSUMED,
    explain: bool = typer.Option(False, "--explain", help="The whole sheet: numbers, formulas, sources."),
    output: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        help="Folder for size.json and layers.csv; of a sweep, for its page and tables.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Size a model: tiles, energy, latency and area."""
    from aimc_sim.sizing import size
    from aimc_sim.sizing.cost.sheet import sheet, summary
    from aimc_sim.sizing.sweep.plan import axis

    asked = scenario(phase, context, streams, head, rate)
    chosen = {"rows": rows, "cols": cols, "adc_bits": adc_bits, "dac_bits": dac_bits, "adcs_per_tile": adcs_per_tile,
              "pair_columns": pair_columns, "devices": devices, "copies": copies, "t_read_ns": t_read_ns}  # fmt: skip
    axes = {name: axis(name.replace("_", "-"), value) for name, value in chosen.items() if value is not None}
    several = device is not None and "," in device
    if several or metric is not None or any(len(values) > 1 for values in axes.values()):
        from aimc_sim.cli import sweep as sweeping

        if tiles is not None:
            raise BadInput(
                "--tiles", got=tiles, why="a sweep has no one pipeline", do="size one design with it"
            )

        sweeping.sweep(
            model, hardware, device, profile, asked, axes, metric=metric, chips=chips, points=points, tokens=tokens,
            text=text, time=time, seed=seed, assumed=assumed, workers=workers, output=output, as_json=as_json,
        )  # fmt: skip
        return
    from aimc_sim.cli.sweep import hardware_of, weight_file_of

    design = {name: values[0] for name, values in axes.items()}
    file, chip = weight_file_of(model), cast(Any, hardware)
    if file is not None:
        check_file(file, as_json)
    if device is not None:
        (chip,) = hardware_of(model, hardware, device)
    found = size(
        model,
        chip,
        profile,
        asked,
        assumed=assumed,
        experts=experts,
        tiles=tiles,
        attention_units=attention_units,
        **design,
    )
    document = found.to_json()
    if output is not None:
        _write(output, document, [*sheet(found), "", *_warnings(found.warnings)])
    if as_json:
        print_json(document)
        return
    lines = sheet(found) if explain else summary(found)
    sys.stdout.write("\n".join([*lines, *_warnings(found.warnings)]) + "\n")


def _warnings(found: tuple[str, ...]) -> list[str]:
    return [f"WARNING: {line}" for line in found]


def _write(folder: Path, document: dict[str, Any], lines: list[str]) -> None:
    """Write size.json, size.txt and layers.csv."""
    import json

    from aimc_sim.files import write_together
    from aimc_sim.identity import finite_json
    from aimc_sim.report.pages import prepare_folder, to_csv

    keys = (
        "name",
        "tiles",
        "utilisation",
        "conversions_per_token",
        "energy_per_token_j",
        "latency_per_token_s",
        "area_mm2",
    )
    parts = list(document["total"]["components"])
    rows: list[list[Any]] = [[*keys, *(f"{part}_energy_per_token_j" for part in parts)]]
    for layer in document["layers"]:
        energies = [layer["components"][part]["energy_per_token_j"] for part in parts]
        rows.append([*(layer[key] for key in keys), *energies])
    texts = {
        "size.json": json.dumps(finite_json(document), indent=2, ensure_ascii=False) + "\n",
        "size.txt": "\n".join(lines) + "\n",
        "layers.csv": to_csv(rows),
    }
    prepare_folder(folder)
    write_together({folder / name: text for name, text in texts.items()})
