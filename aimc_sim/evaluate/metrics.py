"""Per-window scores of a model: negative log-likelihood, divergence from the digital model, top-1 agreement.

Logits are reduced a few positions and a block of the vocabulary at a time (`sums`), so that a model that is streamed
(`streamed`) has the same scores; the digital model's logits are computed once and kept in a temporary file.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.streamed import HiddenStates, scored, spool
from aimc_sim.evaluate.sums import WindowSums
from aimc_sim.evaluate.windows import Windows
from aimc_sim.torch_bridge.rows import sequence_names
from aimc_sim.torch_bridge.streaming import StreamedModel

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
OnBatch = Callable[[int, int], None]

_SPOOL_BYTES = 4 << 30


@dataclass(frozen=True)
class WindowScores:
    """These are the scores per window, in order.

    nll: (windows,) float64, summed negative log-likelihood, nats. tokens: (windows,) int64, scored tokens.
    kl: (windows,) float64, summed KL(digital ‖ this model), nats, or None without a reference.
    agree: (windows,) int64, positions where both models' most likely token is the same, or None.
    """

    nll: Floats
    tokens: Counts
    kl: Floats | None = None
    agree: Counts | None = None

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood, nats per token."""
        return float(self.nll.sum() / self.tokens.sum())

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 709.0 else math.inf

    @property
    def kl_nats(self) -> float | None:
        """Mean KL(digital ‖ this model), nats per token."""
        return None if self.kl is None else float(self.kl.sum() / self.tokens.sum())

    @property
    def agreement(self) -> float | None:
        """Share of positions where this model's most likely token is the digital model's."""
        return None if self.agree is None else float(self.agree.sum() / self.tokens.sum())


class Reference:
    """A reference holds the digital model's logits on a set of windows, batch by batch.

    Spooled to a temporary file where they fit `spool_bytes`, else computed again at every use; of a streamed model only
    the last hidden states are kept. Use as a context manager: the file goes when it closes. `scores` are the digital
    model's own.
    """

    def __init__(
        self,
        model: Any,
        windows: Windows,
        batch: int | None = None,
        *,
        spool_bytes: int = _SPOOL_BYTES,
        on_batch: OnBatch | None = None,
    ) -> None:
        batch = windows.default_batch if batch is None else batch
        self.windows, self.batch = windows, batch
        self.model, self.hidden = model, HiddenStates()  # the states of a streamed model
        self.is_streamed = isinstance(model, StreamedModel)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[Path] = []
        try:
            if self.is_streamed:
                parts = scored(model, self.hidden, windows, batch, None, on_batch)
                self.scores = _check_sums(parts, windows, False)
                return
            # Half of what is free: another program must not run into a full disk because of us.
            room = min(spool_bytes, shutil.disk_usage(tempfile.gettempdir()).free // 2)
            if 4 * int(model.config.vocab_size) * windows.scored_tokens <= room:
                self._folder = tempfile.TemporaryDirectory(prefix="aimc-sim-reference-")
            self.scores = score(model, windows, batch, on_batch=on_batch, _spool=self._spool)
        except BaseException:
            self.close()
            raise
        if self._folder is not None:
            self.model = None

    def _spool(self, logits: torch.Tensor) -> None:
        if self._folder is None:
            return
        path = Path(self._folder.name) / f"{len(self._files)}.f32"
        spool(logits, path, "the digital model's logits")
        self._files.append(path)

    def logits(self, index: int, ids: torch.Tensor) -> torch.Tensor:
        """Return the (b, length − 1, vocabulary) float32 logits of the batch `index` with token ids `ids`."""
        if self.model is not None:
            return _logits(self.model, ids)
        shape = (ids.shape[0], ids.shape[1] - 1, -1)
        # Copy-on-write mapping: pages come from the file as they are used and nothing can write them back.
        return torch.from_numpy(np.memmap(self._files[index], dtype=np.float32, mode="c")).reshape(shape)

    @property
    def own_scores(self) -> WindowScores:
        """The digital model's scores, with the divergence from itself: none."""
        zero = np.zeros(len(self.scores.nll))
        return WindowScores(self.scores.nll, self.scores.tokens, zero, self.scores.tokens.copy())

    def close(self) -> None:
        """Delete the temporary files, if any."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self.hidden.close()
        self._files, self.model = [], None

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def score(
    model: Any,
    windows: Windows,
    batch: int | None = None,
    *,
    reference: Reference | None = None,
    on_batch: OnBatch | None = None,
    _spool: Callable[[torch.Tensor], None] | None = None,
) -> WindowScores:
    """Score `model` (a causal language model of transformers) on every window, `batch` windows at a time.

    With `reference` the scores hold KL(digital ‖ model) and top-1 agreement too; a `StreamedModel` needs one of a
    streamed model. on_batch(done, total) is called after each batch (streamed: each layer and piece of the head). The
    batch grouping, by default the reference's or about 1,024 tokens, is part of what makes scores reproducible bit for
    bit; streaming changes no bit.
    """
    if batch is None:
        batch = windows.default_batch if reference is None else reference.batch
    if batch < 1:
        raise BadInput("batch", got=batch, why="a batch holds at least one window", do="use 1 or more")
    streamed = isinstance(model, StreamedModel)
    if reference is not None and (reference.windows.id, reference.batch, reference.is_streamed) != (
        windows.id, batch, streamed
    ):  # fmt: skip
        raise BadInput(
            "reference",
            why="it was made from other windows, of another batch size, or of a model that is not streamed alike",
            do="make the reference from the windows that you score",
        )
    if streamed:
        beside = None if reference is None else (reference.model, reference.hidden)
        with closing(HiddenStates()) as hidden:
            parts = scored(model, hidden, windows, batch, beside, on_batch)
        return _check_sums(parts, windows, reference is not None)
    parts = []
    groups = list(windows.batches(batch))
    for index, (where, rows) in enumerate(groups):
        ids = torch.from_numpy(rows).long()
        with sequence_names(model, range(where.start, where.stop)):
            logits = _logits(model, ids)
        digital = reference.logits(index, ids) if reference is not None else None
        if _spool is not None:
            _spool(logits)
        for row in range(len(rows)):
            sums = WindowSums(ids[row, 1:], digital is not None)
            sums.add(0, logits[row], None if digital is None else digital[row])
            parts.append(sums.result())
        _check_finite(parts)
        if on_batch is not None:
            on_batch(index + 1, len(groups))
    return _check_sums(parts, windows, reference is not None)


def _check_sums(
    parts: list[tuple[float, float, int]], windows: Windows, with_reference: bool
) -> WindowScores:
    """Make scores of every window's sums. Raises BadInput where they are not finite."""
    _check_finite(parts)
    nll, kl = (np.array([part[k] for part in parts], np.float64) for k in (0, 1))
    agree = np.array([part[2] for part in parts], np.int64)
    tokens = np.array([len(row) - 1 for row in windows.rows], dtype=np.int64)
    return WindowScores(nll, tokens, kl if with_reference else None, agree if with_reference else None)


def _check_finite(parts: list[tuple[float, float, int]]) -> None:
    for window, (nll, _, _) in enumerate(parts):
        if not math.isfinite(nll):
            raise BadInput(
                "logits",
                why=f"the model gives values that are not finite in window {window}",
                do="check the weights with `aimc-sim verify`, and the hardware's ranges",
            )


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits (b, length − 1, vocabulary) float32 that predict tokens 1 … length − 1 of each window."""
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
    return torch.as_tensor(logits[:, :-1].float())
