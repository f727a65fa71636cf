"""Layers that keep weights as the file stores them, half precision above all, and compute in float32.

A widened copy would triple what a bfloat16 model takes in memory. Here a product widens some outputs at a time, few
enough to stay in cache, so that it also reads half as much as a float32 layer does. Every output is the float32 product
of the widened weights, as in `torch.nn.functional.linear`; only the order of its sum may differ from that in one piece.

Weights are buffers, not parameters: a model's ``dtype`` is that of its first parameter, and it computes in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from aimc_sim.kernels.parallel import run_blocks

BLOCK_WEIGHTS = 1 << 20  # widened at once by a thread: 4 MB
# at most, so that some outputs of a matrix of low rank cost little more than their own
BLOCK_OUTPUTS = 1 << 12
COLUMN_UNIT = 64


class HalfLinear(nn.Module):
    """This layer computes y = x·W + b with W (N, K), or (K, N) where ``transposed``, of any float dtype; x, b and y
    float32.

    Its outputs can be computed piece by piece with the same bits (`outputs`), which a float32 head needs as well.
    ``bias`` is an empty parameter of the meta device until it is filled, as in the skeleton of a model.
    """

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, *, transposed: bool, has_bias: bool) -> None:
        super().__init__()
        self.transposed = transposed
        self.in_features, self.out_features = weight.shape if transposed else weight.shape[::-1]
        self.register_buffer("weight", weight)
        empty = torch.empty(self.out_features, device="meta") if has_bias else None
        self.bias = None if empty is None else nn.Parameter(empty, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.t() if self.transposed else self.weight
        differentiated = torch.is_grad_enabled() and x.requires_grad
        if differentiated or x.device.type != "cpu" or x.dtype != torch.float32:
            return functional.linear(x, weight.to(x.dtype), self.bias)
        y = torch.from_numpy(_product(x.detach().reshape(-1, self.in_features), weight.detach()))
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], self.out_features)

    def outputs(self, first: int, last: int) -> HalfOutputs:
        """Return a layer of outputs first … last-1."""
        return HalfOutputs(self, first, last)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, dtype={self.weight.dtype}"


class HalfOutputs(nn.Module):
    """This layer gives outputs first … last-1 of a `HalfLinear` on the CPU, bit for bit:
    by the blocks that the whole layer has.
    """

    def __init__(self, whole: HalfLinear, first: int, last: int) -> None:
        super().__init__()
        self._whole = (whole,)  # a tuple, so that its weight is no buffer of this layer
        self.first, self.last = first, last
        unit, cols = _block(whole.in_features), whole.out_features
        start, stop = first // unit * unit, min(-(-last // unit) * unit, cols)
        # A block alone would be one product on all threads, with other last bits than in a row of blocks.
        start = max(0, start - unit) if stop - start <= unit else start
        self._start, self._stop = start, min(stop + unit, cols) if stop - start <= unit else stop

    @property
    def bias(self) -> torch.Tensor | None:
        """Return the bias of these outputs."""
        whole = self._whole[0].bias
        return None if whole is None else whole[self.first : self.last]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = self._whole[0]
        weight = whole.weight.t() if whole.transposed else whole.weight
        y = torch.from_numpy(
            _product(x.detach().reshape(-1, whole.in_features), weight[self._start : self._stop])
        )[:, self.first - self._start : self.last - self._start]
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(*x.shape[:-1], self.last - self.first)


def _block(rows: int) -> int:
    """Return the outputs that one thread computes at a time."""
    return max(COLUMN_UNIT, min(BLOCK_OUTPUTS, BLOCK_WEIGHTS // rows // COLUMN_UNIT * COLUMN_UNIT))


def _product(x: torch.Tensor, weight: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Compute x (B, K) float32 times weight (N, K) of half precision → (B, N). Blocks do not depend on the threads."""
    cols, rows = weight.shape
    out = np.empty((x.shape[0], cols), np.float32)

    def part(first: int, last: int) -> None:
        # Threads have an inference mode of their own, and only a tensor made in theirs can be written.
        into = torch.from_numpy(out)[:, first:last]
        torch.mm(x, weight[first:last].float().t(), out=into)

    run_blocks(part, cols, _block(rows))
    return out


class HalfEmbedding(nn.Module):
    """This embedding has rows (V, H), float16 or bfloat16, are widened when they are looked up; float32 out.

    like: the layer that it replaces; what that does after the lookup (Gemma scales) is done in float32.
    """

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, like: nn.Embedding) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = weight.shape
        self.register_buffer("weight", weight)
        like.padding_idx = None  # of training only, and the looked-up rows are numbered afresh
        self._like = (like,)  # a tuple, so that its empty weight is no parameter of the model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows = functional.embedding(ids.reshape(-1), self.weight).float()
        places = torch.arange(ids.numel(), device=ids.device).reshape(ids.shape)
        found: torch.Tensor = torch.func.functional_call(self._like[0], {"weight": rows}, (places,))
        return found

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, dtype={self.weight.dtype}"
