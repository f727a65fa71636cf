"""Runs a study: every set of effects on every chip, with the same converter ranges, inputs and text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.aliases import F64, Progress
from aimc_sim.attribution.effects import Effect, Keys, variant
from aimc_sim.attribution.study import Study, differs_by_chip, sets_of, windows_of
from aimc_sim.calibrate import ranges_for
from aimc_sim.chip.ranges import Ranges, needs_ranges
from aimc_sim.chip.saturation import Saturation
from aimc_sim.evaluate.account import account_of
from aimc_sim.evaluate.metrics import Reference, WindowScores, score
from aimc_sim.evaluate.saturation import saturation_of
from aimc_sim.evaluate.snr import Probe, probe
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.torch_bridge.model import build_model, load_digital, mount
from aimc_sim.weightfile import MatrixInfo, WeightFile
from aimc_sim.weightfile.analog import analog_matrices
from aimc_sim.weightfile.integrity import check_weights


@dataclass(frozen=True)
class Cell:
    """One set of effects on one chip. noise: (matrices,) noise-to-signal ratio of each product."""

    scores: WindowScores
    noise: F64


@dataclass(frozen=True)
class Result:
    """Every cell of a study, which now names its converter ranges.

    A set without random effects is scored on the first chip and stands there for all. saturation: what clips on the
    first chip with all effects on, by matrix; empty without a DAC. timings: seconds, the only part that differs when it
    is run twice.
    """

    study: Study
    effects: tuple[Effect, ...]
    matrices: tuple[MatrixInfo, ...]  # the analog ones, in the order of ``noise``
    windows: Windows
    digital: WindowScores
    cells: dict[Keys, tuple[Cell, ...]]  # one a seed
    account: dict[str, Any]
    saturation: dict[str, Saturation]
    timings: dict[str, float] = field(compare=False)

    def kl(self, on: Keys) -> F64:
        """(seeds,) KL divergence from the digital model, nats per token."""
        return np.array([cell.scores.kl_nats for cell in self.cells[on]])

    def loss(self, on: Keys) -> F64:
        """(seeds,) negative log-likelihood above the digital model's, nats per token."""
        return np.array([cell.scores.loss for cell in self.cells[on]]) - self.digital.loss

    def noise(self, on: Keys) -> F64:
        """(seeds, matrices) noise-to-signal ratio of each product."""
        return np.stack([cell.noise for cell in self.cells[on]])


def run_study(
    study: Study,
    weight_file: WeightFile,
    *,
    text_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Score every set of effects on every chip. progress(stage, done, total) is called as work gets done.

    Raises BadInput before anything is computed where the weight file is damaged or the text is not the study's.
    """
    start = time.perf_counter()
    tell = progress or (lambda stage, done, total: None)
    hardware = study.hardware
    windows = windows_of(study, weight_file, text_path)
    check_weights(weight_file, progress)
    ranges = _ranges(weight_file, hardware, progress)
    on_batch = _stage(tell, "digital model")
    on_batch(0, sum(1 for _ in windows.batches(study.batch)))  # while it loads
    digital = load_digital(weight_file)
    seen = probe(digital, weight_file, hardware, windows)
    with Reference(digital, windows, study.batch, on_batch=on_batch) as reference:
        del digital
        prepared = time.perf_counter()
        bench = _Bench(study, weight_file, hardware, ranges, reference, seen, tell)
        cells = bench.cells()
        timings = {"prepare": prepared - start, **bench.seconds, "total": time.perf_counter() - start}
        completed = study.model_copy(update={"ranges_id": bench.ranges_id})
        return Result(
            completed,
            bench.effects,
            analog_matrices(weight_file, hardware),
            windows,
            reference.scores,
            cells,
            bench.account,
            bench.saturation,
            timings,
        )


class _Bench:
    """One model skeleton, re-mounted for every set and chip."""

    def __init__(
        self, study: Study, weight_file: WeightFile, hardware: Hardware, ranges: Ranges, reference: Reference,
        seen: Probe, tell: Progress,
    ) -> None:  # fmt: skip

        self._study, self._weights, self._hardware, self._ranges = study, weight_file, hardware, ranges
        self._reference, self._seen, self._tell = reference, seen, tell
        self._model = build_model(weight_file, hardware)
        self.effects = study.effects()
        self.account: dict[str, Any] = {}
        self.saturation: dict[str, Saturation] = {}
        self.ranges_id = ""
        self.seconds = {"program_and_mount": 0.0, "score": 0.0, "probe": 0.0}

    def cells(self) -> dict[Keys, tuple[Cell, ...]]:
        """Every set on every chip."""
        sets = sets_of(self.effects)
        seeds = {on: self._study.seeds[: None if differs_by_chip(self.effects, on) else 1] for on in sets}
        total, done = sum(map(len, seeds.values())), 0
        found: dict[Keys, tuple[Cell, ...]] = {}
        for on in sets:
            cells = []
            for seed in seeds[on]:
                self._tell("effects × chips", done, total)
                cells.append(self._cell(on, seed))
                done += 1
            found[on] = (
                tuple(cells)
                if len(cells) == len(self._study.seeds)
                else tuple(cells) * len(self._study.seeds)
            )
        self._tell("effects × chips", total, total)
        return found

    def _cell(self, on: Keys, seed: int) -> Cell:
        study, clock = self._study, [time.perf_counter()]
        chosen = variant(self._hardware, self.effects, on)
        chip = program(self._weights, seed, chosen, ranges=self._ranges)
        mount(self._model, chip.at(study.time_s, study.session))
        clock.append(time.perf_counter())
        scores = score(self._model, self._reference.windows, study.batch, reference=self._reference)
        clock.append(time.perf_counter())
        noise = self._seen.noise(self._model)
        clock.append(time.perf_counter())
        for stage, seconds in zip(self.seconds, np.diff(clock), strict=True):
            self.seconds[stage] += float(seconds)
        if not self.account:  # the first cell has every effect
            self.ranges_id = chip.ranges_id
            first = self._reference.windows.rows[0]
            self.account = account_of(self._model, self._weights, chosen, first)
            self.saturation = saturation_of(self._model, chosen, self._reference.windows)
        return Cell(scores, noise)


def _ranges(weight_file: WeightFile, hardware: Hardware, progress: Progress | None) -> Ranges:
    """The converter ranges of the full hardware, which every set keeps, so that sets differ by their effects alone."""
    if not needs_ranges(hardware):
        return {}

    return ranges_for(weight_file, hardware, progress)


def _stage(tell: Progress, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(stage, done, total)
