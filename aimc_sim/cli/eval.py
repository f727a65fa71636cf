"""``aimc-sim eval FILE --text FILE``: perplexity of a text on a simulated chip, or on the digital model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_account, print_json, progress_bars
from aimc_sim.errors import BadInput
from aimc_sim.units import format_duration, parse_duration


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
    from aimc_sim.evaluate.text import file_text
    from aimc_sim.hardware import Hardware
    from aimc_sim.spec import nearest
    from aimc_sim.weightfile import WeightFile

    time_s = parse_duration(time)
    if digital and hardware is not None:
        raise BadInput(
            "--hardware",
            got=hardware,
            why="--digital scores the digital model, which is on no chip",
            do="leave one of the two out",
        )
    if stream not in ("auto", "always", "never"):
        known = ("auto", "always", "never")
        raise BadInput("--stream", got=stream, why="there is no such choice", do=nearest(stream, known))
    weights = WeightFile(file)
    chosen = weights.hardware if hardware is None else Hardware.load(hardware)
    if not digital:
        chosen.check_time(time_s)
    file_text(text, limit_tokens)  # refuses a bad file before torch is loaded

    from aimc_sim.weightfile.integrity import check_weights

    with progress_bars(quiet=as_json) as report:
        check_weights(weights, report)
        chip = None if digital else (chosen, seed, time_s, session)
        scores, account = _score(weights, text, context, limit_tokens, batch, chip, compare, stream, report)
    document: dict[str, Any] = {
        "perplexity": scores.perplexity,
        "tokens": int(scores.tokens.sum()),
        "loss_nats": scores.loss,
        "windows": len(scores.tokens),
        "context": context,
        "weights": weights.id,
    }
    if compare:
        document |= {"kl_nats": scores.kl_nats, "agreement": scores.agreement}
    if not digital:
        document |= {
            "hardware": chosen.name,
            "hardware_id": chosen.id,
            "seed": seed,
            "time_s": time_s,
            "session": session,
            **account,
        }
    if as_json:
        print_json(document)
        return
    print_account(account)
    where = (
        "digital model"
        if digital
        else f"{chosen.name}, seed {seed}, {format_duration(time_s)} after programming"
    )
    typer.echo(where)
    typer.echo(f"perplexity   {scores.perplexity:.3f}   over {document['tokens']:,} tokens")
    if scores.kl_nats is not None and scores.agreement is not None:
        typer.echo(f"KL           {max(scores.kl_nats, 0.0):.4f} nats per token from the digital model")
        typer.echo(f"agreement    {100 * scores.agreement:.1f} % of most likely tokens")


def _score(
    weights: Any,
    text: Path,
    context: int,
    limit_tokens: int | None,
    batch: int | None,
    chip: Any,
    compare: bool,
    stream: Any,
    report: Any,
) -> tuple[Any, dict[str, Any]]:
    """The scores, and what the run says about itself: nothing for the digital model."""
    from aimc_sim.evaluate.account import account_of
    from aimc_sim.evaluate.metrics import Reference, score
    from aimc_sim.evaluate.streamed import streams
    from aimc_sim.evaluate.text import windows_of_file
    from aimc_sim.evaluate.windows import default_batch
    from aimc_sim.programming import program
    from aimc_sim.torch_bridge.model import build_model, load_digital, mount
    from aimc_sim.torch_bridge.streaming import StreamedModel

    windows = windows_of_file(weights, text, context, limit_tokens)
    size = default_batch(context) if batch is None else batch
    streamed = streams(stream, weights, None if chip is None else chip[0])

    def digital_model() -> Any:
        return StreamedModel(weights) if streamed else load_digital(weights)

    def chip_model() -> Any:
        hardware, seed, time_s, session = chip
        state = program(weights, seed, hardware, progress=report).at(time_s, session)
        if streamed:
            return StreamedModel(weights, state)
        model = build_model(weights, hardware)
        mount(model, state)
        return model

    def on_batch(stage: str) -> Any:
        return lambda done, total: report(stage, done, total)

    if not compare:
        model = digital_model() if chip is None else chip_model()
        account = {} if chip is None else account_of(model, weights, chip[0], windows.rows[0])
        return score(model, windows, size, on_batch=on_batch("scoring")), account
    with Reference(digital_model(), windows, size, on_batch=on_batch("digital model")) as reference:
        if chip is None:
            return reference.own_scores, {}
        model = chip_model()
        account = account_of(model, weights, chip[0], windows.rows[0])
        return score(model, windows, size, reference=reference, on_batch=on_batch("chip")), account
