"""Tokens cut into the windows that are scored. Which tokens count is decided here and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Windows:
    """Windows are pieces of token ids; the first token of each is context only, every other one is scored.

    rows: one (length,) int32 array a window, all of the same length but perhaps the last.
    """

    rows: tuple[Tokens, ...]

    @property
    def scored_tokens(self) -> int:
        """Number of tokens that a model is scored on, over all windows."""
        return sum(len(row) - 1 for row in self.rows)

    @property
    def id(self) -> str:
        """Short sha256 of the token ids and of where the windows are cut."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(len(row).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(row, dtype="<i4").tobytes())
        return digest.hexdigest()[:16]

    def batches(self, batch: int) -> Iterator[tuple[slice, Tokens]]:
        """Yield (which windows, (b, length) int32), b at most `batch`, in order and without any padding."""
        start = 0
        while start < len(self.rows):
            stop = start + 1
            length = len(self.rows[start])
            while stop < len(self.rows) and stop - start < batch and len(self.rows[stop]) == length:
                stop += 1
            yield slice(start, stop), np.stack(self.rows[start:stop])
            start = stop

    @property
    def default_batch(self) -> int:
        """Windows a forward, unless told."""
        return default_batch(max(map(len, self.rows)))

    def first(self, tokens: int, least: int = 2) -> Windows:
        """Return the first ``tokens`` tokens, window by window; the last window may be cut, to no fewer than
        ``least``.
        """
        rows = []
        for row in self.rows:
            if tokens < least:
                break
            rows.append(row[:tokens])
            tokens -= len(rows[-1])
        return Windows(tuple(rows))

    def __len__(self) -> int:
        return len(self.rows)


def cut(tokens: Sequence[int] | npt.NDArray[np.integer], context: int, bos: int | None = None) -> Windows:
    """Cut a text into non-overlapping windows of `context` tokens.

    tokens: (n,) token ids without special tokens. With `bos`, each window opens with it and holds context − 1
    tokens of the text; without, the window's own first token goes unscored. A rest of at least one scored token
    is kept as a shorter last window.
    """
    if context < 2:
        raise BadInput(
            "context",
            got=context,
            why="the first token of a window is not scored, so it needs two",
            do="use a context of at least 2 tokens",
        )
    ids = np.asarray(tokens, dtype=np.int32).reshape(-1)
    step = context if bos is None else context - 1
    rows: list[Tokens] = []
    for start in range(0, len(ids), step):
        piece = ids[start : start + step]
        row = piece if bos is None else np.concatenate([np.array([bos], dtype=np.int32), piece])
        if len(row) >= 2:
            rows.append(row)
    if not rows:
        raise BadInput(
            "text",
            got=f"{len(ids)} tokens",
            why="there is no token to score",
            do="give a text of at least two tokens",
        )
    return Windows(tuple(rows))


def from_sequences(sequences: npt.NDArray[np.integer]) -> Windows:
    """Make a window of each row of (sequences, length) token ids; its first token is not scored."""
    ids = np.ascontiguousarray(sequences, dtype=np.int32)
    if ids.ndim != 2 or ids.shape[0] < 1 or ids.shape[1] < 2:
        raise BadInput(
            "sequences",
            got=ids.shape,
            why="a window needs two tokens or more",
            do="give (sequences, length) token ids with length of at least 2",
        )
    return Windows(tuple(ids))


def default_batch(context: int) -> int:
    """Return the windows a forward: about 1,024 tokens at once, which bounds the logits held."""
    return max(1, 1024 // context)
