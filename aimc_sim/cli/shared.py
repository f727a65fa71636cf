"""Options that several commands of sizing share, so that they are said and mean the same everywhere."""

from __future__ import annotations

from typing import Any

import typer

PHASE: Any = typer.Option("decode", help="decode (a token after the other) or prefill (a prompt at once).")
CONTEXT: Any = typer.Option(1024, help="Tokens that attention looks back at, or of the prompt.")
STREAMS: Any = typer.Option(1, help="Sequences at the same time.")
RATE: Any = typer.Option(None, help="Tokens a second that are asked for; the chip waits in between.")
HEAD: Any = typer.Option(True, "--head/--no-head", help="Whether logits are computed.")
ASSUMED: Any = typer.Option(False, "--assumed", help="Gaussian activity, also of a weight file.")

FILE: Any = typer.Argument(metavar="FILE", help="A weight file.")
HARDWARE: Any = typer.Option(None, help="A preset or TOML file instead of the file's default.")
METRIC: Any = typer.Option("kl", help="kl (from the digital model) or loss, nats per token.")
TOKENS: Any = typer.Option(1024, help="Tokens of text.")
TEXT: Any = typer.Option(None, "--text", help="Score this text, not the calibration text.")
TIME: Any = typer.Option("1d", "--time", help="Time since programming: 30s, 1h, 1d, 1y.")
SEED: Any = typer.Option(0, help="The first chip.")
WORKERS: Any = typer.Option(None, help="Processes; as many as pay off unless told.")
JSON: Any = typer.Option(False, "--json", help="Write JSON.")
