"""``aimc-sim eval FILE --text FILE``: perplexity of a text on a simulated chip, or on the digital model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_account, print_json, progress_bars


def command(
    file: Path = typer.Argument(help="A weight file."),
    text: Path = typer.Option(..., "--text", help="The text to score, UTF-8."),
    context: int = typer.Option(1024, help="Tokens a window; windows do not overlap."),
    seed: int = typer.Option(0, help="The chip."),
    time: str = typer.Option("0s", "--time", help="Time since programming: 30s, 1h, 1d, 1y."),
    session: int = typer.Option(0, help="Which draw of the frozen 1/f noise."),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    digital: bool = typer.Option(False, "--digital", help="Score the digital model, no chip."),
    compare: bool = typer.Option(
        False, "--compare", help="Also KL divergence and agreement with the digital model."
    ),
    limit_tokens: int | None = typer.Option(None, help="Only the first tokens of the text."),
    batch: int | None = typer.Option(None, help="Windows a forward; by default about 1,024 tokens."),
    stream: str = typer.Option(
        "auto", "--stream", help="auto: go layer by layer where a model does not fit memory. always, never."
    ),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Score a text on a simulated chip: perplexity."""
    from aimc_sim.evaluate.one_chip import perplexity

    choice: Any = stream
    with progress_bars(quiet=as_json) as report:
        scores = perplexity(
            file, text, hardware=hardware, seed=seed, time=time, session=session, digital=digital,
            compare=compare, context=context, limit_tokens=limit_tokens, batch=batch, stream=choice,
            progress=report,
        )  # fmt: skip
    if as_json:
        print_json(scores.to_dict())
        return
    print_account(scores.account)
    typer.echo(str(scores))
