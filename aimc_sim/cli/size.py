"""``aimc-sim size MODEL``: tiles, energy, latency and area of a model on a hardware, from one description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_shown, progress_bars
from aimc_sim.cli.shared import ASSUMED, CONTEXT, HEAD, JSON, PHASE, RATE, SEED, STREAMS, TEXT, WORKERS
from aimc_sim.errors import BadInput

FIELDS = (
    "rows",
    "cols",
    "adc_bits",
    "dac_bits",
    "adcs_per_tile",
    "pair_columns",
    "devices",
    "copies",
    "t_read_ns",
)


def command(
    ctx: typer.Context,
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
    text: Path | None = TEXT,
    time: str = typer.Option("1d", "--time", help="Time since programming, for accuracy: 30s, 1h, 1d."),
    seed: int = SEED,
    workers: int | None = WORKERS,
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
    as_json: bool = JSON,
) -> None:
    """Size a model: tiles, energy, latency and area."""
    from aimc_sim.sizing.cost.estimate import size
    from aimc_sim.sizing.sweep.plan import axis

    axes: Any = {name: axis(name, ctx.params[name]) for name in FIELDS if ctx.params[name] is not None}
    shared: dict[str, Any] = {
        "hardware": hardware, "profile": profile, "device": device, "phase": phase, "context": context,
        "streams": streams, "rate": rate, "head": head, "assumed": assumed,
    }  # fmt: skip
    if metric is not None or "," in (device or "") or any(len(values) > 1 for values in axes.values()):
        if tiles is not None:
            raise BadInput(
                "--tiles", got=tiles, why="a sweep has no one pipeline", do="size one design with it"
            )
        if output is None:
            raise BadInput("sweep", why="its page and tables need a folder", do="give one with -o")
        from aimc_sim.sizing.sweep.study import sweep

        with progress_bars(quiet=as_json) as report:
            swept = sweep(
                model, **shared, metric=metric, chips=chips, points=points, tokens=tokens, text=text, time=time,
                seed=seed, workers=workers, output=output, progress=report, **axes,
            )  # fmt: skip
        print_shown(swept, as_json)
        return
    with progress_bars(quiet=as_json) as report:
        sizing = size(
            model, **shared, experts=experts, tiles=tiles, attention_units=attention_units, progress=report,
            **{name: values[0] for name, values in axes.items()},
        )  # fmt: skip
    if output is not None:
        sizing.write(output)
    if explain and not as_json:
        typer.echo(sizing.sheet)
    else:
        print_shown(sizing, as_json)
