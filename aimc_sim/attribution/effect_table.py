"""Every effect that a hardware can have, one row each: how it is found, and how it is switched off.

Whoever adds a table to the hardware adds a row to `EFFECTS`, or a line to `NEUTRAL` that says why it is no effect; a
test sees to it that every table is in one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aimc_sim.devices import Device
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.converters import LambdaRule, StaticRange
from aimc_sim.spec import Spec
from aimc_sim.units import format_duration

Keys = frozenset[str]
Tables = dict[str, Any]
NONE: Keys = frozenset()
IDEAL_BITS = 16  # of the inputs where an ADC needs input codes and the DAC is off: 256 × finer than 8 bits
SCALES = {
    "least_squares": "least-squares", "least_output_error": "least-output-error", "percentile": "percentile",
    "worst_case": "worst-case",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row describes one effect.

    tables: the tables that belong to it, dotted, those inside them included; switched off, they are absent, unless
    ``off`` changes the hardware's tables in another way, given the hardware and what stays on.
    detail: what it is on a hardware at a time; None where it is absent, zero or without effect.
    random: whether chips differ by it. needs, acts_on: as of `effects.Effect`, by hardware.
    """

    key: str
    name: str
    tables: tuple[str, ...]
    detail: Callable[[Hardware, float], str | None]
    random: bool
    needs: Callable[[Hardware], Keys] = lambda hardware: NONE
    acts_on: Callable[[Hardware], Keys] = lambda hardware: NONE
    off: Callable[[Tables, Hardware, Keys], None] | None = None

    def switch_off(self, tables: Tables, hardware: Hardware, on: Keys) -> None:
        """Take the effect out of a hardware's tables, in place."""
        if self.off is not None:
            self.off(tables, hardware, on)
            return
        for path in self.tables:
            *outer, last = path.split(".")
            at: Any = tables
            for name in outer:
                at = at and at[name]
            if at:
                at[last] = None


def _dac(hardware: Hardware, t_s: float) -> str | None:
    dac = hardware.dac
    if dac is None:
        return None
    if isinstance(dac.range, StaticRange):
        span = "static range"
    else:
        span = "range per token" + (" and tile" if dac.range.per == "tile" else "")
    mode = "" if dac.mode == "amplitude" else f", {dac.mode.replace('_', ' ')}"
    return f"{dac.bits} bits, {span}{mode}"


def _dac_off(tables: Tables, hardware: Hardware, on: Keys) -> None:
    if hardware.dac is None:
        return
    table = tables["dac"] | {"bits": IDEAL_BITS, "mode": "amplitude", "errors": None}
    # Cells that are read at one voltage only could not take inputs without codes.
    tables["device"] |= {"iv": "linear", "gate": "fixed"}
    # A dead column is a converter that gives nothing, so it needs one; its range must then clip nothing.
    faults = hardware.faults if "faults" in on else None
    dead = faults is not None and (faults.dead_column_rate or faults.map is not None)
    if "adc" in on:
        tables["dac"] = table
    else:
        tables["dac"] = {**table, "range": {"method": "per_token"}} if dead else None


def _weight_codes(hardware: Hardware, t_s: float) -> str | None:
    # Slices stay in every set, with their codes: converter ranges are theirs. A checkpoint's own codes round nothing.
    weights = hardware.weights
    rounds = weights.bits is not None and weights.slices == 1 and weights.scale != "grid"
    return f"{weights.bits} bits" if rounds else None


def _weight_codes_off(tables: Tables, hardware: Hardware, on: Keys) -> None:
    if hardware.weights.slices == 1 and hardware.weights.scale != "grid":
        tables["weights"] |= {"bits": None, "cell_bits": None}


def _programming(hardware: Hardware, t_s: float) -> str | None:
    programming = hardware.device.programming
    if programming is None or not programming.scale:
        return None
    rounds = "" if programming.iterations is None else f", {programming.iterations} iterations"
    return f"{hardware.device.name}{rounds}"


def _faults(hardware: Hardware, t_s: float) -> str | None:
    if hardware.faults is None or not _any(hardware.faults):
        return None
    return "stuck cells, dead lines" + (", repaired" if hardware.repair is not None else "")


def _drift(hardware: Hardware, t_s: float) -> str | None:
    age_s = hardware.age(t_s)[1]
    if not age_s > 0 or (hardware.device.drift is None and not _ages(hardware.device)):
        return None
    how, policy = "not compensated", hardware.compensation
    if policy is not None:
        how = f"compensated {'by gain and offset' if policy.per == 'affine' else f'per {policy.per}'}"
    return how + ("" if hardware.refresh is None else f", {format_duration(age_s)} old")


def _drift_needs(hardware: Hardware) -> Keys:
    affine = hardware.compensation is not None and hardware.compensation.per == "affine"
    by_age = frozenset({"programming"}) if _ages(hardware.device) else NONE
    return by_age | (frozenset({"dac"}) if affine else NONE)  # affine compensation reads codes


def _drift_off(tables: Tables, hardware: Hardware, on: Keys) -> None:
    tables["device"]["drift"] = tables["compensation"] = None
    device = hardware.device
    if _ages(device) and "programming" in on:
        assert device.programming is not None
        first = device.programming.by_age[0].model_dump(mode="json")
        tables["device"]["programming"] |= {"by_age": [], "sigma": first["sigma"], "shift": first["shift"]}


