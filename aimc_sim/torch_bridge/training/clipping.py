"""Clipping that cannot be forgotten: after every update of an optimizer, W_:,j ← clamp(W_:,j, ±α·std(W_:,j)).

A hook of all optimizers notes which layers an update has changed, and a training forward of a layer that was changed
and not clipped raises. (Changes that no torch optimizer makes are not seen.) Büchel et al., NeurIPS 2025.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.training.layer import LIVE, TrainingLinear

ROWS_AT_ONCE = 256  # columns of the crossbar whose float32 copy exists at once
_clipped_by: WeakKeyDictionary[Optimizer, WeakSet[TrainingLinear]] = WeakKeyDictionary()


class Clipping:
    """What `attach_clipping` returns: ``remove()`` ends it, and the next training forward after an update raises."""

    def __init__(self, optimizer: Optimizer, hook: RemovableHandle) -> None:
        self._optimizer, self._hook = optimizer, hook

    def remove(self) -> None:
        """No longer clip after the optimizer's steps."""
        self._hook.remove()
        _clipped_by.pop(self._optimizer, None)


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
    held = _clipped_by.setdefault(optimizer, WeakSet())
    held.update(changed)

    def clip(stepped: Optimizer, args: Any, kwargs: Any) -> None:
        for layer in _clipped_by.get(stepped, ()):
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


def _held_by(optimizer: Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _changed_by(optimizer: Optimizer, layers: Any) -> list[TrainingLinear]:
    """Layers whose weights the optimizer holds."""
    held = _held_by(optimizer)
    return [layer for layer in layers if id(layer.weight) in held and layer.weight.requires_grad]


def _note(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """After a step of any optimizer, and after its own hooks."""
    clipped, held = _clipped_by.get(optimizer, ()), _held_by(optimizer)
    for layer in list(LIVE):
        if layer.input_range is not None and id(layer.input_range.value) in held:
            layer.input_range.mirror()
        if not layer.weight.requires_grad:
            if layer.training:  # a frozen base: what was updated stands beside it
                layer.note_step()
        elif id(layer.weight) in held:
            layer.note_update(clipped=layer in clipped)


register_optimizer_step_post_hook(_note)
