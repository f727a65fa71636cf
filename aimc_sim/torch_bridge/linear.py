"""A linear layer whose product runs through the tiles of a chip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge.device import device_tiles
from aimc_sim.torch_bridge.rows import RowNames

if TYPE_CHECKING:
    from aimc_sim.chip.ranges import MatrixRange
    from aimc_sim.hardware import Hardware
    from aimc_sim.torch_bridge.training.layer import TrainingLinear
    from aimc_sim.torch_bridge.training.spec import Training


class AnalogLinear(nn.Module):
    """y = x·W + b, with x·W through DAC, tiles and ADC, and b added digitally.

    x: (…, in_features), any float dtype, computed in float32; y: (…, out_features) of the same dtype and device. On a
    CUDA device the product runs in Triton, with the same bits. It holds no weight parameter: ``mount`` gives it a
    chip's tiles. Inference only.
    """

    def __init__(
        self, matrix_name: str, in_features: int, out_features: int, bias: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.matrix_name = matrix_name
        self.in_features, self.out_features = in_features, out_features
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.tiles: TiledMatrix | None = None
        self._copy: Any = None  # the tiles' copy on a GPU, made by the first product there
        self.row_names: RowNames | None = None  # set by the model: who the rows are, for read noise

    @staticmethod
    def from_linear(
        linear: nn.Module, hardware: Hardware | str | dict[str, Any], training: bool | Training = True, *,
        name: str = "linear", ordinal: int = 0, ranges: MatrixRange | None = None, seed: int = 0,
    ) -> TrainingLinear:  # fmt: skip
        """A layer that trains for the hardware, around the parameters of a Linear or a transformers Conv1D.

        training: True for `Training()`; False to run on the chip of ``seed`` instead, without gradient. The rest as in
        `convert`.
        """
        from aimc_sim.torch_bridge.training.conversion import layer_from

        return layer_from(linear, hardware, training, name=name, ordinal=ordinal, ranges=ranges, seed=seed)

    def mount(self, tiles: TiledMatrix) -> None:
        """Compute with these tiles from now on. Raises BadInput when they hold another shape."""
        if (tiles.rows, tiles.cols) != (self.in_features, self.out_features):
            raise BadInput(
                f"tiles of {self.matrix_name}",
                got=(tiles.rows, tiles.cols),
                why=f"the layer is {self.in_features} × {self.out_features}",
                do="mount the chip of the same weight file",
            )
        self.tiles, self._copy = tiles, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.tiles is None:
            raise BadInput(
                f"layer {self.matrix_name}", why="no chip is mounted", do="call mount(model, chip.at(t_s))"
            )
        if torch.is_grad_enabled() and x.requires_grad:
            raise BadInput(
                f"layer {self.matrix_name}",
                why="a mounted chip has no gradient",
                do="run it under torch.no_grad()",
            )
        if not x.is_floating_point():
            raise BadInput(
                f"input of {self.matrix_name}",
                got=str(x.dtype),
                why="activations are floating-point numbers",
                do="convert the input to float32 first",
            )
        if torch._C._get_tracing_state() is not None:
            raise BadInput(
                f"layer {self.matrix_name}",
                why="torch.jit.trace would record memory instead of the product",
                do="use the model as it is, or torch.compile",
            )
        flat = x.detach().resolve_neg().reshape(-1, self.in_features).to(torch.float32).contiguous()
        rows = None
        if any(part.noise is not None for part in (self.tiles, *self.tiles.parts)):
            rows = (self.row_names or RowNames()).of(tuple(x.shape[:-1]))
        if flat.device.type != "cpu":
            y = self._on_gpu(flat, self.tiles, rows)
        elif (
            self.tiles.panels is None
            or rows is not None
            or self.tiles.transform is not None
            or self.tiles.parts
        ):
            y = torch.from_numpy(tile_matmul(flat.numpy(), self.tiles, rows))
        else:  # the same without a detour through NumPy, which costs as much as a small product
            y = torch.empty((flat.shape[0], self.out_features))
            self.tiles.product.run(flat.shape[0], flat.data_ptr(), y.data_ptr())
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], self.out_features).to(x.dtype)

    def _on_gpu(
        self, flat: torch.Tensor, tiles: TiledMatrix, rows: npt.NDArray[np.int64] | None
    ) -> torch.Tensor:
        """(tokens, in_features) float32 through the tiles' copy in the memory of the input's device."""
        from aimc_sim.kernels import triton

        if tiles.panels is None:
            raise BadInput(
                f"layer {self.matrix_name}",
                got=str(flat.device),
                why="on a GPU only the integer path runs, and this hardware needs floats",
                do="give it a DAC of at most 8 bits and the int16 weight grid, or move model and inputs to the CPU",
            )
        if self._copy is None or self._copy.inverse.device != flat.device:
            self._copy = device_tiles(tiles, flat.device)
        ids = None if rows is None else torch.from_numpy(rows).to(flat.device)
        return triton.tile_matmul(flat, self._copy, ids)

    def extra_repr(self) -> str:
        return f"{self.matrix_name}, in_features={self.in_features}, out_features={self.out_features}"
