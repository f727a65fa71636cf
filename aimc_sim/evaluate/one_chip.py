"""What one chip makes of text at one time: how well it predicts a file, and how it goes on from a prompt."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import (
    check_vocabulary,
    context_limit,
    file_text,
    load_tokenizer,
    windows_of_file,
)
from aimc_sim.hardware import Hardware, HardwareSource
from aimc_sim.randomness import key_of
from aimc_sim.report.shown import Shown
from aimc_sim.units import format_duration, parse_duration
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.integrity import check_weights

if TYPE_CHECKING:
    from rich.console import Console

    from aimc_sim.chip import ChipState
    from aimc_sim.evaluate.metrics import WindowScores
    from aimc_sim.evaluate.streamed import Stream


@dataclass(frozen=True, repr=False)
class OnChip(Shown):
    """This is what is known of a result whatever was asked. weights: id of the weight file. state: the chip at one
    time, None for the digital model. account: `account.account_of` the chip, empty for the digital model.
    """

    weights: str
    state: ChipState | None
    account: dict[str, Any]

    @property
    def where(self) -> str:
        """What it was computed on, in words."""
        if self.state is None:
            return "digital model"
        chip, time = self.state.chip, format_duration(self.state.t_s)
        return f"{chip.hardware.name}, seed {chip.seed}, {time} after programming"

    def _chip_to_dict(self) -> dict[str, Any]:
        if self.state is None:
            return {}
        chip = self.state.chip
        return {
            "hardware": chip.hardware.name, "hardware_id": chip.hardware.id, "seed": chip.seed,
            "time_s": self.state.t_s, "session": self.state.session, **self.account,
        }  # fmt: skip


@dataclass(frozen=True)
class TextScores(OnChip):
    """These scores say how well a text is predicted. scores: of every window; context: tokens a window."""

    scores: WindowScores
    context: int

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood."""
        return self.scores.perplexity

    @property
    def summary(self) -> str:
        """Perplexity, and what it was measured on."""
        return f"perplexity {self.perplexity:.3f} over {self.scores.tokens.sum():,} tokens, {self.where}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, and what was scored."""
        scores = self.scores
        compared = {} if scores.kl is None else {"kl_nats": scores.kl_nats, "agreement": scores.agreement}
        return {
            "perplexity": self.perplexity, "tokens": int(scores.tokens.sum()), "loss_nats": scores.loss,
            "windows": len(scores.tokens), "context": self.context, "weights": self.weights, **compared,
            **self._chip_to_dict(),
        }  # fmt: skip

    def print_on(self, console: Console) -> None:
        """Print the figures, one a line."""
        scores = self.scores
        lines = [self.where, f"perplexity   {self.perplexity:.3f}   over {scores.tokens.sum():,} tokens"]
        if scores.kl_nats is not None and scores.agreement is not None:
            lines.append(f"KL           {max(scores.kl_nats, 0.0):.4f} nats per token from the digital model")
            lines.append(f"agreement    {100 * scores.agreement:.1f} % of most likely tokens")
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Generated(OnChip):
    """This is the text that follows a prompt. token_ids: of it; prompt_tokens: how many tokens the prompt is."""

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def summary(self) -> str:
        """How much was written, and on what."""
        return f"{len(self.token_ids)} tokens after a prompt of {self.prompt_tokens}, {self.where}"

    def to_dict(self) -> dict[str, Any]:
        """Return the text, and how it was made."""
        return {
            "text": self.text, "token_ids": list(self.token_ids), "prompt_tokens": self.prompt_tokens,
            "weights": self.weights, **self._chip_to_dict(),
        }  # fmt: skip

    def print_on(self, console: Console) -> None:
        """Print the text alone."""
        console.print(self.text, markup=False, highlight=False, soft_wrap=True)


