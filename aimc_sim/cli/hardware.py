"""``aimc-sim hardware list | show | check``: descriptions of chips, ours and the user's."""

from __future__ import annotations

import typer

from aimc_sim.cli.console import print_json, print_table

app = typer.Typer(
    help="List, show and check hardware descriptions.", no_args_is_help=True, add_completion=False
)
_JSON = typer.Option(False, "--json", help="Write JSON.")


@app.command("list")
def list_presets(as_json: bool = _JSON) -> None:
    """List the presets."""
    from aimc_sim.hardware import Hardware, preset_names
    from aimc_sim.hardware.words import summary

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
    from aimc_sim.hardware.words import summary, valid_times

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
