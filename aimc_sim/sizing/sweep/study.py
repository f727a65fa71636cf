"""`sweep`: a design space, as an architect asks for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import file_text
from aimc_sim.hardware import HardwareSource
from aimc_sim.sizing import accuracy
from aimc_sim.sizing.accuracy import Text
from aimc_sim.sizing.cost.estimate import Model, hardware_of
from aimc_sim.sizing.cost.profile import Profile
from aimc_sim.sizing.cost.workload import Phase, Scenario, Workload
from aimc_sim.sizing.folders import folder_for
from aimc_sim.sizing.measurements import check_workers
from aimc_sim.sizing.sweep.explorer import check_plotly
from aimc_sim.sizing.sweep.plan import METRICS, SweepPlan, axis, space_of
from aimc_sim.sizing.sweep.result import Sweep
from aimc_sim.sizing.sweep.run import run_sweep
from aimc_sim.studies import sources
from aimc_sim.units import parse_duration
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.integrity import check_weights


def sweep(
    model: Model,
    hardware: HardwareSource | None = None,
    profile: Profile | str | Path | None = None,
    scenario: Scenario | None = None,
    *,
    device: str | Sequence[str] | None = None,
    phase: Phase | None = None,
    context: int | None = None,
    streams: int | None = None,
    head: bool | None = None,
    rate: float | None = None,
    metric: str | None = None,
    chips: int = 3,
    points: int = 10,
    tokens: int = 1024,
    text: str | Path | None = None,
    time: float | str = "1d",
    seed: int = 0,
    assumed: bool = False,
    workers: int | None = 1,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **axes: float | str | Sequence[float],
) -> Sweep:
    """Compute the cost of every design of a space, and measure what accuracy it leaves.

    model, hardware, profile, scenario and its fields: as `size` takes them; device: one or several. axes: values of
    fields of a design, numbers or "128:1024"; their product is swept, with square tiles where only rows are given.
    metric: "sqnr" measures the noise of every product, "ppl" also the perplexity of ``points`` designs near the front,
    on ``tokens`` tokens of the calibration text or of a ``text`` file and on ``chips`` chips from ``seed`` on; "cost"
    measures nothing; None is "sqnr" of a weight file. output: folder of the page, the tables and the measurements,
    where a sweep that was stopped goes on; None keeps nothing. assumed: Gaussian activity, also of a weight file.
    Raises BadInput before anything runs.

    >>> swept = sweep("SmolLM2-135M", rows=[128, 256], adc_bits=[6, 7, 8])
    >>> len(swept.space), len(swept.front) <= 6, swept.columns["rows"][:3]
    (6, True, [128, 128, 128])
    """
    check_workers(workers)
    asked = Scenario.of(scenario, phase=phase, context=context, streams=streams, head=head, rate=rate)
    work = model if isinstance(model, Workload) else Workload.of(model)
    measured = metric or ("cost" if work.file is None else "sqnr")
    if measured not in METRICS:
        raise BadInput(
            "metric", got=measured, why="accuracy is noise or perplexity", do="use sqnr, ppl or cost"
        )
    if measured != "cost" and work.file is None:
        raise BadInput(
            "metric", got=measured, why="shapes have no weights to simulate",
            do="give a weight file (aimc-sim export), or use cost",
        )  # fmt: skip
    values = {name: axis(name, given) for name, given in axes.items()}
    designs = hardware_of(work, hardware, device)
    space = space_of(designs, [None if profile is None else Profile.load(profile)] * len(designs), values)
    time_s = parse_duration(time)
    for chip in designs:
        chip.check_time(time_s)
    if measured != "cost":
        _ = space.hardware  # a design that cannot be simulated is refused before anything is written
    if output is not None:
        check_plotly()
    if work.file is not None and work is not model:
        check_weights(work.file, progress)
    plan = SweepPlan.parse(
        {
            "model": work.model.name if work.file is None else work.file.id,
            "code": "" if measured == "cost" else sources.code_version(accuracy.__name__),
            "hardware": [chip.model_dump(mode="json") for chip in designs],
            "profiles": [variant.profile.id for variant in space.variants],
            "axes": {name: list(numbers) for name, numbers in values.items()},
            "scenario": asdict(asked), "metric": measured, "seed": seed, "time_s": time_s, "chips": chips,
            "points": points, "tokens": tokens, "text": None if text is None else file_text(Path(text)).sha256,
        },
        "sweep",
    )  # fmt: skip
    scored = Text(plan.tokens, None if text is None else Path(text), plan.context)
    with folder_for(output) as folder:
        result = run_sweep(
            plan, space, work, folder, text=scored, assumed=assumed, workers=workers, progress=progress
        )
    one = device if device is None or len(designs) == 1 else None
    result = replace(
        result, command=_command(model, {"hardware": hardware, "device": one, "profile": profile})
    )
    return result if output is None else result.write(output)


def _command(model: Model, options: dict[str, Any]) -> str:
    """Write the beginning of the command that sizes one point; objects go by their names."""
    if isinstance(model, Workload):
        model = model.file or model.model
    words = ["aimc-sim", "size", _name(model)]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", _name(value)]
    return shlex.join(words)


def _name(value: Any) -> str:
    if isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, Sequence):  # of one device
        return str(value[0])
    return str(value.path if isinstance(value, WeightFile) else value.name)
