"""What the conformance tests ask of an implementation, and the one of this project behind that question.

An implementation can be anything: Python of your own, another simulator, a table of measured cells. It programs a
matrix of targets and returns cells:

    class MySampler:
        def program(self, targets, *, seed, matrix=0, polarity=0, epoch=0):
            return MyCells(...)

    class MyCells:
        programmed: (rows, cols) right after programming
        def drifted(self, t_s): ...           # (rows, cols) at time t_s, before 1/f noise
        def at(self, t_s, session=0): ...     # (rows, cols) at time t_s, as read in that session
        def column_sums(self, t_s): ...       # optional: (cols,) sums of drifted(t_s) as it adds them up

Conductances are in µS (weight domain: signed weights on the device's scale). ``matrix``, ``polarity``, ``epoch`` and
``session`` may be left out of the signatures, ``drifted`` where the device has no 1/f noise, and any method; what is
left out is not tested, and the report says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, F64
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.devices import Device
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware


class ProgrammedCells(Protocol):
    """These are cells of one matrix of one chip. Arrays are (rows, cols), in the unit of the targets."""

    @property
    def programmed(self) -> npt.ArrayLike:
        """Right after programming."""

    def drifted(self, t_s: float) -> npt.ArrayLike:
        """Return the cells t_s seconds after programming, before 1/f noise."""

    def at(self, t_s: float, session: int = 0) -> npt.ArrayLike:
        """Return the cells t_s seconds after programming, as that session reads them."""


class Sampler(Protocol):
    """A sampler is an implementation of a device."""

    def program(
        self, targets: F32, *, seed: int, matrix: int = 0, polarity: int = 0, epoch: int = 0
    ) -> ProgrammedCells:
        """Program targets (rows, cols). seed: which chip; matrix, polarity: which array on it; epoch: which time."""


@dataclass(frozen=True)
class DeviceSampler:
    """This sampler is a device as this project simulates it: `CellMatrix`, one polarity at a time."""

    device: Device

    def program(
        self, targets: F32, *, seed: int, matrix: int = 0, polarity: int = 0, epoch: int = 0
    ) -> DeviceCells:
        """Program cells to targets (rows, cols) float32 in µS (weight domain: signed weights)."""
        return DeviceCells(self.device, np.asarray(targets, np.float32), seed, matrix, polarity, epoch)


@dataclass(frozen=True)
class DeviceCells:
    """These are cells of this project's simulator. See `ProgrammedCells`."""

    device: Device
    targets: F32
    seed: int
    matrix: int
    polarity: int
    epoch: int
    _cache: dict[tuple[float, int, bool], tuple[F32, F32]] = field(default_factory=dict, repr=False)

    @property
    def programmed(self) -> F32:
        """Right after programming."""
        return next(iter(self._cache.values()))[0] if self._cache else self._cells(0.0, 0, False)[0]

    def drifted(self, t_s: float) -> F32:
        """Return the cells t_s seconds after programming, before 1/f noise."""
        return self._cells(t_s, 0, False)[1]

    def at(self, t_s: float, session: int = 0) -> F32:
        """Return the cells t_s seconds after programming, as that session reads them."""
        return self._cells(t_s, session, True)[1]

    def _cells(self, t_s: float, session: int, flicker: bool) -> tuple[F32, F32]:
        key = (t_s, session, flicker)
        if key not in self._cache:
            device = self.device if flicker else self.device.model_copy(update={"flicker": None})
            plane, cols = (0 if device.domain == "weight" else self.polarity), self.targets.shape[1]
            cells = self.matrix_of(device, t_s, session).cells()
            self._cache[key] = (cells.programmed[plane, :cols, :-1].T, cells.now[plane, :cols, :-1].T)
        return self._cache[key]

    def matrix_of(self, device: Device, t_s: float, session: int = 0) -> CellMatrix:
        """Return the weights that put these targets into cells, and a last row that sets the scale of every column."""
        sign = -1.0 if self.polarity and device.domain == "conductance" else 1.0
        span = device.g_max_us - device.g_min_us
        w = np.ones((self.targets.shape[1], self.targets.shape[0] + 1), np.float32)
        w[:, :-1] = (sign / span * (self.targets.astype(np.float64) - device.g_min_us)).T
        hardware = Hardware(name="one tile", device=device)
        return CellMatrix(
            w,
            hardware,
            seed=self.seed,
            t_s=t_s,
            ordinal=self.matrix,
            programming_cycle=self.epoch,
            session=session,
        )


def coordinates(call: Callable[..., Any]) -> set[str]:
    """Return names of the coordinates that a sampler's method takes by keyword."""
    known = {"matrix", "polarity", "epoch", "session"}
    parameters = inspect.signature(call).parameters
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return known if takes_all else known & set(parameters)


def values_of(found: npt.ArrayLike, shape: tuple[int, ...], what: str) -> F64:
    """Return a sampler's array in float64. Raises BadInput where it has another shape or is not made of numbers."""
    array = np.asarray(found)
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise BadInput(
            f"the sampler's {what}",
            got=(array.shape, str(array.dtype)),
            why=f"the targets were {shape}, and every cell has one number",
            do=f"return an array of shape {shape}",
        )
    return array.astype(np.float64)
