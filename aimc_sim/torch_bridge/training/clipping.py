"""Clipping of weights: W_:,j ← clamp(W_:,j, ±α·std(W_:,j)). Büchel et al., NeurIPS 2025 (arXiv 2505.09663).

A layer whose `Training` has a ``clip_sigma`` clips itself after every update (`updates`), so nobody can forget it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.training.layer import TrainingLinear, training_layers
from aimc_sim.torch_bridge.training.updates import changed_by


class Clipping:
    """A clipping is what `attach_clipping` returns: ``remove()`` ends it."""

    def __init__(self, layers: Sequence[TrainingLinear]) -> None:
        self._layers = layers

    def remove(self) -> None:
        """Stop clipping these layers after updates."""
        for layer in self._layers:
            layer.clips_itself = False


def attach_clipping(model: nn.Module, optimizer: Any) -> Clipping:
    """Make sure that the steps of an optimizer clip the model's analog weights; return the handle that ends it.

    optimizer: of torch, or accelerate's wrapper. Layers clip themselves after every update anyway: this says that it
    was not in vain, and takes a ``remove()`` back. Raises BadInput where there is nothing to clip, and where the
    optimizer changes none of the layers' weights.

    >>> import torch
    >>> from aimc_sim.torch_bridge import Training, attach_clipping, convert
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(8, 8)), {"device": "gaussian"}, Training(clip_sigma=1.0))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> clipping = attach_clipping(model, optimizer)
    >>> model(torch.ones(1, 8)).sum().backward()
    >>> optimizer.step()  # and the weights are clipped
    """
    layers = [layer for layer in training_layers(model) if layer.clips]
    if not layers:
        raise BadInput(
            "model",
            got=type(model).__name__,
            why="none of its layers is clipped",
            do="convert it with Training(clip_sigma=2.5), or leave attach_clipping out",
        )
    changed = changed_by(optimizer)
    clipped = [layer for layer in layers if id(layer.weight) in changed and layer.weight.requires_grad]
    if not clipped:
        raise BadInput(
            "optimizer",
            got=type(optimizer).__name__,
            why="it holds none of the model's analog weights, so no step of it changes and clips them",
            do="make the optimizer from the converted (and sharded) model's parameters, then attach",
        )
    for layer in clipped:
        layer.clips_itself = True
    return Clipping(clipped)


def clip_weights(model: nn.Module) -> None:
    """Clip every analog layer of a model now, each column at α standard deviations of its own.

    Before the first step, say; after updates layers do it themselves. Layers without ``clip_sigma`` stay as they are.
    Raises BadInput where processes hold parts of columns.

    >>> import torch
    >>> from aimc_sim.torch_bridge import Training, clip_weights, convert
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(4, 1)), {"device": "gaussian"}, Training(clip_sigma=1.0))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[0.0, 0.0, 0.0, 4.0]]))
    >>> clip_weights(model)
    >>> model[0].weight.data
    tensor([[0., 0., 0., 2.]])
    """
    for layer in model.modules():
        if isinstance(layer, TrainingLinear) and layer.clips:
            layer.clip()
