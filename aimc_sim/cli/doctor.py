"""``aimc-sim doctor``: what this machine has, and the line that installs what it lacks. Exit code 1 if broken."""

from __future__ import annotations

from typing import Any

import typer

from aimc_sim.cli.console import print_json
from aimc_sim.cli.machine import examine


def command(as_json: bool = typer.Option(False, "--json", help="Write JSON.")) -> None:
    """Show versions, threads, processor, GPU, and what is missing."""
    report = examine()
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report["problems"]:
        raise typer.Exit(1)


def _print(report: dict[str, Any]) -> None:
    gib, processor, threads = 2**30, report["processor"], report["threads"]
    flags = (
        " ".join(flag for flag, present in processor["flags"].items() if present)
        or "none of those we look for"
    )
    memory = f", {processor['memory_bytes'] / gib:.1f} GiB" if processor["memory_bytes"] else ""
    gpu, caches = report["gpu"], report["caches"]
    graphics = (
        f"{gpu['name']}, {gpu['memory_bytes'] / gib:.0f} GiB" if isinstance(gpu, dict) else gpu or "none"
    )
    lines = {
        "versions": "  ".join(
            f"{name} {version or 'MISSING'}" for name, version in report["versions"].items()
        ),
        "processor": f"{processor['name']}, {processor['cores']} cores{memory}",
        "flags": flags,
        "threads": f"kernels {threads['kernels']}, torch {threads['torch']}",
        "tile engine": report["tile_engine"],
        "int8 engine": report["int8_engine"],
        "GPU": graphics,
        "cache": f"{caches['kernels'] or 'none: the folder cannot be written'} ({caches['all_bytes'] / 1e6:.1f} MB)",
        "self-test": report["self_test"],
    }
    for key, value in lines.items():
        typer.echo(f"{key:<12} {value}")
    for extra, state in report["extras"].items():
        note = f"lacks {', '.join(state['missing'])}: {state['install']}" if state["missing"] else "complete"
        typer.echo(f"{'[' + extra + ']':<12} {note}")
    for problem in report["problems"]:
        typer.echo(f"problem: {problem}")
