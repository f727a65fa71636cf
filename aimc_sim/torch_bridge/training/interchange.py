"""To and from aihwkit-lightning: weights and input ranges under its state-dict names, and its settings as plain JSON.

Names and shapes are those of aihwkit-lightning 2.1.0, nn/modules/base.py: NAME.weight (N, K), NAME.bias (N,),
NAME.input_range, .input_range_update_idx, .x_min and .x_max (row tiles,). `models.analog_checkpoint` reads what it
saves; `export_lightning` writes what it loads. docs/how-to/exchange-checkpoints.md says which term is which of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.files import write_whole
from aimc_sim.hardware import Hardware, LambdaRule, StaticRange
from aimc_sim.models.analog_checkpoint import BOOKKEEPING, RANGE, ranges_in
from aimc_sim.torch_bridge.training.layer import TrainingLinear, whole
from aimc_sim.torch_bridge.training.spec import Training

Tensor = torch.Tensor
UNSEEN = 1e-5  # what lightning's x_min (below zero) and x_max begin with
WEIGHTS, SETTINGS = "model.safetensors", "rpu_config.json"


def lightning_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a converted model as aihwkit-lightning's `convert_to_analog` of the same model names it.

    Weights, biases and digital tensors share memory with the model; ranges are float32 (row tiles,). It loads there
    strictly, with the settings of `lightning_settings`. Raises BadInput for layers that have no counterpart.
    """
    layers = _layers(model)
    prefixes = {f"{name}." if name else "" for name in layers}
    state = {
        key: whole(value)
        for key, value in model.state_dict().items()
        if not any(key in (f"{prefix}{RANGE}.value", f"{prefix}{RANGE}.forwards") for prefix in prefixes)
    }
    for name, layer in layers.items():
        prefix = f"{name}." if name else ""
        _check_cuts(layer)
        if layer.input_range is None:
            continue
        if not bool((layer.input_range.forwards > 0).all()):
            raise BadInput(
                f"input range of {layer.matrix_name}",
                why="it has no first value yet",
                do="initialise_ranges(model, batches) first",
            )
        beta = whole(layer.input_range.value).float().cpu().clone()
        state[f"{prefix}{RANGE}"] = beta
        state[f"{prefix}input_range_update_idx"] = layer.input_range.forwards.detach().cpu().float()
        state[f"{prefix}x_min"] = torch.full_like(beta, -UNSEEN)
        state[f"{prefix}x_max"] = torch.full_like(beta, UNSEEN)
    return state


