"""``aimc-sim run FILE --prompt TEXT``: text as the model writes it on a simulated chip."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from aimc_sim.cli.console import print_account, print_json, progress_bars
from aimc_sim.errors import BadInput
from aimc_sim.units import parse_duration


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
    from aimc_sim.hardware import Hardware
    from aimc_sim.weightfile import WeightFile

    time_s = parse_duration(time)
    if digital and hardware is not None:
        raise BadInput(
            "--hardware",
            got=hardware,
            why="--digital runs the digital model, which is on no chip",
            do="leave one of the two out",
        )
    if not prompt:
        raise BadInput("prompt", got=prompt, why="there is nothing to go on from", do="give a few words")
    weights = WeightFile(file)
    chosen = weights.hardware if hardware is None else Hardware.load(hardware)
    if not digital:
        chosen.check_time(time_s)

    from aimc_sim.evaluate.account import account_of
    from aimc_sim.evaluate.generate import check_request, stream_text, stream_tokens
    from aimc_sim.evaluate.text import check_vocabulary, context_limit, load_tokenizer
    from aimc_sim.randomness import key_of
    from aimc_sim.weightfile.integrity import check_weights

    tokenizer = load_tokenizer(weights)
    ids = _prompt_ids(tokenizer, prompt, chat)
    check_vocabulary(weights, ids)
    key_of(text_seed)  # refuses what is no seed, before a chip is programmed
    check_request(len(ids), max_new_tokens, temperature, context_limit(weights.config))
    with progress_bars(quiet=as_json) as report:
        check_weights(weights, report)
        model = _model(weights, None if digital else (chosen, seed, time_s, session), report)
    account = {} if digital else account_of(model, weights, chosen, ids)
    if not as_json:
        print_account(account)
    stop = _stop_tokens(model, tokenizer)
    tokens: list[int] = []

    def kept() -> Any:
        for token in stream_tokens(
            model, ids, max_new_tokens, temperature=temperature, seed=text_seed, stop=stop
        ):
            tokens.append(token)
            yield token

    pieces = []
    for piece in stream_text(tokenizer, kept()):
        pieces.append(piece)
        if not as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    if not as_json:
        sys.stdout.write("\n")
        return
    print_json({
        "text": "".join(pieces), "token_ids": tokens, "prompt_tokens": len(ids), "weights": weights.id,
        **({} if digital else {"hardware": chosen.name, "hardware_id": chosen.id, "seed": seed, "time_s": time_s,
                               "session": session, **account}),
    })  # fmt: skip


def _model(weights: Any, chip: Any, report: Any) -> Any:
    from aimc_sim.programming import program
    from aimc_sim.torch_bridge.model import build_model, load_digital, mount

    if chip is None:
        return load_digital(weights)
    hardware, seed, time_s, session = chip
    state = program(weights, seed, hardware, progress=report).at(time_s, session)
    model = build_model(weights, hardware)
    mount(model, state)
    return model


def _prompt_ids(tokenizer: Any, prompt: str, chat: bool | None) -> list[int]:
    template = bool(tokenizer.chat_template)
    if chat and not template:
        raise BadInput("chat template", why="this model brings none", do="leave --chat out")
    if template and chat is not False:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids = list(tokenizer(prompt)["input_ids"])
    if not ids:
        raise BadInput("prompt", got=prompt, why="the model needs a first token", do="give a longer prompt")
    return ids


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """End-of-text tokens of the generation defaults, the configuration and the tokenizer."""
    found: set[int] = set()
    for value in (
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
        tokenizer.eos_token_id,
    ):
        listed = value if isinstance(value, (list, tuple)) else [value]
        found.update(token for token in listed if isinstance(token, int))
    return frozenset(found)
