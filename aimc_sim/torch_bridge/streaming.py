"""A model that is larger than memory: its decoder layers are there one at a time, its head some outputs at a time.

Everything between the matrices is the model's own code: `advance` runs its whole forward with all decoder layers but
one standing aside, so embeddings, masks, rotary tables and the names of rows are what they are in a model that fits,
and what the layer gets is replaced by what the layer before gave. A batch of the same shape has the same bits in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.adapter import adapter_of, attach
from aimc_sim.torch_bridge.half import HalfLinear
from aimc_sim.torch_bridge.linear import TileLinear
from aimc_sim.torch_bridge.model import build_model, load_digital
from aimc_sim.weightfile import WeightFile

if TYPE_CHECKING:
    from aimc_sim.chip import ChipState


def decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """Return the list of a model's decoder layers, and its name with a dot: ``model.layers.``."""
    prefix = model.base_model_prefix
    for name, module in model.base_model.named_children():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return f"{prefix}.{name}.", module
    raise BadInput(
        "model",
        got=type(model).__name__,
        why="its decoder layers were not found, so it cannot be streamed",
        do="run it unstreamed; --stream never",
    )


def release_layers(model: Any, weight_file: WeightFile) -> None:
    """Let each decoder layer give the file's pages back when it has run, from now on.

    weight_file: the very object that the model was loaded from, and that nothing else uses.
    """
    prefix, layers = decoder_layers(model)
    for index, layer in enumerate(layers):
        layer.register_forward_hook(_make_forgetting_hook(weight_file, f"{prefix}{index}."))


def _make_forgetting_hook(weight_file: WeightFile, prefix: str) -> Callable[..., None]:
    return lambda *_: forget(weight_file, prefix)


def forget(weight_file: WeightFile, prefix: str) -> None:
    """Give the pages of all tensors below a module back to the system."""
    for name in weight_file.tensor_names:
        if name.startswith(prefix):
            weight_file.forget(name)


class StreamedModel:
    """A streamed model runs a chip at one time, or the digital model where ``state`` is None, in a mapping of the file
    of its own.

    For each layer: ``with streamed.layer(i)``, then ``advance`` for every batch; then for each of ``pieces``:
    ``with streamed.head(first, last)``, then ``logits`` for every batch.
    """

    def __init__(self, weight_file: WeightFile, state: ChipState | None = None) -> None:
        # Nobody else's tensors lie in this mapping, so its pages can go at any time.
        self._file, self._state = WeightFile(weight_file.path), state
        if self._file.id != weight_file.id:
            raise BadInput(
                "weight file",
                got=str(weight_file.path),
                why="it has been replaced since it was opened",
                do="open it again",
            )
        if state is None:
            self.model: Any = load_digital(self._file)
        else:
            self.model = build_model(self._file, state.chip.hardware)
        self.vocabulary = int(self.model.config.vocab_size)
        self._prefix, layers = decoder_layers(self.model)
        self.layers = len(layers)
        (self._head_info,) = (matrix for matrix in self._file.matrices if matrix.role == "head")
        self._head = self.model.get_submodule(self._head_info.name)
        # The layer that runs (behind the last: the head), what it is given, and what it gives.
        self._runs = -1
        self._given: torch.Tensor | None = None
        self._out: Any = None
        for index, layer in enumerate(layers):
            layer.forward = self._let_stand_aside(index, layer.forward)

    def _let_stand_aside(self, index: int, forward: Any) -> Any:
        def stands_aside(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if index == self._runs:
                given = hidden_states if self._given is None else self._given
                self._out = forward(given, *args, **kwargs)
                return hidden_states
            if index == self.layers - 1 and self._runs == self.layers:
                assert self._given is not None
                return self._given
            return hidden_states

        return stands_aside

    def _forward(self, runs: int, ids: torch.Tensor, given: torch.Tensor | None) -> Any:
        self._runs, self._given, self._out = runs, given, None
        try:
            with torch.no_grad():
                return self.model(input_ids=ids, use_cache=False).logits, self._out
        finally:
            self._runs, self._given, self._out = -1, None, None

    def prefix_of(self, index: int) -> str:
        """Return what the names of matrices in decoder layer ``index`` begin with."""
        return f"{self._prefix}{index}."

    @property
    def head_name(self) -> str:
        """Name of the head's matrix."""
        return self._head_info.name

    @contextmanager
    def layer(self, index: int) -> Iterator[None]:
        """Inside, decoder layer ``index`` has its weights, and the head is left out."""
        prefix = self.prefix_of(index)
        mine = [
            module
            for module in self.model.modules()
            if isinstance(module, TileLinear) and module.matrix_name.startswith(prefix)
        ]
        self._put_head(nn.Identity())
        try:
            for module in mine:
                assert self._state is not None
                module.mount(self._state.tiles(module.matrix_name))
            yield
        finally:
            for module in mine:
                module.unmount()
            forget(self._file, prefix)
            self._put_head(self._head)

    def advance(self, index: int, ids: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """A batch of token ids (b, length) through decoder layer ``index``: hidden states (b, length, H) float32 before
        it (None before the first) → after it."""
        _, out = self._forward(index, ids, hidden)
        assert isinstance(out, torch.Tensor)
        return out

    def pieces(self, multiple: int) -> tuple[tuple[int, int], ...]:
        """Return the outputs (first, last) of the head that can be there at a time,
        cut at multiples of ``multiple``.
        """
        name, cols = self._head_info.name, self._head_info.cols
        if isinstance(self._head, TileLinear):
            assert self._state is not None
            return self._state.pieces(name, multiple)
        cuts = [*range(0, cols, multiple), cols]
        return tuple(zip(cuts[:-1], cuts[1:], strict=True))

    @contextmanager
    def head(self, first: int, last: int) -> Iterator[None]:
        """Inside, the head is its outputs first … last-1: one of ``pieces``, or any where the head is digital."""
        part, adapter = self._outputs(first, last), adapter_of(self._head)
        if adapter is not None:
            attach(part, adapter.outputs(first, last))
        self._put_head(part)
        try:
            yield
        finally:
            self._put_head(self._head)
            self._file.forget(self._head_info.tensor)

    def _put_head(self, module: nn.Module) -> None:
        self.model.set_submodule(self._head_info.name, module)

    def _outputs(self, first: int, last: int) -> nn.Module:
        if isinstance(self._head, HalfLinear):
            return self._head.outputs(first, last)
        info, state = self._head_info, self._state
        assert state is not None
        bias = None if self._head.bias is None else self._head.bias.detach()[first:last]
        part = TileLinear(info.name, info.rows, last - first, bias)
        part.socket.row_names = self._head.socket.row_names
        part.mount(state.piece(info.name, first, last))
        return part

    def logits(self, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """(b, length, outputs) of the head that is there, for token ids (b, length) and what the last layer gave."""
        found: torch.Tensor = self._forward(self.layers, ids, hidden)[0]
        return found
