"""A kernel that shows the elementary functions, without roots and divisions, which hold fused operations by design."""

from __future__ import annotations

import triton
import triton.language as tl

from aimc_sim.kernels.triton import elementary

FUNCTIONS = ("exp", "log", "rint", "log_uniform", "sin", "cos")


@triton.jit
def polynomials(x: tl.tensor, word: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """out (6, size): exp x, log |x|, rint x, and log_uniform, sin, cos of the words; |x| a normal number."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    value = tl.load(x + at, mask=inside, other=1.0)
    bits = tl.load(word + at, mask=inside, other=0).to(tl.uint32, bitcast=True)
    s, c = elementary.sincos_turn(bits)
    tl.store(out + at, elementary.exp(value), mask=inside)
    tl.store(out + size + at, elementary.log(tl.abs(value)), mask=inside)
    tl.store(out + 2 * size + at, elementary.rint(value), mask=inside)
    tl.store(out + 3 * size + at, elementary.log_uniform(bits), mask=inside)
    tl.store(out + 4 * size + at, s, mask=inside)
    tl.store(out + 5 * size + at, c, mask=inside)
