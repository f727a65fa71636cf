"""Which matrices hurt: the loss of each when it alone is analog, and what is won when it alone is digital.

All matrices are screened by the noise of their products on calibration activations. Two thirds of the budget's forward
passes put one matrix after the other alone into tiles, on the first chip, the noisiest first. The rest goes to those
that lost most: on every chip, alone in tiles and alone out of them. Chips and text are the same for all. A matrix's
share of the whole loss is the mean of the two, first in and last out, where they differ beyond the interval, else the
first; without a forward pass an estimate, its noise times what a unit of noise costs in its role.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from aimc_sim.aliases import F64, Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.snr import product_noise
from aimc_sim.hardware import Hardware
from aimc_sim.sizing.accuracy import Text
from aimc_sim.sizing.measurements import Measurements
from aimc_sim.sizing.partition.bench import Held, Task, Worker
from aimc_sim.spec import Spec
from aimc_sim.studies.memory import default_workers
from aimc_sim.weightfile import MatrixInfo, WeightFile
from aimc_sim.weightfile.analog import analog_matrices

Metric = Literal["kl", "loss"]
STORE = "sensitivity.sqlite"
_DIGITAL = "loss/digital"
_SETS = 12  # of a task: what a killed run loses at most
_EACH_ROLE = 2  # matrices of every role that get forward passes first


class SensitivityPlan(Spec):
    """A plan holds everything that decides a profile. forwards: the budget; metric: the divergence from the digital
    model ("kl"), or the increase of its negative log-likelihood ("loss"), nats per token; text: sha256 of a text
    file, None for the calibration text; code: what computes it.
    """

    schema_version: Literal[1] = 1
    weights: str
    code: str
    hardware: Hardware
    seed: int = Field(default=0, ge=0)
    chips: int = Field(default=2, ge=1, le=256)
    time_s: float = Field(default=86400.0, ge=0)
    forwards: int = Field(default=300, ge=1)
    tokens: int = Field(default=1024, ge=16)
    context: int = Field(default=256, ge=2)
    text: str | None = None
    metric: Metric = "kl"


@dataclass(frozen=True)
class Estimate:
    """An estimate is a mean in nats per token with its 95 % interval over chips and text; equal bounds: no interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class MatrixLoss:
    """This is the loss that one matrix causes. noise: of its product; alone: the loss when it alone is analog; won:
    what is lost less when it alone is digital; None: not measured. share: of the whole loss, nats per token, an
    estimate without a forward pass.
    """

    name: str
    role: str
    weights: int
    noise: float
    alone: Estimate | None
    won: Estimate | None
    share: float

    @property
    def measured(self) -> bool:
        """Whether forward passes stand behind the share."""
        return self.alone is not None


@dataclass(frozen=True)
class Shares:
    """Shares are a profile, matrices in the order of what they cost. all, converters: loss of the whole model in
    tiles, and of the same converters around ideal cells; forwards: passes that it took.
    """

    plan: SensitivityPlan
    matrices: tuple[MatrixLoss, ...]
    all: Estimate
    converters: Estimate
    forwards: int


def interval(values: F64, tokens: F64) -> Estimate:
    """Compute mean and 95 % interval of (chips, windows) sums over windows of so many tokens, nats per token.

    Chips and windows are crossed and both a sample: the variance of the mean is that between chips and that between
    windows, added, which counts their interaction twice and so errs on the wide side; degrees of freedom by
    Satterthwaite's rule. One chip or one window has no interval of its own.
    """
    from scipy.stats import t

    mean = float(values.mean(axis=0).sum() / tokens.sum())
    weight = tokens / tokens.mean()
    parts: list[tuple[float, int]] = []
    chips = values.sum(axis=1) / tokens.sum()
    if len(chips) > 1:
        parts.append((float(chips.var(ddof=1)) / len(chips), len(chips) - 1))
    if len(tokens) > 1:
        residual = (values.mean(axis=0) / tokens - mean) * weight
        parts.append((float(np.square(residual).sum()) / (len(tokens) * (len(tokens) - 1)), len(tokens) - 1))
    variance = sum(value for value, _ in parts)
    if not variance:
        return Estimate(mean, mean, mean)
    freedom = variance**2 / sum(value**2 / df for value, df in parts)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half)


