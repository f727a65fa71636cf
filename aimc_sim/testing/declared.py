"""What a device declares, in float64 and apart from the kernels, and how far cells are from it in standard normals.

Every residual is exactly N(0, 1) for cells that follow the declaration, clipped cells included: where the law has a
lump of probability at a clamp, the residual is drawn from the part of the normal that the lump stands for (randomised
quantile residuals, Dunn and Smyth 1996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from aimc_sim.aliases import F64
from aimc_sim.devices import AdditiveDrift, Device, Law, PowerDrift
from aimc_sim.kernels.laws import X_FLOOR

CLAMP = 2.0**-22  # a float32 this close to a clamp lies on it
FAR = 38.0  # residuals stay within, so that they remain finite: the normal has nothing beyond


def law_value(law: Law, g: npt.ArrayLike, g_max: float) -> F64:
    """Evaluate the law at conductances g in µS (weight domain: |weight| on the device's scale), float64 of g's
    shape.
    """
    x = np.asarray(g, np.float64) / (g_max if law.of == "g_rel" else 1.0)
    ln_x = np.log(np.maximum(x, float(X_FLOOR)))
    value = np.zeros_like(x)
    for piece in reversed(law.pieces):
        part = np.polynomial.polynomial.polyval(x if piece.basis == "linear" else ln_x, piece.coefficients)
        part = np.exp(part) if piece.basis == "exp_log" else part
        low, high = (
            default if end is None else end
            for end, default in ((piece.minimum, -np.inf), (piece.maximum, np.inf))
        )
        part = np.clip(part, low, high)
        end = math.inf if piece.end is None else piece.end
        here = x < end if piece.up_to is None else x <= end
        value = np.where(here, part, value)
    return value * float(law.y_scale(g_max))


def declared_laws(device: Device) -> list[Law]:
    """List every law of conductance that the device has."""
    laws: list[Law | None] = []
    if device.programming:
        laws += [device.programming.sigma, device.programming.shift]
        for aged in device.programming.by_age:
            laws += [aged.sigma, aged.shift]
    if isinstance(device.drift, PowerDrift):
        laws += [device.drift.nu_mean, device.drift.nu_std]
    if device.flicker:
        laws.append(device.flicker.amplitude)
    return [law for law in laws if law is not None]


@dataclass(frozen=True)
class Declared:
    """These are the laws of a device; conductances in µS, or signed weights on the device's scale in the weight
    domain.
    """

    device: Device

    @property
    def floor(self) -> float:
        """Conductances are clipped here; a signed weight is not clipped."""
        return -math.inf if self.device.domain == "weight" else 0.0

    @property
    def aged(self) -> bool:
        """Whether the statistics are those of measured ages, under one programming draw."""
        return self.device.programming is not None and len(self.device.programming.by_age) > 1

    def programming(self, target: F64, t_s: float = 0.0) -> tuple[F64, F64]:
        """Return (mean, σ) before clipping, of cells programmed to target; t_s: at which age, where ages are
        declared.
        """
        noise = self.device.programming
        if noise is None:
            return target, np.zeros_like(target)
        sigma, shift = noise.at(t_s)
        size, g_max = np.abs(target), self.device.g_max_us
        return target + law_value(shift, size, g_max), noise.factor * law_value(sigma, size, g_max)

    def dead(self, target: F64) -> npt.NDArray[np.bool_]:
        """Find the cells that become exactly zero."""
        found = self.device.programming
        inside = np.abs(target) < np.float32(found.dead_zone if found else 0.0)
        return np.asarray(inside & (self.device.domain == "weight"))

    def nu(self, target: F64) -> tuple[F64, F64]:
        """Return (mean, std) of the drift exponent before the absolute value is taken."""
        drift = self.device.drift
        assert isinstance(drift, PowerDrift)
        size, g_max = np.abs(target), self.device.g_max_us
        return law_value(drift.nu_mean, size, g_max), law_value(drift.nu_std, size, g_max)

    def log_time(self, t_s: float) -> float:
        """Return ln((t + t0)/t0)."""
        assert isinstance(self.device.drift, PowerDrift)
        return math.log1p(t_s / self.device.drift.t0_s)

    def additive(self, t_s: float) -> tuple[float, float]:
        """Return (mean, σ) in µS of the change by time t_s > 0."""
        drift = self.device.drift
        assert isinstance(drift, AdditiveDrift)
        ln_t = math.log(t_s)
        return drift.mean_slope_us * ln_t, drift.std_slope_us * ln_t + drift.std_offset_us

    def flicker(self, programmed: F64, drifted: F64, t_s: float) -> F64:
        """Return σ of the 1/f noise in µS, of cells programmed to this and drifted to that; zeros where there
        is none.
        """
        law = self.device.flicker
        if law is None:
            return np.zeros_like(programmed)
        grown = math.log((t_s + law.t0_s + law.t_read_s) / (2 * law.t_read_s))
        size = law.scale * law_value(law.amplitude, np.abs(programmed), self.device.g_max_us)
        sigma = size * math.sqrt(max(grown, 0.0))
        return np.asarray(np.abs(drifted) * sigma if law.relative else sigma)


def normal_residual(
    values: F64, mean: F64, sigma: F64, uniform: F64, low: float = -math.inf, high: float = math.inf
) -> F64:
    """Return z of values that are N(mean, σ²) clipped to [low, high]; uniform (0, 1) draws stand in for what was
    clipped.
    """
    with np.errstate(over="ignore"):
        z = (values - mean) / sigma
    for end, side in ((low, 1.0), (high, -1.0)):
        at = np.abs(values - end) <= CLAMP * abs(end) if math.isfinite(end) else np.zeros(1, bool)
        if at.any():
            inside = special.ndtr(side * (end - mean[at]) / sigma[at])
            z[at] = side * special.ndtri(uniform[at] * inside)
    return np.asarray(np.clip(z, -FAR, FAR))


def folded_residual(nu: F64, mean: F64, sigma: F64, uniform: F64, resolution: float) -> F64:
    """Return z of ν = |mean + σ·z'|, by its exact law: P(|X| ≤ ν) = Φ((ν - mean)/σ) - Φ((-ν - mean)/σ).

    Below the resolution with which ν was read, a uniform (0, 1) draw stands in for it. A ν that is clearly negative,
    which the law does not allow, keeps its distance from the mean.
    """
    floor = np.maximum(nu, resolution)
    above, below = (floor - mean) / sigma, (-floor - mean) / sigma
    under = np.maximum(special.ndtr(above) - special.ndtr(below), 0.0)
    over = np.minimum(special.ndtr(-above) + special.ndtr(below), 1.0)
    z = np.where(above > 0, -special.ndtri(over), special.ndtri(under))
    z = np.where(nu < resolution, special.ndtri(uniform * under), z)
    plain = (nu < -resolution) | (special.ndtr(below) == 0)
    return np.asarray(np.clip(np.where(plain, (nu - mean) / sigma, z), -FAR, FAR))
