"""A device: the statistics of one memory cell, and what they say at a time. Formulas: kernels/cells.py."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.aliases import F32
from aimc_sim.devices.effects import AdditiveDrift, Flicker, NonNegative, Positive, PowerDrift, Programming
from aimc_sim.devices.laws import ZERO, Law
from aimc_sim.devices.thermal import Thermal
from aimc_sim.errors import BadInput
from aimc_sim.kernels import cells as kernel
from aimc_sim.kernels.laws import law_reference
from aimc_sim.spec import Spec
from aimc_sim.units import format_duration


class Device(Spec):
    """A device describes the statistics of one memory cell. In domain ``conductance`` a weight is G⁺ - G⁻ of two such
    cells, each programmed between g_min and g_max; in domain ``weight`` the noise acts on the signed weight, scaled to
    ±g_max.

    >>> from aimc_sim import devices
    >>> device = devices.get("pcm-hermes-2")
    >>> device.name, device.domain, device.t_max_s is not None
    ('pcm-hermes-2', 'conductance', True)
    """

    name: str
    description: str = ""
    source: str = ""
    domain: Literal["conductance", "weight"] = "conductance"
    g_max_us: Positive
    g_min_us: NonNegative = 0.0
    devices_per_polarity: int = Field(default=1, ge=1, le=2)  # what the fit already contains; still one draw
    # whether current is proportional to voltage up to the read voltage
    iv: Literal["linear", "nonlinear"] = "linear"
    # of a cell's selector: input, where the input is on it, not on the row
    gate: Literal["fixed", "input"] = "fixed"
    programming: Programming | None = None
    drift: Annotated[PowerDrift | AdditiveDrift, Field(discriminator="kind")] | None = None
    flicker: Flicker | None = None
    thermal: Thermal | None = None  # None: the device is known at the temperature of its source only
    t_min_s: NonNegative = 0.0  # 0 < t < t_min is refused: the source has no data there
    t_max_s: NonNegative | None = None  # None: the statistics do not depend on time

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.g_min_us >= self.g_max_us:
            raise ValueError(f"g_min_us = {self.g_min_us} must lie below g_max_us = {self.g_max_us}")
        ages = [law.age_s for law in self.programming.by_age] if self.programming else []
        depends_on_time = bool(self.drift or self.flicker or len(ages) > 1)
        if depends_on_time and self.t_max_s is None:
            raise ValueError("its statistics depend on time, so t_max_s must say up to when they hold")
        if len(ages) > 1 and self.t_max_s is not None and self.t_max_s > ages[-1]:
            raise ValueError(f"t_max_s = {self.t_max_s} lies beyond the last measured age, {ages[-1]} s")
        if len(ages) > 1 and self.drift is not None:
            raise ValueError("statistics by age already contain the drift; leave `drift` out")
        for what, law in self._laws():
            self._check_law(what, law)
        if self.thermal is not None and self.domain == "weight":
            raise ValueError("a weight-domain device has no conductance to activate; leave `thermal` out")
        if self.domain == "weight":
            if self.programming and any(law != ZERO for what, law in self._laws() if what == "shift"):
                raise ValueError("a mean error of the signed weight has no direction; leave `shift` out")
            if self.g_min_us:
                raise ValueError("a weight-domain device has no conductance, so g_min_us must be 0")
            if isinstance(self.drift, AdditiveDrift) or len(ages) > 1:
                raise ValueError(
                    "drift by addition or by age needs a conductance; use a power law in the weight domain"
                )
        return self

    def _laws(self) -> list[tuple[str, Law]]:
        laws: list[tuple[str, Law | None]] = []
        if self.programming:
            laws += [("sigma", self.programming.sigma), ("shift", self.programming.shift)]
            for aged in self.programming.by_age:
                laws += [("sigma", aged.sigma), ("shift", aged.shift)]
        if isinstance(self.drift, PowerDrift):
            laws += [("drift.nu_mean", self.drift.nu_mean), ("drift.nu_std", self.drift.nu_std)]
        if self.flicker:
            laws.append(("flicker.amplitude", self.flicker.amplitude))
        if self.thermal:
            laws.append(("thermal.activation_ev", self.thermal.activation_ev))
        return [(what, law) for what, law in laws if law is not None]

    def _check_law(self, what: str, law: Law) -> None:
        """The law's data cover this g_max, and a standard deviation is never negative."""
        arbitrary = self.domain == "weight" and law.measured_g_max_us not in (None, self.g_max_us)
        if arbitrary or not law.holds_for(self.g_max_us):
            raise ValueError(
                f"{what} was measured at g_max = {law.measured_g_max_us:g} µS and does not scale, so it cannot serve "
                f"g_max_us = {self.g_max_us:g}"
            )
        if what in ("shift", "drift.nu_mean", "thermal.activation_ev"):
            return
        g = np.linspace(self.g_min_us, self.g_max_us, 257).astype(np.float32)
        value = law_reference(law.table(), g * law.x_scale(self.g_max_us))
        if not (np.isfinite(value) & (value >= 0)).all():
            where = float(g[np.flatnonzero(~(np.isfinite(value) & (value >= 0)))[0]])
            raise ValueError(
                f"{what} is {float(value.min()):.3g} at {where:.3g} µS; it must be finite and not negative"
            )

    def check_time(self, t_s: float) -> None:
        """Raise BadInput for a time before programming or beyond the range of the device's data."""
        if not math.isfinite(t_s) or t_s < 0:
            raise BadInput(
                "time",
                got=t_s,
                why="times count from the end of programming, in seconds",
                do="give a finite time of at least 0",
            )
        if self.t_max_s is None:
            return
        if t_s > self.t_max_s:
            why = (
                "its source gives no law of drift"
                if self.t_max_s == 0
                else f"its data end at {format_duration(self.t_max_s)}"
            )
            raise BadInput(
                f"time for device {self.name!r}",
                got=format_duration(t_s),
                why=why,
                do="choose an earlier time, or name a drift law in the hardware's [device] table",
            )
        if 0 < t_s < self.t_min_s:
            raise BadInput(
                f"time for device {self.name!r}",
                got=format_duration(t_s),
                why=f"its data begin at {format_duration(self.t_min_s)}",
                do="choose 0 or a later time",
            )

    def programming_sigma_us(self, g_target_us: npt.ArrayLike, t_s: float = 0.0) -> F32:
        """Return σ of the programming error in µS at target conductances in µS, float32 of the same shape."""
        self._need_domain("conductance", "programming_sigma")
        return self._evaluate(kernel.SIGMA, g_target_us, "g_target_us", t_s)

    def programming_sigma(self, w: npt.ArrayLike, t_s: float = 0.0) -> F32:
        """Return σ of the programming error at weights w on the device's own scale, 0 … g_max;
        below the dead zone 0.
        """
        self._need_domain("weight", "programming_sigma_us")
        sigma = self._evaluate(kernel.SIGMA, w, "w", t_s)
        dead = self.programming.dead_zone if self.programming else 0.0
        return np.where(np.asarray(w, np.float32) < np.float32(dead), np.float32(0), sigma)

    def drift_nu(self, g_target_us: npt.ArrayLike) -> tuple[F32, F32]:
        """Return (mean, std) of the drift exponent at targets in µS. Raises BadInput where the law has no exponent."""
        if not isinstance(self.drift, PowerDrift):
            raise BadInput(
                f"drift exponent of {self.name!r}",
                why="its drift is not a power law",
                do="use a device with a power law, or `hardware show` to see what it has",
            )
        return (
            self._evaluate(kernel.NU_MEAN, g_target_us, "g_target_us", 0.0),
            self._evaluate(kernel.NU_STD, g_target_us, "g_target_us", 0.0),
        )

    def flicker_sigma_us(self, g_programmed_us: npt.ArrayLike, t_s: float) -> F32:
        """Return σ in µS of the 1/f noise of an undrifted cell at programmed conductances in µS,
        t_s after programming.
        """
        g = np.asarray(g_programmed_us, np.float32)
        if not (np.isfinite(g) & (g >= 0)).all():
            raise BadInput(
                f"g_programmed_us for device {self.name!r}",
                got=float(g[~(g >= 0)].flat[0]),
                why="a conductance is finite and not negative",
                do="correct the value",
            )
        self.check_time(t_s)
        if self.flicker is None:
            return np.zeros_like(g)
        tables = self.tables(t_s)
        if tables.flicker == kernel.NO_FLICKER:
            return np.zeros_like(g)
        amplitude = tables.y_scale[kernel.AMPLITUDE] * law_reference(
            tables.amplitude, g * tables.x_scale[kernel.AMPLITUDE]
        )
        sigma = amplitude * tables.root_log_time
        return np.asarray(g * sigma if self.flicker.relative else sigma, np.float32)

    def tables(self, t_s: float) -> kernel.DeviceTables:
        """Return what the kernels need to know of the device at time t_s."""
        self.check_time(t_s)
        sigma, shift = self.programming.at(0.0) if self.programming else (ZERO, ZERO)
        drift, mean, std = kernel.NO_DRIFT, ZERO, ZERO
        log_time = 0.0
        if self.programming and len(self.programming.by_age) > 1 and t_s > 0:
            drift, (std, mean) = kernel.AGED_DRIFT, self.programming.at(t_s)
        elif isinstance(self.drift, PowerDrift) and t_s > 0:
            drift, mean, std = kernel.POWER_DRIFT, self.drift.nu_mean, self.drift.nu_std
            log_time = math.log1p(t_s / self.drift.t0_s)
        elif isinstance(self.drift, AdditiveDrift) and t_s > 0:
            drift, ln_t = kernel.ADDITIVE_DRIFT, math.log(t_s)
            mean = Law.polynomial(self.drift.mean_slope_us * ln_t)
            std = Law.polynomial(self.drift.std_slope_us * ln_t + self.drift.std_offset_us)
        flicker, amplitude, root = kernel.NO_FLICKER, ZERO, 0.0
        if self.flicker is not None:
            f = self.flicker
            root = math.sqrt(max(math.log((t_s + f.t0_s + f.t_read_s) / (2 * f.t_read_s)), 0.0))
            if root > 0:
                flicker = kernel.RELATIVE_FLICKER if f.relative else kernel.ABSOLUTE_FLICKER
                amplitude = f.amplitude
        laws = (sigma, shift, mean, std, amplitude)
        y_scale = np.array([law.y_scale(self.g_max_us) for law in laws], np.float32)
        scale = np.float32(self.programming.factor if self.programming else 1.0)
        y_scale[kernel.SIGMA] *= scale
        if drift == kernel.AGED_DRIFT:
            y_scale[kernel.NU_STD] *= scale
        y_scale[kernel.AMPLITUDE] *= np.float32(self.flicker.scale if self.flicker else 1.0)
        return kernel.DeviceTables(
            weight_domain=self.domain == "weight",
            g_min=np.float32(self.g_min_us),
            span=np.float32(self.g_max_us) - np.float32(self.g_min_us),
            dead_zone=np.float32(self.programming.dead_zone if self.programming else 0.0),
            sigma=sigma.table(), shift=shift.table(), nu_mean=mean.table(), nu_std=std.table(),
            amplitude=amplitude.table(),
            x_scale=np.array([law.x_scale(self.g_max_us) for law in laws], np.float32),
            y_scale=y_scale,
            drift=drift, log_time=np.float32(log_time),
            clip_low=np.float32(self.g_min_us), clip_high=np.float32(self.g_max_us),
            flicker=flicker, root_log_time=np.float32(root),
        )  # fmt: skip

    def _need_domain(self, domain: str, instead: str) -> None:
        if self.domain != domain:
            raise BadInput(
                f"device {self.name!r}",
                why=f"it acts on the {self.domain}, not on the {domain}",
                do=f"call {instead}",
            )

    def _evaluate(self, which: int, g: npt.ArrayLike, what: str, t_s: float) -> F32:
        values = np.asarray(g, np.float32)
        low, high = np.float32(self.g_min_us), np.float32(self.g_max_us)
        bad = ~((values >= low) & (values <= high * np.float32(1.000001)))
        if bad.any():
            raise BadInput(
                f"{what} for device {self.name!r}",
                got=float(values[bad].flat[0]),
                why=f"its data cover {low:g} to {high:g}",
                do="stay within that range",
            )
        if which == kernel.SIGMA:
            self.check_time(t_s)
            law, scale = (
                (self.programming.at(t_s)[0], self.programming.factor) if self.programming else (ZERO, 1.0)
            )
        else:
            assert isinstance(self.drift, PowerDrift)
            law, scale = (self.drift.nu_mean if which == kernel.NU_MEAN else self.drift.nu_std), 1.0
        unit = law.y_scale(self.g_max_us) * np.float32(scale)
        return np.asarray(unit * law_reference(law.table(), values * law.x_scale(self.g_max_us)))

    def without_unused(self, heated: bool) -> Device:
        """Return the same device without data that decide nothing:
        at one temperature, without a count of iterations.
        """
        change: dict[str, Any] = {} if heated else {"thermal": None}
        if self.programming and self.programming.iterations is None:
            change["programming"] = self.programming.model_copy(update={"verify": None})
        return self.model_copy(update=change)

    def with_noise_scale(self, scale: float) -> Device:
        """Return the same device with programming and 1/f noise multiplied by ``scale``."""
        change: dict[str, Any] = {"name": f"{self.name}*{scale:g}"}
        if self.programming:
            change["programming"] = self.programming.model_copy(
                update={"scale": self.programming.scale * scale}
            )
        if self.flicker:
            change["flicker"] = self.flicker.model_copy(update={"scale": self.flicker.scale * scale})
        return self.model_copy(update=change)
