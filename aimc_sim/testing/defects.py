"""Negative controls: the plain formula of a device with one mistake planted in each copy.

`FormulaSampler` conforms. Every entry of `DEFECTS` changes one step of it, and `check_device` finds each; run them
against a device of your own to see that the test has teeth there too:

    for name, sampler in planted_defects(my_device).items():
        assert not check_device(my_device, sampler).passed, name
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.devices import Device, PowerDrift
from aimc_sim.testing.formula import DRIFT, FLICKER, PROGRAMMING, Formula, FormulaSampler, Site, normals_of

RHO = 0.05


class SigmaTooLarge(Formula):
    """The programming σ is 2 % too large at every conductance."""

    def sigma(self, target: F64) -> F64:
        return super().sigma(target) * 1.02


class SigmaTooSmall(Formula):
    """The programming σ is 2 % too small at every conductance."""

    def sigma(self, target: F64) -> F64:
        return super().sigma(target) * 0.98


class SigmaOffAtOnePlace(Formula):
    """The programming σ is 2 % too large near g_max, right elsewhere."""

    def sigma(self, target: F64) -> F64:
        right = super().sigma(target)
        return np.where(np.abs(target) > 0.9 * self.device.g_max_us, 1.02 * right, right)


class SharedStream(Formula):
    """Drift draws the numbers of programming."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z(shape, PROGRAMMING if stream == DRIFT else stream, event, site)


class ReusedKey(Formula):
    """Every chip draws the numbers of chip 0."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z(shape, stream, event, replace(site, seed=0))


class HalfASeed(Formula):
    """Chips whose seeds differ in the high 32 bits are one."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z(shape, stream, event, replace(site, seed=site.seed % 2**32))


class SharedMatrix(Formula):
    """Every matrix of a chip draws the numbers of the first."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z(shape, stream, event, replace(site, matrix=0))


class SharedPolarity(Formula):
    """Both polarities draw the same numbers."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z(shape, stream, event, replace(site, polarity=0))


class ClippedTail(Formula):
    """Normals are clipped to ±3.5."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return np.clip(super().z(shape, stream, event, site), -3.5, 3.5)


class TruncatedUniforms(Formula):
    """Box–Muller works on the high 23 bits, as float32 uniforms have them."""

    bits = 23

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return self.arrange(normals_of(self.words(shape, stream, event, site), self.bits), shape)


class SixteenBitUniforms(TruncatedUniforms):
    """Box–Muller works on the high 16 bits."""

    bits = 16


class HalfPrecisionNormals(Formula):
    """Normals are rounded to float16."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z(shape, stream, event, site).astype(np.float16).astype(np.float64)


class HalfPrecisionConductances(Formula):
    """Conductances are rounded to float16 after programming."""

    def program(self, target: F64, site: Site) -> F64:
        return super().program(target, site).astype(np.float16).astype(np.float64)


class HalfPrecisionSums(Formula):
    """Column currents are added up in float16."""

    def column_sums(self, g: F64) -> F64:
        running = np.cumsum(g, axis=0, dtype=np.float16)
        return np.asarray(running[-1], np.float64)


class CorrelatedColumns(Formula):
    """Neighbouring columns share a twentieth of their draws."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        z = super().z((shape[0], shape[1] + 1), stream, event, site)
        mixed: F64 = z[:, :-1] + RHO * z[:, 1:]
        return mixed / math.sqrt(1 + RHO**2)


class CommonRow(Formula):
    """The cells of a row share a twentieth of their draws."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        own, common = super().z(shape, stream, event, site), super().z((shape[0], 1), stream + 8, event, site)
        return math.sqrt(1 - RHO**2) * own + RHO * common


