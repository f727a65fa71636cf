"""Evaluation while a model is trained: its loss on text, without noise and on a few chips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.metrics import score
from aimc_sim.evaluate.text import bos_of, context_limit, read_text, tokenise
from aimc_sim.evaluate.windows import Windows, cut, default_batch, from_sequences
from aimc_sim.finetuning.rows import TokenRows
from aimc_sim.models import Checkpoint, load_tokenizer
from aimc_sim.torch_bridge.training.mounted import on_chip

HELD_OUT_ROWS = 16


@dataclass(frozen=True)
class NoisyLoss:
    """A noisy loss is in nats per token: clean (converters, no noise), and each chip's."""

    clean: float
    chips: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the chips."""
        return float(np.mean(self.chips))

    @property
    def std(self) -> float:
        """Standard deviation over the chips, 0 for one."""
        return float(np.std(self.chips, ddof=1)) if len(self.chips) > 1 else 0.0


def windows_of_text(opened: Checkpoint, path: str | Path, context: int) -> Windows:
    """Cut the windows of a text file for a checkpoint, each beginning as its tokenizer begins a text."""
    tokenizer = load_tokenizer(opened.tokenizer_files, opened.config)
    _check_positions(opened, "context", context)
    ids = tokenise(tokenizer, read_text(path))
    _check_known(opened, ids)
    return cut(ids, context, bos_of(tokenizer))


def held_out(rows: TokenRows) -> Windows:
    """Return the last rows of the data, which training then leaves out. Raises BadInput where there are too few."""
    if len(rows) < 2 * HELD_OUT_ROWS:
        raise BadInput(
            "data",
            got=f"{len(rows)} rows",
            why=f"{HELD_OUT_ROWS} of them would be held out for evaluation",
            do="sample more text, or give one to evaluate on with --text",
        )
    return from_sequences(np.stack([rows[i] for i in range(len(rows) - HELD_OUT_ROWS, len(rows))]))


def noisy_loss(model: Any, windows: Windows, chips: int, *, first_seed: int = 0) -> NoisyLoss:
    """Score a converted model without noise, then mounted on ``chips`` chips with seeds from ``first_seed`` on."""
    was_training = model.training
    model.eval()
    try:
        batch = default_batch(len(windows.rows[0]))
        clean = score(model, windows, batch).loss
        losses = []
        for seed in range(first_seed, first_seed + chips):
            with on_chip(model, seed):
                losses.append(score(model, windows, batch).loss)
    finally:
        model.train(was_training)
    return NoisyLoss(clean, tuple(losses))


def rows_of_text(opened: Checkpoint, texts: Iterable[str], length: int, limit: int) -> npt.NDArray[np.int32]:
    """Join texts and cut them into whole rows of ``length`` tokens, each beginning with BOS where the model has one.

    limit: no more rows than these, and no more texts are read than they take.
    """
    _check_positions(opened, "length", length)
    tokenizer = load_tokenizer(opened.tokenizer_files, opened.config)
    bos = bos_of(tokenizer)
    wanted = limit * (length if bos is None else length - 1)
    parts, count = [np.empty(0, np.int32)], 0
    for text in texts:
        ids = tokenise(tokenizer, text)
        _check_known(opened, ids)
        parts.append(np.asarray(ids, np.int32))
        count += len(ids)
        if count >= wanted:
            break
    joined = np.concatenate(parts)[:wanted]
    windows = [row for row in cut(joined, length, bos).rows if len(row) == length] if count > 1 else []
    if not windows:
        raise BadInput(
            "text",
            got=f"{count} tokens",
            why=f"a row takes {length}",
            do="give more text or a shorter length",
        )
    return np.stack(windows)


def _check_positions(opened: Checkpoint, what: str, length: int) -> None:
    limit = context_limit(opened.config)
    if limit is not None and length > limit:
        raise BadInput(what, got=length, why=f"the model has {limit} positions", do=f"use 2 to {limit}")


def _check_known(opened: Checkpoint, ids: list[int]) -> None:
    known = opened.config.get("vocab_size")
    if isinstance(known, int) and max(ids, default=0) >= known:
        raise BadInput(
            "tokenizer",
            got=f"token {max(ids)}",
            why=f"the model knows {known} tokens, so this tokenizer is not its own",
            do="use a checkpoint with the tokenizer that it was trained with",
        )
