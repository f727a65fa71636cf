"""First values of the static input ranges, found outside the graph: the cumulative mean of κ·std(x) over forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.training.layer import TrainingLinear, training_layers
from aimc_sim.torch_bridge.training.steps import set_step


def ranges_ready(model: nn.Module) -> bool:
    """Return whether every static range has its first value.

    >>> import torch
    >>> from aimc_sim.torch_bridge import convert, ranges_ready
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(4, 2)), "afm-llama")
    >>> ranges_ready(model)
    False
    >>> _ = model(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))  # a training forward begins them
    >>> ranges_ready(model)
    True
    """
    return all(layer.input_range.ready for layer in _static(model) if layer.input_range is not None)


@contextmanager
def initialising_ranges(model: nn.Module) -> Iterator[None]:
    """Begin static ranges with forwards of your own: inside, each moves them to the mean over the forwards so far.

    A layer stops after `Training.range_forwards`. Call the model itself, not a compiled one, and shard it afterwards.
    Where processes train together they average what they see. Raises BadInput where the ranges are sharded already, and
    for a rule of the hardware that compares outputs.

    >>> import torch
    >>> from aimc_sim.torch_bridge import convert, initialising_ranges, learned_ranges
    >>> hardware = {"device": "ideal", "dac": {"range": {"method": "max"}}}
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), hardware)
    >>> with initialising_ranges(model), torch.no_grad():
    ...     for size in (1.0, 3.0):
    ...         _ = model(torch.tensor([[0.5, -size]]))
    >>> learned_ranges(model)["0"].input_range
    array([2.], dtype=float32)
    """
    with ExitStack() as stack:
        for layer in _static(model):
            stack.callback(layer.register_forward_pre_hook(_observe).remove)
        yield


def initialise_ranges(
    model: nn.Module, batches: Iterable[Any], run: Callable[[Any, Any], object] | None = None
) -> None:
    """Run the model over batches without gradient until its ranges have their first values, or no batch is left.

    run(model, batch): one forward; by default model(**batch) for a mapping, else model(batch). Noise is drawn in the
    model's mode, as in training; steps are named 0, 1, …, and 0 again when it is through. Raises BadInput where a layer
    was never reached.

    >>> import torch
    >>> from aimc_sim.torch_bridge import convert, initialise_ranges, learned_ranges
    >>> hardware = {"device": "ideal", "dac": {"range": {"method": "max"}}}
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), hardware)
    >>> initialise_ranges(model, [torch.tensor([[0.5, -1.0]]), torch.tensor([[0.5, 3.0]])])
    >>> learned_ranges(model)["0"].input_range
    array([2.], dtype=float32)
    """

    def call(target: Any, batch: Any) -> object:
        return target(**batch) if isinstance(batch, Mapping) else target(batch)

    with initialising_ranges(model), torch.no_grad():
        for step, batch in enumerate(batches if _wants_forwards(model) else ()):
            set_step(model, step)
            (run or call)(model, batch)
            if not _wants_forwards(model):
                break
        set_step(model, 0)
    for layer in _static(model):
        if layer.input_range is not None and not layer.input_range.ready:
            raise BadInput(
                f"input range of {layer.matrix_name}",
                why="no batch reached the layer, or all its inputs were equal",
                do="give batches of real inputs",
            )


def _static(model: nn.Module) -> list[TrainingLinear]:
    return [layer for layer in training_layers(model) if layer.input_range is not None]


def _wants_forwards(model: nn.Module) -> bool:
    """Return whether a static range would still be moved by a forward."""
    return any(
        bool((layer.input_range.forwards < layer.settings.range_forwards).any())
        for layer in _static(model)
        if layer.input_range is not None
    )


def _observe(layer: nn.Module, args: tuple[Any, ...]) -> None:
    assert isinstance(layer, TrainingLinear)
    layer.observe(args[0])
