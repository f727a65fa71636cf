"""The plan of a sweep: axes, their Cartesian product, and which points the simulator need not tell apart."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from aimc_sim.aliases import F64, I64
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.sizing.cost.designs import REAL, WHOLE, Designs
from aimc_sim.sizing.cost.profile import Profile, profile_for
from aimc_sim.spec import Spec, nearest

Metric = Literal["cost", "sqnr", "ppl"]
METRICS: tuple[str, ...] = get_args(Metric)
DOUBLING = frozenset(
    {"rows", "cols", "adcs_per_tile"}
)  # first:last doubles; of the others it counts up by one
MAX_POINTS = 200_000
LEAST_ENOB = 4.0  # the survey's fit begins there
# What the simulator's answer depends on; points that differ in anything else share it.
DECISIVE = ("rows", "cols", "dac_bits", "slice_bits", "phases", "adc_bits", "slices", "devices", "copies",
            "noise_factor", "thermal_factor")  # fmt: skip


def axis(name: str, values: str | float | Sequence[float]) -> tuple[float, ...]:
    """Read the values of an axis: numbers, or ``8``, ``6,7,8``, ``128:1024`` (rows, columns and converters double, bits
    count up), ``64:320:64`` with a step. Raises BadInput for anything else.

    >>> axis("rows", "128:512"), axis("adc-bits", "6:8"), axis("cols", [64, 96])
    ((128.0, 256.0, 512.0), (6.0, 7.0, 8.0), (64.0, 96.0))
    """
    field = name.replace("-", "_")
    if field not in (*WHOLE, *REAL):
        raise BadInput(name, why="a design has no such field", do=nearest(field, (*WHOLE, *REAL)))
    pieces = [str(value) for value in np.ravel(values)] if not isinstance(values, str) else values.split(",")
    how = "write 256, or 128,256, or 128:1024, or 64:320:64"
    points: list[float] = []
    for piece in pieces:
        try:
            ends = [float(part) for part in piece.split(":")]
        except ValueError:
            ends = []
        if ends and not all(0 < end < math.inf for end in ends):
            raise BadInput(
                name, got=values, why="a design has more than 0 of it, and a finite number", do=how
            )
        if not 1 <= len(ends) <= 3:
            raise BadInput(name, got=values, why="it is neither a number, a list nor a range", do=how)
        low, high = ends[0], ends[min(1, len(ends) - 1)]
        if low > high:
            raise BadInput(name, got=piece, why="the range runs down", do=f"write {high:g}:{low:g}")
        if len(ends) == 2 and field in DOUBLING:
            points += [low * 2**k for k in range(int(math.log2(high / low) + 1e-9) + 1)]
        else:
            step = ends[2] if len(ends) == 3 else 1.0
            points += [low + step * k for k in range(min(int((high - low) / step + 1e-9), MAX_POINTS) + 1)]
    if field in WHOLE and any(value != int(value) for value in points):
        raise BadInput(name, got=values, why="it counts something", do="use whole numbers")
    return tuple(dict.fromkeys(points))


class SweepPlan(Spec):
    """A plan holds everything that decides a sweep's figures. model: a weight file's id, or shapes; code: what
    computes accuracies.

    axes: values of each; cols is left out where it follows rows. tokens, text: what perplexity is measured on (sha256
    of a text file; None: the calibration text). points: designs whose perplexity is measured in full.
    """

    schema_version: Literal[1] = 1
    model: str
    code: str
    hardware: tuple[Hardware, ...] = Field(min_length=1)
    profiles: tuple[str, ...]
    axes: dict[str, tuple[float, ...]]
    scenario: dict[str, Any]
    metric: Metric
    seed: int = Field(default=0, ge=0)
    time_s: float = Field(default=0.0, ge=0)
    chips: int = Field(default=3, ge=1, le=64)
    points: int = Field(default=10, ge=1)
    tokens: int = Field(default=1024, ge=16)
    context: int = Field(default=256, ge=2)
    text: str | None = None


@dataclass(frozen=True)
class Space:
    """A space holds all points of a sweep, one `Designs` a hardware, and the designs that the simulator tells apart.

    dropped: why points of the product were left out → how many.
    """

    variants: tuple[Designs, ...]
    dropped: dict[str, int]

    def __len__(self) -> int:
        return sum(map(len, self.variants))

    @cached_property
    def where(self) -> tuple[I64, I64]:
        """(P,) variant of each point, and its index there."""
        sizes = [len(designs) for designs in self.variants]
        return np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes])

    @cached_property
    def _shared(self) -> tuple[dict[str, Hardware], tuple[str, ...]]:
        hardware: dict[str, Hardware] = {}
        labels: list[str] = []
        for designs in self.variants:
            decisive = np.stack([np.asarray(getattr(designs, name)) for name in DECISIVE], axis=1)
            _, first, inverse = np.unique(decisive, axis=0, return_index=True, return_inverse=True)
            ids = []
            for index in first.tolist():
                at = designs.hardware_at(index)
                at = at.model_copy(update={"name": _named(designs, index)})
                hardware.setdefault(at.id, at)
                ids.append(at.id)
            labels += [ids[i] for i in inverse.reshape(-1).tolist()]
        return hardware, tuple(labels)

    @property
    def hardware(self) -> dict[str, Hardware]:
        """What the simulator has to measure, by id; in the order of the points."""
        return self._shared[0]

    @property
    def accuracy_of(self) -> tuple[str, ...]:
        """(P,) the id of each point's hardware."""
        return self._shared[1]

    def values(self, name: str) -> F64:
        """Return a field of the designs, (P,)."""
        return np.concatenate([np.asarray(getattr(designs, name)) for designs in self.variants])


