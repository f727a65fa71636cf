"""Per-window scores of a model: negative log-likelihood, divergence from the digital model, top-1 agreement.

Logits are reduced a few positions at a time in float32 and summed in float64, so that memory stays bounded at any
vocabulary; the digital model's logits are computed once and kept in a temporary file.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.windows import Windows
from aimc_sim.torch_bridge.rows import sequence_names

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
OnBatch = Callable[[int, int], None]

# A block of positions × vocabulary that fits the caches; 2**20 float32 values are 4 MiB.
_BLOCK_VALUES = 1 << 20
_SPOOL_BYTES = 4 << 30


@dataclass(frozen=True)
class WindowScores:
    """Scores per window, in order.

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
    """The digital model's logits on a set of windows, batch by batch.

    Spooled to a temporary file where they fit `spool_bytes`, else computed again at every use. Use as a context
    manager: the file goes when it closes. `scores` are the digital model's own.
    """

    def __init__(
        self,
        model: Any,
        windows: Windows,
        batch: int,
        *,
        spool_bytes: int = _SPOOL_BYTES,
        on_batch: OnBatch | None = None,
    ) -> None:
        self.windows, self.batch = windows, batch
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[Path] = []
        vocabulary = int(model.config.vocab_size)
        self._model: Any | None = model
        # Half of what is free: another program must not run into a full disk because of us.
        room = min(spool_bytes, shutil.disk_usage(tempfile.gettempdir()).free // 2)
        if 4 * vocabulary * windows.scored_tokens <= room:
            self._folder = tempfile.TemporaryDirectory(prefix="aimc-sim-reference-")
        try:
            self.scores = score(model, windows, batch, on_batch=on_batch, _spool=self._spool)
        except BaseException:
            self.close()
            raise
        if self._folder is not None:
            self._model = None

    def _spool(self, logits: torch.Tensor) -> None:
        if self._folder is None:
            return
        path = Path(self._folder.name) / f"{len(self._files)}.f32"
        try:
            logits.numpy().tofile(path)
        except OSError as error:
            raise BadInput(
                "temporary folder",
                got=self._folder.name,
                why=f"the digital model's logits do not fit: {error.strerror or error}",
                do="free some space, or point TMPDIR at a larger disk",
            ) from error
        self._files.append(path)

    def logits(self, index: int, ids: torch.Tensor) -> torch.Tensor:
        """(b, length − 1, vocabulary) float32 logits of the batch `index` with token ids `ids`."""
        if self._model is not None:
            return _logits(self._model, ids)
        shape = (ids.shape[0], ids.shape[1] - 1, -1)
        # Copy-on-write mapping: pages come from the file as they are used and nothing can write them back.
        return torch.from_numpy(np.memmap(self._files[index], dtype=np.float32, mode="c")).reshape(shape)

    @property
    def own_scores(self) -> WindowScores:
        """The digital model's scores, with the divergence from itself: none."""
        zero = np.zeros(len(self.scores.nll))
        return WindowScores(self.scores.nll, self.scores.tokens, zero, self.scores.tokens.copy())

    def close(self) -> None:
        """Delete the temporary file, if any."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._files, self._model = [], None

    def __enter__(self) -> Reference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def score(
    model: Any,
    windows: Windows,
    batch: int,
    *,
    reference: Reference | None = None,
    on_batch: OnBatch | None = None,
    _spool: Callable[[torch.Tensor], None] | None = None,
) -> WindowScores:
    """Score `model` (a causal language model of transformers) on every window, `batch` windows at a time.

    With `reference` the scores hold KL(digital ‖ model) and top-1 agreement too. on_batch(done, total) is called
    after each batch. The batch grouping is part of what makes scores reproducible bit for bit.
    """
    if batch < 1:
        raise BadInput("batch", got=batch, why="a batch holds at least one window", do="use 1 or more")
    if reference is not None and (reference.windows.id != windows.id or reference.batch != batch):
        raise BadInput(
            "reference",
            why="it was made from other windows or another batch size",
            do="make the reference from the windows that you score",
        )
    nll, kl = np.zeros(len(windows)), np.zeros(len(windows))
    agree = np.zeros(len(windows), dtype=np.int64)
    groups = list(windows.batches(batch))
    for index, (where, rows) in enumerate(groups):
        ids = torch.from_numpy(rows).long()
        with sequence_names(model, range(where.start, where.stop)):
            logits = _logits(model, ids)
        digital = reference.logits(index, ids) if reference is not None else None
        if _spool is not None:
            _spool(logits)
        for row, window in enumerate(range(where.start, where.stop)):
            part = _reduce(logits[row], ids[row, 1:], None if digital is None else digital[row])
            nll[window], kl[window], agree[window] = part
        if not np.all(np.isfinite(nll[where])):
            raise BadInput(
                "logits",
                why=f"the model gives values that are not finite in window {where.start}",
                do="check the weights with `aimc-sim verify`, and the hardware's ranges",
            )
        if on_batch is not None:
            on_batch(index + 1, len(groups))
    tokens = np.array([len(row) - 1 for row in windows.rows], dtype=np.int64)
    with_reference = reference is not None
    return WindowScores(nll, tokens, kl if with_reference else None, agree if with_reference else None)


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """(b, length − 1, vocabulary) float32: the logits that predict tokens 1 … length − 1 of each window."""
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
    return torch.as_tensor(logits[:, :-1].float())


def _reduce(
    logits: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None
) -> tuple[float, float, int]:
    """Sum over the positions of one window: (nll nats, KL(digital ‖ model) nats, equal top-1 tokens).

    logits, digital: (positions, vocabulary) float32; targets: (positions,) int64.
    """
    nll, kl, agree = 0.0, 0.0, 0
    rows = max(1, _BLOCK_VALUES // logits.shape[-1])
    for start in range(0, len(targets), rows):
        block = slice(start, start + rows)
        mine = logits[block].log_softmax(-1)
        picked = mine.gather(-1, targets[block, None])
        nll -= float(picked.double().sum())
        if digital is not None:
            theirs = digital[block].log_softmax(-1)
            # A float64 sum of float32 terms: 49,152 small terms of both signs must not lose the small total.
            kl += float((theirs.exp() * (theirs - mine)).sum(dtype=torch.float64))
            agree += int((theirs.argmax(-1) == mine.argmax(-1)).sum())
    return nll, kl, agree
