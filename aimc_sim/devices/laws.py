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
    """One polynomial: Σ c_k·v^k with v = x (linear), ln x (log); ``exp_log`` is e^(Σ c_k·(ln x)^k)."""

    coefficients: tuple[float, ...] = Field(min_length=1, max_length=kernel.COEFFICIENTS)
    basis: Literal["linear", "log", "exp_log"] = "linear"
    up_to: float | None = None  # largest x of this piece, inclusive; None for the last
    minimum: float | None = None
    maximum: float | None = None


class Law(Spec):
    """A function of conductance. ``of`` names the variable x: ``g_us`` microsiemens (weight domain: the weight on the
    device's own scale), or ``g_rel`` = g / g_max. ``reference_g_max_us``: the g_max at which the value was measured;
    it scales with the device's own. None: the value holds as it stands.
    """

    of: Literal["g_us", "g_rel"] = "g_rel"
    reference_g_max_us: float | None = Field(default=None, gt=0)
    pieces: tuple[Piece, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        bounds = [piece.up_to for piece in self.pieces]
        if bounds[-1] is not None or any(bound is None for bound in bounds[:-1]):
            raise ValueError("every piece but the last needs `up_to`, and the last must not have it")
        finite = [bound for bound in bounds if bound is not None]
        if any(b <= a for a, b in zip(finite, finite[1:], strict=False)):
            raise ValueError(f"the pieces' `up_to` must rise, got {finite}")
        return self

    @classmethod
    def polynomial(cls, *coefficients: float, **fields: Any) -> Law:
        """A law of one piece, coefficients ascending."""
        return cls(pieces=(Piece(coefficients=coefficients),), **fields)

    @classmethod
    def through(cls, x: npt.ArrayLike, y: npt.ArrayLike, **fields: Any) -> Law:
        """The law that joins points (x rising, y) by straight lines and is constant outside them."""
        xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if xs.size == 1:
            return cls.polynomial(float(ys[0]), **fields)
        slopes = np.diff(ys) / np.diff(xs)
        pieces = [
            Piece(
                coefficients=(float(ys[i] - slopes[i] * xs[i]), float(slopes[i])),
                up_to=float(xs[i + 1]) if i + 2 < xs.size else None,
                minimum=float(min(ys[i], ys[i + 1])),
                maximum=float(max(ys[i], ys[i + 1])),
            )
            for i in range(xs.size - 1)
        ]
        return cls(pieces=tuple(pieces), **fields)

    def table(self) -> npt.NDArray[np.float32]:
        """The kernels' form: (pieces, 10) float32."""
        table = np.zeros((len(self.pieces), kernel.WIDTH), np.float32)
        for row, piece in zip(table, self.pieces, strict=True):
            row[kernel.UPPER] = math.inf if piece.up_to is None else piece.up_to
            row[kernel.BASIS] = BASES[piece.basis]
            row[kernel.LOW] = -math.inf if piece.minimum is None else piece.minimum
            row[kernel.HIGH] = math.inf if piece.maximum is None else piece.maximum
            row[kernel.FIRST : kernel.FIRST + len(piece.coefficients)] = piece.coefficients
        return table

    def x_scale(self, g_max: float) -> np.float32:
        """Law variable per unit of conductance."""
        return np.float32(1.0 / g_max if self.of == "g_rel" else 1.0)

    def y_scale(self, g_max: float) -> np.float32:
        """Conductance per unit of the law's value."""
        return np.float32(g_max / self.reference_g_max_us if self.reference_g_max_us else 1.0)

    def mixed(self, other: Law, fraction: float) -> Law:
        """(1 - fraction)·self + fraction·other, for two laws of the same pieces without clamps that differ."""
        pieces = []
        for a, b in zip(self.pieces, other.pieces, strict=True):
            n = max(len(a.coefficients), len(b.coefficients))
            ca = a.coefficients + (0.0,) * (n - len(a.coefficients))
            cb = b.coefficients + (0.0,) * (n - len(b.coefficients))
            mix = tuple(p + fraction * (q - p) for p, q in zip(ca, cb, strict=True))
            pieces.append(Piece(coefficients=mix, basis=a.basis, up_to=a.up_to))
        return self.model_copy(update={"pieces": tuple(pieces)})


ZERO = Law.polynomial(0.0)
