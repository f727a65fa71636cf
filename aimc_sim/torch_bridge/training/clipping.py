"""Clipping cannot be forgotten: after every update of an optimizer, W_:,j ← clamp(W_:,j, ±α·std(W_:,j)).

A layer that an update has changed (`updates`) and nobody has clipped raises in its next training forward.
Büchel et al., NeurIPS 2025.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.training.layer import TrainingLinear
from aimc_sim.torch_bridge.training.updates import add_clipped, clipped_by, end_clipping, held_by

ROWS_AT_ONCE = 256  # columns of the crossbar whose float32 copy exists at once


class Clipping:
    """What `attach_clipping` returns: ``remove()`` ends it, and the next training forward after an update raises."""

    def __init__(self, optimizer: Optimizer, hook: RemovableHandle) -> None:
        self._optimizer, self._hook = optimizer, hook

    def remove(self) -> None:
        """No longer clip after the optimizer's steps."""
        self._hook.remove()
        end_clipping(self._optimizer)


def attach_clipping(model: nn.Module, optimizer: Any) -> Clipping:
    """Clip the model's analog weights after every step of the optimizer, accelerate's wrapper included.

    Raises BadInput where there is nothing to clip, and where the optimizer changes none of the layers' weights.
    """
    while not hasattr(optimizer, "register_step_post_hook") or hasattr(optimizer, "optimizer"):
        inner = getattr(optimizer, "optimizer", None)
        if inner is None:
            raise BadInput(
                "optimizer",
                got=type(optimizer).__name__,
                why="it has no hook after its step",
                do="use one of torch.optim",
            )
        optimizer = inner
    layers = [m for m in model.modules() if isinstance(m, TrainingLinear) and m.clips]
    if not layers:
        raise BadInput(
            "model",
            got=type(model).__name__,
            why="none of its layers is clipped",
            do="convert it with Training(clip_sigma=2.5), or leave attach_clipping out",
        )
    changed = _changed_by(optimizer, layers)
    if not changed:
        raise BadInput(
            "optimizer",
            got=type(optimizer).__name__,
            why="it holds none of the model's analog weights, so clipping after its steps would do nothing",
            do="make the optimizer from the converted (and sharded) model's parameters, then attach",
        )
    add_clipped(optimizer, changed)

    def clip(stepped: Optimizer, args: Any, kwargs: Any) -> None:
        for layer in clipped_by(stepped):
            clip_layer(layer)

    return Clipping(optimizer, optimizer.register_step_post_hook(clip))


def clip_weights(model: nn.Module) -> None:
    """Clip every analog layer of the model now."""
    for layer in model.modules():
        if isinstance(layer, TrainingLinear) and layer.clips:
            clip_layer(layer)


@torch.no_grad()
def clip_layer(layer: TrainingLinear) -> None:
    """W_:,j ← clamp(W_:,j, ±α·std(W_:,j)) over the whole column (a row of ``weight``), unbiased, in float32."""
    alpha = layer.settings.clip_sigma
    assert alpha is not None
    weight = _own_rows(layer)
    for rows in torch.split(weight, ROWS_AT_ONCE):
        limit = (alpha * rows.float().std(dim=1, keepdim=True)).to(rows.dtype)
        rows.clamp_(-limit, limit)


def _own_rows(layer: TrainingLinear) -> torch.Tensor:
    """The rows of the weight that this process holds; BadInput where it holds parts of rows."""
    weight = layer.weight.data
    local: Any = getattr(weight, "to_local", None)
    if local is None:
        return weight
    placements: Any = weight.placements  # type: ignore[attr-defined]
    if any(place.is_shard() and place.dim != 0 for place in placements):
        raise BadInput(
            f"weight of {layer.matrix_name}",
            got=str(placements),
            why="a column's standard deviation needs the whole column, and processes hold parts of it",
            do="shard weights along their outputs, dimension 0, as fully_shard does",
        )
    rows: torch.Tensor = local()
    return rows


def _changed_by(optimizer: Optimizer, layers: Any) -> list[TrainingLinear]:
    """Layers whose weights the optimizer holds."""
    held = held_by(optimizer)
    return [layer for layer in layers if id(layer.weight) in held and layer.weight.requires_grad]
