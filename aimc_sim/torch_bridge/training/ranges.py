"""First values of the static input ranges, found outside the graph: the cumulative mean of κ·std(x) over forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.hardware import StaticRange
from aimc_sim.torch_bridge.training.layer import TrainingLinear
from aimc_sim.torch_bridge.training.steps import set_step

Tensor = torch.Tensor


def ranges_ready(model: nn.Module) -> bool:
    """Whether every static range has its first value."""
    return all(layer.input_range.ready for layer in _static(model) if layer.input_range is not None)


@contextmanager
def initialising_ranges(model: nn.Module) -> Iterator[None]:
    """Inside, every forward first moves the ranges of each layer to the mean over its forwards so far.

    A layer stops after `Training.range_forwards`. Call the model itself, not a compiled one, and shard it afterwards.
    Where processes train together they average what they see.
    """
    with ExitStack() as stack:
        for layer in _static(model):
            if hasattr(layer.input_range.value if layer.input_range else None, "full_tensor"):
                raise BadInput(
                    "model",
                    why="its ranges are sharded already",
                    do="initialise the ranges before shard(model)",
                )
            stack.callback(layer.register_forward_pre_hook(_observe).remove)
        yield


def initialise_ranges(
    model: nn.Module, batches: Iterable[Any], run: Callable[[Any, Any], object] | None = None
) -> None:
    """Run the model over batches without gradient until its ranges have their first values, or no batch is left.

    run(model, batch): one forward; by default model(**batch) for a mapping, else model(batch). Noise is drawn in the
    model's mode, as in training; steps are named 0, 1, …. Raises BadInput where a layer was never reached.
    """

    def call(target: Any, batch: Any) -> object:
        return target(**batch) if isinstance(batch, Mapping) else target(batch)

    with initialising_ranges(model), torch.no_grad():
        for step, batch in enumerate(batches if _wanting(model) else ()):
            set_step(model, step)
            (run or call)(model, batch)
            if not _wanting(model):
                break
    for layer in _static(model):
        if layer.input_range is not None and not layer.input_range.ready:
            raise BadInput(
                f"input range of {layer.matrix_name}",
                why="no batch reached the layer, or all its inputs were equal",
                do="give batches of real inputs",
            )


def _static(model: nn.Module) -> list[TrainingLinear]:
    return [m for m in model.modules() if isinstance(m, TrainingLinear) and m.input_range is not None]


def _wanting(model: nn.Module) -> bool:
    """Whether a static range would still be moved by a forward."""
    return any(not _settled(layer) for layer in _static(model))


def _settled(layer: TrainingLinear) -> bool:
    assert layer.input_range is not None
    return bool((layer.input_range.forwards >= layer.settings.range_forwards).all())


@torch.no_grad()
def _observe(layer: nn.Module, args: tuple[Any, ...]) -> None:
    """Before a forward: β ← (β·n + κ·std(x)) / (n + 1), tile by tile."""
    assert isinstance(layer, TrainingLinear)
    ranges, dac = layer.input_range, layer.hardware.dac
    assert ranges is not None
    assert dac is not None
    assert isinstance(dac.range, StaticRange)
    if _settled(layer):
        return
    x = args[0].detach().float().reshape(-1, layer.in_features)
    if dac.range.per == "matrix":
        seen = observed(x, dac.range).expand(layer.plan.tiles).clone()
    else:
        seen = torch.stack([observed(x[:, a:b], dac.range) for _, a, b in layer.plan.row_tiles])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(seen)
        seen /= torch.distributed.get_world_size()
    fresh = (seen > 0) & (ranges.forwards < layer.settings.range_forwards)
    mean = (ranges.value * ranges.forwards + seen) / (ranges.forwards + 1)
    ranges.value.copy_(torch.where(fresh, mean, ranges.value))
    ranges.forwards += fresh
    ranges.settle()


def observed(x: Tensor, rule: StaticRange) -> Tensor:
    """β () of one batch by the hardware's rule: κ·std(x), unbiased; the largest |x|; a percentile of |x|."""
    flat = x.reshape(-1)
    if rule.method == "std":
        return rule.kappa * (flat.std() if flat.numel() > 1 else flat.new_zeros(()))
    size = flat.abs()
    if rule.method not in ("max", "percentile"):
        raise BadInput(
            "dac.range.method",
            got=rule.method,
            why="it compares outputs, which a single forward does not show",
            do="calibrate, and pass the ranges to convert; or use 'std' for training",
        )
    if rule.method == "max":
        return size.amax()
    place = min(max(round(rule.percentile / 100 * size.numel()), 1), size.numel())
    return size.kthvalue(place).values
