"""A device as a plain formula in float64: the shortest implementation that conforms, written apart from the kernels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.devices import AdditiveDrift, Device, PowerDrift
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import key_of
from aimc_sim.testing.declared import Declared

PROGRAMMING, DRIFT, FLICKER = range(3)


@dataclass(frozen=True)
class Site:
    """A site says which array of which chip, and which time it was programmed."""

    seed: int
    matrix: int
    polarity: int
    epoch: int


@dataclass(frozen=True)
class Formula:
    """A formula holds the steps of a device, each a method that a defect overrides. Shapes are (rows, cols), values
    float64.
    """

    device: Device

    @property
    def declared(self) -> Declared:
        """The device's laws."""
        return Declared(self.device)

    def words(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> npt.NDArray[np.uint32]:
        """Draw Philox words (groups, 4) of four neighbouring rows each, column by column."""
        rows, cols = shape
        groups = -(-rows // 4)
        counter = np.empty((cols, groups, 4), np.uint32)
        counter[..., 0], counter[..., 1] = np.arange(groups), np.arange(cols)[:, None]
        counter[..., 2], counter[..., 3] = event, stream << 24 | site.matrix << 4 | site.polarity
        return philox4x32(counter.reshape(-1, 4), key_of(site.seed))

    def z(self, shape: tuple[int, int], stream: int, event: int, site: Site) -> F64:
        """Draw standard normals of every cell."""
        return self.arrange(normals_of(self.words(shape, stream, event, site)), shape)

    def arrange(self, z: npt.NDArray[np.floating], shape: tuple[int, int]) -> F64:
        """Arrange four normals a group (groups, 4) → one a cell (rows, cols)."""
        return np.asarray(z.reshape(shape[1], -1)[:, : shape[0]].T, np.float64)

    def sigma(self, target: F64) -> F64:
        """Return σ of the programming error."""
        return self.declared.programming(target)[1]

    def program(self, target: F64, site: Site) -> F64:
        """Return the conductances right after programming."""
        z = self.z(target.shape, PROGRAMMING, site.epoch, site)
        mean, _ = self.declared.programming(target)
        noisy = self.clip(mean + self.sigma(target) * z)
        return np.where(self.declared.dead(target), 0.0, noisy)

    def clip(self, g: F64) -> F64:
        """Clip at zero: a conductance is not negative; a weight may be."""
        return np.asarray(np.maximum(g, self.declared.floor))

    def nu(self, target: F64, programmed: F64, t_s: float, site: Site) -> F64:
        """Draw the drift exponents."""
        mean, std = self.declared.nu(target)
        return np.abs(mean + std * self.z(target.shape, DRIFT, site.epoch, site))

    def log_time(self, t_s: float) -> float:
        """Return ln((t + t0)/t0)."""
        return self.declared.log_time(t_s)

    def drift(self, target: F64, programmed: F64, t_s: float, site: Site) -> F64:
        """Return the conductances t_s after programming, before 1/f noise."""
        device = self.device
        if t_s == 0:
            return programmed
        if isinstance(device.drift, PowerDrift):
            return programmed * np.exp(-self.nu(target, programmed, t_s, site) * self.log_time(t_s))
        if isinstance(device.drift, AdditiveDrift):
            mean, std = self.declared.additive(t_s)
            moved = programmed + mean + std * self.z(target.shape, DRIFT, site.epoch, site)
            return np.clip(moved, device.g_min_us, device.g_max_us)
        if self.declared.aged:
            mean_, sigma = self.declared.programming(target, t_s)
            return self.clip(mean_ + sigma * self.z(target.shape, PROGRAMMING, site.epoch, site))
        return programmed

    def flicker(self, programmed: F64, drifted: F64, t_s: float, session: int, site: Site) -> F64:
        """Return the conductances as one session reads them."""
        sigma = self.declared.flicker(programmed, drifted, t_s)
        return self.clip(drifted + sigma * self.z(drifted.shape, FLICKER, session, site))

    def column_sums(self, g: F64) -> F64:
        """Return the (cols,) sums over the rows."""
        return np.asarray(g.sum(axis=0))


@dataclass(frozen=True)
class FormulaSampler:
    """This is a `Sampler` made of a Formula."""

    formula: Formula

    def program(
        self, targets: npt.ArrayLike, *, seed: int, matrix: int = 0, polarity: int = 0, epoch: int = 0
    ) -> FormulaCells:
        """Program targets (rows, cols) in µS (weight domain: signed weights)."""
        return FormulaCells(
            self.formula, np.asarray(targets, np.float64), Site(seed, matrix, polarity, epoch)
        )


@dataclass(frozen=True)
class FormulaCells:
    """These are the cells of a Formula, float32."""

    formula: Formula
    targets: F64
    site: Site
    _programmed: list[F64] = field(default_factory=list, repr=False)

    @property
    def programmed(self) -> npt.NDArray[np.float32]:
        """Right after programming."""
        return self._start().astype(np.float32)

    def drifted(self, t_s: float) -> npt.NDArray[np.float32]:
        """Return the conductances at time t_s, before 1/f noise."""
        return self._drifted(t_s).astype(np.float32)

    def at(self, t_s: float, session: int = 0) -> npt.NDArray[np.float32]:
        """Return the conductances at time t_s, as that session reads them."""
        drifted = self._drifted(t_s)
        return self.formula.flicker(self._start(), drifted, t_s, session, self.site).astype(np.float32)

    def column_sums(self, t_s: float) -> F64:
        """Return the (cols,) sums of drifted(t_s)."""
        return self.formula.column_sums(self._drifted(t_s))

    def _start(self) -> F64:
        if not self._programmed:
            g = self.formula.program(self.targets, self.site)
            self._programmed.append(g.astype(np.float32).astype(np.float64))
        return self._programmed[0]

    def _drifted(self, t_s: float) -> F64:
        return self.formula.drift(self.targets, self._start(), t_s, self.site)


def normals_of(words: npt.NDArray[np.uint32], bits: int = 32) -> F64:
    """Apply Box–Muller in float64 on the high bits of the words (groups, 4)."""
    u = ((words >> np.uint32(32 - bits)).astype(np.float64) + 0.5) / 2.0**bits
    radius, angle = np.sqrt(-2 * np.log(u[:, 0::2])), 2 * np.pi * u[:, 1::2]
    z = np.empty(words.shape)
    z[:, 0::2], z[:, 1::2] = radius * np.cos(angle), radius * np.sin(angle)
    return z
