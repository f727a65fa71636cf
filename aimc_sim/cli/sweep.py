"""The sweep behind ``aimc-sim size`` with several values of an option."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.cli.console import check_file, print_json, print_table, progress_bars
from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware
    from aimc_sim.sizing import Scenario
    from aimc_sim.sizing.sweep.run import Sweep
    from aimc_sim.weightfile import WeightFile


def weight_file_of(model: str) -> WeightFile | None:
    """The weight file of that path; None for what is sized from its shapes."""
    from aimc_sim.weightfile import WeightFile

    path = Path(model)
    return WeightFile(path) if path.is_file() and path.suffix in (".h5", ".hdf5") else None


def hardware_of(model: str, hardware: str | None, device: str | None) -> tuple[Hardware, ...]:
    """The hardware of a model, with each of the devices that are named."""
    from aimc_sim.hardware import Hardware
    from aimc_sim.sizing.cost.document import FALLBACK

    file = weight_file_of(model) if hardware is None else None
    chip = Hardware.load(hardware or FALLBACK) if file is None else file.hardware
    if device is None:
        return (chip,)
    return tuple(chip.with_device(name.strip()) for name in dict.fromkeys(device.split(",")))


def sweep(
    model: str,
    hardware: str | None,
    device: str | None,
    profile: str | None,
    scenario: Scenario,
    axes: Mapping[str, Sequence[float]],
    *,
    metric: str | None,
    chips: int,
    points: int,
    tokens: int,
    text: Path | None,
    time: str,
    seed: int,
    assumed: bool,
    workers: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run a sweep, or go on with it, and write its page and tables."""
    from aimc_sim.evaluate.text import file_text
    from aimc_sim.report.pages import prepare_folder
    from aimc_sim.sizing import Profile, Workload, accuracy
    from aimc_sim.sizing.accuracy import Text
    from aimc_sim.sizing.sweep.explorer import check_plotly, write
    from aimc_sim.sizing.sweep.plan import SweepPlan, space_of
    from aimc_sim.sizing.sweep.run import run_sweep
    from aimc_sim.studies.sources import code_version
    from aimc_sim.units import parse_duration

    if output is None:
        raise BadInput("sweep", why="its page and tables need a folder", do="give one with -o")
    if workers is not None and workers < 1:
        raise BadInput("--workers", got=workers, why="somebody has to do it", do="use 1 or more")
    work = Workload.of(model)
    measured = metric or ("cost" if work.file is None else "sqnr")
    if measured not in ("cost", "sqnr", "ppl"):
        raise BadInput(
            "--metric", got=measured, why="accuracy is noise or perplexity", do="use sqnr, ppl or cost"
        )
    if measured != "cost" and work.file is None:
        raise BadInput(
            "--metric",
            got=measured,
            why="shapes have no weights to simulate",
            do="give a weight file, or use cost",
        )
    designs = hardware_of(model, hardware, device)
    costs = None if profile is None else Profile.load(profile)
    space = space_of(designs, [costs] * len(designs), axes)
    time_s = parse_duration(time)
    for chip in designs:
        chip.check_time(time_s)
    if measured != "cost":
        _ = space.hardware  # a design that cannot be simulated is refused before anything is written
    check_plotly()
    if work.file is not None:
        check_file(work.file, as_json)
    prepare_folder(output)
    plan = SweepPlan.parse(
        {
            "model": work.model.name if work.file is None else work.file.id,
            "code": "" if measured == "cost" else code_version(accuracy.__name__),
            "hardware": [chip.model_dump(mode="json") for chip in designs],
            "profiles": [variant.profile.id for variant in space.variants],
            "axes": {name: list(values) for name, values in axes.items()},
            "scenario": asdict(scenario), "metric": measured, "seed": seed, "time_s": time_s, "chips": chips,
            "points": points, "tokens": tokens, "text": None if text is None else file_text(text).sha256,
        },
        "sweep",
    )  # fmt: skip
    scored = Text(plan.tokens, text, plan.context)
    with progress_bars(quiet=as_json) as report:
        found = run_sweep(
            plan, space, work, output, text=scored, assumed=assumed, workers=workers, progress=report
        )
    command = ["aimc-sim", "size", model]
    one = None if device is None or "," in device else device
    for name, value in (("--hardware", hardware), ("--device", one), ("--profile", profile)):
        command += [] if value is None else [name, value]
    written = write(found, output, shlex.join(command))
    if as_json:
        print_json(_summary(found, written))
    else:
        _show(found, written)


def _rows(found: Sweep) -> list[dict[str, Any]]:
    """The points on the front, cheapest first."""
    from aimc_sim.sizing.sweep.table import columns

    table = columns(found)
    rows = [
        {name: values[i] for name, values in table.items()} for i in table["point"] if table["on_front"][i]
    ]
    return sorted(rows, key=lambda row: float(row["energy_per_token_j"]))


def _summary(found: Sweep, written: list[Path]) -> dict[str, Any]:
    from aimc_sim.sizing.sweep.explorer import notes

    return {
        "model": found.workload.model.name, "plan_id": found.plan.id, "points": len(found.space),
        "designs_with_noise": len(found.noise), "designs_with_perplexity": len(found.losses),
        "front": _rows(found), "notes": notes(found), "files": [str(path) for path in written],
    }  # fmt: skip


def _show(found: Sweep, written: list[Path]) -> None:
    from aimc_sim.report.words import si
    from aimc_sim.sizing.sweep.explorer import lead, notes

    rows = _rows(found)
    names = [
        "tile",
        "ADC bits",
        "converters",
        "SQNR, dB",
        "loss, nats",
        "energy/token",
        "latency/token",
        "mm²",
    ]

    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    shown = [
        (
            f"{row['rows']} × {row['cols']}", row["adc_bits"], row["adcs_per_tile"], number(row["sqnr_db"], 2),
            number(row["loss_nats"], 3), si(row["energy_per_token_j"], "J"), si(row["latency_per_token_s"], "s"),
            number(row["area_mm2"], 1),
        )
        for row in rows[:: max(1, -(-len(rows) // 12))]
    ]  # fmt: skip
    sys.stdout.write(f"{len(found.space):,} points, {len(rows):,} on the front. {lead(found)}\n")
    print_table(names, shown)
    for note in notes(found):
        sys.stdout.write(f"NOTE: {note}\n")
    sys.stdout.write("".join(f"{path}\n" for path in written))
