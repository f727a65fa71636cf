"""What several test files share; `tests/conftest.py` makes it importable as ``helpers``."""

from __future__ import annotations

import numpy as np

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of


def gaussian(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Draw a matrix of standard normals, float32, the same on every machine."""
    counter = np.zeros((-(-shape[0] * shape[1] // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).ravel()[: shape[0] * shape[1]].reshape(shape)
