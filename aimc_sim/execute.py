"""One matrix product through the tiles of a programmed matrix: DAC, cells, ADC, digital sum over row tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.kernels import converters
from aimc_sim.kernels.int8_product import int8_product
from aimc_sim.kernels.parallel import num_threads, run_blocks

F32 = npt.NDArray[np.float32]
I8 = npt.NDArray[np.int8]
SCRATCH = 1 << 19  # products held at once, so that the sums are still in cache when the ADC reads them
TOKENS_PER_THREAD = 8


@dataclass(frozen=True)
class TiledMatrix:
    """A K × N matrix as its tiles hold it at one time. Row tile t covers inputs bounds[t] … bounds[t+1]-1.

    Exact integer path: ``high`` and ``low``, per row tile (N, K_t) int8, W = 256·high + low + 128.
    Float path (no DAC, more than 8 input bits, or weight_grid = float32): ``weights`` (N, K) float32.
    """

    bounds: npt.NDArray[np.int64]  # (tiles + 1,)
    inverse: F32  # (tiles, N) ADC codes (without an ADC: currents) per unit of the tile's sum
    scale: F32  # (tiles, N) output per code, per unit of input range β
    high: tuple[I8, ...] = ()
    low: tuple[I8, ...] = ()
    weights: F32 | None = None
    dac_levels: int = 0  # largest input code; 0: no DAC
    adc_levels: int = 0  # largest output code; 0: no ADC
    input_range: F32 | None = None  # (tiles,) static β; None: max |x| of each token
    range_per_tile: bool = True

    @property
    def rows(self) -> int:
        """K, the number of inputs."""
        return int(self.bounds[-1])

    @property
    def cols(self) -> int:
        """N, the number of outputs."""
        return int(self.scale.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that the product reads."""
        arrays = [*self.high, *self.low, self.inverse, self.scale]
        return sum(a.nbytes for a in arrays) + (0 if self.weights is None else self.weights.nbytes)


def tile_matmul(x: F32, tiles: TiledMatrix) -> F32:
    """x (B, K) float32 → y (B, N) float32, through DAC, tiles and ADC. Each row's result depends on that row alone.

    Raises BadInput for another shape.
    """
    if x.ndim != 2 or x.shape[1] != tiles.rows:
        raise BadInput("x", got=x.shape, why=f"this matrix takes (tokens, {tiles.rows})", do="reshape the input")
    x = np.ascontiguousarray(x, dtype=np.float32)
    if tiles.weights is not None:
        return _float_path(x, tiles)
    return _integer_path(x, tiles)


def codes_of(x: F32, tiles: TiledMatrix) -> tuple[I8, F32, npt.NDArray[np.int32]]:
    """The DAC: flat tile-major codes (B·K,), β (B, tiles) and Σq (B, tiles)."""
    tokens, count = x.shape[0], tiles.bounds.size - 1
    codes = np.empty(tokens * tiles.rows, np.int8)
    sums = np.empty((tokens, count), np.int32)
    if tiles.input_range is None:
        beta = np.empty((tokens, count), np.float32)
    else:
        beta = np.repeat(tiles.input_range[None, :], tokens, axis=0)

    def part(first: int, last: int) -> None:
        converters.dac(x, tiles.bounds, tiles.dac_levels, tiles.input_range is None, tiles.range_per_tile,
                       first, last, codes, beta, sums)  # fmt: skip

    run_blocks(part, tokens, _block(tokens))
    return codes, beta, sums


def _block(tokens: int) -> int:
    """Tokens a thread takes: few tokens are not worth a second thread."""
    return max(TOKENS_PER_THREAD, -(-tokens // num_threads()))


def _integer_path(x: F32, tiles: TiledMatrix) -> F32:
    tokens, bounds = x.shape[0], tiles.bounds
    codes, beta, sums = codes_of(x, tiles)
    out = np.zeros((tokens, tiles.cols), np.float32)
    width = min(tiles.cols, max(64, SCRATCH // max(tokens, 1)))
    high, low = np.empty((2, tokens * width), np.int32)
    for start in range(0, tiles.cols, width):
        stop = min(start + width, tiles.cols)
        y = out[:, start:stop]
        shape = (tokens, stop - start)
        h, lo = (plane[: shape[0] * shape[1]].reshape(shape) for plane in (high, low))
        for t in range(bounds.size - 1):
            q = codes[tokens * bounds[t] : tokens * bounds[t + 1]].reshape(tokens, -1)
            int8_product(q, tiles.high[t][start:stop], h)
            int8_product(q, tiles.low[t][start:stop], lo)
            inverse, scale = tiles.inverse[t, start:stop], tiles.scale[t, start:stop]
            sum_t, beta_t = sums[:, t], beta[:, t]

            def part(first: int, last: int) -> None:
                converters.adc_add(h, lo, sum_t, beta_t, inverse, scale, tiles.adc_levels, first, last, y)  # noqa: B023

            run_blocks(part, tokens, _block(tokens))
    return out


def _float_path(x: F32, tiles: TiledMatrix) -> F32:
    import torch

    assert tiles.weights is not None
    if not tiles.dac_levels:
        return torch.mm(torch.from_numpy(x), torch.from_numpy(tiles.weights).t()).numpy()
    out = np.zeros((x.shape[0], tiles.cols), np.float32)
    if tiles.input_range is None:
        beta = converters.token_range_reference(x, tiles.bounds, tiles.range_per_tile)
    else:
        beta = np.repeat(tiles.input_range[None, :], x.shape[0], axis=0)
    for t in range(tiles.bounds.size - 1):
        rows = slice(tiles.bounds[t], tiles.bounds[t + 1])
        q = converters.dac_reference(x[:, rows], beta[:, t : t + 1], tiles.dac_levels)
        value = torch.mm(torch.from_numpy(q), torch.from_numpy(tiles.weights[:, rows]).t()).numpy()
        if tiles.adc_levels:
            value = converters.adc_reference(value, tiles.inverse[t], tiles.adc_levels)
        else:
            value = value * tiles.inverse[t]
        out += (value * tiles.scale[t]) * beta[:, t : t + 1]
    return out


def tile_matmul_reference(x: F32, tiles: TiledMatrix) -> F32:
    """`tile_matmul` of the integer path in plain NumPy, with integers of 64 bits: bit for bit the same result."""
    bounds = tiles.bounds
    if tiles.input_range is None:
        beta = converters.token_range_reference(x, bounds, tiles.range_per_tile)
    else:
        beta = np.repeat(tiles.input_range[None, :], x.shape[0], axis=0)
    out = np.zeros((x.shape[0], tiles.cols), np.float32)
    for t in range(bounds.size - 1):
        q = converters.dac_reference(x[:, bounds[t] : bounds[t + 1]], beta[:, t : t + 1], tiles.dac_levels)
        q64 = q.astype(np.int64)
        high = (q64 @ tiles.high[t].astype(np.int64).T).astype(np.int32)
        low = (q64 @ tiles.low[t].astype(np.int64).T).astype(np.int32)
        value = converters.combine_reference(high, low, q64.sum(axis=1, keepdims=True).astype(np.int32))
        if tiles.adc_levels:
            value = converters.adc_reference(value, tiles.inverse[t], tiles.adc_levels)
        else:
            value = value * tiles.inverse[t]
        out += (value * tiles.scale[t]) * beta[:, t : t + 1]
    return out
