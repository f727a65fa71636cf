"""`size`: one design of a model, as an architect asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy.typing as npt

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.files import write_together
from aimc_sim.hardware import Hardware, HardwareSource
from aimc_sim.models.catalogue_families import ModelShapes
from aimc_sim.report.pages import prepare_folder, to_json
from aimc_sim.report.shown import Shown
from aimc_sim.sizing.cost.activity import Activity, measure_activity
from aimc_sim.sizing.cost.analog import Cost, evaluate
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.dies import Chips, Copies, floorplan, replicate
from aimc_sim.sizing.cost.document import document, layers_table
from aimc_sim.sizing.cost.profile import Corner, Profile, profile_for
from aimc_sim.sizing.cost.sheet import headline, overview, sheet
from aimc_sim.sizing.cost.warnings import warnings_of
from aimc_sim.sizing.cost.workload import Phase, Scenario, Workload
from aimc_sim.sizing.cost.writing import Writing, writing
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.integrity import check_weights

if TYPE_CHECKING:
    from rich.console import Console

FALLBACK = "hermes-256"  # the hardware of a model that brings none
Model = str | Path | WeightFile | ModelShapes | Workload


@dataclass(frozen=True, repr=False)
class Sizing(Shown):
    """A sizing is one design point of a model, its costs at the value and at both ends of every constant's band.

    >>> import aimc_sim
    >>> sizing = aimc_sim.size("SmolLM2-135M", "hermes-256")
    >>> sizing.to_dict()["total"]["tiles"] > 1000
    True
    """

    cost: Cost
    low: Cost
    high: Cost
    activity: Activity
    chips: Chips
    writing: Writing
    warnings: tuple[str, ...]
    replicated: Copies | None = None  # slow steps, where more tiles are given

    @property
    def summary(self) -> str:
        """Area, energy, time and speed in one sentence."""
        return headline(self)

    @property
    def sheet(self) -> str:
        """Everything: numbers with their formulas, where energy and time go, the source of every constant."""
        return self._text(sheet(self))

    def to_dict(self) -> dict[str, Any]:
        """Return every figure per matrix, layer and in total: plain values, units in the names."""
        return document(self)

    def print_on(self, console: Console) -> None:
        """Print a few lines, and the warnings."""
        console.print(self._text(overview(self)), soft_wrap=True)

    def write(self, folder: str | Path) -> None:
        """Write size.json, size.txt (the sheet) and layers.csv into a folder, all or none."""
        where, data = Path(folder), self.to_dict()
        prepare_folder(where)
        write_together({
            where / "size.json": to_json(data),
            where / "size.txt": self._text([*sheet(self), ""]) + "\n",
            where / "layers.csv": layers_table(data),
        })  # fmt: skip

    def _text(self, lines: list[str]) -> str:
        return "\n".join([*lines, *(f"WARNING: {line}" for line in self.warnings)])


def size(
    model: Model,
    hardware: HardwareSource | None = None,
    profile: Profile | str | Path | None = None,
    scenario: Scenario | None = None,
    *,
    device: str | None = None,
    phase: Phase | None = None,
    context: int | None = None,
    streams: int | None = None,
    head: bool | None = None,
    rate: float | None = None,
    assumed: bool = False,
    experts: str = "packed",
    tiles: int | None = None,
    attention_units: int = 1,
    progress: Progress | None = None,
    **design: npt.ArrayLike,
) -> Sizing:
    """Size one design of a model: tiles, conversions, energy, latency and area, with bands, chips and warnings.

    model: a name of the catalogue, a weight file, a config.json, or a Workload; hardware: None is the weight file's
    own, else hermes-256; device: other cells for it; profile: None is the one that stands for the hardware's device;
    phase, context, streams, head, rate: of the `Scenario`, laid over ``scenario``; tiles: how many there are in all, so
    that slow steps get copies (`replicate`); design: fields of `Designs.of` that replace the hardware's. A weight file
    is read whole and checked (not that of a Workload), and its activity measured on its calibration text unless
    ``assumed``. Raises BadInput for a design that cannot be built.

    >>> sheet = size("SmolLM2-135M", "pcm-512", rate=100, head=False)
    >>> int(sheet.cost.tiles[0]), sheet.chips.count
    (900, 1)
    """
    asked = Scenario.of(scenario, phase=phase, context=context, streams=streams, head=head, rate=rate)
    work = model if isinstance(model, Workload) else Workload.of(model)
    if work.file is not None and work is not model:
        check_weights(work.file, progress)
    (chip,) = hardware_of(work, hardware, device)
    work = work.placed(chip.placement)
    costs = profile_for(chip.device.name) if profile is None else Profile.load(profile)
    if experts not in ("packed", "spread"):
        raise BadInput(
            "experts", got=experts, why="they stand beside their layer or apart", do="use packed or spread"
        )
    designs = Designs.of(chip, costs, **design)
    if len(designs) != 1:
        raise BadInput(
            "design", got=len(designs), why="a sizing is of one point", do="give one value of each field"
        )
    activity, work = activity_of(work, designs, assumed=assumed)
    corners: dict[Corner, Cost] = {}
    for corner in ("value", "low", "high"):
        at = designs if corner == "value" else Designs.of(chip, costs.at(corner), **design)
        corners[corner] = evaluate(at, work, asked, activity)
    cost = corners["value"]
    chips, write = floorplan(cost, experts=cast(Literal["packed", "spread"], experts)), writing(cost)
    more = None if tiles is None else replicate(cost, tiles, attention_units=attention_units)
    notes = warnings_of(cost, chips, write, activity)
    return Sizing(cost, corners["low"], corners["high"], activity, chips, write, notes, more)


def hardware_of(
    work: Workload, hardware: HardwareSource | None, device: str | Sequence[str] | None = None
) -> tuple[Hardware, ...]:
    """Load the hardware that is named, else the weight file's own; once for each of the devices, ``a,b`` or a list."""
    chip = work.file.hardware if hardware is None and work.file else Hardware.load(hardware or FALLBACK)
    if device is None:
        return (chip,)
    names = device.split(",") if isinstance(device, str) else device
    return tuple(chip.with_device(name.strip()) for name in dict.fromkeys(names))


def activity_of(work: Workload, designs: Designs, *, assumed: bool = False) -> tuple[Activity, Workload]:
    """Find activity as figures of a workload take it, and the workload with as many groups as it asks for.

    Measured on a weight file's calibration text; Gaussian where there is none, weights lie in slices, the profile does
    not ask, or ``assumed``.
    """
    needed = designs.profile.array.voltage_read is not None
    if work.file is None or assumed or not needed or not _can_measure(work.file, designs):
        return Activity(), work
    return measure_activity(work.file, designs), replace(work, merged=False)


def _can_measure(weights: WeightFile, designs: Designs) -> bool:
    try:
        text = weights.calibration.token_ids.size > 0
    except BadInput:  # exported without calibration text
        return False
    return text and designs.hardware.weights.slices == 1 and bool((designs.slices == 1).all())
