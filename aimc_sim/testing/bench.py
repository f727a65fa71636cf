"""The bench of a conformance test: which cells are programmed to what, and their draws as the declaration sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from aimc_sim.aliases import F32, F64
from aimc_sim.devices import AdditiveDrift, Device, PowerDrift
from aimc_sim.errors import BadInput
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import key_of
from aimc_sim.testing.assertions import detectable_sigma
from aimc_sim.testing.declared import (
    FAR,
    Declared,
    declared_laws,
    folded_residual,
    law_value,
    normal_residual,
)
from aimc_sim.testing.samplers import ProgrammedCells, Sampler, coordinates, values_of

LEVELS = (0.0, 0.02, 0.06, 0.2, 0.45, 1.0)  # of the way from g_min to g_max
FLOAT_STEP = 2.0**-23  # of a float32 in 1 … 2
RESOLVED = 256  # a spread of so many float32 steps counts as continuous
STREAMS = ("programming", "drift", "1/f noise")
_OWN_STREAM = np.uint32(63 << 26)  # counters that no simulated cell uses
_LARGEST = 1 << 24  # cells


def resolved(sigma: F64, values: F64) -> npt.NDArray[np.bool_]:
    """Say whether float32 values of this size resolve a spread σ."""
    return np.asarray(sigma > RESOLVED * np.spacing(np.abs(values).astype(np.float32)).astype(np.float64))


@dataclass(frozen=True)
class Level:
    """A level is one target. mean, sigma: of the programmed cells before clipping; clip: the clamp in σ from
    the mean.
    """

    target: float
    mean: float
    sigma: float
    clip: float
    kind: str  # "normal"; "exact": no spread, "dead": exactly zero, "coarse": float32 does not resolve the spread

    @property
    def slots(self) -> int:
        """A level that loses cells to the clamp gets two shares of the cells."""
        return 2 if self.kind == "normal" and self.clip > -2.5 else 1

    @property
    def sharpness(self) -> tuple[float, float]:
        """What a shift by σ does to the residuals' mean, and an error of σ to their spread: 1 where nothing clips."""
        c = self.clip
        if c < -FAR:
            return 1.0, 1.0
        density, below = math.exp(-c * c / 2) / math.sqrt(2 * math.pi), float(special.ndtr(c))
        if below == 0:
            return 1.0, 1.0
        hidden_mean, hidden_square = -density / below, 1 - c * density / below
        shift = 1 - below + density * (c - hidden_mean)
        spread = c * density + 1 - below - 0.5 * density * c * (hidden_square - c * c)
        return shift, spread


def levels_of(device: Device, fractions: Sequence[float]) -> tuple[Level, ...]:
    """Return what the device declares at these targets, as parts of the way from g_min to g_max."""
    declared = Declared(device)
    target = np.array([_clear_of_jumps(device, f) for f in fractions], np.float32).astype(np.float64)
    mean, sigma = declared.programming(target)
    levels = []
    dead = declared.dead(target)
    for t, m, s, zero in zip(target, mean, sigma, dead, strict=True):
        continuous = bool(resolved(np.asarray(s), np.asarray(m)))
        kind = "dead" if zero else "exact" if s == 0 else "normal" if continuous else "coarse"
        clip = (declared.floor - m) / s if continuous else -math.inf
        levels.append(Level(float(t), float(m), float(s), float(clip), kind))
    return tuple(levels)


def _clear_of_jumps(device: Device, fraction: float) -> float:
    """Return a target, a little lower where a law jumps: float32 and float64 may choose different pieces of it."""
    g_max = device.g_max_us
    target = device.g_min_us + fraction * (g_max - device.g_min_us)
    for law in declared_laws(device):
        for piece in law.pieces[:-1]:
            end = float(piece.last_x) * (g_max if law.of == "g_rel" else 1.0)
            if abs(target - end) <= 1e-4 * end:
                left, right = (float(law_value(law, end * side, g_max)) for side in (1 - 1e-4, 1 + 1e-4))
                if abs(right - left) > 1e-3 * max(abs(left), abs(right)):
                    return target * (1 - 1e-3)
    return target