class RepeatedTile(Formula):
    """Every 64 rows draw the same numbers."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z((64, shape[1]), stream, event, site)[np.arange(shape[0]) % 64]


class BatchDependentDraw(Formula):
    """Draws are numbered through the array, so a cell's depends on the array's size."""

    def arrange(self, z: npt.NDArray[np.floating], shape: tuple[int, int]) -> F64:
        return np.asarray(z, np.float64).ravel()[: shape[0] * shape[1]].reshape(shape)


class NegativeConductance(Formula):
    """Nothing is clipped at zero."""

    def clip(self, g: F64) -> F64:
        return g


class SigmaFromProgrammed(Formula):
    """σ is taken where the cell landed, not at its target."""

    def program(self, target: F64, site: Site) -> F64:
        z = self.z(target.shape, PROGRAMMING, site.epoch, site)
        first = np.clip(self.clip(target + self.sigma(target) * z), 0, self.device.g_max_us)
        return self.clip(self.declared.programming(target)[0] + self.sigma(first) * z)


class DriftSign(Formula):
    """Conductances grow with time."""

    def log_time(self, t_s: float) -> float:
        return -super().log_time(t_s)


class ReferenceTimeOff(Formula):
    """t0 is 2 % too large."""

    def log_time(self, t_s: float) -> float:
        return super().log_time(t_s / 1.02)


class ExponentFromProgrammed(Formula):
    """The drift exponent follows the programmed conductance, not the target."""

    def nu(self, target: F64, programmed: F64, t_s: float, site: Site) -> F64:
        return super().nu(np.clip(programmed, 0, self.device.g_max_us), programmed, t_s, site)


class NewExponentEveryTime(Formula):
    """The exponent is drawn anew at every time."""

    def nu(self, target: F64, programmed: F64, t_s: float, site: Site) -> F64:
        return super().nu(target, programmed, t_s, replace(site, epoch=site.epoch + int(t_s)))


class CommonExponent(Formula):
    """Every device drifts with the mean exponent."""

    def nu(self, target: F64, programmed: F64, t_s: float, site: Site) -> F64:
        return self.declared.nu(target)[0]


class OneSession(Formula):
    """Every session reads the same 1/f noise."""

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        return super().z(shape, stream, 0 if stream == FLICKER else event, site)


class FlickerFromDrifted(Formula):
    """1/f noise follows the drifted conductance, not the programmed one."""

    def flicker(self, programmed: F64, drifted: F64, t_s: float, session: int, site: Site) -> F64:
        return super().flicker(np.abs(drifted), drifted, t_s, session, site)


def _drifts(device: Device) -> bool:
    return isinstance(device.drift, PowerDrift)


def _flickers(device: Device) -> bool:
    return device.flicker is not None


def _clips(device: Device) -> bool:
    return device.domain == "conductance" and device.programming is not None


def _noisy(device: Device) -> bool:
    return device.programming is not None


def _any(device: Device) -> bool:
    return True


@dataclass(frozen=True)
class Defect:
    """A defect is one planted mistake. found_by: how the name of the property that must fail begins; effect: what was
    planted, in the unit of that property's Record (None where it holds exactly or not at all: found with
    certainty).
    """

    formula: type[Formula]
    found_by: str
    effect: float | None = None
    applies: Callable[[Device], bool] = _noisy


DEFECTS: dict[str, Defect] = {
    "sigma 2 % too large": Defect(SigmaTooLarge, "programming: sigma", 0.02),
    "sigma 2 % too small": Defect(SigmaTooSmall, "programming: sigma", 0.02),
    "sigma 2 % too large at g_max only": Defect(SigmaOffAtOnePlace, "programming: sigma", 0.02),
    "shared stream": Defect(SharedStream, "independence: programming and drift", 1.0, _drifts),
    "reused key": Defect(ReusedKey, "independence: chips,", 1.0),
    "32 bits of the seed": Defect(HalfASeed, "independence: chips 2^32 apart", 1.0),
    "matrices alike": Defect(SharedMatrix, "independence: matrices", 1.0),
    "polarities alike": Defect(SharedPolarity, "independence: polarities", 1.0, _clips),
    "clipped tail": Defect(ClippedTail, "programming: tail above"),
    "truncated uniforms": Defect(TruncatedUniforms, "precision: uniforms", 0.75),
    "16-bit uniforms": Defect(SixteenBitUniforms, "precision: uniforms", 0.75),
    "float16 normals": Defect(HalfPrecisionNormals, "precision: bits of the normals", 0.5),
    "float16 conductances": Defect(HalfPrecisionConductances, "precision: bits of the conductances"),
    "float16 accumulation": Defect(HalfPrecisionSums, "sums", None, _any),
    "correlated columns": Defect(CorrelatedColumns, "independence: cells, programming", 0.049),
    "a common part of every row": Defect(CommonRow, "independence: means of rows, programming", 0.5),
    "repeated tile": Defect(RepeatedTile, "independence: cells, programming", 0.9),
    "batch-dependent draw": Defect(BatchDependentDraw, "determinism: parts"),
    "negative conductance": Defect(NegativeConductance, "positivity", None, _clips),
    "sigma from the programmed conductance": Defect(SigmaFromProgrammed, "programming: mean", None, _clips),
    "drift sign": Defect(DriftSign, "drift: monotone", None, _drifts),
    "t0 off by 2 %": Defect(ReferenceTimeOff, "drift: reference time t0", None, _drifts),
    "exponent from the programmed conductance": Defect(
        ExponentFromProgrammed, "independence: programming and drift", None, _drifts
    ),
    "new exponent at every time": Defect(NewExponentEveryTime, "drift: one trajectory", None, _drifts),
    "one exponent for all": Defect(CommonExponent, "drift: sigma", 1.0, _drifts),
    "sessions alike": Defect(OneSession, "independence: sessions", 1.0, _flickers),
    "1/f noise from the drifted conductance": Defect(FlickerFromDrifted, "1/f noise: sigma", None, _flickers),
}


def planted_defects(device: Device) -> dict[str, FormulaSampler]:
    """Make a wrong implementation for every defect that the device's laws allow, by name.

    >>> from aimc_sim import devices
    >>> from aimc_sim.testing import planted_defects
    >>> len(planted_defects(devices.get("pcm-hermes-2"))) > 20
    True
    """
    return {
        name: FormulaSampler(defect.formula(device))
        for name, defect in DEFECTS.items()
        if defect.applies(device)
    }
