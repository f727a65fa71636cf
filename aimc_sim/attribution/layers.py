"""Signal-to-noise ratios matrix by matrix, and by role."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.attribution.effects import context
from aimc_sim.attribution.run import Result
from aimc_sim.attribution.study import without
from aimc_sim.evaluate.snr import decibels
from aimc_sim.weightfile import MatrixInfo


@dataclass(frozen=True)
class Ratios:
    """Ratios are the SNR in dB of every matrix, (matrices,), from its noise's mean over chips.

    alone: beside what the effect needs, whose own noise is taken off; NaN where nothing is left of it. without: all
    effects but this one. total: all effects.
    """

    total: F64
    alone: dict[str, F64]
    without: dict[str, F64]


def ratios(result: Result) -> Ratios:
    """Return the SNR of every analog matrix."""
    effects = result.effects
    everything = frozenset(effect.key for effect in effects)
    noise = {on: result.noise(on).mean(axis=0) for on in result.trials}
    alone, rest = {}, {}
    for effect in effects:
        beside = context(effects, effect)
        alone[effect.key] = decibels(noise[beside | {effect.key}] - noise[beside])
        rest[effect.key] = decibels(noise[without(effects, effect)])
    return Ratios(decibels(noise[everything]), alone, rest)


def by_role(matrices: tuple[MatrixInfo, ...], snr: Ratios) -> list[dict[str, Any]]:
    """Return median and worst SNR of each role, with all effects and each alone, in the order in which roles occur."""
    roles = []
    for role in dict.fromkeys(matrix.role for matrix in matrices):
        where = np.array([matrix.role == role for matrix in matrices])
        alone = {key: _median_and_worst(values[where]) for key, values in snr.alone.items()}
        entry = {"role": role, "matrices": int(where.sum()), "all": _median_and_worst(snr.total[where])}
        roles.append({**entry, "alone": alone})
    return roles


def _median_and_worst(values: F64) -> dict[str, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return {"median": math.nan, "worst": math.nan}
    return {"median": float(np.median(known)), "worst": float(known.min())}
