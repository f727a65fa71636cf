"""A product through integer tiles in Triton: DAC, int8 products, read noise, ADC in registers, digital sum.

One program makes one block of outputs. It goes through the row tiles in order, so sums and codes are the integers of
`aimc_sim.execute.tile_matmul_reference`, and the float additions come in its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from aimc_sim.kernels.panels import MAX_TILE_ROWS
from aimc_sim.kernels.triton._launch import OPTIONS, blocks, require, row_bounds, same_device, words
from aimc_sim.kernels.triton.converters import code_of, dac
from aimc_sim.kernels.triton.normal import product_normals
from aimc_sim.kernels.triton.philox import load_word

MAX_ADC_CODE = 1 << 22
ALIGNMENT = 16  # bytes of one load
FEW_TOKENS = 16


class ReadNoise(Protocol):
    """Read noise of a matrix as `aimc_sim.kernels.tile_engine.Noise` has it, its steps row by row."""

    @property
    def steps(self) -> npt.NDArray[np.int8]:
        """Return the steps (N·K,), flat like the planes."""

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """Return (tiles, N): variance = scale·Σ steps·q²."""

    @property
    def key(self) -> npt.NDArray[np.uint32]:
        """Return the key (2,)."""

    @property
    def site(self) -> np.uint32:
        """Return counter word 3."""


@dataclass(frozen=True)
class DeviceTiles:
    """Device tiles hold the integer path of a tiled matrix K × N as tensors of one device; fields as in
    `tiles.matrix.TiledMatrix`.

    Make it with `of`, which checks it once, so that no product has to.
    """

    bounds: torch.Tensor  # (tiles + 1,) int64
    high: torch.Tensor  # (N·K,) int8
    low: torch.Tensor  # (N·K,) int8
    inverse: torch.Tensor  # (tiles, N) float32
    scale: torch.Tensor  # (tiles, N) float32
    dac_max_code: int
    adc_max_code: int  # 0: no ADC
    input_range: torch.Tensor | None  # (tiles,) float32 static β; None: max |x| of each token
    range_per_tile: bool
    rows: int
    aligned: bool  # every row tile begins and ends at a multiple of 16
    steps: torch.Tensor | None  # (N·K,) int8; None: no read noise
    variance_scale: torch.Tensor | None  # (tiles, N) float32
    site: torch.Tensor | None  # (3,) key and counter word 3

    @classmethod
    def of(
        cls,
        bounds: npt.NDArray[np.int64],
        high: npt.NDArray[np.int8] | torch.Tensor,
        low: npt.NDArray[np.int8] | torch.Tensor,
        inverse: npt.NDArray[np.float32] | torch.Tensor,
        scale: npt.NDArray[np.float32] | torch.Tensor,
        *,
        dac_max_code: int,
        adc_max_code: int = 0,
        input_range: npt.NDArray[np.float32] | torch.Tensor | None = None,
        range_per_tile: bool = True,
        noise: ReadNoise | None = None,
        device: str | torch.device = "cuda",
    ) -> DeviceTiles:
        """Arrays or tensors, copied to ``device`` where they are not there yet; bounds on the host.

        Raises ValueError for shapes and dtypes that do not fit each other, and for tiles of more than 32,768 rows.
        """
        on, rows, tiles = torch.device(device), int(bounds[-1]), len(bounds) - 1
        ends = row_bounds(bounds, rows, on)
        if int(np.diff(bounds).max()) > MAX_TILE_ROWS:
            raise ValueError(f"a row tile has at most {MAX_TILE_ROWS} rows, not {int(np.diff(bounds).max())}")
        if not 0 <= adc_max_code < MAX_ADC_CODE:
            raise ValueError(f"the largest code of an ADC is {MAX_ADC_CODE - 1} or less, not {adc_max_code}")
        columns = int(scale.shape[-1])
        noise_fields: tuple[torch.Tensor | None, ...] = (None, None, None)
        if noise is not None:
            noise_fields = (
                require(torch.as_tensor(noise.steps, device=on), "steps", torch.int8, columns * rows),
                require(torch.as_tensor(noise.scale, device=on), "noise", torch.float32, tiles, columns),
                words([*noise.key, noise.site], on),
            )
        return cls(
            ends,
            require(torch.as_tensor(high, device=on), "high", torch.int8, columns * rows),
            require(torch.as_tensor(low, device=on), "low", torch.int8, columns * rows),
            require(torch.as_tensor(inverse, device=on), "inverse", torch.float32, tiles, columns),
            require(torch.as_tensor(scale, device=on), "scale", torch.float32, tiles, columns),
            dac_max_code,
            adc_max_code,
            None
            if input_range is None
            else require(torch.as_tensor(input_range, device=on), "input_range", torch.float32, tiles),
            range_per_tile,
            rows,
            not (np.asarray(bounds) % ALIGNMENT).any(),
            *noise_fields,
        )


@triton.jit
def product_kernel(
    codes: tl.tensor, sums: tl.tensor, beta: tl.tensor, bounds: tl.tensor, high: tl.tensor, low: tl.tensor,
    inverse: tl.tensor, scale: tl.tensor, steps: tl.tensor, variance_scale: tl.tensor, row_ids: tl.tensor,
    site: tl.tensor, out: tl.tensor, tokens: tl.tensor, columns: tl.tensor, tiles: tl.tensor,
    max_code: tl.tensor, ADC: tl.constexpr, NOISE: tl.constexpr, ALIGNED: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
) -> None:  # fmt: skip
    b = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    j = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    b_inside, j_inside = b < tokens, j < columns
    y = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if NOISE:
        event = tl.load(row_ids + b, mask=b_inside, other=0)
        k0, k1, word3 = load_word(site), load_word(site + 1), load_word(site + 2)
    for tile in range(0, tiles):
        start, stop = tl.load(bounds + tile), tl.load(bounds + tile + 1)
        size = (stop - start).to(tl.int32)
        if ALIGNED:
            start, size = tl.multiple_of(start, 16), tl.multiple_of(size, 16)
        q_at = codes + tokens * start + b.to(tl.int64)[:, None] * size
        w_at = columns * start + j.to(tl.int64)[None, :] * size
        h = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
        lo = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
        if NOISE:
            v_high = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
            v_low = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
        for k in range(0, size, BLOCK_K):
            r = k + tl.arange(0, BLOCK_K)
            r_inside = r < size
            q = tl.load(q_at + r[None, :], mask=b_inside[:, None] & r_inside[None, :], other=0)
            w_inside = r_inside[:, None] & j_inside[None, :]
            h = tl.dot(q, tl.load(high + w_at + r[:, None], mask=w_inside, other=0), h, out_dtype=tl.int32)
            lo = tl.dot(q, tl.load(low + w_at + r[:, None], mask=w_inside, other=0), lo, out_dtype=tl.int32)
            if NOISE:
                square = q.to(tl.int16) * q.to(tl.int16)  # 128·high + low
                s = tl.load(steps + w_at + r[:, None], mask=w_inside, other=0)
                v_high = tl.dot((square >> 7).to(tl.int8), s, v_high, out_dtype=tl.int32)
                v_low = tl.dot((square & 127).to(tl.int8), s, v_low, out_dtype=tl.int32)
        shift = 128 * tl.load(sums + b.to(tl.int64) * tiles + tile, mask=b_inside, other=0)
        gain = tl.load(beta + b.to(tl.int64) * tiles + tile, mask=b_inside, other=0.0)
        at = tile * columns + j.to(tl.int64)
        value = h.to(tl.float32) * 256.0 + (lo + shift[:, None]).to(tl.float32)
        signal = value * tl.load(inverse + at, mask=j_inside, other=0.0)[None, :]
        if NOISE:
            variance = v_high.to(tl.float32) * 128.0 + v_low.to(tl.float32)
            spread = tl.load(variance_scale + at, mask=j_inside, other=0.0)[None, :]
            z = product_normals(event, tile, tl.program_id(1) * BLOCK_N, word3, k0, k1, BLOCK_M, BLOCK_N)
            signal += tl.sqrt_rn(variance * spread) * z
        if ADC:
            signal = code_of(signal, max_code)
        y += (signal * tl.load(scale + at, mask=j_inside, other=0.0)[None, :]) * gain[:, None]
    tl.store(
        out + b.to(tl.int64)[:, None] * columns + j[None, :], y, mask=b_inside[:, None] & j_inside[None, :]
    )


def blocking(tokens: int, tile_rows: int, noise: bool) -> dict[str, int]:
    """Return block sizes, warps and stages: narrow blocks for few tokens, where reading the weights is what takes time.

    With read noise, columns come in multiples of 64, as its draws do, and half as many tokens at once.
    """
    block_k = min(128 if tokens <= FEW_TOKENS else 64, max(32, triton.next_power_of_2(tile_rows)))
    if noise:
        block_m = 16 if tokens <= FEW_TOKENS else 64
        return {"BLOCK_M": block_m, "BLOCK_N": 64, "BLOCK_K": block_k, "num_warps": 8, "num_stages": 3}
    if tokens <= FEW_TOKENS:
        return {"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": block_k, "num_warps": 4, "num_stages": 4}
    if tokens <= 64:
        return {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": block_k, "num_warps": 4, "num_stages": 4}
    return {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": block_k, "num_warps": 8, "num_stages": 3}


def tile_matmul(x: torch.Tensor, tiles: DeviceTiles, row_ids: torch.Tensor | None = None) -> torch.Tensor:
    """x (B, K) float32 → y (B, N) float32 through DAC, tiles and ADC: the bits of `aimc_sim.execute.tile_matmul`.

    row_ids: (B,) int64, what each row is called; needed with read noise only.
    Raises ValueError for another shape or dtype, or for row ids that are missing.
    """
    x = require(x, "x", torch.float32, None, tiles.rows)
    on = same_device(x, tiles.bounds)
    tokens, (count, columns) = x.shape[0], tiles.scale.shape
    ids = None
    if tiles.steps is not None:
        if row_ids is None:
            raise ValueError("read noise is drawn afresh for every row, by its id: give row_ids")
        ids = require(row_ids, "row_ids", torch.int64, tokens)
        same_device(x, ids)
    out = torch.empty((tokens, columns), dtype=torch.float32, device=on)
    if not tokens or not columns:
        return out
    codes, beta, sums = dac(
        x, tiles.bounds, tiles.dac_max_code, tiles.input_range, per_tile=tiles.range_per_tile
    )
    sizes = blocking(tokens, blocks(tiles.rows, count), ids is not None)
    grid = (blocks(tokens, sizes["BLOCK_M"]), blocks(columns, sizes["BLOCK_N"]))
    product_kernel[grid](
        codes, sums, beta, tiles.bounds, tiles.high, tiles.low, tiles.inverse, tiles.scale, tiles.steps,
        tiles.variance_scale, ids, tiles.site, out, tokens, columns, count, float(tiles.adc_max_code),
        tiles.adc_max_code > 0, ids is not None, tiles.aligned, **sizes, **OPTIONS)  # fmt: skip
    return out
