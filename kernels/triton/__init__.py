"""Triton kernels: the same bits as the NumPy references, on a GPU.

Importing this package imports neither triton nor torch. `available` says whether the kernels run here; the launchers
take torch tensors of one device. On CPU tensors they run only in Triton's interpreter (``TRITON_INTERPRET=1`` before
triton is imported), which is how they are tested without a GPU.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimc_sim.kernels.triton.conductance import EffectiveWeights, effective_weights
    from aimc_sim.kernels.triton.converters import dac, to_grid
    from aimc_sim.kernels.triton.normal import normals
    from aimc_sim.kernels.triton.philox import philox4x32
    from aimc_sim.kernels.triton.tile_product import DeviceTiles, tile_matmul
    from aimc_sim.kernels.triton.training import noisy_weights

__all__ = [
    "DeviceTiles",
    "EffectiveWeights",
    "available",
    "dac",
    "effective_weights",
    "noisy_weights",
    "normals",
    "philox4x32",
    "tile_matmul",
    "to_grid",
]

_HOME = {
    "DeviceTiles": "tile_product",
    "EffectiveWeights": "conductance",
    "dac": "converters",
    "effective_weights": "conductance",
    "noisy_weights": "training",
    "normals": "normal",
    "philox4x32": "philox",
    "tile_matmul": "tile_product",
    "to_grid": "converters",
}


def available(device: str = "cuda") -> bool:
    """Whether the kernels run on this kind of device: ``cuda`` with a GPU, ``cpu`` in Triton's interpreter alone."""
    if find_spec("triton") is None or find_spec("torch") is None:
        return False
    if device == "cpu":
        return os.environ.get("TRITON_INTERPRET", "0").lower() in {"1", "on", "true", "yes", "y"}
    if device != "cuda":
        return False
    import torch

    return torch.cuda.is_available()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
