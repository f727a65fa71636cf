"""Standard normals by Box–Muller in Triton: the bits of `kernels.normal`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from aimc_sim.kernels import read_noise
from aimc_sim.kernels.triton._launch import of_counters
from aimc_sim.kernels.triton.elementary import log_uniform, sincos_turn
from aimc_sim.kernels.triton.philox import load_counter, load_word, philox_words

BLOCK = 128
TILE_UNIT = tl.constexpr(1 << read_noise.TILE_SHIFT)


@triton.jit
def _pair(u: tl.tensor, v: tl.tensor) -> tl.tensor:
    r = tl.sqrt_rn(-2.0 * log_uniform(u))
    s, c = sincos_turn(v)
    return r * c, r * s


@triton.jit
def four_normals(
    c0: tl.tensor, c1: tl.tensor, c2: tl.tensor, c3: tl.tensor, k0: tl.tensor, k1: tl.tensor
) -> tl.tensor:
    """The normals of counters c0 (n,), lane by lane: (n, 4), all four of a counter in one thread."""
    w0, w1, w2, w3 = philox_words(c0, c1, c2, c3, k0, k1)
    z0, z1 = _pair(w0, w1)
    z2, z3 = _pair(w2, w3)
    return tl.reshape(tl.join(tl.join(z0, z2), tl.join(z1, z3)), [c0.shape[0], 4])


@triton.jit
def product_normals(
    event: tl.tensor, tile: tl.tensor, start: tl.tensor, site: tl.tensor, k0: tl.tensor, k1: tl.tensor,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """z (TOKENS, COLUMNS) of row tile ``tile``, columns from start on: `kernels.read_noise.product_normals`.

    event (TOKENS,) int64: row ids; start and COLUMNS: multiples of 64; site: counter word 3.
    """
    low, high = (event & 0xFFFFFFFF).to(tl.uint32), ((event >> 32) & 0xFFFFFFFF).to(tl.uint32)
    group = tile * TILE_UNIT + (start >> 2) + tl.arange(0, COLUMNS // 4)
    zero = low[:, None] ^ low[:, None]
    c0 = zero + group.to(tl.uint32, bitcast=True)[None, :]
    w0, w1, w2, w3 = philox_words(c0, low[:, None], high[:, None], site, k0, k1)
    z0, z1 = _pair(w0, w1)
    z2, z3 = _pair(w2, w3)
    by_group = tl.reshape(tl.join(tl.join(z0, z2), tl.join(z1, z3)), [TOKENS, COLUMNS // 64, 16, 4])
    return tl.reshape(tl.permute(by_group, (0, 1, 3, 2)), [TOKENS, COLUMNS])


@triton.jit
def cell_rows(start: tl.tensor, GROUPS: tl.constexpr) -> tl.tensor:
    """Counter words 0 (GROUPS,) of the matrix rows from start on, a multiple of 64, and those rows (GROUPS, 4).

    Row r sits in group (r >> 6) << 4 | (r & 15), lane (r >> 4) & 3 (aimc_sim.randomness).
    """
    group = (start >> 2) + tl.arange(0, GROUPS)
    lane = tl.arange(0, 4)
    row = (((group >> 4) << 6) | (group & 15))[:, None] + (lane << 4)[None, :]
    return group.to(tl.uint32, bitcast=True), row


@triton.jit
def normals_kernel(
    counter: tl.tensor, key: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr
) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    line = at.to(tl.int64) * 4
    c0, c1, c2, c3 = load_counter(counter + line, inside)
    z = four_normals(c0, c1, c2, c3, load_word(key), load_word(key + 1))
    tl.store(out + line[:, None] + tl.arange(0, 4)[None, :], z, mask=inside[:, None])


def normals(counter: torch.Tensor, key: npt.NDArray[np.uint32]) -> torch.Tensor:
    """Return the standard normals (n, 4) float32 of counters (n, 4) int32 that hold uint32 bits, under the key (2,)
    uint32.

    Raises ValueError for other shapes or dtypes.
    """
    return of_counters(normals_kernel, counter, key, torch.float32, BLOCK)
