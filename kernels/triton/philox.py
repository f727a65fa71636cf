"""Philox4x32-10 in Triton: the words of `kernels.philox`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from aimc_sim.kernels import philox as p
from aimc_sim.kernels.triton._launch import of_counters

M0, M1 = tl.constexpr(p.M0), tl.constexpr(p.M1)
W0, W1 = tl.constexpr(p.W0), tl.constexpr(p.W1)
ROUNDS = tl.constexpr(p.ROUNDS)
BLOCK = 256


@triton.jit
def load_word(pointer: tl.tensor) -> tl.tensor:
    """A uint32 word that the launcher sent as int32."""
    return tl.load(pointer).to(tl.uint32, bitcast=True)


@triton.jit
def philox_words(
    c0: tl.tensor, c1: tl.tensor, c2: tl.tensor, c3: tl.tensor, k0: tl.tensor, k1: tl.tensor
) -> tl.tensor:
    """The four words of counters; everything uint32, c0 a block, the rest blocks or scalars."""
    zero = c0 ^ c0
    c1, c2, c3, k0, k1 = zero + c1, zero + c2, zero + c3, zero + k0, zero + k1
    for _ in tl.static_range(ROUNDS):
        p0 = c0.to(tl.uint64) * M0  # 64-bit products
        p1 = c2.to(tl.uint64) * M1
        c0 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c2 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c1 = p1.to(tl.uint32)
        c3 = p0.to(tl.uint32)
        k0 = k0 + W0
        k1 = k1 + W1
    return c0, c1, c2, c3


@triton.jit
def load_counter(line: tl.tensor, inside: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """The four uint32 words of the counters that start at ``line``, int32 in memory."""
    c0 = tl.load(line, mask=inside, other=0).to(tl.uint32, bitcast=True)
    c1 = tl.load(line + 1, mask=inside, other=0).to(tl.uint32, bitcast=True)
    c2 = tl.load(line + 2, mask=inside, other=0).to(tl.uint32, bitcast=True)
    c3 = tl.load(line + 3, mask=inside, other=0).to(tl.uint32, bitcast=True)
    return c0, c1, c2, c3


@triton.jit
def words_kernel(
    counter: tl.tensor, key: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr
) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    line = at.to(tl.int64) * 4
    c0, c1, c2, c3 = load_counter(counter + line, inside)
    w0, w1, w2, w3 = philox_words(c0, c1, c2, c3, load_word(key), load_word(key + 1))
    tl.store(out + line, w0.to(tl.int32, bitcast=True), mask=inside)
    tl.store(out + line + 1, w1.to(tl.int32, bitcast=True), mask=inside)
    tl.store(out + line + 2, w2.to(tl.int32, bitcast=True), mask=inside)
    tl.store(out + line + 3, w3.to(tl.int32, bitcast=True), mask=inside)


def philox4x32(counter: torch.Tensor, key: npt.NDArray[np.uint32]) -> torch.Tensor:
    """Return words (n, 4) of counters (n, 4) under the key (2,) uint32; counters and words are int32 that hold uint32
    bits.

    Raises ValueError for other shapes or dtypes.
    """
    return of_counters(words_kernel, counter, key, torch.int32, BLOCK)
