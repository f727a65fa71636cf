"""How a model is used, as ``aimc-sim size`` and ``aimc-sim place`` both ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from aimc_sim.sizing import Scenario

PHASE = typer.Option("decode", help="decode (a token after the other) or prefill (a prompt at once).")
CONTEXT = typer.Option(1024, help="Tokens that attention looks back at, or of the prompt.")
STREAMS = typer.Option(1, help="Sequences at the same time.")
RATE = typer.Option(None, help="Tokens a second that are asked for; the chip waits in between.")
HEAD = typer.Option(True, "--head/--no-head", help="Whether logits are computed.")
ASSUMED = typer.Option(False, "--assumed", help="Gaussian activity, also of a weight file.")


def scenario(phase: str, context: int, streams: int, head: bool, rate: float | None) -> Scenario:
    """The options as the cost model takes them. Raises BadInput for what it refuses."""
    from aimc_sim.sizing import Scenario

    if phase not in ("decode", "prefill"):
        raise BadInput("--phase", got=phase, why="a model reads or writes", do="use decode or prefill")
    return Scenario("prefill" if phase == "prefill" else "decode", context, streams, head, rate=rate)