def load_lightning_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put the weights and ranges of an aihwkit-lightning state dict into a converted model, which goes on from there.

    Ranges count as begun. Raises BadInput, before anything is changed, where names or shapes do not fit.
    """
    layers = _layers(model)
    ranges = ranges_in(state)
    tensors = model.state_dict()
    plain = {
        key: value for key, value in state.items() if key.rpartition(".")[2] not in {RANGE, *BOOKKEEPING}
    }
    wanted = {key for key in tensors if not key.endswith((f"{RANGE}.value", f"{RANGE}.forwards"))}
    for key in sorted(wanted ^ set(plain)):
        raise BadInput(
            "state dict",
            got=key,
            why="the model has no such tensor" if key in plain else "it lacks this tensor of the model",
            do="convert the model that the state dict was saved from",
        )
    for key, value in plain.items():
        if value.shape != tensors[key].shape:
            raise BadInput(
                key,
                got=tuple(value.shape),
                why=f"the model's has the shape {tuple(tensors[key].shape)}",
                do="convert the model that the state dict was saved from",
            )
    static = {name for name, layer in layers.items() if layer.input_range is not None}
    for name in sorted(static ^ set(ranges)):
        raise BadInput(
            f"input range of {name}",
            why="only one side has static input ranges for it",
            do="choose a hardware whose dac.range and placement are those of the state dict",
        )
    for name, beta in ranges.items():
        if beta.size not in (1, layers[name].plan.tiles):
            raise BadInput(
                f"input range of {name}",
                got=beta.size,
                why=f"the layer has {layers[name].plan.tiles} row tiles",
                do="choose the tile height that the state dict was trained with",
            )
    for name, beta in ranges.items():
        layers[name].put_ranges(torch.from_numpy(beta))
    with torch.no_grad():
        for key, value in plain.items():
            tensors[key].copy_(value)


def lightning_settings(hardware: Hardware, training: Training) -> dict[str, Any]:
    """Return the terms of an rpu_config, dotted, enums by their value: what aihwkit-lightning trains for the same chip.

    Raises BadInput for what it does not train for: another rule than λ, noise of a device, one range per token over
    several tiles, or a weight noise that bounds follow.
    """
    dac, adc = hardware.dac, hardware.adc
    static = dac is not None and isinstance(dac.range, StaticRange)
    if adc is not None and (
        not isinstance(adc.full_scale, LambdaRule) or adc.full_scale.bound_from == "noisy"
    ):
        _refuse(
            "adc.full_scale",
            adc.full_scale,
            "its full scales are λ·β·max|column| of the weights without noise",
        )
    if adc is not None and dac is None:
        _refuse("dac", None, "its full scales follow input ranges")
    if dac is not None and not static and dac.range.per == "matrix" and hardware.tile.rows is not None:
        _refuse("dac.range.per", "matrix", "its dynamic ranges are those of each tile")
    if training.noise == "device" or training.forward == "exact":
        _refuse("noise of the training", training.noise, "its weight noise is Gaussian")
    if training.saturation != "masked":
        _refuse(
            "saturation of the training", training.saturation, "its gradients stop where the ADC saturates"
        )
    kappa = dac.range.kappa if dac is not None and isinstance(dac.range, StaticRange) else 1.0
    levels = 0 if training.weight_bits is None else 2 ** (training.weight_bits - 1) - 1
    return {
        "forward.inp_res": -1 if dac is None else 2 * dac.max_code,
        "forward.out_res": -1 if adc is None else 2 * adc.max_code,
        "forward.out_bound": float(adc.full_scale.lambda_)
        if adc is not None and isinstance(adc.full_scale, LambdaRule)
        else 0.0,
        "clip.type": "LayerGaussianPerChannel",  # also what makes a full scale that of its column
        "clip.sigma": -1.0 if training.clip_sigma is None else training.clip_sigma,
        "modifier.noise_type": "AddNormalPerChannel" if training.noise else "None",
        "modifier.std_dev": training.gamma if training.noise else 0.0,
        "modifier.quantization_type": "DiscretizePerChannel" if levels else "None",
        "modifier.res": float(2 * levels),
        "mapping.max_input_size": hardware.tile.rows or -1,
        "pre_post.input_range.enable": dac is not None,
        "pre_post.input_range.dynamic": dac is not None and not static,
        "pre_post.input_range.learn_input_range": training.learn_ranges,
        "pre_post.input_range.init_from_data": training.range_forwards,
        "pre_post.input_range.init_std_alpha": kappa,
        "pre_post.input_range.decay": training.range_decay,
        "pre_post.input_range.input_min_percentage": training.range_unclipped,
    }


def export_lightning(model: nn.Module, folder: str | Path) -> None:
    """Write a converted model for aihwkit-lightning: model.safetensors under its names, and rpu_config.json.

    The folder must be new or empty. rpu_config.json holds ``rpu_config`` (`lightning_settings`) and
    ``exclude_modules``, the Linear layers that stay digital. Raises BadInput for what has no counterpart there.
    """
    from safetensors.torch import save_file  # late: only an export needs it

    where = Path(folder)
    layers = _layers(model)
    first = next(iter(layers.values()))
    settings = lightning_settings(first.hardware, first.settings)
    state = lightning_state(model)
    if where.exists() and (not where.is_dir() or any(where.iterdir())):
        raise BadInput("output folder", got=str(where), why="it holds something", do="name a new one")
    where.mkdir(parents=True, exist_ok=True)
    digital = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    document = {"rpu_config": settings, "exclude_modules": digital}
    memories: set[int] = set()
    apart = {}
    for key, value in state.items():  # safetensors holds no tensor twice
        again = value.untyped_storage().data_ptr() in memories
        memories.add(value.untyped_storage().data_ptr())
        apart[key] = value.clone() if again else value.contiguous()
    save_file(apart, where / WEIGHTS, metadata={"format": "pt"})
    write_whole(where / SETTINGS, json.dumps(document, indent=1) + "\n")


def _layers(model: nn.Module) -> dict[str, TrainingLinear]:
    """Return every analog layer by its path in the model."""
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, TrainingLinear)}
    if not layers:
        raise BadInput(
            "model",
            why="it has no analog layers",
            do="convert(model, hardware, training) first, or restore it later",
        )
    for name, layer in layers.items():
        if layer.transposed:
            raise BadInput(
                f"layer {name}",
                got="Conv1D",
                why="aihwkit-lightning leaves it digital, and its range would have no place",
                do="replace the Conv1D layers of the model by Linear before convert",
            )
    return layers


def _check_cuts(layer: TrainingLinear) -> None:
    """Raise BadInput unless aihwkit-lightning cuts the layer's inputs into the same tiles:
    equal ones, the higher first.
    """
    parts, heights = layer.plan.tiles, [b - a for _, a, b in layer.plan.row_tiles]
    base, more = divmod(layer.in_features, parts)
    theirs = [base + (index < more) for index in range(parts)]
    if heights != theirs:
        raise BadInput(
            f"row tiles of {layer.matrix_name}",
            got=heights,
            why=f"aihwkit-lightning would cut {theirs}, and every range belongs to its tile",
            do="choose tile.rows so that it divides the layers' inputs",
        )


def _refuse(what: str, got: Any, why: str) -> None:
    raise BadInput(
        what,
        got=got,
        why=f"aihwkit-lightning has no counterpart: {why}",
        do="export weights and ranges alone (lightning_state), or choose a hardware of that kind",
    )
