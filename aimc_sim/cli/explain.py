"""``aimc-sim explain FILE``: what each effect of a hardware costs, as a waterfall."""

from __future__ import annotations

from pathlib import Path

import typer

from aimc_sim.cli.console import print_account, print_shown, progress_bars


def command(
    file: Path = typer.Argument(help="A weight file."),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    seeds: int = typer.Option(3, "--seeds", help="How many chips are simulated, the same for every set."),
    time: str = typer.Option("1d", "--time", help="Time since programming: 30s, 1h, 1d, 1y."),
    tokens: int | None = typer.Option(
        None, help="Tokens of text; of the calibration text 1,024 unless told."
    ),
    text: Path | None = typer.Option(None, "--text", help="Score this text, not the calibration text."),
    context: int | None = typer.Option(None, help="Tokens a window of --text; 1,024 unless told."),
    seed: int = typer.Option(0, help="Seed of the first chip; the others count on from it."),
    session: int = typer.Option(0, help="Which draw of the frozen 1/f noise."),
    batch: int | None = typer.Option(None, help="Windows a forward; by default about 1,024 tokens."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="Folder for explain.html, explain.json, effects.csv and matrices.csv."
    ),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Show what each effect of a hardware costs, as a waterfall."""
    from aimc_sim.attribution.explanation import explain
    from aimc_sim.errors import as_command

    with progress_bars(quiet=as_json) as report:
        explanation = as_command(explain)(
            file, hardware=hardware, seeds=seeds, time=time, tokens=tokens, text=text, context=context, seed=seed,
            session=session, batch=batch, output=output, progress=report,
        )  # fmt: skip
    if not as_json:
        print_account({**explanation.document, "notes": []})
    print_shown(explanation, as_json)
