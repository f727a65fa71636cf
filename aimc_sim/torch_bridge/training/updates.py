"""What happens to layers after an update: after a step of any optimizer, each layer that it changed is told.

A hook of all optimizers of the process does it. The first layer that is made registers the hook: importing these
modules changes nothing in torch. (Changes that no torch optimizer makes are not seen.)
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol
from weakref import WeakSet

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from aimc_sim.errors import BadInput


class Watched(Protocol):
    """A watched layer is told when its parameters are updated: `TrainingLinear`, which stands above this module."""

    weight: nn.Parameter
    training: bool
    input_range: Any  # an `InputRange`, or None

    def after_update(self) -> None:
        """An optimizer has changed the weights."""

    def next_step(self) -> None:
        """An optimizer has changed what stands beside weights that are frozen."""


_live: WeakSet[Watched] = WeakSet()  # whose weights an optimizer has changed is looked up here


def watch(layer: Watched) -> None:
    """Tell this layer of updates from now on, as long as it lives."""
    _live.add(layer)
    _hook()


@cache
def _hook() -> RemovableHandle:
    """Register the hook of all optimizers, once."""
    return register_optimizer_step_post_hook(_after_step)


def changed_by(optimizer: Any) -> set[int]:
    """Return the ids of the parameters that an optimizer, accelerate's wrapper included, changes.

    Raises BadInput for what is no optimizer of torch, whose updates are not seen.
    """
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise BadInput(
            "optimizer",
            got=type(optimizer).__name__,
            why="its updates are not seen: it is not derived from torch.optim.Optimizer",
            do="use one of torch.optim",
        )
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """After a step of any optimizer, and after its own hooks."""
    changed = changed_by(optimizer)
    for layer in list(_live):
        if layer.input_range is not None and id(layer.input_range.value) in changed:
            layer.input_range.mirror()
        if not layer.weight.requires_grad:
            if layer.training:  # a frozen base: what was updated stands beside it
                layer.next_step()
        elif id(layer.weight) in changed:
            layer.after_update()
