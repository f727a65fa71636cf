"""DAC and the 16-bit grid of effective weights in Triton: the bits of `kernels.converters`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from aimc_sim.kernels import converters, panels
from aimc_sim.kernels.triton._launch import OPTIONS, require, row_bounds, same_device
from aimc_sim.kernels.triton.conductance import column_peak
from aimc_sim.kernels.triton.elementary import clamp, rint

GRID = tl.constexpr(float(panels.GRID))
BLOCK = 512
MAX_CODE = 127  # codes are int8
MIN_RANGE = tl.constexpr(float(converters.MIN_RANGE))


class Codes(NamedTuple):
    """Codes are what the DAC gives: codes flat int8 (B·K,), tile t of token b at B·bounds[t] + b·K_t;
    β and Σq (B, tiles).
    """

    codes: torch.Tensor
    beta: torch.Tensor  # float32
    sums: torch.Tensor  # int32


@triton.jit
def over(max_code: tl.tensor, peak: tl.tensor) -> tl.tensor:
    """max_code / peak, 0 where peak is 0."""
    return tl.where(
        peak > 0.0, tl.div_rn(max_code + tl.zeros_like(peak), tl.where(peak > 0.0, peak, 1.0)), 0.0
    )


@triton.jit
def code_of(signal: tl.tensor, max_code: tl.tensor) -> tl.tensor:
    """The code of a signal in codes: clamped to ±max_code, which are integers, so that clamp and rint commute."""
    return rint(clamp(signal, -max_code, max_code))


@triton.jit
def dac_kernel(
    x: tl.tensor, bounds: tl.tensor, codes: tl.tensor, beta: tl.tensor, sums: tl.tensor, tokens: tl.tensor,
    tiles: tl.tensor, rows: tl.tensor, max_code: tl.tensor, DYNAMIC: tl.constexpr, PER_TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    b, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, stop = tl.load(bounds + tile).to(tl.int32), tl.load(bounds + tile + 1).to(tl.int32)
    line = x + b * rows
    first, last = start, stop
    if DYNAMIC:
        if not PER_TILE:
            first, last = start * 0, start * 0 + rows
        peak = column_peak(line, first, last, BLOCK)
        peak = tl.where(peak < float("inf"), peak, float("nan"))  # what has no range is no number
        tl.store(beta + b * tiles + tile, peak)
    else:
        peak = tl.load(beta + b * tiles + tile)
        largest = column_peak(line, first, last, BLOCK)
        # a range clips, but must not hide what is no number
        peak = tl.where(largest == largest, peak, float("nan"))
        tl.store(beta + b * tiles + tile, peak)
    scale = tl.where(peak > MIN_RANGE, over(max_code, peak), 0.0)
    out = codes + tokens * tl.load(bounds + tile) + b * (stop - start) - start
    total = tl.zeros([BLOCK], tl.int32)
    for block in range(start, stop, BLOCK):
        at = block + tl.arange(0, BLOCK)
        code = code_of(tl.load(line + at, mask=at < stop, other=0.0) * scale, max_code).to(tl.int32)
        total += code
        tl.store(out + at, code.to(tl.int8), mask=at < stop)
    tl.store(sums + b * tiles + tile, tl.sum(total, 0))


@triton.jit
def grid_kernel(
    effective: tl.tensor, bounds: tl.tensor, high: tl.tensor, low: tl.tensor, peak: tl.tensor, columns: tl.tensor,
    rows: tl.tensor, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    j, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, stop = tl.load(bounds + tile).to(tl.int32), tl.load(bounds + tile + 1).to(tl.int32)
    line = effective + j * rows
    largest = column_peak(line, start, stop, BLOCK)
    tl.store(peak + tile * columns + j, largest)
    scale = over(GRID, largest)
    shift = columns * tl.load(bounds + tile) + j * (stop - start) - start
    for block in range(start, stop, BLOCK):
        at = block + tl.arange(0, BLOCK)
        value = rint(tl.load(line + at, mask=at < stop, other=0.0) * scale).to(tl.int32)
        h = value >> 8
        tl.store(high + shift + at, h.to(tl.int8), mask=at < stop)
        tl.store(low + shift + at, (value - (h << 8) - 128).to(tl.int8), mask=at < stop)


def dac(
    x: torch.Tensor,
    bounds: torch.Tensor,
    max_code: int,
    input_range: torch.Tensor | None = None,
    *,
    per_tile: bool = True,
) -> Codes:
    """Codes -max_code … max_code of tokens x (B, K) float32 for row tiles that end at bounds (tiles + 1,) int64.

    input_range: static β (tiles,) float32; None takes max |x| of each token, per tile or over the whole input.
    Raises ValueError for other shapes, dtypes or max_code.
    """
    x, bounds = require(x, "x", torch.float32, None, None), require(bounds, "bounds", torch.int64, None)
    if not 1 <= max_code <= MAX_CODE:
        raise ValueError(f"the largest code of a DAC is 1 to {MAX_CODE}, not {max_code}")
    (tokens, rows), tiles, on = x.shape, bounds.numel() - 1, same_device(x, bounds, input_range)
    codes = torch.empty(tokens * rows, dtype=torch.int8, device=on)
    sums = torch.empty((tokens, tiles), dtype=torch.int32, device=on)
    if input_range is None:
        beta = torch.empty((tokens, tiles), dtype=torch.float32, device=on)
    else:
        beta = require(input_range, "input_range", torch.float32, tiles).expand(tokens, tiles).contiguous()
    if tokens:
        dac_kernel[(tokens, tiles)](
            x, bounds, codes, beta, sums, tokens, tiles, rows, float(max_code), input_range is None, per_tile, BLOCK,
            **OPTIONS)  # fmt: skip
    return Codes(codes, beta, sums)


def to_grid(
    effective: torch.Tensor, bounds: npt.NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the effective weights (N, K) float32 on the 16-bit grid of each column in each tile.

    Returns flat int8 planes high and low (N·K,), tile t at N·bounds[t] as (N, K_t), and the largest |weight|
    (tiles, N).
    """
    effective = require(effective, "effective", torch.float32, None, None)
    columns, rows = effective.shape
    ends = row_bounds(bounds, rows, effective.device)
    tiles = ends.numel() - 1
    high, low = (torch.empty(columns * rows, dtype=torch.int8, device=effective.device) for _ in range(2))
    peak = torch.empty((tiles, columns), dtype=torch.float32, device=effective.device)
    if columns:
        grid_kernel[(columns, tiles)](effective, ends, high, low, peak, columns, rows, BLOCK, **OPTIONS)
    return high, low, peak