def perplexity(
    weight_file: WeightFile | str | os.PathLike[str],
    text: str | Path,
    *,
    hardware: HardwareSource | None = None,
    seed: int = 0,
    time: float | str = 0.0,
    session: int = 0,
    digital: bool = False,
    compare: bool = False,
    context: int = 1024,
    limit_tokens: int | None = None,
    batch: int | None = None,
    stream: Stream = "auto",
    progress: Progress | None = None,
) -> TextScores:
    """Score a text file on one chip at one time, or on the digital model.

    compare: with KL divergence and agreement with the digital model. context: tokens a window; windows do not overlap.
    limit_tokens: only the first tokens of the text. batch: windows a forward, by default about 1,024 tokens. stream:
    whether models go through memory layer by layer, "auto" where they do not fit. hardware, seed, time, session and
    progress are those of `load_model`.

        aimc_sim.evaluate.one_chip.perplexity("model.h5", "page.txt", seed=3, time="1d").perplexity

    Raises BadInput, before anything is computed, for a text or a weight file that cannot be used.
    """
    weights, chosen = _asked(weight_file, hardware, time, digital)
    file_text(text, limit_tokens)
    # late: torch takes seconds to load, and what cannot be used is refused before
    from aimc_sim.evaluate.account import account_of
    from aimc_sim.evaluate.bench import Bench
    from aimc_sim.evaluate.metrics import Reference, score
    from aimc_sim.evaluate.streamed import streams

    bench = Bench(weights, streamed=streams(stream, weights, chosen))
    check_weights(weights, progress)
    windows = windows_of_file(weights, text, context, limit_tokens)
    tell = progress or (lambda stage, done, total: None)
    with ExitStack() as stack:
        reference, state, account = None, None, {}
        on_batch = partial(tell, "chip" if compare else "scoring")
        if compare:
            made = Reference(bench.load_digital(), windows, batch, on_batch=partial(tell, "digital model"))
            reference = stack.enter_context(made)
        if chosen is not None:
            model = bench.mount(chosen, seed, time, session=session, progress=progress)
            state, account = bench.state, account_of(model, bench.state, windows.rows[0])
            scores = bench.score(windows, batch, reference=reference, on_batch=on_batch)
        elif reference is not None:
            scores = reference.own_scores
        else:
            scores = score(bench.load_digital(), windows, batch, on_batch=on_batch)
    return TextScores(weights.id, state, account, scores, context)


def generate(
    weight_file: WeightFile | str | os.PathLike[str],
    prompt: str,
    *,
    hardware: HardwareSource | None = None,
    seed: int = 0,
    time: float | str = 0.0,
    session: int = 0,
    digital: bool = False,
    max_new_tokens: int = 64,
    chat: bool | None = None,
    temperature: float = 0.0,
    text_seed: int = 0,
    on_start: Callable[[dict[str, Any]], None] = lambda account: None,
    on_text: Callable[[str], None] = lambda piece: None,
    progress: Progress | None = None,
) -> Generated:
    """Let a chip at one time, or the digital model, go on from a prompt.

    chat: whether the prompt is put into the model's chat template, by default where it has one. temperature: 0 takes
    the most likely token each time; above, text_seed decides. on_start(account) is called when the model is there,
    on_text(piece) as text comes. hardware, seed, time, session and progress are those of `load_model`.

        print(aimc_sim.evaluate.one_chip.generate("model.h5", "Once upon a time", seed=3, time="1d"))

    Raises BadInput, before a chip is programmed, for a prompt that the model cannot read or go on from.
    """
    weights, chosen = _asked(weight_file, hardware, time, digital)
    if not prompt:
        raise BadInput("prompt", got=prompt, why="there is nothing to go on from", do="give a few words")
    # late: torch takes seconds to load, and what cannot be used is refused before
    from aimc_sim.evaluate.account import account_of
    from aimc_sim.evaluate.bench import Bench
    from aimc_sim.evaluate.generate import check_request, prompt_ids, stop_tokens, stream_text, stream_tokens

    tokenizer = load_tokenizer(weights)
    ids = prompt_ids(tokenizer, prompt, chat)
    check_vocabulary(weights, ids)
    key_of(text_seed)
    check_request(len(ids), max_new_tokens, temperature, context_limit(weights.config))
    check_weights(weights, progress)
    bench, state, account = Bench(weights), None, {}
    if chosen is None:
        model = bench.load_digital()
    else:
        model = bench.mount(chosen, seed, time, session=session, progress=progress)
        state, account = bench.state, account_of(model, bench.state, ids)
    on_start(account)
    tokens: list[int] = []
    stop = stop_tokens(model, tokenizer)
    stream = stream_tokens(model, ids, max_new_tokens, temperature=temperature, seed=text_seed, stop=stop)
    text = ""
    for piece in stream_text(tokenizer, stream, tokens):
        text += piece
        on_text(piece)
    return Generated(weights.id, state, account, text, tuple(tokens), len(ids))


def _asked(
    weight_file: WeightFile | str | os.PathLike[str],
    hardware: HardwareSource | None,
    time: float | str,
    digital: bool,
) -> tuple[WeightFile, Hardware | None]:
    """Open the weight file, and find the hardware to run it on, None for the digital model."""
    seconds = parse_duration(time)
    if digital and hardware is not None:
        raise BadInput(
            "hardware", got=hardware, why="the digital model is on no chip", do="leave one of the two out"
        )
    opened = WeightFile.of(weight_file)
    if digital:
        return opened, None
    chosen = opened.hardware if hardware is None else Hardware.load(hardware)
    chosen.check_time(seconds)
    return opened, chosen
