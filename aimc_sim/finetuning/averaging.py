"""An exponential average of the weights: what a recipe with ``average`` evaluates and saves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]


class Average:
    """An average follows the weights: avg ← avg + (1 − d)·(weights − avg) after every step, d growing to ``decay`` so
    that the start is soon forgotten.

    decay None: there is none, and everything here does nothing. Trained parameters only, by name.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._model, self._decay = model, decay
        self.tensors: Tensors = {}
        if decay is not None:
            self.tensors = {name: value.detach().clone() for name, value in self._named().items()}

    def put(self, tensors: Tensors) -> None:
        """Continue from a saved average."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after step ``step`` (from 1) in."""
        if self._decay is not None:
            keep = min(self._decay, (1 + step) / (10 + step))
            named = self._named()
            torch._foreach_lerp_(
                list(self.tensors.values()), [named[name].detach() for name in self.tensors], 1 - keep
            )

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Put the average into the model inside this context."""
        named = self._named()
        weights = {name: named[name].detach().clone() for name in self.tensors}
        self._copy(self.tensors)
        try:
            yield
        finally:
            self._copy(weights)

    @torch.no_grad()
    def _copy(self, tensors: Tensors) -> None:
        named = self._named()
        for name, value in tensors.items():
            named[name].copy_(value)

    def _named(self) -> Tensors:
        return {name: value for name, value in self._model.named_parameters() if value.requires_grad}
