"""Low-rank adapters beside layers: scale·B(A·x), digital and in float32, added to whatever a layer gives.

A layer keeps its name and its class; the adapter is a submodule of it, ``<layer>.adapter``, and a hook adds it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from aimc_sim.torch_bridge.half import HalfLinear, HalfOutputs


class LowRank(nn.Module):
    """x (…, K) → scale·B(A·x) (…, N) float32. down: A (r, K); up: B (N, r), or some outputs of it."""

    def __init__(self, down: HalfLinear, up: HalfLinear | HalfOutputs, scale: float) -> None:
        super().__init__()
        self.down, self.up, self.scale = down, up, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.up(self.down(x.to(torch.float32)) * self.scale)
        return found

    def outputs(self, first: int, last: int) -> LowRank:
        """Return the adapter of outputs first … last-1, with the bits that they have in the whole."""
        assert isinstance(self.up, HalfLinear)
        return LowRank(self.down, self.up.outputs(first, last), self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


def attach(layer: nn.Module, adapter: LowRank) -> None:
    """Let the layer, of K inputs and N outputs, give its own output plus the adapter's from now on."""
    layer.adapter = adapter
    layer.register_forward_hook(_add)


def adapter_of(layer: nn.Module) -> LowRank | None:
    """Return the adapter that was attached to a layer; None where there is none."""
    found = getattr(layer, "adapter", None)
    return found if isinstance(found, LowRank) else None


def _add(layer: Any, args: tuple[Any, ...], y: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = y + layer.adapter(args[0])
    return found.to(y.dtype)
