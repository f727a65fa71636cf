"""A socket runs the product of a layer on the tiles of a chip; `TileLinear` is the layer that has nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from aimc_sim.aliases import I64
from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul_tensor
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge.device import device_tiles
from aimc_sim.torch_bridge.rows import RowNames


class Socket:
    """A layer's socket holds the tiles that are mounted, and computes the layer's product on them.

    name: of the layer's matrix; rows, cols: K and N. Inference only. Every layer whose product is analog has one, as
    its ``socket`` (`socket_of`).
    """

    def __init__(self, name: str, rows: int, cols: int) -> None:
        self.name, self.rows, self.cols = name, rows, cols
        self.tiles: TiledMatrix | None = None
        self._noisy = False  # whether they draw read noise, which rows need names for
        self._copy: Any = None  # the tiles' copy on a GPU, made by the first product there
        self.row_names: RowNames | None = None  # set by the model: who the rows are, for read noise

    def mount(self, tiles: TiledMatrix) -> None:
        """Compute with these tiles from now on. Raises BadInput when they hold another shape."""
        if (tiles.rows, tiles.cols) != (self.rows, self.cols):
            raise BadInput(
                f"tiles of {self.name}",
                got=(tiles.rows, tiles.cols),
                why=f"the layer is {self.rows} × {self.cols}",
                do="mount the chip of the same weight file",
            )
        self.tiles, self._copy = tiles, None
        self._noisy = any(part.noise is not None for part in (tiles, *tiles.parts))

    def unmount(self) -> None:
        """Let go of the tiles, and of their copy on a GPU."""
        self.tiles = self._copy = None

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Compute x (…, K) → x·W + b (…, N) of x's dtype and device: in float32, b added digitally."""
        if self.tiles is None:
            raise BadInput(
                f"layer {self.name}", why="no chip is mounted", do="call mount(model, chip.at(t_s))"
            )
        if torch.is_grad_enabled() and x.requires_grad:
            raise BadInput(
                f"layer {self.name}",
                why="a mounted chip has no gradient",
                do="run it under torch.no_grad()",
            )
        if not x.is_floating_point():
            raise BadInput(
                f"input of {self.name}",
                got=str(x.dtype),
                why="activations are floating-point numbers",
                do="convert the input to float32 first",
            )
        if torch._C._get_tracing_state() is not None:
            raise BadInput(
                f"layer {self.name}",
                why="torch.jit.trace would record memory instead of the product",
                do="use the model as it is, or torch.compile",
            )
        flat = x.detach().reshape(-1, self.rows)
        ids = None
        if self._noisy:
            ids = (self.row_names or RowNames()).of(tuple(x.shape[:-1]))
        if flat.device.type == "cpu":
            y = tile_matmul_tensor(flat, self.tiles, ids)
        else:
            y = self._on_gpu(flat, self.tiles, ids)
        if bias is not None:
            y += bias
        return y.reshape(*x.shape[:-1], self.cols).to(x.dtype)

    def _on_gpu(self, flat: torch.Tensor, tiles: TiledMatrix, row_ids: I64 | None) -> torch.Tensor:
        """Compute a product of (tokens, K) through the tiles' copy in the memory of the input's device."""
        from aimc_sim.kernels import triton  # late: Triton is there only where a GPU may be

        if tiles.panels is None:
            raise BadInput(
                f"layer {self.name}",
                got=str(flat.device),
                why="on a GPU only the integer path runs, and this hardware needs floats",
                do="give it a DAC of at most 8 bits and the int16 weight grid, or move model and inputs to the CPU",
            )
        if self._copy is None or self._copy.inverse.device != flat.device:
            self._copy = device_tiles(tiles, flat.device)
        ids = None if row_ids is None else torch.from_numpy(row_ids).to(flat.device)
        flat = flat.resolve_neg().to(torch.float32).contiguous()
        return triton.tile_matmul(flat, self._copy, ids)


def socket_of(layer: nn.Module) -> Socket | None:
    """Find a layer's socket; None where its product is not analog."""
    found = getattr(layer, "socket", None)
    return found if isinstance(found, Socket) else None


class TileLinear(nn.Module):
    """TileLinear computes y = x·W + b, with x·W through DAC, tiles and ADC, and b added digitally.

    x: (…, in_features), any float dtype, computed in float32; y: (…, out_features) of the same dtype and device. On a
    CUDA device the product runs in Triton, with the same bits. It holds no weight parameter: ``mount`` gives it a
    chip's tiles. Inference only.

    >>> import aimc_sim, torch
    >>> from aimc_sim.torch_bridge import TileLinear
    >>> tiles = aimc_sim.program(aimc_sim.WeightFile("model.h5"), seed=3).at("1d").tiles("model.layers.0.mlp.up_proj")
    >>> layer = TileLinear("up_proj", in_features=64, out_features=96)
    >>> layer.mount(tiles)
    >>> layer(torch.zeros(2, 64)).shape
    torch.Size([2, 96])
    """

    def __init__(
        self, matrix_name: str, in_features: int, out_features: int, bias: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.matrix_name = matrix_name
        self.in_features, self.out_features = in_features, out_features
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.socket = Socket(matrix_name, in_features, out_features)

    @property
    def tiles(self) -> TiledMatrix | None:
        """Return the tiles that are mounted."""
        return self.socket.tiles

    def mount(self, tiles: TiledMatrix) -> None:
        """Compute with these tiles from now on. Raises BadInput when they hold another shape."""
        self.socket.mount(tiles)

    def unmount(self) -> None:
        """Let go of the tiles."""
        self.socket.unmount()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.socket.linear(x, self.bias)

    def extra_repr(self) -> str:
        return f"{self.matrix_name}, in_features={self.in_features}, out_features={self.out_features}"