class Measuring(Measurements):
    """This measures losses of sets of analog matrices on chips, and the noise of products. Used by sensitivity and
    placement.
    """

    def __init__(
        self, plan: SensitivityPlan, weight_file: WeightFile, hardware: Hardware, folder: Path, *, text: Text,
        workers: int | None, progress: Progress | None, moves: Mapping[str, Hardware] | None = None,
    ) -> None:  # fmt: skip
        windows = text.windows(weight_file)
        parameters = sum(matrix.rows * matrix.cols for matrix in weight_file.matrices)
        # A worker holds each matrix digital too, and as many chips as it has been told of ways.
        count = default_workers(12 * parameters, 64) if workers is None else workers
        make = partial(Worker, weight_file.path.resolve(), hardware, windows, plan.time_s, moves or {})
        super().__init__(folder / STORE, plan, make, count, progress or (lambda *_: None))
        self.plan, self.tokens = plan, np.array([len(row) - 1 for row in windows.rows], np.float64)

    def run(self, stage: str, sets: Mapping[str, Held], seeds: Iterable[int]) -> None:
        """Score what is missing of sets × chips, and of the digital model."""
        chips = list(seeds)
        names = [_DIGITAL, *(f"loss/{seed}/{key}" for seed in chips for key in sets)]

        def chunks(missing: list[str]) -> Iterator[list[str]]:
            for of in ([_DIGITAL], *([f"loss/{seed}/{key}" for key in sets] for seed in chips)):
                wanted = [name for name in of if name in missing]
                for start in range(0, len(wanted), _SETS):
                    yield wanted[start : start + _SETS]

        def task_of(names: list[str]) -> Task:
            if names == [_DIGITAL]:
                return Task(self.plan.seed, {"digital": ()})
            parts = [name.split("/", 2) for name in names]
            return Task(int(parts[0][1]), {key: sets[key] for _, _, key in parts})

        self.measure(stage, names, chunks, task_of)

    def table(self, key: str, seeds: Iterable[int], metric: Metric | None = None) -> F64:
        """Return the (chips, windows) sums of the plan's metric, or of another one."""
        field = "kl" if (metric or self.plan.metric) == "kl" else "nll"
        rows = [self.values[f"loss/{seed}/{key}"][field] for seed in seeds]
        base = np.array(self.values[_DIGITAL][field])
        values: F64 = np.array(rows, np.float64) - base
        return values

    def loss(self, key: str, seeds: Iterable[int], metric: Metric | None = None) -> Estimate:
        """Measure the loss of a set, over the digital model."""
        return interval(self.table(key, seeds, metric), self.tokens)

    def noise(self, weight_file: WeightFile, ways: Mapping[str, Hardware]) -> list[dict[str, float]]:
        """Measure the noise of every product, a dictionary for each of ``ways``, by its label."""
        chips = {f"noise/{label}": chip for label, chip in ways.items()}
        stage = "noise of the products"

        def noise_of(names: list[str]) -> dict[str, Any]:
            wanted = {name: chips[name] for name in names}
            tell = partial(self.tell, stage)
            return dict(
                product_noise(weight_file, wanted, seed=self.plan.seed, time=self.plan.time_s, on_step=tell)
            )

        self.measure(stage, list(chips), lambda missing: [missing], here=noise_of)
        return [self.values[name] for name in chips]


def candidates(matrices: Collection[MatrixInfo], noise: dict[str, float], count: int) -> list[str]:
    """Choose the matrices that get forward passes: the noisiest of every role, then the noisiest of all."""
    ordered = sorted(matrices, key=lambda matrix: -noise[matrix.name])
    first, counts = [], dict.fromkeys((matrix.role for matrix in ordered), 0)
    for matrix in ordered:
        if counts[matrix.role] < _EACH_ROLE:
            counts[matrix.role] += 1
            first.append(matrix.name)
    return list(dict.fromkeys([*first, *(matrix.name for matrix in ordered)]))[:count]


