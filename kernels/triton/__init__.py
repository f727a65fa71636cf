"""Triton kernels: the same bits as the NumPy references, on a GPU.

Importing this package imports neither triton nor torch. `available` says whether the kernels run here; the launchers
take torch tensors of one device. On CPU tensors they run only in Triton's interpreter (``TRITON_INTERPRET=1`` before
triton is imported), which is how they are tested without a GPU.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from aimc_sim.lazy import lazy_names

if TYPE_CHECKING:
    from aimc_sim.kernels.triton.conductance import EffectiveWeights as EffectiveWeights
    from aimc_sim.kernels.triton.conductance import effective_weights as effective_weights
    from aimc_sim.kernels.triton.converters import dac as dac
    from aimc_sim.kernels.triton.converters import to_grid as to_grid
    from aimc_sim.kernels.triton.normal import normals as normals
    from aimc_sim.kernels.triton.philox import philox4x32 as philox4x32
    from aimc_sim.kernels.triton.tile_product import DeviceTiles as DeviceTiles
    from aimc_sim.kernels.triton.tile_product import tile_matmul as tile_matmul
    from aimc_sim.kernels.triton.training import noisy_weights as noisy_weights

__getattr__, __dir__, _ = lazy_names(__name__)


def available(device: str = "cuda") -> bool:
    """Return whether the kernels run on this kind of device:
    ``cuda`` with a GPU, ``cpu`` in Triton's interpreter alone.
    """
    if find_spec("triton") is None or find_spec("torch") is None:
        return False
    if device == "cpu":
        return os.environ.get("TRITON_INTERPRET", "0").lower() in {"1", "on", "true", "yes", "y"}
    if device != "cuda":
        return False
    import torch

    return torch.cuda.is_available()
