"""Laws of conductance as data: piecewise polynomials in g or ln g, with clamps (evaluated by kernels/laws.py)."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.kernels import laws as kernel
from aimc_sim.spec import Spec

BASES = {"linear": kernel.LINEAR, "log": kernel.LOG, "exp_log": kernel.EXP_LOG}


class Piece(Spec):
    """A piece is one polynomial of a law: Σ c_k·v^k with v = x (linear), ln x (log); ``exp_log`` is e^(Σ c_k·(ln x)^k).

    >>> from aimc_sim.devices import Law, Piece
    >>> Law(pieces=(Piece(coefficients=(0.1, 0.2), up_to=0.5), Piece(coefficients=(0.2,)))).table().shape
    (2, 10)
    """

    coefficients: tuple[float, ...] = Field(min_length=1, max_length=kernel.COEFFICIENTS)
    basis: Literal["linear", "log", "exp_log"] = "linear"
    up_to: float | None = None  # largest x of this piece, inclusive
    below: float | None = None  # or: x of this piece lies below; the last piece has neither
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.up_to is not None and self.below is not None:
            raise ValueError("give `up_to` (inclusive) or `below`, not both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum = {self.minimum} lies above maximum = {self.maximum}")
        return self

    @property
    def end(self) -> float | None:
        """Return where the piece ends; None for the last."""
        return self.below if self.up_to is None else self.up_to

    @property
    def last_x(self) -> np.float32:
        """Return the largest float32 x of the piece."""
        if self.end is None:
            return np.float32(np.inf)
        end = np.float32(self.end)
        return end if self.below is None else np.nextafter(end, np.float32(-np.inf))


class Law(Spec):
    """A law gives a quantity of a cell as a function of its conductance. ``of`` names the variable x: ``g_us``
    microsiemens (weight domain: the weight on the device's own scale), or ``g_rel`` = g / g_max. ``measured_g_max_us``:
    where the source's data end; the law holds for that g_max only (of ``g_us``: up to it), unless ``scales``: then its
    value is proportional to the device's g_max.

    >>> from aimc_sim.devices import Law
    >>> rising = Law.polynomial(0.1, 0.4)  # 0.1 + 0.4·g / g_max
    >>> rising.of, rising.pieces[0].coefficients
    ('g_rel', (0.1, 0.4))
    """

    of: Literal["g_us", "g_rel"] = "g_rel"
    measured_g_max_us: float | None = Field(default=None, gt=0)
    scales: bool = False
    pieces: tuple[Piece, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        bounds = [piece.end for piece in self.pieces]
        if bounds[-1] is not None or any(bound is None for bound in bounds[:-1]):
            raise ValueError(
                "every piece but the last needs `up_to` or `below`, and the last must not have it"
            )
        if self.scales and self.measured_g_max_us is None:
            raise ValueError("a law that scales needs `measured_g_max_us`")
        finite = [bound for bound in bounds if bound is not None]
        if any(b <= a for a, b in zip(finite, finite[1:], strict=False)):
            raise ValueError(f"the pieces' ends must rise, got {finite}")
        return self

    @classmethod
    def polynomial(cls, *coefficients: float, **fields: Any) -> Law:
        """Return a law of one piece, coefficients ascending."""
        return cls(pieces=(Piece(coefficients=coefficients),), **fields)

    @classmethod
    def through(cls, x: npt.ArrayLike, y: npt.ArrayLike, **fields: Any) -> Law:
        """Return the law that joins points (x rising, y) by straight lines, the outer ones carried on."""
        xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if xs.size == 1:
            return cls.polynomial(float(ys[0]), **fields)
        slopes = np.diff(ys) / np.diff(xs)
        pieces = [
            Piece(
                coefficients=(float(ys[i] - slopes[i] * xs[i]), float(slopes[i])),
                up_to=float(xs[i + 1]) if i + 2 < xs.size else None,
            )
            for i in range(xs.size - 1)
        ]
        return cls(pieces=tuple(pieces), **fields)

    def table(self) -> npt.NDArray[np.float32]:
        """Return the kernels' form: (pieces, 10) float32."""
        table = np.zeros((len(self.pieces), kernel.WIDTH), np.float32)
        for row, piece in zip(table, self.pieces, strict=True):
            row[kernel.UPPER] = piece.last_x
            row[kernel.BASIS] = BASES[piece.basis]
            row[kernel.LOW] = -math.inf if piece.minimum is None else piece.minimum
            row[kernel.HIGH] = math.inf if piece.maximum is None else piece.maximum
            row[kernel.FIRST : kernel.FIRST + len(piece.coefficients)] = piece.coefficients
        return table

    def x_scale(self, g_max: float) -> np.float32:
        """Return the law variable per unit of conductance."""
        return np.float32(1.0 / g_max if self.of == "g_rel" else 1.0)

    def y_scale(self, g_max: float) -> np.float32:
        """Return the conductance per unit of the law's value."""
        return np.float32(g_max / self.measured_g_max_us if self.scales and self.measured_g_max_us else 1.0)

    def holds_for(self, g_max: float) -> bool:
        """Return whether the source's data cover a device of this g_max."""
        if self.measured_g_max_us is None or self.scales:
            return True
        return g_max <= self.measured_g_max_us if self.of == "g_us" else g_max == self.measured_g_max_us

    @property
    def shape(self) -> tuple[object, ...]:
        """Return what two laws must share to be interpolated: pieces, variable, scale, and no clamps."""
        cuts = tuple((p.up_to, p.below, p.basis) for p in self.pieces)
        clamps = any(p.minimum is not None or p.maximum is not None for p in self.pieces)
        return (self.of, self.measured_g_max_us, self.scales, cuts, clamps)

    def mixed(self, other: Law, fraction: float) -> Law:
        """Return (1 - fraction)·self + fraction·other, for two laws of one `shape`."""
        pieces = []
        for a, b in zip(self.pieces, other.pieces, strict=True):
            n = max(len(a.coefficients), len(b.coefficients))
            ca = a.coefficients + (0.0,) * (n - len(a.coefficients))
            cb = b.coefficients + (0.0,) * (n - len(b.coefficients))
            mix = tuple(p + fraction * (q - p) for p, q in zip(ca, cb, strict=True))
            pieces.append(Piece(coefficients=mix, basis=a.basis, up_to=a.up_to, below=a.below))
        return self.model_copy(update={"pieces": tuple(pieces)})


ZERO = Law.polynomial(0.0)
