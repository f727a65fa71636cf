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
        print_json({"ok": True, "name": hardware.name, "id": hardware.id, "summary": summary(hardware)})
    else:
        typer.echo(f"ok: {hardware.name} ({hardware.id}): {summary(hardware)}")


def summary(hardware: Hardware) -> str:
    """One line: tile, converters, compensation."""
    tile = hardware.tile
    parts = ["untiled" if tile.rows is None else f"{tile.rows} × {tile.cols or 'all'} tiles"]
    parts.append("no DAC" if hardware.dac is None else f"{hardware.dac.bits}-bit DAC")
    parts.append("no ADC" if hardware.adc is None else f"{hardware.adc.bits}-bit ADC")
    if hardware.compensation is not None:
        parts.append("drift compensation")
    return ", ".join(parts)
