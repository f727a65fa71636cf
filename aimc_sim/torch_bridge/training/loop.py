"""The context around a training loop: ranges begun, noise named, weights clipped, and an optimizer that fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.training.layer import TrainingLinear, training_layers
from aimc_sim.torch_bridge.training.ranges import initialise_ranges, ranges_ready
from aimc_sim.torch_bridge.training.updates import changed_by


class TrainingRun:
    """A training run is what `training` gives: which step it is, and the names of micro-steps."""

    def __init__(self, layers: list[TrainingLinear], processes: int, micro_steps: int) -> None:
        self._layers, self._processes, self._micro_steps = layers, processes, micro_steps

    @property
    def step(self) -> int:
        """Return the optimizer steps done so far, those before this run included: what a checkpoint keeps."""
        return self._layers[0].step

    def micro_step(self, number: int) -> None:
        """Give the coming forwards the noise of micro-step ``number`` of this step; 0 is where every step begins.

        Raises BadInput unless 0 ≤ number < micro_steps.
        """
        if not 0 <= number < self._micro_steps:
            raise BadInput(
                "micro_step",
                got=number,
                why=f"a step has {self._micro_steps}",
                do="give training(..., micro_steps=) as many as a step has forwards",
            )
        for layer in self._layers:
            layer.set_micro_step(number * self._processes)


@contextmanager
def training(
    model: nn.Module, optimizer: Any, *, seed: int | None = None, step: int | None = None, micro_steps: int = 1,
    batches: Iterable[Any] | None = None,
) -> Iterator[TrainingRun]:  # fmt: skip
    """Train a converted model: inside, steps of the optimizer name the noise and clip the weights.

    model: converted, wrapped or compiled as it may be; put into training mode, and back at the end. optimizer: of torch
    or accelerate's wrapper, made from the parameters of the model. seed: the chip (64 bits) whose noise is drawn; None:
    as converted. step: optimizer steps done before, where a run goes on
    (a state_dict has none); None: those that the layers have seen. micro_steps: forwards of a step that are to
    have noise of their own, each named by `TrainingRun.micro_step`. batches: for the first values of static input
    ranges, as `initialise_ranges` takes them; without, each range begins with the first forward.

    Noise is a function of seed, step, micro-step, process (its rank in torch.distributed) and layer. Raises BadInput
    where the model has no analog layers, where two of them would draw the same noise, and where the optimizer lacks a
    weight or a range of theirs that is not frozen.

    >>> import torch, aimc_sim
    >>> model = aimc_sim.convert(torch.nn.Sequential(torch.nn.Linear(16, 4)), "afm-llama")
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> x = torch.linspace(-1, 1, 32).reshape(2, 16)
    >>> with aimc_sim.training(model, optimizer, batches=[x]) as run:
    ...     for _ in range(3):
    ...         model(x).square().mean().backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    >>> run.step
    3
    """
    layers = training_layers(model)
    if not layers:
        raise BadInput(
            "model to train",
            got=type(model).__name__,
            why="it has no analog layers, and would be trained for no chip",
            do="convert(model, hardware) first, then make the optimizer",
        )
    if micro_steps < 1:
        raise BadInput("micro_steps", got=micro_steps, why="a step has one or more", do="give 1 or more")
    changed = changed_by(optimizer)
    if not changed & {id(value) for value in model.parameters() if value.requires_grad}:
        raise BadInput(
            "optimizer",
            got=type(optimizer).__name__,
            why="it changes none of the model's parameters",
            do="make the optimizer from the converted (and sharded) model's parameters",
        )
    _check_layers(layers, changed)
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    processes, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if spread else (1, 0)
    before = [(module, module.training) for module in model.modules()]
    model.train()
    if batches is not None and not ranges_ready(model):
        initialise_ranges(model, batches)
    for layer in layers:
        layer.set_key(
            layers[0].step if step is None else step, seed, events=micro_steps * processes, rank=rank
        )
    try:
        yield TrainingRun(layers, processes, micro_steps)
    finally:
        for module, mode in before:
            module.training = mode


def _check_layers(layers: list[TrainingLinear], changed: set[int]) -> None:
    """Raise BadInput where an optimizer that changes these parameters would leave layers behind, or noise be shared."""
    for layer in layers:
        trained = {
            "weight": layer.weight,
            "input range": None if layer.input_range is None else layer.input_range.value,
        }
        for what, value in trained.items():
            if isinstance(value, nn.Parameter) and value.requires_grad and id(value) not in changed:
                raise BadInput(
                    "optimizer",
                    got=f"{what} of {layer.matrix_name}",
                    why="it is to be trained, and this optimizer does not change it",
                    do="make the optimizer from the converted (and sharded) model's parameters, or freeze it "
                    "(requires_grad_(False))",
                )
    ordinals = [layer.ordinal for layer in layers]
    if len(set(ordinals)) < len(ordinals):
        raise BadInput(
            "ordinals of layers",
            got=ordinals,
            why="layers of one ordinal draw the same noise",
            do="convert the whole model, or give each AnalogLinear.from_linear(ordinal=...) its own",
        )
