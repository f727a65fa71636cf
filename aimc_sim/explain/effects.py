"""The effects of a hardware, in the order of the signal, and the same hardware with only some of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aimc_sim.devices import Device
from aimc_sim.hardware import Hardware, LambdaRule, StaticRange
from aimc_sim.spec import Spec
from aimc_sim.units import format_duration

Keys = frozenset[str]
NONE: Keys = frozenset()
IDEAL_BITS = 16  # of the inputs where an ADC needs input codes and the DAC is off: 256 × finer than 8 bits


@dataclass(frozen=True)
class Effect:
    """One thing that a chip does to a product.

    key: its name in files and in sets. detail: what it is on this hardware. random: whether chips differ by it.
    needs: effects without which it cannot be simulated. acts_on: effects that it also changes, so that it shows in
    full only beside them.
    """

    key: str
    name: str
    detail: str
    random: bool
    needs: Keys = NONE
    acts_on: Keys = NONE


def effects_of(hardware: Hardware, t_s: float) -> tuple[Effect, ...]:
    """Effects that this hardware has t_s seconds after programming, in the order of the signal; dies and tiles, which
    act on all of them, last. What is off, zero, or without effect at that time is left out.

    Raises BadInput for a time outside the range of the device's data.
    """
    hardware.check_time(t_s)
    found = [effect for effect in (*_inputs(hardware), *_cells(hardware, t_s), *_outputs(hardware)) if effect]
    present = frozenset(effect.key for effect in found)
    variation = hardware.variation
    if variation is not None and _any(variation):
        touched = {
            "programming": variation.noise_scale_sigma,
            "drift": variation.nu_sigma,
            "adc": variation.adc_gain_sigma,
        }
        acts_on = present & {key for key, sigma in touched.items() if sigma}
        found.append(Effect("variation", "Dies and tiles", "as a whole", True, acts_on=acts_on))
    return tuple(found)


def context(effects: Iterable[Effect], effect: Effect) -> Keys:
    """What must be on beside one effect for it to show alone: what it needs and acts on, and what those need."""
    by_key = {other.key: other for other in effects}
    keys = effect.needs | effect.acts_on
    while more := {need for key in keys for need in by_key[key].needs} - keys:
        keys |= more
    return keys


def dependents(effects: Iterable[Effect], effect: Effect) -> Keys:
    """The effects that cannot be simulated without this one, directly or through another."""
    listed, keys = tuple(effects), frozenset({effect.key})
    while more := {other.key for other in listed if other.needs & keys} - keys:
        keys |= more
    return keys - {effect.key}


def variant(hardware: Hardware, effects: Iterable[Effect], on: Keys) -> Hardware:
    """The same tiles and placement with only the effects in ``on``; with all of them, the hardware itself.

    Compensation belongs to drift; programming again at intervals stays, whatever is on, so that every set sees cells of
    the same age and the same draws. Without its DAC, inputs reach the cells as they are; an ADC, whose full scale is in
    units of the input range, then reads inputs of 16 bits in that same range.
    """
    if on == frozenset(effect.key for effect in effects):
        return hardware
    tables = hardware.model_dump(mode="json")
    for key in ("read_noise", "wires", "faults", "variation"):
        tables[key] = tables[key] if key in on else None
    tables["adc"] = _adc(hardware, on)
    tables["dac"] = _dac(hardware, on)
    tables["device"] = _device(hardware.device, on)
    if "drift" not in on:
        tables["compensation"] = None
    tables["name"] = f"{hardware.name}, {' + '.join(e.key for e in effects if e.key in on) or 'ideal'}"
    return Hardware.parse(tables, f"{hardware.name}, some effects off")


def _inputs(hardware: Hardware) -> list[Effect | None]:
    dac = hardware.dac
    if dac is None:
        return []
    if isinstance(dac.range, StaticRange):
        span = "static range"
    else:
        span = "range per token" + (" and tile" if dac.range.per == "tile" else "")
    mode = "" if dac.mode == "amplitude" else f", {dac.mode.replace('_', ' ')}"
    errors = Effect("dac_errors", "DAC errors", "of each row", True, frozenset({"dac"}))
    return [
        Effect("dac", "DAC", f"{dac.bits} bits, {span}{mode}", False),
        errors if dac.errors is not None and _any(dac.errors) else None,
    ]


def _cells(hardware: Hardware, t_s: float) -> list[Effect | None]:
    device, faults, wires, noise = hardware.device, hardware.faults, hardware.wires, hardware.read_noise
    age_s = hardware.age(t_s)[1]
    found: list[Effect | None] = []
    if device.programming is not None and device.programming.scale:
        found.append(Effect("programming", "Programming", device.name, True))
    if faults is not None and _any(faults):
        found.append(Effect("faults", "Faults", "stuck cells, dead lines", True))
    if age_s > 0 and (device.drift is not None or _ages(device)):
        compensation = hardware.compensation
        how = "not compensated" if compensation is None else f"compensated per {compensation.per}"
        how += "" if hardware.refresh is None else f", {format_duration(age_s)} old"
        needs = frozenset({"programming"}) if _ages(device) else NONE
        found.append(Effect("drift", "Drift", how, True, needs))
    if device.tables(age_s).flicker:
        found.append(Effect("flicker", "1/f noise", "frozen in a session", True))
    if wires is not None and _ohms(hardware):
        detail = f"{wires.r_row_ohm:g} and {wires.r_col_ohm:g} Ω a cell"
        found.append(Effect("wires", "Wires", detail, False))
    if noise is not None and noise.sigma:
        detail = f"σ {100 * noise.sigma:.3g} % of g_max"
        found.append(Effect("read_noise", "Read noise", detail, True, frozenset({"dac"})))
    return found


def _outputs(hardware: Hardware) -> list[Effect | None]:
    adc, dac = hardware.adc, hardware.dac
    if adc is None or dac is None:
        return []
    rule = adc.full_scale
    scale = f"λ = {rule.lambda_:g}" if isinstance(rule, LambdaRule) else "least-squares full scale"
    # Read after read, the full scale is in units of a slice of the code, so without codes there is nothing to convert.
    sliced = frozenset({"dac"}) if dac.mode == "bit_serial" and dac.accumulate == "digital" else NONE
    thermal = frozenset({"dac"}) if adc.errors is not None and adc.errors.noise_lsb else NONE
    errors = Effect("adc_errors", "ADC errors", "of each column", True, frozenset({"adc"}) | thermal)
    return [
        Effect("adc", "ADC", f"{adc.bits} bits, {scale}", False, sliced),
        errors if adc.errors is not None and _any(adc.errors) else None,
    ]


def _adc(hardware: Hardware, on: Keys) -> dict[str, Any] | None:
    if hardware.adc is None or "adc" not in on:
        return None
    table = hardware.adc.model_dump(mode="json")
    return table if "adc_errors" in on else {**table, "errors": None}


def _dac(hardware: Hardware, on: Keys) -> dict[str, Any] | None:
    if hardware.dac is None:
        return None
    table = hardware.dac.model_dump(mode="json")
    if "dac" in on:
        return table if "dac_errors" in on else {**table, "errors": None}
    table |= {"bits": IDEAL_BITS, "mode": "amplitude", "errors": None}
    if "adc" in on:
        return table
    # A dead column is a converter that gives nothing, so it needs one; its range must then clip nothing.
    dead = "faults" in on and hardware.faults is not None and hardware.faults.dead_column_rate
    return {**table, "range": {"method": "per_token"}} if dead else None


def _device(device: Device, on: Keys) -> dict[str, Any]:
    tables = device.model_dump(mode="json")
    for key in ("programming", "drift", "flicker"):
        tables[key] = tables[key] if key in on else None
    if _ages(device) and "programming" in on and "drift" not in on:
        assert device.programming is not None
        first = device.programming.by_age[0].model_dump(mode="json")
        tables["programming"] |= {"by_age": [], "sigma": first["sigma"], "shift": first["shift"]}
    return tables


def _ages(device: Device) -> bool:
    """Whether the device's statistics are measured at several ages, so that they contain its drift."""
    return device.programming is not None and len(device.programming.by_age) > 1


def _ohms(hardware: Hardware) -> bool:
    wires = hardware.wires
    assert wires is not None
    return bool(wires.r_row_ohm or wires.r_col_ohm or wires.r_driver_ohm or wires.r_sense_ohm)


def _any(spec: Spec) -> bool:
    """Whether any number of the spec is not zero."""
    return any(spec.model_dump(mode="json").values())
