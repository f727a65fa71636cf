"""Signal-to-noise ratios matrix by matrix, and by role."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.attribution.effects import context
from aimc_sim.attribution.run import Result
from aimc_sim.attribution.study import without
from aimc_sim.evaluate.snr import decibels
from aimc_sim.weightfile import MatrixInfo

ALL = "all"


@dataclass(frozen=True)
class Ratios:
    """SNR in dB of every matrix, (matrices,), from its noise's mean over chips.

    alone: beside what the effect needs, whose own noise is taken off; NaN where nothing is left of it. without: all
    effects but this one. total: all effects.
    """

    total: F64
    alone: dict[str, F64]
    without: dict[str, F64]


@dataclass(frozen=True)
class Role:
    """Matrices of one role. median and worst of their SNR in dB, by effect alone, and with all effects ("all")."""

    role: str
    matrices: int
    median: dict[str, float]
    worst: dict[str, float]


def ratios(result: Result) -> Ratios:
    """SNR of every analog matrix."""
    effects = result.effects
    everything = frozenset(effect.key for effect in effects)
    noise = {on: result.noise(on).mean(axis=0) for on in result.trials}
    alone, rest = {}, {}
    for effect in effects:
        beside = context(effects, effect)
        alone[effect.key] = decibels(noise[beside | {effect.key}] - noise[beside])
        rest[effect.key] = decibels(noise[without(effects, effect)])
    return Ratios(decibels(noise[everything]), alone, rest)


def by_role(matrices: tuple[MatrixInfo, ...], found: Ratios) -> tuple[Role, ...]:
    """Medians and worst cases of each role, in the order in which roles first occur."""
    columns = {ALL: found.total, **found.alone}
    roles = []
    for role in dict.fromkeys(matrix.role for matrix in matrices):
        where = np.array([matrix.role == role for matrix in matrices])
        parts = {key: values[where] for key, values in columns.items()}
        heard = {key: values[~np.isnan(values)] for key, values in parts.items()}
        roles.append(
            Role(
                role,
                int(where.sum()),
                {key: float(np.median(v)) if v.size else float("nan") for key, v in heard.items()},
                {key: float(v.min()) if v.size else float("nan") for key, v in heard.items()},
            )
        )
    return tuple(roles)
