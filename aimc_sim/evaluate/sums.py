"""Scores of the positions of one window, from logits that come a block of the vocabulary at a time.

With m the largest logit so far and s = Σ exp(x - m) of the blocks so far, a block with a larger maximum m' rescales s
by exp(m - m') (Milakov & Gimelshein 2018). At the end log Σ exp x = m + log s, and

    nll = log Σ exp x - x_target
    KL(p ‖ q) = Σ p·(d - x) - log Σ exp d + log Σ exp x    with p = softmax d, q = softmax x.

Terms are float32, their sums float64. Blocks are cut at multiples of `BLOCK`, so the bits do not depend on who
computes the logits, all of a position at once or a block of the vocabulary for all positions.
"""

from __future__ import annotations

import torch

BLOCK = 8192  # of the vocabulary; a multiple of 64, and of every usual width of a tile
_VALUES = 1 << 19  # positions × vocabulary that fit the caches


class _Side:
    """A side holds Σ exp of one model's logits, and where they are largest."""

    def __init__(self, positions: int) -> None:
        self.largest = torch.full((positions,), -torch.inf)
        self.sum = torch.zeros(positions, dtype=torch.float64)
        self.top = torch.zeros(positions, dtype=torch.int64)

    def add(self, where: slice, first: int, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return exp(x - m) of a block, and the factor (positions,) that earlier sums take."""
        before = self.largest[where]
        largest, at = logits.max(-1)
        self.top[where] = torch.where(largest > before, at + first, self.top[where])
        now = torch.maximum(before, largest)
        factor, terms = (before - now).double().exp(), (logits - now[:, None]).exp_()
        self.largest[where] = now
        self.sum[where] = self.sum[where] * factor + terms.sum(-1, dtype=torch.float64)
        return terms, factor

    def log_sum(self) -> torch.Tensor:
        return self.largest.double() + self.sum.log()


class WindowSums:
    """These are the running sums of one window. targets: (positions,) int64; with_digital: whether to compare with a
    model.
    """

    def __init__(self, targets: torch.Tensor, with_digital: bool) -> None:
        self._targets, self._mine = targets, _Side(len(targets))
        self._picked = torch.zeros(len(targets))
        self._theirs = _Side(len(targets)) if with_digital else None
        self._apart = torch.zeros(len(targets), dtype=torch.float64)  # Σ exp(d - m)·(d - x)

    def add(self, first: int, logits: torch.Tensor, digital: torch.Tensor | None) -> None:
        """Add the logits of tokens first … of the vocabulary, both (positions, tokens) float32; first: a multiple of
        BLOCK.
        """
        for start in range(0, logits.shape[-1], BLOCK):
            columns = slice(start, start + BLOCK)
            rows = max(1, _VALUES // min(BLOCK, logits.shape[-1] - start))
            for at in range(0, len(self._targets), rows):
                where = slice(at, at + rows)
                theirs = None if digital is None else digital[where, columns].contiguous()
                self._block(where, first + start, logits[where, columns].contiguous(), theirs)

    def _block(self, where: slice, first: int, x: torch.Tensor, d: torch.Tensor | None) -> None:
        self._mine.add(where, first, x)
        here = self._targets[where] - first
        inside = (here >= 0) & (here < x.shape[-1])
        picked = x.gather(-1, here.clamp(0, x.shape[-1] - 1)[:, None])[:, 0]
        self._picked[where] = torch.where(inside, picked, self._picked[where])
        if d is not None and self._theirs is not None:
            terms, factor = self._theirs.add(where, first, d)
            apart = terms.mul_(d - x).sum(-1, dtype=torch.float64)
            self._apart[where] = self._apart[where] * factor + apart

    def result(self) -> tuple[float, float, int]:
        """Return over the positions (nll nats, KL(digital ‖ model) nats, how often both find the same token
        likeliest).
        """
        mine = self._mine.log_sum()
        nll = float((mine - self._picked.double()).sum())
        if self._theirs is None:
            return nll, 0.0, 0
        theirs = self._theirs.log_sum()
        kl = float((self._apart / self._theirs.sum - (theirs - mine)).sum())
        return nll, kl, int((self._theirs.top == self._mine.top).sum())
