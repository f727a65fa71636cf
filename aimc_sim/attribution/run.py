"""Runs a study: every set of effects on every chip, with the same converter ranges, inputs and text."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.aliases import F64, Progress
from aimc_sim.attribution.effect_table import Keys
from aimc_sim.attribution.effects import Effect, variant
from aimc_sim.attribution.study import Study, differs_by_chip, sets_of, windows_of
from aimc_sim.calibrate import ranges_for
from aimc_sim.chip.saturation import Saturation
from aimc_sim.evaluate.account import account_of
from aimc_sim.evaluate.bench import Bench
from aimc_sim.evaluate.metrics import Reference, WindowScores
from aimc_sim.evaluate.saturation import saturation_of
from aimc_sim.evaluate.snr import probe
from aimc_sim.evaluate.windows import Windows
from aimc_sim.torch_bridge.model import load_digital
from aimc_sim.weightfile import MatrixInfo, WeightFile
from aimc_sim.weightfile.analog import analog_matrices
from aimc_sim.weightfile.integrity import check_weights


@dataclass(frozen=True)
class Trial:
    """A trial is one set of effects on one chip. noise: (matrices,) noise-to-signal ratio of each product."""

    scores: WindowScores
    noise: F64


@dataclass(frozen=True)
class Result:
    """A result holds every trial of a study, which now names its converter ranges.

    A set without random effects is scored on the first chip and stands there for all. saturation: what clips on the
    first chip with all effects on, by matrix; empty without a DAC. timings: seconds, the only part that differs when it
    is run twice.
    """

    study: Study
    effects: tuple[Effect, ...]
    matrices: tuple[MatrixInfo, ...]  # the analog ones, in the order of ``noise``
    windows: Windows
    digital: WindowScores
    trials: dict[Keys, tuple[Trial, ...]]  # one a seed
    account: dict[str, Any]
    saturation: dict[str, Saturation]
    timings: dict[str, float] = field(compare=False)

    def kl(self, on: Keys) -> F64:
        """Return the (seeds,) KL divergence from the digital model, nats per token."""
        return np.array([trial.scores.kl_nats for trial in self.trials[on]])

    def loss(self, on: Keys) -> F64:
        """Return the (seeds,) negative log-likelihood above the digital model's, nats per token."""
        return np.array([trial.scores.loss for trial in self.trials[on]]) - self.digital.loss

    def noise(self, on: Keys) -> F64:
        """Return the (seeds, matrices) noise-to-signal ratio of each product."""
        return np.stack([trial.noise for trial in self.trials[on]])


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
    windows, effects, hardware = windows_of(study, weight_file, text_path), study.effects(), study.hardware
    check_weights(weight_file, progress)
    # Of the full hardware, for every set, so that sets differ by their effects alone.
    ranges = ranges_for(weight_file, hardware, progress)
    tell("digital model", 0, sum(1 for _ in windows.batches(study.batch)))  # while it loads
    digital = load_digital(weight_file)
    inputs = probe(digital, weight_file, hardware, windows)
    with Reference(digital, windows, study.batch, on_batch=partial(tell, "digital model")) as reference:
        del digital
        prepared = time.perf_counter()
        bench, seconds = Bench(weight_file), dict.fromkeys(("program_and_mount", "score", "probe"), 0.0)

        def mount(on: Keys, seed: int) -> Any:
            chosen = variant(hardware, effects, on)
            return bench.mount(chosen, seed, study.time_s, session=study.session, ranges=ranges)

        def trial(on: Keys, seed: int) -> Trial:
            clock = [time.perf_counter()]
            model = mount(on, seed)
            clock.append(time.perf_counter())
            scores = bench.score(windows, reference=reference)
            clock.append(time.perf_counter())
            noise = inputs.noise(model)
            clock.append(time.perf_counter())
            for stage, passed in zip(seconds, np.diff(clock), strict=True):
                seconds[stage] += float(passed)
            return Trial(scores, noise)

        count = len(study.seeds)
        chips = {on: count if differs_by_chip(effects, on) else 1 for on in sets_of(effects)}
        tell("effects × chips", 0, sum(chips.values()))
        whole = mount(frozenset(effect.key for effect in effects), study.seeds[0])
        account = account_of(whole, bench.state, windows.rows[0])
        ranges_id, saturated = bench.state.chip.ranges_id, saturation_of(whole, hardware, windows)
        trials: dict[Keys, tuple[Trial, ...]] = {}
        done = 0
        for on, chip_count in chips.items():
            made = []
            for seed in study.seeds[:chip_count]:
                made.append(trial(on, seed))
                done += 1
                tell("effects × chips", done, sum(chips.values()))
            trials[on] = tuple(made) * (count // chip_count)
        timings = {"prepare": prepared - start, **seconds, "total": time.perf_counter() - start}
        return Result(
            study.model_copy(update={"ranges_id": ranges_id}),
            effects,
            analog_matrices(weight_file, hardware),
            windows,
            reference.scores,
            trials,
            account,
            saturated,
            timings,
        )
