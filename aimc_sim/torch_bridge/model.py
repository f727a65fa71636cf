"""Transformers models from a weight file: digital, or with their static matrix products on a simulated chip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aimc_sim.chip import ChipState
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.models.families import candidates, generation_defaults, skeleton
from aimc_sim.torch_bridge.adapter import LowRank, attach
from aimc_sim.torch_bridge.half import HalfEmbedding, HalfLinear
from aimc_sim.torch_bridge.linear import TileLinear
from aimc_sim.torch_bridge.rows import RowNames
from aimc_sim.weightfile import MatrixInfo, WeightFile, analog_matrices
from aimc_sim.weightfile.manifest import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def stored_tensor(stored: Tensor) -> torch.Tensor:
    """Return a stored tensor in its own dtype, on the memory of the file."""
    values = torch.from_numpy(stored.bits)
    return values.view(torch.bfloat16) if stored.dtype == "bfloat16" else values


def load_digital(weight_file: WeightFile) -> PreTrainedModel:
    """Load the digital model: float32, eval mode, its matrices and embedding mapped from the file, never copied whole.

    Those stored in half precision and the head are `HalfLinear` and `HalfEmbedding`, which widen what a product needs.

    >>> import aimc_sim, torch
    >>> from aimc_sim.torch_bridge import load_digital
    >>> model = load_digital(aimc_sim.WeightFile("model.h5"))
    >>> model(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 258])
    """
    return _build(weight_file, ())


def build_model(weight_file: WeightFile, hardware: Hardware | None = None) -> PreTrainedModel:
    """Build the model with an empty `TileLinear` for every matrix that the hardware holds in tiles; `mount` fills them.

    hardware: None: that of the weight file.

    >>> import aimc_sim
    >>> from aimc_sim.torch_bridge import build_model
    >>> build_model(aimc_sim.WeightFile("model.h5")).model.layers[0].self_attn.q_proj
    TileLinear(model.layers.0.self_attn.q_proj, in_features=64, out_features=64)
    """
    return _build(weight_file, analog_matrices(weight_file, hardware or weight_file.hardware))


def mount(model: nn.Module, state: ChipState) -> None:
    """Put a chip, as it is at one time, into the model's analog layers.

    model: of `build_model`. Raises BadInput where the chip holds other matrices than the model's analog layers: nothing
    is bypassed in silence.

    >>> import aimc_sim, torch
    >>> from aimc_sim.torch_bridge import build_model, mount
    >>> weights = aimc_sim.WeightFile("model.h5")
    >>> model, chip = build_model(weights), aimc_sim.program(weights, seed=3)
    >>> with torch.no_grad():
    ...     for time in (0, "1d"):
    ...         mount(model, chip.at(time))
    ...         logits = model(torch.tensor([[1, 2, 3]])).logits
    """
    layers = {module.matrix_name: module for module in model.modules() if isinstance(module, TileLinear)}
    in_tiles = {matrix.name for matrix in analog_matrices(state.chip.weight_file, state.chip.hardware)}
    if in_tiles != set(layers):
        odd = sorted(in_tiles ^ set(layers))[0]
        where = (
            "the chip, but is digital in the model"
            if odd in in_tiles
            else "the model, but is digital on the chip"
        )
        raise BadInput(
            "chip to mount",
            got=state.chip.hardware.name,
            why=f"{odd} is analog in {where}",
            do="build the model for the hardware that the chip was programmed with",
        )
    for name, layer in layers.items():
        layer.unmount()  # one chip at a time in memory
        layer.mount(state.tiles(name))


def _build(weight_file: WeightFile, analog: tuple[MatrixInfo, ...]) -> PreTrainedModel:
    model = skeleton({**weight_file.config, "tie_word_embeddings": False, "dtype": "float32"})
    check_model(weight_file, model)
    _put_layers(model, weight_file, analog)
    stored = set(weight_file.tensor_names)
    source = {f"{matrix.name}.weight": matrix.tensor for matrix in weight_file.matrices}
    for name, parameter in list(model.named_parameters()):
        if not parameter.is_meta:
            continue
        tensor_name = source.get(name, name)
        if tensor_name not in stored:
            raise BadInput(
                "weight file",
                got=str(weight_file.path),
                why=f"it does not hold the parameter {name}",
                do="export the checkpoint again",
            )
        value = stored_tensor(weight_file.tensor(tensor_name)).to(torch.float32)
        _put(model, name, nn.Parameter(value, requires_grad=False))
    _put_adapters(model, weight_file)
    _set_generation_defaults(model, weight_file)
    if analog:
        _name_rows(model)
    return model.eval()


def _put_layers(model: PreTrainedModel, weight_file: WeightFile, analog: tuple[MatrixInfo, ...]) -> None:
    """Replace the layers that torch's own would copy: analog ones, those stored in half precision, and the head."""
    in_tiles = {matrix.name for matrix in analog}
    for matrix in weight_file.matrices:
        name, bias = matrix.name, None
        if name in in_tiles:
            if matrix.has_bias:
                bias = stored_tensor(weight_file.tensor(f"{name}.bias")).to(torch.float32)
            _put(model, name, TileLinear(name, matrix.rows, matrix.cols, bias))
        elif matrix.dtype != "float32" or matrix.role == "head":
            weight = stored_tensor(weight_file.tensor(matrix.tensor))
            layer = HalfLinear(weight, transposed=matrix.layout == "in_out", has_bias=matrix.has_bias)
            _put(model, name, layer)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Embedding):
            table = weight_file.tensor(f"{name}.weight")
            if table.dtype != "float32":
                _put(model, name, HalfEmbedding(stored_tensor(table), module))