def _flicker(hardware: Hardware, t_s: float) -> str | None:
    return "frozen in a session" if hardware.device.tables(hardware.age(t_s)[1]).flicker else None


def _temperature(hardware: Hardware, t_s: float) -> str | None:
    wanted, thermal = hardware.temperature, hardware.device.thermal
    if wanted is None or thermal is None:
        return None
    storage = wanted.read_c if wanted.storage_c is None else wanted.storage_c
    if {wanted.program_c, wanted.read_c, storage} == {thermal.reference_c}:
        return None
    return f"programmed at {wanted.program_c:g} °C, stored at {storage:g}, read at {wanted.read_c:g}"


def _wires(hardware: Hardware, t_s: float) -> str | None:
    wires = hardware.wires
    if wires is None or not (wires.r_row_ohm or wires.r_col_ohm or wires.r_driver_ohm or wires.r_sense_ohm):
        return None
    return f"{wires.r_row_ohm:g} and {wires.r_col_ohm:g} Ω a cell"


def _read_noise(hardware: Hardware, t_s: float) -> str | None:
    noise = hardware.read_noise
    return None if noise is None or not noise.sigma else f"σ {100 * noise.sigma:.3g} % of g_max"


def _adc(hardware: Hardware, t_s: float) -> str | None:
    adc = hardware.adc
    if adc is None or hardware.dac is None:
        return None
    rule = adc.full_scale
    if isinstance(rule, LambdaRule):
        scale = f"λ = {rule.lambda_:g}" if rule.derive is None else f"λ derived per {rule.derive}"
    else:
        scale = f"{SCALES[rule.rule]} full scale" + (" per matrix" if rule.per == "matrix" else "")
    return f"{adc.bits} bits, {scale}"


def _adc_needs(hardware: Hardware) -> Keys:
    # Read after read, the full scale is in units of a part of the code: without codes there is nothing to convert.
    return frozenset({"dac"}) if hardware.adc is not None and hardware.reads.times > 1 else NONE


def _adc_errors_needs(hardware: Hardware) -> Keys:
    adc = hardware.adc
    thermal = adc is not None and adc.errors is not None and adc.errors.noise_lsb
    return frozenset({"adc", "dac"}) if thermal else frozenset({"adc"})


def _errors(which: str, of: str) -> Callable[[Hardware, float], str | None]:
    def detail(hardware: Hardware, t_s: float) -> str | None:
        converter = getattr(hardware, which)
        found = converter is not None and hardware.dac is not None and converter.errors is not None
        return of if found and _any(converter.errors) else None

    return detail


def _variation(hardware: Hardware, t_s: float) -> str | None:
    return "as a whole" if hardware.variation is not None and _any(hardware.variation) else None


def _variation_acts_on(hardware: Hardware) -> Keys:
    variation = hardware.variation
    if variation is None:
        return NONE
    touched = {
        "programming": variation.noise_scale_sigma,
        "drift": variation.nu_sigma or variation.die_temperature_sigma_c,
        "adc": variation.adc_gain_sigma,
    }
    return frozenset(key for key, sigma in touched.items() if sigma)


def _ages(device: Device) -> bool:
    """Say whether the device's statistics are measured at several ages, so that they contain its drift."""
    return device.programming is not None and len(device.programming.by_age) > 1


def _any(spec: Spec) -> bool:
    """Say whether any number of the spec is not zero."""
    return any(spec.model_dump(mode="json").values())


def _fixed(*keys: str) -> Callable[[Hardware], Keys]:
    return lambda hardware: frozenset(keys)


# In the order of the signal.
EFFECTS = (
    Row("dac", "DAC", ("dac",), _dac, False, off=_dac_off),
    Row("dac_errors", "DAC errors", ("dac.errors",), _errors("dac", "of each row"), True, _fixed("dac")),
    Row("weight_codes", "Weight codes", ("weights",), _weight_codes, False, off=_weight_codes_off),
    Row(
        "programming", "Programming", ("device.programming", "device.programming.verify"), _programming, True
    ),
    Row("faults", "Faults", ("faults", "faults.map", "repair"), _faults, True),
    Row("drift", "Drift", ("device.drift", "compensation"), _drift, True, _drift_needs, off=_drift_off),
    Row("flicker", "1/f noise", ("device.flicker",), _flicker, True),
    Row("temperature", "Temperature", ("temperature",), _temperature, False, acts_on=_fixed("drift")),
    Row("wires", "Wires", ("wires",), _wires, False),
    Row("read_noise", "Read noise", ("read_noise",), _read_noise, True, _fixed("dac")),
    Row("adc", "ADC", ("adc",), _adc, False, _adc_needs),
    Row(
        "adc_errors", "ADC errors", ("adc.errors",), _errors("adc", "of each column"), True, _adc_errors_needs
    ),
    Row("variation", "Dies and tiles", ("variation",), _variation, True, acts_on=_variation_acts_on),
)
# Tables that stay in every set, and why.
NEUTRAL = {
    "device": "its parts are effects: programming, drift, 1/f noise",
    "device.thermal": "data of the device, without effect until a temperature differs from theirs",
    "tile": "the tiles that are looked at",
    "refresh": "a remedy: all sets see cells of the same age",
    "transform": "a remedy, exact in floating point",
    "placement": "which products are analog, the same in every set",
    "placement.special": "a remedy: how these matrices lie in tiles, the same in every set",
}