def split(forwards: int, chips: int, matrices: int) -> tuple[int, int]:
    """Split into (matrices that are put into tiles alone on the first chip, those of them that are measured on every
    chip).

    Raises BadInput for a budget that holds not one of each.
    """
    least = 2 + 3 * chips  # the digital model, converters, and on every chip all in tiles, one alone, one not
    if forwards < least:
        raise BadInput(
            "forwards",
            got=forwards,
            why=f"one matrix on {chips} chips takes {least}",
            do=f"use {least} or more",
        )
    room, each = forwards - 2 - chips, 2 * chips - 1
    deep = max(1, room // 3 // each)
    first = min(matrices, room - deep * each)
    deep = min(first, (room - first) // each)
    return first, deep


def profile(measuring: Measuring, weight_file: WeightFile, hardware: Hardware) -> Shares:
    """Screen all matrices, run the budget's forward passes, and put both together."""
    plan = measuring.plan
    seeds = range(plan.seed, plan.seed + plan.chips)
    matrices = analog_matrices(weight_file, hardware)
    names = tuple(matrix.name for matrix in matrices)
    first, deep = split(plan.forwards, plan.chips, len(names))
    (noise,) = measuring.noise(weight_file, {"": hardware})
    chosen = candidates(matrices, noise, first)
    measuring.run("all in tiles", {"converters": names}, seeds[:1])
    measuring.run("all in tiles", {"all": names}, seeds)
    measuring.run("matrices alone", {f"alone/{name}": (name,) for name in chosen}, seeds[:1])
    lost = {name: measuring.table(f"alone/{name}", seeds[:1]).sum() for name in chosen}
    worst = sorted(chosen, key=lambda name: -lost[name])
    # Half by what they lose alone, half by noise: some do harm only where others do, too.
    order = list(dict.fromkeys(name for pair in zip(worst, chosen, strict=True) for name in pair))
    closer = set(order[:deep])
    sets: dict[str, Held] = {}
    for name in order[:deep]:
        sets[f"alone/{name}"] = (name,)
        sets[f"without/{name}"] = tuple(other for other in names if other != name)
    measuring.run("matrices × chips", sets, seeds)
    whole = measuring.table("all", seeds)
    losses = []
    for matrix in matrices:
        name, alone, won = matrix.name, None, None
        if name in closer:
            won = interval(whole - measuring.table(f"without/{name}", seeds), measuring.tokens)
        if name in lost:
            on = seeds if name in closer else seeds[:1]
            alone = interval(measuring.table(f"alone/{name}", on), measuring.tokens)
        losses.append(MatrixLoss(name, matrix.role, matrix.rows * matrix.cols, noise[name], alone, won, 0.0))
    total = interval(whole, measuring.tokens)
    return Shares(
        plan,
        tuple(sorted(_add_shares(losses, total.mean), key=lambda matrix: -matrix.share)),
        total,
        measuring.loss("converters", seeds[:1]),
        2 + plan.chips * (1 + 2 * deep) + first - deep,
    )


def _add_shares(matrices: list[MatrixLoss], whole: float) -> list[MatrixLoss]:
    """Add the shares: the mean of first in and last out, or noise × what it costs in the role; together the whole."""
    raw: dict[str, float] = {}
    for matrix in matrices:
        if matrix.alone is not None:
            value, won = matrix.alone.mean, matrix.won
            if won is not None and not won.low <= value <= won.high:
                value = 0.5 * (value + won.mean)
            raw[matrix.name] = max(value, 0.0)
    measured = [matrix for matrix in matrices if matrix.measured]

    def price(among: list[MatrixLoss]) -> float:
        noise = sum(matrix.noise for matrix in among)
        # The cheaper half: what was measured are the noisiest, some of them far out.
        rates = sorted(raw[matrix.name] / matrix.noise for matrix in among if matrix.noise > 0)
        return rates[(len(rates) - 1) // 2] if rates and noise > 0 else 0.0

    roles = {
        role: price([m for m in measured if m.role == role] or measured)
        for role in {m.role for m in matrices}
    }
    for matrix in matrices:
        raw.setdefault(matrix.name, matrix.noise * roles[matrix.role])
    total = sum(raw.values())
    scale = max(whole, 0.0) / total if total > 0 else 0.0
    return [replace(matrix, share=raw[matrix.name] * scale) for matrix in matrices]
