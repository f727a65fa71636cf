"""Training noise in Triton: weights with fresh normal noise in units of their column's largest, forward only.

Keys are those of cells with stream TRAINING: counter word 1 the column, word 2 the event (32 bits), row blocks and
lanes as in `aimc_sim.randomness`. A gradient passes through unchanged, so nothing but the key has to be kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from aimc_sim.kernels.triton._launch import OPTIONS, require, row_bounds, words
from aimc_sim.kernels.triton.conductance import block_groups, column_peak
from aimc_sim.kernels.triton.normal import cell_rows, four_normals
from aimc_sim.kernels.triton.philox import load_word


@triton.jit
def noisy_kernel(
    w: tl.tensor, bounds: tl.tensor, site: tl.tensor, out: tl.tensor, rows: tl.tensor, first: tl.tensor,
    gamma: tl.tensor, GROUPS: tl.constexpr,
) -> None:  # fmt: skip
    j, tile = tl.program_id(0), tl.program_id(1)
    start, stop = tl.load(bounds + tile).to(tl.int32), tl.load(bounds + tile + 1).to(tl.int32)
    line = j.to(tl.int64) * rows
    column = (first + j).to(tl.uint32, bitcast=True)
    sigma = gamma * column_peak(w + line, start, stop, 4 * GROUPS)
    k0, k1, event, word3 = load_word(site), load_word(site + 1), load_word(site + 2), load_word(site + 3)
    for block in range((start >> 6) << 6, stop, 4 * GROUPS):
        group, row = cell_rows(block, GROUPS)
        inside = (row >= start) & (row < stop)
        z = four_normals(group, column, event, word3, k0, k1)
        weight = tl.load(w + line + row, mask=inside, other=0.0)
        tl.store(out + line + row, weight + sigma * z, mask=inside)


def noisy_weights(
    w: torch.Tensor,
    bounds: npt.NDArray[np.int64],
    gamma: float,
    event: int,
    site: int,
    key: npt.NDArray[np.uint32],
    *,
    first: int = 0,
) -> torch.Tensor:
    """Return w + (γ·max|column|)·z, (N, K) float32, the maximum over the column's rows in each row tile.

    bounds: (tiles + 1,) ends of the row tiles, [0, K] for whole columns; event: 32 bits that name the draw; site:
    counter word 3; key: (2,) uint32; first: index of w's first column in its matrix.
    Raises ValueError for other shapes, dtypes or bounds.
    """
    w = require(w, "w", torch.float32, None, None)
    columns, rows = w.shape
    ends = row_bounds(bounds, rows, w.device)
    if not 0 <= event < 1 << 32 or not 0 <= site < 1 << 32:
        raise ValueError(f"event and site are words of 32 bits, not {event} and {site}")
    out = torch.empty_like(w)
    if columns:
        noisy_kernel[(columns, ends.numel() - 1)](
            w, ends, words([*key, event, site], w.device), out, rows, first, float(np.float32(gamma)),
            block_groups(bounds), **OPTIONS)  # fmt: skip
    return out
