"""Device laws in Triton: `kernels.laws.law_reference` over tables that lie in global memory."""

from __future__ import annotations

import triton
import triton.language as tl

from aimc_sim.kernels import laws
from aimc_sim.kernels.triton.elementary import clamp, exp

UPPER, BASIS, LOW, HIGH = (tl.constexpr(c) for c in (laws.UPPER, laws.BASIS, laws.LOW, laws.HIGH))
FIRST, WIDTH = tl.constexpr(laws.FIRST), tl.constexpr(laws.WIDTH)
LINEAR, EXP_LOG = tl.constexpr(float(laws.LINEAR)), tl.constexpr(float(laws.EXP_LOG))
X_FLOOR = tl.constexpr(float(laws.X_FLOOR))


@triton.jit
def evaluate_law(
    table: tl.tensor, pieces: tl.tensor, x: tl.tensor, ln_x: tl.tensor, HAS_EXP: tl.constexpr
) -> tl.tensor:
    """The law of ``pieces`` rows at ``table`` at x; ln_x holds ln max(x, 1e-7) where a piece needs it.

    HAS_EXP: whether any piece is an exponential.
    """
    value = tl.zeros_like(x)
    for p in range(0, pieces):
        row = table + p * WIDTH
        basis = tl.load(row + BASIS)
        above = tl.load(row - WIDTH + UPPER, mask=p > 0, other=float("-inf"))
        v = tl.where(basis == LINEAR, x, ln_x)
        y = tl.load(row + FIRST + 5) * v + tl.load(row + FIRST + 4)
        y = y * v + tl.load(row + FIRST + 3)
        y = y * v + tl.load(row + FIRST + 2)
        y = y * v + tl.load(row + FIRST + 1)
        y = y * v + tl.load(row + FIRST)
        if HAS_EXP:
            y = tl.where(basis == EXP_LOG, exp(y), y)
        y = clamp(y, tl.load(row + LOW), tl.load(row + HIGH))
        value = tl.where(x > above, y, value)
    return value
