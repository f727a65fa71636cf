"""What happens to a conductance: it is programmed, drifts and fluctuates, as data. Formulas: kernels/cells.py."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.devices.laws import ZERO, Law
from aimc_sim.devices.thermal import Verify
from aimc_sim.spec import Spec

Positive = Annotated[float, Field(gt=0)]


NonNegative = Annotated[float, Field(ge=0)]


class AgedLaw(Spec):
    """An aged law holds σ and mean error as measured at one age of the cells.

    >>> from aimc_sim.devices import AgedLaw, Law
    >>> AgedLaw(age_s=60.0, sigma=Law.polynomial(0.5)).shift is None
    True
    """

    age_s: NonNegative
    sigma: Law
    shift: Law | None = None


class Programming(Spec):
    """Programming writes G = max(G_target + shift(G_target) + scale·σ(G_target)·z, 0), one z per device and programming
    cycle.

    ``sigma`` holds at any age; or ``by_age`` lists the laws at measured ages, interpolated in ln t between them.
    ``dead_zone`` (weight domain): a target closer to zero than this becomes exactly zero. ``iterations``: rounds of
    program-and-verify, which scale σ as ``verify`` measured it; None: as the laws were measured.

    >>> from aimc_sim.devices import Law, Programming
    >>> Programming(sigma=Law.polynomial(0.5), scale=2.0).factor
    2.0
    """

    sigma: Law | None = None
    shift: Law | None = None
    by_age: tuple[AgedLaw, ...] = ()
    scale: NonNegative = 1.0
    dead_zone: NonNegative = 0.0
    verify: Verify | None = None
    iterations: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.sigma is None) == (not self.by_age):
            raise ValueError(
                "the spread is described twice, or not at all; give either sigma or by_age (a device with a base has "
                "its base's: describe the whole device to change the kind)"
            )
        if self.iterations is not None:
            if self.verify is None:
                raise ValueError(
                    "no data say how σ shrinks with iterations; add programming.verify, or leave iterations out"
                )
            self.verify.ratio(self.iterations)
        ages = [law.age_s for law in self.by_age]
        if any(b <= a for a, b in zip(ages, ages[1:], strict=False)):
            raise ValueError(f"ages must rise, got {ages}")
        if len(ages) > 1 and ages[0] == 0:
            raise ValueError(
                "statistics are interpolated in ln t, so the first of several ages must be above 0 s"
            )
        for what in ("sigma", "shift"):
            shapes = {(getattr(law, what) or ZERO).shape for law in self.by_age}
            if len(shapes) > 1 or any(shape[-1] for shape in shapes if len(ages) > 1):
                raise ValueError(
                    f"to be interpolated, the laws of {what} need the same pieces at every age, no clamps"
                )
        return self

    @property
    def factor(self) -> float:
        """Return what σ of the laws is multiplied by."""
        if self.iterations is None or self.verify is None:
            return self.scale
        return self.scale * self.verify.ratio(self.iterations)

    def at(self, t_s: float) -> tuple[Law, Law]:
        """Return (σ, shift) at age t_s; before the first measured age, the first."""
        if self.sigma is not None:
            return self.sigma, self.shift or ZERO
        laws = self.by_age
        if t_s <= laws[0].age_s or len(laws) == 1:
            return laws[0].sigma, laws[0].shift or ZERO
        i = next(i for i in range(1, len(laws)) if t_s <= laws[i].age_s)
        a, b = laws[i - 1], laws[i]
        fraction = math.log(t_s / a.age_s) / math.log(b.age_s / a.age_s)
        return a.sigma.mixed(b.sigma, fraction), (a.shift or ZERO).mixed(b.shift or ZERO, fraction)


class PowerDrift(Spec):
    """Power drift makes G(t) = G·((t + t0)/t0)^-ν, ν = |mean(g_target) + std(g_target)·z|, one z per device and cycle.

    >>> from aimc_sim import devices
    >>> devices.get("pcm-hermes-2").drift.t0_s > 0
    True
    """

    kind: Literal["power"] = "power"
    t0_s: Positive
    nu_mean: Law
    nu_std: Law


class AdditiveDrift(Spec):
    """Additive drift makes G(t) = G + mean_slope·ln t + (std_slope·ln t + std_offset)·z µS for t ≥ 1 s, in [g_min,
    g_max]; none at 0.

    >>> from aimc_sim.devices import AdditiveDrift
    >>> AdditiveDrift(kind="additive", mean_slope_us=-0.1, std_slope_us=0.05, std_offset_us=0.2).std_offset_us
    0.2
    """

    kind: Literal["additive"]
    mean_slope_us: float
    std_slope_us: NonNegative
    std_offset_us: NonNegative


class Flicker(Spec):
    """Flicker is 1/f noise, accumulated since programming, frozen in a session:
    G + G·Q(g)·√ln((t+t0+t_read)/(2 t_read))·z.

    ``relative = false`` leaves the factor G out (Q then in µS). g is the programmed conductance.

    >>> from aimc_sim import devices
    >>> devices.get("pcm-hermes-2").flicker.relative
    True
    """

    t_read_s: Positive
    t0_s: NonNegative
    amplitude: Law
    relative: bool = True
    scale: NonNegative = 1.0
