"""Updates of layers that train are watched: after a step of any optimizer, each layer that it changed is told.

A hook of all optimizers of the process does it. The first layer that is made registers the hook: importing these
modules changes nothing in torch. (Changes that no torch optimizer makes are not seen.)
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle


class Watched(Protocol):
    """A layer that is told of the updates of its parameters: `TrainingLinear`, which stands above this module."""

    weight: nn.Parameter
    training: bool
    input_range: Any  # an `InputRange`, or None

    def note_update(self, clipped: bool) -> None:
        """An optimizer has changed the weights."""

    def note_step(self) -> None:
        """An optimizer has changed what stands beside weights that are frozen."""


_live: WeakSet[Watched] = (
    WeakSet()
)  # every layer there is: whose weights an optimizer changes is looked up here
_clipped_by: WeakKeyDictionary[Optimizer, WeakSet[Watched]] = WeakKeyDictionary()


def watch(layer: Watched) -> None:
    """Tell this layer of updates from now on, as long as it lives."""
    _live.add(layer)
    _hook()


@cache
def _hook() -> RemovableHandle:
    """Register the hook of all optimizers, once."""
    return register_optimizer_step_post_hook(_note)


def clipped_by(optimizer: Optimizer) -> Collection[Any]:
    """List the layers that are clipped after every step of the optimizer."""
    return _clipped_by.get(optimizer, ())


def add_clipped(optimizer: Optimizer, layers: Collection[Watched]) -> None:
    """Note that these layers are clipped after every step of the optimizer."""
    _clipped_by.setdefault(optimizer, WeakSet()).update(layers)


def end_clipping(optimizer: Optimizer) -> None:
    """Note that no layer is clipped after the optimizer's steps any more."""
    _clipped_by.pop(optimizer, None)


def held_by(optimizer: Optimizer) -> set[int]:
    """List the ids of the parameters that an optimizer changes."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _note(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """After a step of any optimizer, and after its own hooks."""
    clipped, held = clipped_by(optimizer), held_by(optimizer)
    for layer in list(_live):
        if layer.input_range is not None and id(layer.input_range.value) in held:
            layer.input_range.mirror()
        if not layer.weight.requires_grad:
            if layer.training:  # a frozen base: what was updated stands beside it
                layer.note_step()
        elif id(layer.weight) in held:
            layer.note_update(clipped=layer in clipped)