def _put_adapters(model: PreTrainedModel, weight_file: WeightFile) -> None:
    """Give every adapted matrix its adapter, whatever layer computes it."""
    for info in weight_file.adapters:
        adapter = weight_file.adapter(info.matrix)
        assert adapter is not None
        down, up = (
            HalfLinear(stored_tensor(stored), transposed=False, has_bias=False) for stored in adapter[:2]
        )
        attach(model.get_submodule(info.matrix), LowRank(down, up, adapter.scale))


def _put(model: PreTrainedModel, name: str, value: nn.Module | nn.Parameter) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, value)


def _name_rows(model: PreTrainedModel) -> None:
    """Let the analog layers know which token each of their rows belongs to."""
    names = RowNames()
    names.watch(model)
    model.row_names = names
    for module in model.modules():
        if isinstance(module, TileLinear):
            module.socket.row_names = names


def _set_generation_defaults(model: PreTrainedModel, weight_file: WeightFile) -> None:
    if weight_file.generation_config:
        model.generation_config = generation_defaults(weight_file.generation_config)


def check_model(weight_file: WeightFile, model: Any) -> None:
    """Compare a weight file with the skeleton of its own configuration, before any weight is put into it.

    model: ``models.skeleton(config)``, untied, with all its modules. Raises BadInput for a parameter that the file
    lacks, a tensor without a place, another shape, or a list of matrices that is not the model's.
    """
    source = {f"{matrix.name}.weight": matrix.tensor for matrix in weight_file.matrices}
    stored = set(weight_file.tensor_names)
    used = {name for adapter in weight_file.adapters for name in (adapter.a, adapter.b)}
    for name, parameter in model.named_parameters():
        tensor, shape = source.get(name, name), tuple(parameter.shape)
        if tensor not in stored:
            raise _misfit(weight_file, name, "the configuration asks for this parameter, the file lacks it")
        found = weight_file.tensor(tensor).bits.shape
        if found != shape:
            raise _misfit(weight_file, name, f"the configuration asks for {shape}, the file stores {found}")
        used.add(tensor)
    for name in sorted(stored - used):
        raise _misfit(weight_file, name, "the configuration has no place for this tensor")
    ours = [(m.name, m.rows, m.cols, m.layout, m.has_bias) for m in weight_file.matrices]
    theirs = [(c.name, c.rows, c.cols, c.layout, c.has_bias) for c in candidates(model)]
    for place in range(max(len(ours), len(theirs))):
        mine, other = (items[place] if place < len(items) else None for items in (ours, theirs))
        if mine != other:
            name = str((mine or other or ("",))[0])
            why = f"the model has {other} at place {place}, the file's list of matrices {mine}"
            raise _misfit(weight_file, name, why)


def _misfit(weight_file: WeightFile, name: str, why: str) -> BadInput:
    return BadInput(
        f"weight file {weight_file.path.name}",
        got=name,
        why=why,
        do="export the checkpoint again; configuration and weights of this file do not belong together",
    )
