"""int8 × int8 → int32, exact, on the fastest engine that proves itself.

oneDNN's product (``torch._int_mm``) is used only after a known-answer test with extreme and random operands: on
processors without VNNI it adds pairs in saturating 16-bit arithmetic, silently. Otherwise float32 in chunks of at
most 1024 rows, in which every sum is below 2²⁴ and therefore exact. Either way the integers are the same.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from aimc_sim.aliases import I8, I32
from aimc_sim.kernels.philox import philox4x32

EXACT_ROWS = 1024  # 1024·127·128 < 2^24


def int8_product(codes: I8, weights: I8, out: I32 | None = None) -> I32:
    """codes (B, K) int8 times weights (N, K) int8, both C-ordered along K → (B, N) int32, exact.

    Exact for K ≤ 32,768 with codes in ±127. ``out`` receives the result if given.
    """
    if out is None:
        out = np.empty((codes.shape[0], weights.shape[0]), np.int32)
    # one row: oneDNN mistakes the layout of the transposed operand
    if codes.shape[1] > 1 and engine() == "onednn":
        _onednn(codes, weights, out)
    else:
        _float32(codes, weights, out)
    return out


@lru_cache(maxsize=1)
def engine() -> str:
    """Return ``onednn`` where torch's int8 product passes the known-answer test, else ``float32``."""
    try:
        return "onednn" if _passes(_onednn) else "float32"
    except (ImportError, RuntimeError, AttributeError):
        return "float32"


def _onednn(codes: I8, weights: I8, out: I32) -> None:
    import torch

    torch._int_mm(torch.from_numpy(codes), torch.from_numpy(weights).t(), out=torch.from_numpy(out))


def _float32(codes: I8, weights: I8, out: I32) -> None:
    import torch

    k = codes.shape[1]
    left, right, result = torch.from_numpy(codes), torch.from_numpy(weights), torch.from_numpy(out)
    for start in range(0, k, EXACT_ROWS):
        rows = slice(start, min(start + EXACT_ROWS, k))
        part = torch.mm(left[:, rows].float(), right[:, rows].float().t()).to(torch.int32)
        if start == 0:
            result.copy_(part)
        else:
            result.add_(part)


def _passes(product: object) -> bool:
    """Return whether a product gives the exact integers on extreme operands, random ones, and awkward shapes."""
    assert callable(product)
    for b, k, n in ((1, 64, 16), (5, 257, 33), (32, 1024, 64), (3, 4099, 17)):
        size = (b + n) * k
        counter = np.zeros(((size + 15) // 16, 4), np.uint32)
        counter[:, 0] = np.arange(counter.shape[0])
        noise = philox4x32(counter, np.array([b, k], np.uint32)).view(np.int8).ravel()[:size]
        codes = np.maximum(noise[: b * k].reshape(b, k), np.int8(-127))
        weights = np.ascontiguousarray(noise[b * k :].reshape(n, k))
        pairs = [(codes, weights)]
        for q, w in ((127, 127), (127, -128), (-127, 127), (-127, -128)):
            pairs.append((np.full((b, k), q, np.int8), np.full((n, k), w, np.int8)))
        for left, right in pairs:
            out = np.empty((b, n), np.int32)
            product(left, right, out)
            if not np.array_equal(out, left.astype(np.int64) @ right.astype(np.int64).T):
                return False
    return True
