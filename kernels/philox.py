"""Philox4x32-10, the counter-based generator of Random123 (Salmon et al., SC 2011): ten rounds, four words.

``philox4x32`` is the readable NumPy reference; ``philox_words`` is the same arithmetic for compiled kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels._jit import njit

__all__ = ["philox4x32"]

M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # Weyl increments of the key
ROUNDS = 10

_M0, _M1 = np.uint64(M0), np.uint64(M1)
_W0, _W1 = np.uint32(W0), np.uint32(W1)
_SHIFT = np.uint64(32)


def philox4x32(counter: npt.NDArray[np.uint32], key: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Compute ten rounds of Philox4x32: counter (n, 4) uint32, key (2,) uint32 → words (n, 4) uint32.

    >>> import numpy as np
    >>> from aimc_sim.kernels.philox import philox4x32
    >>> philox4x32(np.zeros((1, 4), np.uint32), np.zeros(2, np.uint32)).tolist()  # Random123's known answer
    [[1713891541, 3781805453, 3159862348, 2600524760]]
    """
    counter = np.ascontiguousarray(counter, dtype=np.uint32)
    key = np.asarray(key, dtype=np.uint32)
    if counter.ndim != 2 or counter.shape[1] != 4 or key.shape != (2,):
        raise ValueError(f"philox4x32 takes counter (n, 4) and key (2,), not {counter.shape} and {key.shape}")
    c0, c1, c2, c3 = (counter[:, lane].copy() for lane in range(4))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(ROUNDS):
        p0, p1 = _M0 * c0, _M1 * c2  # 64-bit products
        high0, low0 = (p0 >> _SHIFT).astype(np.uint32), p0.astype(np.uint32)
        high1, low1 = (p1 >> _SHIFT).astype(np.uint32), p1.astype(np.uint32)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + W0) & 0xFFFFFFFF, (k1 + W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1)


@njit(inline="always")
def philox_words(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """The four words of one counter; every argument and result uint32."""
    for _ in range(10):
        p0 = _M0 * np.uint64(c0)
        p1 = _M1 * np.uint64(c2)
        n0 = np.uint32(p1 >> _SHIFT) ^ c1 ^ k0
        n2 = np.uint32(p0 >> _SHIFT) ^ c3 ^ k1
        c1 = np.uint32(p1)
        c3 = np.uint32(p0)
        c0 = n0
        c2 = n2
        k0 = np.uint32(k0 + _W0)
        k1 = np.uint32(k1 + _W1)
    return c0, c1, c2, c3
