"""``aimc-sim run FILE --prompt TEXT``: text as the model writes it on a simulated chip."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_account, print_json, progress_bars


def command(
    file: Path = typer.Argument(help="A weight file."),
    prompt: str = typer.Option(
        ..., "--prompt", help="What the model goes on from, or the question of a chat."
    ),
    seed: int = typer.Option(0, help="The chip."),
    time: str = typer.Option("0s", "--time", help="Time since programming: 30s, 1h, 1d, 1y."),
    session: int = typer.Option(0, help="Which draw of the frozen 1/f noise."),
    hardware: str | None = typer.Option(None, help="A preset or TOML file instead of the file's default."),
    digital: bool = typer.Option(False, "--digital", help="Run the digital model, no chip."),
    max_new_tokens: int = typer.Option(64, help="Stop after this many tokens."),
    chat: bool | None = typer.Option(
        None,
        "--chat/--no-chat",
        help="Wrap the prompt in the model's chat template; by default where it has one.",
    ),
    temperature: float = typer.Option(0.0, help="0 takes the most likely token each time."),
    text_seed: int = typer.Option(0, help="Seed of the sampled tokens, with a temperature above 0."),
    as_json: bool = typer.Option(False, "--json", help="Write JSON."),
) -> None:
    """Generate text on a simulated chip."""
    from aimc_sim.evaluate.one_chip import generate

    with ExitStack() as bars:
        report = bars.enter_context(progress_bars(quiet=as_json))

        def start(account: dict[str, Any]) -> None:
            bars.close()  # text follows
            if not as_json:
                print_account(account)

        def write(piece: str) -> None:
            if not as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()

        generated = generate(
            file, prompt, hardware=hardware, seed=seed, time=time, session=session, digital=digital,
            max_new_tokens=max_new_tokens, chat=chat, temperature=temperature, text_seed=text_seed,
            on_start=start, on_text=write, progress=report,
        )  # fmt: skip
    if as_json:
        print_json(generated.to_dict())
    else:
        sys.stdout.write("\n")
