"""`sensitivity` and `choose_partition`: which matrices stay digital, as an engineer asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import file_text
from aimc_sim.hardware import Hardware, HardwareSource
from aimc_sim.sizing import accuracy
from aimc_sim.sizing.accuracy import Text
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.profile import Profile
from aimc_sim.sizing.cost.workload import Phase, Scenario, Workload
from aimc_sim.sizing.folders import folder_for
from aimc_sim.sizing.measurements import check_workers
from aimc_sim.sizing.partition import bench, moves, sensitivity
from aimc_sim.sizing.partition.moves import KINDS, moves_of
from aimc_sim.sizing.partition.result import Partition, Sensitivity
from aimc_sim.sizing.partition.search import Pricing, parse_budget, search
from aimc_sim.sizing.partition.sensitivity import Measuring, SensitivityPlan
from aimc_sim.sizing.partition.sensitivity import profile as measured_profile
from aimc_sim.studies import sources
from aimc_sim.units import parse_duration
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.integrity import check_weights

_CODE = tuple(module.__name__ for module in (accuracy, bench, moves, sensitivity))  # behind what is measured


def measure_sensitivity(
    weights: WeightFile | str | Path,
    hardware: HardwareSource | None = None,
    *,
    forwards: int = 300,
    chips: int = 2,
    metric: str = "kl",
    tokens: int = 1024,
    text: str | Path | None = None,
    time: float | str = "1d",
    seed: int = 0,
    workers: int | None = 1,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure which matrices cost accuracy when they are analog.

    hardware: None is the weight file's own. forwards: the budget, forward passes over ``tokens`` tokens of the
    calibration text or of a ``text`` file, on ``chips`` chips from ``seed`` on, ``time`` after programming. metric:
    "kl", the divergence from the digital model, or "loss". output: folder of sensitivity.json, sensitivity.csv and the
    measurements, where a run that was stopped goes on; None keeps nothing. Raises BadInput before anything runs.

    >>> from aimc_sim.sizing import measure_sensitivity
    >>> len(measure_sensitivity("model.h5", forwards=20, chips=1, tokens=64, workers=1).matrices) > 10
    True
    """
    weight_file, chip = _opened(weights, hardware)
    with _measuring(
        weight_file, chip, {}, forwards=forwards, chips=chips, metric=metric, tokens=tokens, text=text, time=time,
        seed=seed, workers=workers, output=output, progress=progress,
    ) as measuring:  # fmt: skip
        result = Sensitivity(**vars(measured_profile(measuring, weight_file, chip)))
    if output is not None:
        result.write(Path(output))
    return result


def choose_partition(
    weights: WeightFile | str | Path,
    budget: float | str,
    hardware: HardwareSource | None = None,
    profile: Profile | str | Path | None = None,
    scenario: Scenario | None = None,
    *,
    phase: Phase | None = None,
    context: int | None = None,
    streams: int | None = None,
    head: bool | None = None,
    rate: float | None = None,
    assumed: bool = False,
    analog: float = 0.9,
    moves: str | Sequence[str] = KINDS,
    unseen: int = 3,
    forwards: int = 300,
    chips: int = 2,
    metric: str = "kl",
    tokens: int = 1024,
    text: str | Path | None = None,
    time: float | str = "1d",
    seed: int = 0,
    workers: int | None = 1,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Partition:
    """Choose which matrices stay digital, or are held better, to meet an accuracy with the least energy.

    budget: loss that may remain, nats per token (0.2), or a share of what analog cells lose ("50%"). analog: share of
    the weights that stays in tiles. profile, scenario and its fields, assumed: as `size` takes them. moves: what may be
    done to a matrix, as far as the hardware allows it. unseen: chips that the search has not seen, for the check. The
    rest is of `measure_sensitivity`, whose profile it begins with. output: folder of placement.toml, the hardware that
    was found, and what was measured. ``passed`` of the result says whether the bar is met.

    >>> from aimc_sim.sizing import choose_partition
    >>> partition = choose_partition("model.h5", "99%", forwards=20, chips=1, tokens=64, unseen=1, workers=1)
    >>> partition.hardware.name
    'hermes-256'
    """
    parse_budget(budget, 1.0, 0.0)
    asked = Scenario.of(scenario, phase=phase, context=context, streams=streams, head=head, rate=rate)
    if not 0 <= analog < 1:
        raise BadInput("analog", got=analog, why="it is a share of the weights", do="use 0 to below 1")
    if unseen < 1:
        raise BadInput(
            "unseen", got=unseen, why="the search has chosen for its own chips", do="use 1 or more"
        )
    weight_file, chip = _opened(weights, hardware)
    kinds = moves.split(",") if isinstance(moves, str) else moves
    possible = moves_of(chip, [kind.strip() for kind in kinds])
    ways = {label: move.every(chip) for label, move in possible.items() if not move.digital}
    work, designs = Workload.of(weight_file, chip.placement), Designs.of(chip, profile)
    with _measuring(
        weight_file, chip, ways, forwards=forwards, chips=chips, metric=metric, tokens=tokens, text=text, time=time,
        seed=seed, workers=workers, output=output, progress=progress,
    ) as measuring:  # fmt: skip
        pricing = Pricing.of(work, designs, asked, assumed=assumed)
        first = Sensitivity(**vars(measured_profile(measuring, weight_file, chip)))
        result = search(measuring, first, pricing, budget, possible, analog=analog, unseen=unseen)
    if output is None:
        return result
    first.write(Path(output))
    return result.write(Path(output))


def _opened(weights: WeightFile | str | Path, hardware: HardwareSource | None) -> tuple[WeightFile, Hardware]:
    weight_file = WeightFile.of(weights)
    return weight_file, weight_file.hardware if hardware is None else Hardware.load(hardware)


@contextmanager
def _measuring(
    weight_file: WeightFile, chip: Hardware, ways: Mapping[str, Hardware], *, text: str | Path | None,
    time: float | str, workers: int | None, output: str | Path | None, progress: Progress | None, **plan: Any,
) -> Iterator[Measuring]:  # fmt: skip
    """Check what is asked for and every byte of the file, then open the measurements. ways: to hold a matrix."""
    check_workers(workers)
    time_s, path = parse_duration(time), None if text is None else Path(text)
    chip.check_time(time_s)
    study = SensitivityPlan.parse(
        {
            "weights": weight_file.id, "code": sources.code_version(*_CODE), "hardware": chip.model_dump(mode="json"),
            "time_s": time_s, "text": None if path is None else file_text(path).sha256, **plan,
        },
        "sensitivity",
    )  # fmt: skip
    check_weights(weight_file, progress)
    scored = Text(study.tokens, path, study.context)
    with (
        folder_for(output) as folder,
        Measuring(
            study, weight_file, chip, folder, text=scored, workers=workers, progress=progress, moves=ways
        ) as measuring,
    ):
        yield measuring