def cells_needed(levels: Sequence[Level], sigma_error: float, alpha: float) -> int:
    """Return the power of two of cells at which every level shows this relative error of σ. Raises BadInput for too
    many.
    """
    slots, n = sum(level.slots for level in levels), 1 << 16
    while n <= _LARGEST:
        per_slot = n // slots
        if all(
            detectable_sigma(_informative(level, per_slot), alpha) * _factor(level) <= sigma_error
            for level in levels
            if level.kind == "normal"
        ):
            return n
        n *= 2
    raise BadInput(
        "sigma_error",
        got=sigma_error,
        why=f"to show it at {len(levels)} levels with alpha {alpha:.3g} takes more than {_LARGEST} cells",
        do="choose a larger sigma_error, a larger alpha or fewer levels",
    )


def _informative(level: Level, per_slot: int) -> int:
    """Count the cells behind the test of σ: those above the clamp, where the mean lies on it."""
    return level.slots * per_slot // (2 if level.clip == 0 else 1) - 8


def _factor(level: Level) -> float:
    return 1.0 if level.clip == 0 else 1 / level.sharpness[1]


@dataclass(frozen=True)
class Bench:
    """A bench holds a device, an implementation of it, a seed, and a field of cells (rows, cols), powers of two."""

    declared: Declared
    sampler: Sampler
    seed: int
    levels: tuple[Level, ...]
    cells: int

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the whole field."""
        bits = self.cells.bit_length() - 1
        return 1 << (bits + 1) // 2, 1 << bits // 2

    @cached_property
    def level_index(self) -> npt.NDArray[np.intp]:
        """(rows, cols): which level each cell is programmed to; every block holds all of them."""
        slots = np.repeat(np.arange(len(self.levels)), [level.slots for level in self.levels])
        rows, cols = np.ogrid[: self.shape[0], : self.shape[1]]
        return np.asarray(slots[(rows + 3 * cols) % slots.size])

    @cached_property
    def targets(self) -> F32:
        """(rows, cols) float32; in the weight domain of both signs."""
        targets = np.array([level.target for level in self.levels], np.float32)[self.level_index]
        if self.declared.device.domain == "weight":
            rows, cols = np.ogrid[: self.shape[0], : self.shape[1]]
            targets = np.where(((rows >> 1) + cols) & 1, -targets, targets)
        return np.ascontiguousarray(targets)

    def block(self, rows: int, cols: int) -> tuple[int, int]:
        """Return the first rows and columns, as many as there are."""
        return min(rows, self.shape[0]), min(cols, self.shape[1])

    def per_level(self, values: npt.ArrayLike, shape: tuple[int, int]) -> F64:
        """Spread a number of each level, spread over the first rows and columns."""
        return np.asarray(np.asarray(values, np.float64)[self.level_index[: shape[0], : shape[1]]])

    @cached_property
    def level_targets(self) -> F64:
        """(levels,) target conductances; in the weight domain their size."""
        return np.array([level.target for level in self.levels])

    def program(self, shape: tuple[int, int], **where: int) -> ProgrammedCells:
        """Program the first rows and columns of the field; where: coordinates that differ from the base."""
        targets = np.ascontiguousarray(self.targets[: shape[0], : shape[1]])
        seed = where.pop("seed", self.seed)
        return self.sampler.program(targets, seed=seed, **where)

    def has(self, coordinate: str) -> bool:
        """Say whether the sampler's program() takes that coordinate."""
        return coordinate in coordinates(self.sampler.program)

    def uniforms(self, shape: tuple[int, int], tag: int) -> F64:
        """Draw the bench's own draws in (0, 1), apart from every simulated cell's."""
        n = shape[0] * shape[1]
        counter = np.zeros((-(-n // 4), 4), np.uint32)
        counter[:, 0], counter[:, 1], counter[:, 3] = np.arange(len(counter)), tag, _OWN_STREAM
        words = philox4x32(counter, key_of(self.seed)).ravel()[:n].reshape(shape)
        return np.asarray((words.astype(np.float64) + 0.5) / 2.0**32)

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Times above 0, rising, at which the device's statistics are looked at; empty where they never change."""
        device, drift = self.declared.device, self.declared.device.drift
        if device.t_max_s == 0 or not (drift or device.flicker or self.declared.aged):
            return ()
        assert device.t_max_s is not None
        power = isinstance(drift, PowerDrift)
        unit = drift.t0_s if isinstance(drift, PowerDrift) else max(device.t_min_s, 1.0)
        last = min(device.t_max_s, (3000 if power else 1e6) * unit)
        first = max(device.t_min_s, min(3 * unit, last / 10))
        return (first, last) if first < last else (last,)

    def programming(self, shape: tuple[int, int], t_s: float = 0.0) -> tuple[F64, F64]:
        """Return (mean, σ) of the cells before clipping; σ = 0 where float32 does not resolve it, or in the
        dead zone.
        """
        mean, sigma = self.declared.programming(self.level_targets, t_s)
        sound = resolved(sigma, mean) & ~self.declared.dead(self.level_targets)
        size = self.per_level(mean, shape)
        signed = np.where(self.targets[: shape[0], : shape[1]] < 0, -size, size)
        return signed, self.per_level(np.where(sound, sigma, 0.0), shape)

    def programming_draws(self, values: F64, tag: int, t_s: float = 0.0) -> tuple[F64, npt.NDArray[np.bool_]]:
        """Return the residuals of programmed cells (rows, cols), and where they say something; elsewhere they are the
        bench's own.

        t_s: for statistics by age, the age.
        """
        shape = (values.shape[0], values.shape[1])
        mean, sigma = self.programming(shape, t_s)
        known = sigma > 0
        u = self.uniforms(shape, tag)
        z = normal_residual(values, mean, np.where(known, sigma, 1.0), u, low=self.declared.floor)
        return np.where(known, z, special.ndtri(u)), known

    def drift_draws(
        self, programmed: F64, drifted: F64, t_s: float, tag: int
    ) -> tuple[F64, npt.NDArray[np.bool_]]:
        """Return the residuals of the drift by t_s, and where they say something."""
        shape = (programmed.shape[0], programmed.shape[1])
        u = self.uniforms(shape, tag)
        device, drift = self.declared.device, self.declared.device.drift
        if isinstance(drift, AdditiveDrift):
            mean, std = self.declared.additive(t_s)
            known = resolved(np.full(shape, std), programmed)
            centre, spread = programmed + mean, np.full(shape, std or 1.0)
            z = normal_residual(drifted, centre, spread, u, low=device.g_min_us, high=device.g_max_us)
        else:
            nu_mean, nu_std = (self.per_level(x, shape) for x in self.declared.nu(self.level_targets))
            nu = self.exponents(programmed, drifted, t_s)
            lost = nu == np.inf
            known = lost | (~np.isnan(nu) & resolved(nu_std * self.declared.log_time(t_s), np.ones(shape)))
            seen, spread = np.where(known & ~lost, nu, 1.0), np.where(known, nu_std, 1.0)
            z = folded_residual(seen, nu_mean, spread, u, 4 * FLOAT_STEP / self.declared.log_time(t_s))
            z = np.where(lost, FAR, z)
        return np.where(known, z, special.ndtri(u)), known

    def exponents(self, programmed: F64, drifted: F64, t_s: float) -> F64:
        """Return ν of each cell, from one time; NaN where the cell holds nothing, inf where it lost everything or its
        sign.
        """
        ratio = np.divide(drifted, programmed, out=np.full_like(programmed, np.nan), where=programmed != 0)
        logarithm = np.log(np.where(ratio > 0, ratio, 1.0))
        nu = np.where(ratio > 0, -logarithm / self.declared.log_time(t_s), np.inf)
        return np.asarray(np.where(np.isnan(ratio), np.nan, nu))

    def flicker_draws(
        self, programmed: F64, drifted: F64, now: F64, t_s: float, tag: int
    ) -> tuple[F64, npt.NDArray[np.bool_]]:
        """Return the residuals of the 1/f noise at t_s, and where they say something."""
        sigma = self.declared.flicker(programmed, drifted, t_s)
        known = resolved(sigma, drifted)
        u = self.uniforms((now.shape[0], now.shape[1]), tag)
        z = normal_residual(now, drifted, np.where(known, sigma, 1.0), u, low=self.declared.floor)
        return np.where(known, z, special.ndtri(u)), known

    def shows(self, cells: ProgrammedCells, what: str) -> bool:
        """Say whether the sampler's cells have that method; without 1/f noise, at(t_s) is drifted(t_s)."""
        return hasattr(cells, what) or (
            what == "drifted" and not self.declared.device.flicker and hasattr(cells, "at")
        )

    def get(self, cells: ProgrammedCells, what: str, shape: tuple[int, int], *args: Any, **kw: Any) -> F64:
        """Return an array of the sampler's cells in float64, its shape checked. what: programmed, drifted or at."""
        if what == "drifted" and not hasattr(cells, what):
            what = "at"
        found = cells.programmed if what == "programmed" else getattr(cells, what)(*args, **kw)
        return values_of(found, shape, what)
