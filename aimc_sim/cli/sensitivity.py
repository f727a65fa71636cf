"""``aimc-sim sensitivity FILE``: which matrices hurt when they are analog."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aimc_sim.cli.console import check_file, print_json, print_table, progress_bars
from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from aimc_sim.sizing.partition.sensitivity import Estimate, Sensitivity


def command(
    file: Path = typer.Argument(help="A weight file."),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    forwards: int = typer.Option(300, help="Budget: forward passes over the text."),
    chips: int = typer.Option(2, help="Chips, the same for every matrix."),
    metric: str = typer.Option("kl", help="kl (from the digital model) or loss, nats per token."),
    tokens: int = typer.Option(1024, help="Tokens of text."),
    text: Path | None = typer.Option(None, "--text", help="Score this text, not the calibration text."),
    time: str = typer.Option("1d", "--time", help="Time since programming: 30s, 1h, 1d, 1y."),
    seed: int = typer.Option(0, help="The first chip."),
    workers: int | None = typer.Option(None, help="Processes; as many as pay off unless told."),
    output: Path = typer.Option(
        Path("sensitivity"), "-o", "--output", help="Folder; a run that was killed goes on there."
    ),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Show which matrices cost accuracy when they are analog."""
    from aimc_sim.sizing.partition.sensitivity import Measuring, profile

    plan, weight_file, chip, scored = prepared(
        file, hardware, output, forwards=forwards, chips=chips, metric=metric, tokens=tokens, text=text,
        time=time, seed=seed, workers=workers, quiet=as_json,
    )  # fmt: skip
    with (
        progress_bars(quiet=as_json) as report,
        Measuring(
            plan, weight_file, chip, output, text=scored, workers=workers, progress=report
        ) as measuring,
    ):
        found = profile(measuring, weight_file, chip)
    write(found, output)
    if as_json:
        print_json(found.to_json())
        return
    show(found)
    sys.stdout.write(f"{output / 'sensitivity.json'}\n{output / 'sensitivity.csv'}\n")


def prepared(
    file: Path, hardware: str | None, output: Path, *, forwards: int, chips: int, metric: str, tokens: int,
    text: Path | None, time: str, seed: int, workers: int | None, quiet: bool,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Plan, weight file, hardware and text of a profile, checked before anything runs, every byte of the file too."""
    from aimc_sim.evaluate.text import file_text
    from aimc_sim.hardware import Hardware
    from aimc_sim.report.pages import prepare_folder
    from aimc_sim.sizing import accuracy
    from aimc_sim.sizing.accuracy import Text
    from aimc_sim.sizing.partition import bench, moves
    from aimc_sim.sizing.partition import sensitivity as profiles
    from aimc_sim.sizing.partition.sensitivity import SensitivityPlan
    from aimc_sim.studies.sources import code_version
    from aimc_sim.units import parse_duration
    from aimc_sim.weightfile import WeightFile

    if workers is not None and workers < 1:
        raise BadInput("--workers", got=workers, why="somebody has to do it", do="use 1 or more")
    weight_file = WeightFile(file)
    chip = weight_file.hardware if hardware is None else Hardware.load(hardware)
    time_s = parse_duration(time)
    chip.check_time(time_s)
    code = code_version(*(module.__name__ for module in (accuracy, bench, moves, profiles)))
    plan = SensitivityPlan.parse(
        {
            "weights": weight_file.id, "code": code,
            "hardware": chip.model_dump(mode="json"),
            "seed": seed, "chips": chips, "time_s": time_s, "forwards": forwards, "tokens": tokens,
            "text": None if text is None else file_text(text).sha256, "metric": metric,
        },
        "sensitivity",
    )  # fmt: skip
    check_file(weight_file, quiet)
    prepare_folder(output)
    return plan, weight_file, chip, Text(plan.tokens, text, plan.context)


def write(found: Sensitivity, folder: Path) -> None:
    """sensitivity.json and sensitivity.csv."""
    from aimc_sim.files import write_together
    from aimc_sim.report.pages import to_csv, to_json

    ends = ("mean", "low", "high")
    rows: list[list[Any]] = [[
        "matrix", "role", "weights", "sqnr_db", "share_nats", "measured",
        *(f"{kind}_{end}_nats" for kind in ("alone", "won") for end in ends),
    ]]  # fmt: skip
    for row in found.to_json()["matrices"]:
        both = [row[kind][end] if row[kind] else None for kind in ("alone", "won") for end in ends]
        keys = ("name", "role", "weights", "sqnr_db", "share", "measured")
        rows.append([*(row[key] for key in keys), *both])
    write_together({
        folder / "sensitivity.json": to_json(found.to_json()), folder / "sensitivity.csv": to_csv(rows),
    })  # fmt: skip


def number(value: Estimate | None) -> str:
    """0.123 (0.101 to 0.145); a dash where there was no forward pass."""
    if value is None:
        return "–"
    if value.low == value.high:
        return f"{value.mean:.4f}"
    return f"{value.mean:.4f} ({value.low:.4f} to {value.high:.4f})"


def show(found: Sensitivity, rows: int = 16) -> None:
    """The profile's head, as a table."""
    measured = sum(matrix.measured for matrix in found.matrices)
    what = "KL divergence" if found.plan.metric == "kl" else "loss"
    sys.stdout.write(
        f"{what}, nats per token: {number(found.all)} with every matrix in tiles, {number(found.converters)} with "
        f"converters alone.\n{found.forwards:,} forward passes measured {measured} of {len(found.matrices)} matrices "
        f"on {found.plan.chips} chips; the others' shares are estimates from the noise of their products.\n"
    )
    total = sum(matrix.share for matrix in found.matrices) or 1.0
    print_table(
        ("matrix", "share of the loss", "alone analog", "won when digital"),
        [
            (
                matrix.name,
                f"{100 * matrix.share / total:.1f} %{'' if matrix.measured else ' (estimate)'}",
                number(matrix.alone),
                number(matrix.won),
            )
            for matrix in found.matrices[:rows]
        ],
    )
