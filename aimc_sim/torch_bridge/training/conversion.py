"""Models with layers that train for a chip: conversion of Linear and Conv1D, and the way back to a plain model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, HardwareSource
from aimc_sim.models.families import candidates
from aimc_sim.torch_bridge.adapter import adapter_of
from aimc_sim.torch_bridge.training.layer import TrainingLinear, training_layers
from aimc_sim.torch_bridge.training.mounted import mount_seed
from aimc_sim.torch_bridge.training.spec import Training

Model = TypeVar("Model", bound=nn.Module)
HEAD = "lm_head"


def convert(
    model: Model, hardware: HardwareSource | Training, training: bool | Training = True, *,
    ranges: Mapping[str, MatrixRange] | None = None, seed: int = 0,
) -> Model:  # fmt: skip
    """Put an analog layer in the place of every Linear and Conv1D that the hardware holds in tiles; return the model.

    The layers keep the model's own parameters. Their ordinals are those of a weight file of the model, so training
    draws what inference draws. A tied head that is analog gets weights of its own.
    hardware: what `Hardware.load` takes, or a `Training` alone, for ideal hardware. training: True for `Training()`;
    False to run on the chip of ``seed``, programmed now, without gradient. ranges: calibrated converter ranges by name.
    Raises BadInput for weights shared in another way, for effects that training does not simulate, and where nothing
    would be analog. Source: Büchel et al., NeurIPS 2025 (arXiv 2505.09663).

    >>> import torch
    >>> from aimc_sim.torch_bridge import Training, convert
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.ReLU()), "afm-llama", Training(gamma=0.03))
    >>> type(model[0]).__name__
    'TrainingLinear'
    >>> model(torch.ones(2, 16).cumsum(1)).shape
    torch.Size([2, 4])
    """
    chip, training = _chip_and_training(hardware, training)
    matrices = _matrices(model)
    chip.placement.check(matrices)
    wanted = {
        name: ordinal for ordinal, (name, role) in enumerate(matrices) if chip.placement.is_analog(name, role)
    }
    if not wanted:
        raise BadInput(
            "model to convert",
            got=type(model).__name__,
            why="it has no Linear or Conv1D that the hardware places in tiles",
            do="check placement.digital, or convert the model before it is wrapped",
        )
    _refuse_bypassed(model, wanted)
    _refuse_shared(model, wanted)
    known = ranges or {}
    layers = {
        name: layer_from(
            model.get_submodule(name),
            chip,
            training,
            name=name,
            ordinal=ordinal,
            ranges=known.get(name),
            seed=seed,
        )
        for name, ordinal in wanted.items()
    }  # all of them before any is put in place: an error leaves the model as it was
    _untie(model, layers)
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    return model


def layer_from(
    linear: nn.Module, hardware: HardwareSource | Training, training: bool | Training, *, name: str, ordinal: int,
    ranges: MatrixRange | None, seed: int,
) -> TrainingLinear:  # fmt: skip
    """Make one layer of `convert`: what `AnalogLinear.from_linear` does, with everything named."""
    chip, training = _chip_and_training(hardware, training)
    transposed = _is_conv1d(linear)
    if not isinstance(linear, nn.Linear) and not transposed:
        raise BadInput(
            name,
            got=type(linear).__name__,
            why="only a Linear or a transformers Conv1D is one product with a static matrix",
            do="convert such layers only, or keep this one digital",
        )
    if adapter_of(linear) is not None:
        raise BadInput(
            name,
            got="a layer with a low-rank adapter",
            why="conversion takes its weights, and the adapter would be left out",
            do="convert the checkpoint without the adapter, and add one to the converted model",
        )
    weight, bias = linear.weight, linear.bias
    if not isinstance(weight, nn.Parameter) or not (bias is None or isinstance(bias, nn.Parameter)):
        raise BadInput(
            name,
            got=type(linear).__name__,
            why="its weights are computed from other tensors (a parametrization), and a chip holds the result alone",
            do="call torch.nn.utils.parametrize.remove_parametrizations first, or keep the layer digital",
        )
    if weight.is_meta:
        raise BadInput(name, got="meta device", why="it has no weights yet", do="load the checkpoint first")
    if transposed:
        weight = nn.Parameter(weight.detach().t().contiguous(), requires_grad=weight.requires_grad)
    settings = training if isinstance(training, Training) else Training()
    if training is False:
        settings = settings.model_copy(update={"noise": None, "clip_sigma": None, "forward": "exact"})
    layer = TrainingLinear(
        weight, bias, chip.of_matrix(name), settings, name=name, ordinal=ordinal, ranges=ranges, seed=seed,
        transposed=transposed,
    )  # fmt: skip
    layer.train(linear.training)
    if training is False:
        mount_seed(layer, seed, 0.0)
        layer.requires_grad_(False)
    return layer


def _chip_and_training(
    hardware: HardwareSource | Training, training: bool | Training
) -> tuple[Hardware, bool | Training]:
    """Return the hardware and the settings of a conversion; a `Training` in the hardware's place asks for ideal
    hardware.
    """
    if isinstance(hardware, Training):
        return Hardware.load("ideal"), hardware
    return Hardware.load(hardware), training


def restore(model: nn.Module) -> dict[str, MatrixRange]:
    """Put plain Linear and Conv1D layers back, around the same weights; return the learned ranges by name.

    >>> import torch
    >>> from aimc_sim.torch_bridge import convert, restore
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(16, 4)), "afm-llama")
    >>> y = model(torch.ones(2, 16).cumsum(1))
    >>> ranges = restore(model)
    >>> model[0], ranges["0"].input_range.shape
    (Linear(in_features=16, out_features=4, bias=True), (1,))
    """
    ranges = learned_ranges(model)
    for path, layer in list(model.named_modules()):
        if not isinstance(layer, TrainingLinear):
            continue
        weight = layer.weight
        if layer.transposed:
            from transformers.pytorch_utils import Conv1D  # late: transformers takes seconds to load

            plain: nn.Module = Conv1D(layer.out_features, layer.in_features)
            weight = nn.Parameter(weight.detach().t().contiguous(), requires_grad=weight.requires_grad)
        else:
            plain = nn.Linear(
                layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta"
            )
        plain.weight, plain.bias = weight, layer.bias  # type: ignore[assignment]
        plain.train(layer.training)
        model.set_submodule(path, plain)
    return ranges


def analog_layers(model: nn.Module) -> dict[str, TrainingLinear]:
    """Return the layers that train for a chip, by the name of their matrix, however the model is wrapped.

    >>> import torch
    >>> from aimc_sim.torch_bridge import analog_layers, convert
    >>> list(analog_layers(convert(torch.nn.Sequential(torch.nn.Linear(16, 4)), "afm-llama")))
    ['0']
    """
    return {layer.matrix_name: layer for layer in training_layers(model)}


def learned_ranges(model: nn.Module) -> dict[str, MatrixRange]:
    """Return converter ranges by matrix, as inference takes them: static β (tiles,), and full scales where fitted.

    >>> import torch
    >>> from aimc_sim.torch_bridge import convert, initialise_ranges, learned_ranges
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(4, 2)), "afm-llama")
    >>> initialise_ranges(model, [torch.tensor([[0.0, 0.0, 1.0, 1.0]])])
    >>> learned_ranges(model)["0"].input_range.round(2)  # kappa = 18 standard deviations
    array([10.39], dtype=float32)
    """
    return {name: layer.learned_range() for name, layer in analog_layers(model).items()}


def _matrices(model: nn.Module) -> list[tuple[str, str]]:
    """Return (name, role) of every static matrix product, in the order of a weight file."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "model_type") and hasattr(config, "to_dict"):
        known: Any = model
        return [(item.name, item.role) for item in candidates(known)]
    names = [
        name for name, m in model.named_modules() if name and (isinstance(m, nn.Linear) or _is_conv1d(m))
    ]
    names.sort(key=lambda name: name == HEAD)
    return [(name, "head" if name == HEAD else "matrix") for name in names]