def _named(designs: Designs, i: int) -> str:
    rows, cols, bits = (int(getattr(designs, name)[i]) for name in ("rows", "cols", "adc_bits"))
    return f"{designs.hardware.name} {rows} × {cols}, {bits} bits"


def space_of(
    hardware: Sequence[Hardware], profiles: Sequence[Profile | None], axes: Mapping[str, Sequence[float]]
) -> Space:
    """Make the Cartesian product of the axes on every hardware; without a cols axis tiles are square where rows vary.

    Points with more converters than columns, or fewer effective bits than the survey's fit holds for, are left out.
    Raises BadInput where nothing is left, for too many points, and for speed that would be free (see `Designs`).
    """
    square = "rows" in axes and "cols" not in axes
    count = len(hardware) * math.prod(len(values) for values in axes.values())
    if count > MAX_POINTS:
        raise BadInput(
            "sweep", got=f"{count:,} points", why=f"at most {MAX_POINTS:,} fit a table and a plot",
            do="give fewer values",
        )  # fmt: skip
    points = zip(*itertools.product(*axes.values()), strict=True)
    columns: dict[str, npt.ArrayLike] = dict(zip(axes, map(np.array, points), strict=True))
    if square:
        columns["cols"] = columns["rows"]
    variants: list[Designs] = []
    dropped = Counter[str]()
    for chip, profile in zip(hardware, profiles, strict=True):
        costs = profile_for(chip.device.name) if profile is None else profile
        designs = Designs.of(chip, costs, **columns)
        keep = np.ones(len(designs), bool)
        if "adcs_per_tile" in columns:
            many = np.asarray(columns["adcs_per_tile"]) > designs.adcs_per_tile
            dropped["more converters than columns"] += int(many.sum())
            keep &= ~many
        if costs.adc.law == "survey":
            few = keep & (designs.enob < LEAST_ENOB)
            why = f"fewer than {LEAST_ENOB:g} effective bits, where {costs.name} has no data"
            dropped[why] += int(few.sum())
            keep &= ~few
        if keep.any():
            left = {name: np.asarray(values)[keep] for name, values in columns.items()}
            variants.append(Designs.of(chip, costs, **left))
    if not variants:
        reasons = ", ".join(f"{n} with {why}" for why, n in dropped.items() if n)
        raise BadInput("sweep", why=f"no point is left ({reasons})", do="widen an axis")
    return Space(tuple(variants), {why: n for why, n in dropped.items() if n})
