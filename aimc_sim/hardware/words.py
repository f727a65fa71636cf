"""A hardware in words, as lists of hardware show it."""

from __future__ import annotations

from aimc_sim.hardware.description import Hardware
from aimc_sim.units import format_duration


def valid_times(hardware: Hardware) -> str:
    """Say which times since programming the device has data for."""
    first, last = hardware.device.t_min_s, hardware.device.t_max_s
    if last == 0:
        return "at programming only, as it has no law of drift"
    start = "at programming and from " + format_duration(first) if first > 0 else "from programming"
    return f"{start} on, without an end" if last is None else f"{start} to {format_duration(last)}"


def summary(hardware: Hardware) -> str:
    """Say in a line what a hardware has: tile, converters with the constants of their ranges, noise, compensation."""
    tile = hardware.tile
    parts = ["untiled" if tile.rows is None else f"{tile.rows} × {tile.cols or 'all'} tiles"]
    parts.append("no DAC" if hardware.dac is None else f"{hardware.dac.bits}-bit DAC{_input_range(hardware)}")
    parts.append("no ADC" if hardware.adc is None else f"{hardware.adc.bits}-bit ADC{_full_scale(hardware)}")
    if hardware.read_noise is not None:
        parts.append("read noise")
    if hardware.compensation is not None:
        parts.append(f"drift compensation a {hardware.compensation.per}".replace("a affine", "affine a tile"))
    dac, adc = hardware.dac, hardware.adc
    present = {
        f"{dac.mode.replace('_', ' ')} inputs" if dac else "": dac is not None and dac.mode != "amplitude",
        **_weights(hardware),
        (adc.kind.upper() if adc.kind == "sar" else adc.kind) + " ADC" if adc else "": adc is not None
        and adc.kind != "generic",
        "DAC errors": dac is not None and dac.errors is not None,
        "ADC errors": adc is not None and adc.errors is not None,
        "transforms": bool(hardware.transform),
        "reprogramming": hardware.refresh is not None,
        "wires": hardware.wires is not None,
        "faults": hardware.faults is not None,
        "repair": hardware.repair is not None,
        f"read at {hardware.temperature.read_c:g} °C" if hardware.temperature else "": hardware.temperature
        is not None,
        "die variation": hardware.variation is not None,
    }
    parts += [name for name, is_there in present.items() if is_there]
    return ", ".join(parts)


def _weights(hardware: Hardware) -> dict[str, bool]:
    """Return how cells hold weights, where it is not the default way."""
    weights = hardware.weights
    return {
        f"{weights.bits}-bit weights": weights.bits is not None,
        f"{weights.slices} slices": weights.slices > 1,
        "offset columns": weights.pair == "offset_column",
        "columns subtracted digitally": weights.subtract == "digital",
        "2 devices a polarity": weights.devices == 2,
        f"{weights.copies} copies": weights.copies is not None,
        "some matrices held otherwise": bool(hardware.placement.special),
    }


def _input_range(hardware: Hardware) -> str:
    rule = None if hardware.dac is None else hardware.dac.range
    if rule is None or rule.method == "per_token":
        return ""
    if rule.method == "std":
        return f" (κ = {rule.kappa:g})"
    return (
        f" ({rule.percentile:g} %)" if rule.method == "percentile" else f" ({rule.method.replace('_', ' ')})"
    )


def _full_scale(hardware: Hardware) -> str:
    scale = None if hardware.adc is None else hardware.adc.full_scale
    if scale is None or scale.rule == "least_squares":
        return ""
    return f" (λ = {scale.lambda_:g})" if scale.rule == "lambda" else f" ({scale.rule.replace('_', ' ')})"