def _is_conv1d(module: nn.Module) -> bool:
    """Return whether it is transformers' Conv1D, without importing transformers."""
    return type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"


def _refuse_shared(model: nn.Module, wanted: Mapping[str, int]) -> None:
    """Refuse shared weights: those in tiles are used by one layer alone;
    only a head may share the embedding's, and then gets its own.
    """
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module.named_parameters(recurse=False):
            if leaf == "weight":
                users.setdefault(id(parameter), []).append(path)
    for name in wanted:
        weight = model.get_submodule(name).weight
        others = [path for path in users.get(id(weight), ()) if path != name]
        strange = [
            path for path in others if name != HEAD or not isinstance(model.get_submodule(path), nn.Embedding)
        ]
        if strange:
            raise BadInput(
                f"weights of {name}",
                got=f"shared with {strange[0]}",
                why="each would be clipped, and in tiles of its own, but they are one tensor",
                do="untie them before conversion, or keep both digital",
            )


def _refuse_bypassed(model: nn.Module, wanted: Mapping[str, int]) -> None:
    """torch's MultiheadAttention multiplies by its parts' weights itself: tiles in their place would never be used."""
    for path, module in model.named_modules():
        inside = [name for name in wanted if name.startswith(f"{path}." if path else "")]
        if isinstance(module, nn.MultiheadAttention) and inside:
            raise BadInput(
                inside[0],
                got="part of a MultiheadAttention",
                why="that multiplies by the layer's weights itself and would pass its tiles by",
                do="write the attention with Linear layers, or name the layer in placement.digital",
            )


def _untie(model: nn.Module, layers: Mapping[str, TrainingLinear]) -> None:
    """Give a tied head its own copy of the embedding's weights, and say so in the model's configuration."""
    head, config = layers.get(HEAD), getattr(model, "config", None)
    if head is None:
        return
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    if any(head.weight is table.weight for table in tables):
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    if config is not None and getattr(config, "tie_word_embeddings", False):
        config.tie_word_embeddings = False
