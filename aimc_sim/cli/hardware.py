"""``aimc-sim hardware list | show | check``: descriptions of chips, ours and the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from aimc_sim.cli.console import print_json, print_table

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware

app = typer.Typer(
    help="List, show and check hardware descriptions.", no_args_is_help=True, add_completion=False
)
_JSON = typer.Option(False, "--json", help="Write JSON.")


@app.command("list")
def list_presets(as_json: bool = _JSON) -> None:
    """List the presets."""
    from aimc_sim.hardware import Hardware, preset_names

    presets = [Hardware.load(name) for name in preset_names()]
    if as_json:
        print_json(
            [{"name": h.name, "id": h.id, "device": h.device.name, "summary": summary(h)} for h in presets]
        )
        return
    print_table(("name", "device", "summary"), [(h.name, h.device.name, summary(h)) for h in presets])
    typer.echo(
        "\nOne in full: aimc-sim hardware show NAME. Your own: save that as FILE.toml, change it, check it."
    )


@app.command("show")
def show(
    name: str = typer.Argument(help="A preset or a TOML file."),
    as_json: bool = _JSON,
) -> None:
    """Show a description in full, with defaults filled in. The output is a valid TOML file."""
    from aimc_sim.hardware import Hardware

    hardware = Hardware.load(name)
    if as_json:
        print_json({"id": hardware.id, **hardware.model_dump(mode="json")})
    else:
        typer.echo(hardware.to_toml().rstrip())


@app.command("check")
def check(
    name: str = typer.Argument(help="A TOML file or a preset."),
    as_json: bool = _JSON,
) -> None:
    """Check a description: every field, every range, and that the device exists."""
    from aimc_sim.hardware import Hardware

    hardware = Hardware.load(name)
    if as_json:
        device = hardware.device
        print_json({
            "ok": True, "name": hardware.name, "id": hardware.id, "summary": summary(hardware),
            "device": device.name, "t_min_s": device.t_min_s, "t_max_s": device.t_max_s,
        })  # fmt: skip
    else:
        typer.echo(f"ok: {hardware.name} ({hardware.id}): {summary(hardware)}")
        typer.echo(f"device {hardware.device.name}, valid {valid_times(hardware)}")


def valid_times(hardware: Hardware) -> str:
    """In words, the times since programming that the device has data for."""
    from aimc_sim.units import format_duration

    first, last = hardware.device.t_min_s, hardware.device.t_max_s
    if last == 0:
        return "at programming only, as it has no law of drift"
    start = "at programming and from " + format_duration(first) if first > 0 else "from programming"
    return f"{start} on, without an end" if last is None else f"{start} to {format_duration(last)}"


def summary(hardware: Hardware) -> str:
    """One line: tile, converters with the constants of their ranges, noise, compensation."""
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
        **_held(hardware),
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
    parts += [name for name, there in present.items() if there]
    return ", ".join(parts)


def _held(hardware: Hardware) -> dict[str, bool]:
    """How cells hold weights, where it is not the default way."""
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
    found = hardware.dac.range if hardware.dac is not None else None
    if found is None or found.method == "per_token":
        return ""
    if found.method == "std":
        return f" (κ = {found.kappa:g})"
    return (
        f" ({found.percentile:g} %)"
        if found.method == "percentile"
        else f" ({found.method.replace('_', ' ')})"
    )


def _full_scale(hardware: Hardware) -> str:
    found = hardware.adc.full_scale if hardware.adc is not None else None
    if found is None or found.rule == "least_squares":
        return ""
    return f" (λ = {found.lambda_:g})" if found.rule == "lambda" else f" ({found.rule.replace('_', ' ')})"
