"""How a device depends on temperature, and on how often it is programmed and verified, as data."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.devices.laws import Law
from aimc_sim.spec import Spec

KELVIN = 273.15
BOLTZMANN_EV = 8.617333262e-5  # eV/K, CODATA 2018


class Thermal(Spec):
    """Thermal data describe conduction and drift of a device at other temperatures; between t_min_c and t_max_c, which
    are the data's.

    ``activation_ev``: E_a of the conductance at its target, in G(T) = G(T₀)·exp(-E_a/k·(1/T - 1/T₀)).
    ``attempt_time_s``: τ₀₀ of thermally activated relaxation with rates e^(-E/kT)/τ₀₀, which makes drift faster when
    warm; a device without drift has none.
    """

    reference_c: float = 25.0  # at which the device's other laws were measured
    t_min_c: float
    t_max_c: float
    activation_ev: Law
    attempt_time_s: float | None = Field(default=None, gt=0)
    source: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not -KELVIN < self.t_min_c <= self.reference_c <= self.t_max_c:
            raise ValueError(
                "the reference lies between t_min_c and t_max_c, above absolute zero; correct them"
            )
        if self.activation_ev.scales:
            raise ValueError("an activation energy is not proportional to g_max; leave `scales` out")
        return self


class Verify(Spec):
    """Verify gives σ of the programming error after n rounds of program-and-verify, over σ as the device's law gives
    it.

    Between the measured rounds the ratio is a power of n; beyond them it is refused.
    """

    iterations: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    sigma_ratio: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    source: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        n = self.iterations
        if len(n) != len(self.sigma_ratio):
            raise ValueError(
                f"{len(n)} iterations and {len(self.sigma_ratio)} ratios; give one ratio for each"
            )
        if any(b <= a for a, b in zip(n, n[1:], strict=False)):
            raise ValueError(f"iterations must rise, got {list(n)}; sort them")
        return self

    def ratio(self, iterations: int) -> float:
        """Return σ(n)/σ. Raises ValueError outside the measured rounds."""
        n, r = self.iterations, self.sigma_ratio
        if not n[0] <= iterations <= n[-1]:
            raise ValueError(
                f"iterations = {iterations} lies outside the data of `verify`, {n[0]} to {n[-1]}; stay within, or give "
                "your own law"
            )
        if iterations in n:
            return r[n.index(iterations)]
        i = next(i for i in range(1, len(n)) if iterations < n[i])
        part = math.log(iterations / n[i - 1]) / math.log(n[i] / n[i - 1])
        return math.exp(math.log(r[i - 1]) + part * math.log(r[i] / r[i - 1]))
