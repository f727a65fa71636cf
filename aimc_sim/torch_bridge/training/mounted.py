"""Training layers on a simulated chip for a while, or as plain digital layers: how a model is judged as it learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, HardwareSource, StaticRange
from aimc_sim.kernels.training import fake_quantise_reference
from aimc_sim.renames import renamed, renamed_arguments
from aimc_sim.torch_bridge.rows import RowNames
from aimc_sim.torch_bridge.training.layer import TrainingLinear, training_layers, whole
from aimc_sim.units import parse_duration


def mount_seed(
    layer: TrainingLinear, seed: int, time_s: float, session: int = 0, hardware: Hardware | None = None
) -> None:
    """Program the layer's weights, as they are now, into the chip ``seed`` and run on it from now on."""
    chip = (hardware or layer.hardware).of_matrix(layer.matrix_name)
    w = np.ascontiguousarray(whole(layer.weight).float().cpu().numpy())
    if layer.plan.weight_max_code:  # noise comes after quantisation
        w = fake_quantise_reference(w, layer.plan.weight_max_code)
    ranges = _ranges_for(layer, chip)
    cells = CellMatrix(
        w, chip, seed, time_s, ordinal=layer.ordinal, session=session, ranges=ranges, name=layer.matrix_name
    )  # fmt: skip
    layer.mount(cells.tiles())


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """Put every weight on the steps that its layer trains with (`Training.weight_bits`): what the model then computes
    is what it computed in training. Layers without such steps stay as they are.
    """
    for layer in model.modules():
        if isinstance(layer, TrainingLinear) and layer.plan.weight_max_code:
            w = np.ascontiguousarray(layer.weight.float().cpu().numpy())
            layer.weight.copy_(torch.from_numpy(fake_quantise_reference(w, layer.plan.weight_max_code)))


@renamed_arguments(time_s="time")
@contextmanager
def on_chip(
    model: nn.Module, seed: int, time: float | str = 0.0, session: int = 0, hardware: HardwareSource | None = None
) -> Iterator[None]:  # fmt: skip
    """Run a converted model on one chip: inside, every analog layer computes with cells, through the whole simulator.

    seed: the chip (64 bits). time: since programming, seconds or a text such as "1d". session: the draw of the frozen
    1/f noise. hardware: another one than the model was converted for, with as many row tiles or one range a matrix.
    Without gradient; the weights are those of this moment. Raises BadInput where the model has no analog layers, for a
    time that the device's data do not cover, and for static ranges that have not begun or do not fit the tiles.

    >>> import torch, aimc_sim
    >>> model = aimc_sim.convert(torch.nn.Sequential(torch.nn.Linear(16, 4)), {"device": "pcm-hermes-2"})
    >>> x = torch.ones(1, 16)
    >>> with aimc_sim.on_chip(model, seed=3, time="1d"):
    ...     y = model(x)
    >>> with aimc_sim.on_chip(model, seed=3, time="1d"):
    ...     torch.equal(model(x), y)
    True
    """
    time_s = parse_duration(time)
    chip = None if hardware is None else Hardware.load(hardware)
    layers = training_layers(model)
    if not layers:
        raise BadInput(
            "model to run on a chip",
            got=type(model).__name__,
            why="it has no layers that convert() made, and would run digitally",
            do="convert(model, hardware) first; a model from load_model is on its chip already",
        )
    names, before = RowNames(), [(layer.socket.tiles, layer.socket.row_names) for layer in layers]
    handle = names.watch(model)
    try:
        for layer in layers:
            mount_seed(layer, seed, time_s, session, chip)
            layer.socket.row_names = names
        with torch.no_grad():
            yield
    finally:
        handle.remove()
        for layer, (tiles, row_names) in zip(layers, before, strict=True):  # a chip that it was on before
            layer.unmount() if tiles is None else layer.mount(tiles)
            layer.socket.row_names = row_names


mounted = renamed("mounted", on_chip)


@contextmanager
def digital(model: nn.Module) -> Iterator[None]:
    """Run a converted model digitally: inside, every analog layer is a plain linear one with the same weights.

    Gradients flow. A layer that runs on a chip goes on doing so.

    >>> import torch
    >>> from aimc_sim.torch_bridge import convert, digital
    >>> plain = torch.nn.Linear(16, 4)
    >>> model = convert(torch.nn.Sequential(plain), "afm-llama")
    >>> with digital(model):
    ...     torch.equal(model(torch.ones(1, 16)), plain(torch.ones(1, 16)))
    True
    """
    layers = training_layers(model)
    before = [layer.as_digital for layer in layers]
    for layer in layers:
        layer.as_digital = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.as_digital = was


def _ranges_for(layer: TrainingLinear, chip: Hardware) -> MatrixRange:
    """Return the layer's ranges on a chip that may cut it differently."""
    learned = layer.learned_range()
    static = chip.dac is not None and isinstance(chip.dac.range, StaticRange)
    beta = learned.input_range if static else None
    if static and layer.input_range is not None and not layer.input_range.ready:
        beta = None
    if static and beta is None:
        raise BadInput(
            f"input range of {layer.matrix_name}",
            why="the chip's DAC has static ranges, and the layer has learned none yet",
            do="run initialise_ranges(model, batches), or evaluate on hardware with a range per token",
        )
    if beta is not None:
        tiles = tile_map(layer.in_features, layer.out_features, chip.tile).row_bounds.size - 1
        if beta.size != tiles and np.unique(beta).size > 1:
            raise BadInput(
                f"input ranges of {layer.matrix_name}",
                got=f"{beta.size} ranges for {tiles} row tiles",
                why="the chip cuts the matrix differently from what the ranges were learned for",
                do="evaluate with the tile shape of the training, or calibrate ranges for this one",
            )
        beta = np.full(tiles, beta[0], np.float32) if beta.size != tiles else beta
    return MatrixRange(beta, learned.full_scale)
