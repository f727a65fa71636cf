"""One matrix product through the tiles of a programmed matrix: DAC, cells, ADC, digital sum over row tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.kernels import converters, read_noise
from aimc_sim.kernels.int8_product import int8_product
from aimc_sim.kernels.parallel import num_threads, run_blocks
from aimc_sim.kernels.tile_product import FEW_TOKENS, few_tokens

F32 = npt.NDArray[np.float32]
I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]
COLUMN_UNIT = 64  # columns come in such blocks, as the draws of read noise do
SCRATCH = 1 << 18  # sums held at once, so that they are still in cache when the ADC reads them
TOKENS_PER_THREAD = 8
FEW_WORTH_A_THREAD = 3 << 20  # products below which waking a second thread costs more than it saves
_spare: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]] = []


@dataclass(frozen=True)
class TileNoise:
    """Read noise of a matrix: ``steps`` flat int8 like the planes, variance = scale·Σ steps·q², draws keyed by site."""

    steps: I8
    scale: F32  # (tiles, N)
    key: npt.NDArray[np.uint32]  # (2,)
    site: np.uint32  # counter word 3


@dataclass(frozen=True)
class TiledMatrix:
    """A K × N matrix as its tiles hold it at one time. Row tile t covers inputs bounds[t] … bounds[t+1]-1.

    Exact integer path: planes ``high`` and ``low`` int8, W = 256·high + low + 128, flat (N·K,): row tile t is the
    (N, K_t) block that starts at N·bounds[t].
    Float path (no DAC, more than 8 input bits, or weight_grid = float32): ``weights`` (N, K) float32.
    """

    bounds: npt.NDArray[np.int64]  # (tiles + 1,)
    inverse: F32  # (tiles, N) ADC codes (without an ADC: currents) per unit of the tile's sum
    scale: F32  # (tiles, N) output per code, per unit of input range β
    high: I8 | None = None
    low: I8 | None = None
    weights: F32 | None = None
    dac_levels: int = 0  # largest input code; 0: no DAC
    adc_levels: int = 0  # largest output code; 0: no ADC
    input_range: F32 | None = None  # (tiles,) static β; None: max |x| of each token
    range_per_tile: bool = True
    noise: TileNoise | None = None  # fresh in every product

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
        arrays = [self.high, self.low, self.weights, self.inverse, self.scale]
        arrays += [] if self.noise is None else [self.noise.steps, self.noise.scale]
        return sum(a.nbytes for a in arrays if a is not None)

    def planes(self, t: int) -> tuple[I8, I8]:
        """High and low plane of row tile t, (N, K_t) int8 views."""
        assert self.high is not None
        assert self.low is not None
        return self.block(self.high, t), self.block(self.low, t)

    def block(self, flat: I8, t: int) -> I8:
        """Row tile t of a flat plane, (N, K_t) view."""
        return flat[self.cols * self.bounds[t] : self.cols * self.bounds[t + 1]].reshape(self.cols, -1)


def tile_matmul(x: F32, tiles: TiledMatrix, row_ids: I64 | None = None) -> F32:
    """x (B, K) float32 → y (B, N) float32, through DAC, tiles and ADC. Each row's result depends on that row alone.

    row_ids: (B,) int64, what each row is called; rows of one name draw the same read noise. Only needed for that.
    Raises BadInput for another shape, or for row ids that are missing.
    """
    if x.ndim != 2 or x.shape[1] != tiles.rows:
        raise BadInput(
            "x", got=x.shape, why=f"this matrix takes (tokens, {tiles.rows})", do="reshape the input"
        )
    x = np.ascontiguousarray(x, dtype=np.float32)
    if tiles.weights is not None:
        return _float_path(x, tiles)
    if tiles.noise is not None and (row_ids is None or row_ids.shape != (x.shape[0],)):
        raise BadInput(
            "row_ids",
            got=None if row_ids is None else row_ids.shape,
            why="read noise is drawn afresh for every row, by its id, so that batches change nothing",
            do=f"give ({x.shape[0]},) int64, different for every product that is to be different",
        )
    return _integer_path(x, tiles, row_ids)


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


def _integer_path(x: F32, tiles: TiledMatrix, row_ids: I64 | None) -> F32:
    """Blocks of columns, each through all row tiles in one thread, in order: no sum crosses a thread."""
    tokens, bounds = x.shape[0], tiles.bounds
    codes, beta, sums = codes_of(x, tiles)
    out = np.zeros((tokens, tiles.cols), np.float32)
    inputs, noise = _by_tile(codes, tokens, bounds), tiles.noise

    def few(first: int, last: int) -> None:
        few_tokens(codes, sums, beta, bounds, tiles.high, tiles.low, tiles.inverse, tiles.scale, tiles.adc_levels,
                   first, last, out)  # fmt: skip

    def many(first: int, last: int) -> None:
        part = slice(first, last)
        with _scratch(tokens, last - first) as (h, lo):
            for t, q in enumerate(inputs):
                high, low = tiles.planes(t)
                int8_product(q, high[part], h)
                int8_product(q, low[part], lo)
                chain = (h, lo, sums[:, t], beta[:, t], tiles.inverse[t, part], tiles.scale[t, part], tiles.adc_levels,
                         first, out)  # fmt: skip
                if noise is None:
                    converters.adc_add(*chain)
                    continue
                steps = tiles.block(noise.steps, t)[part]
                variance = int8_product(squares[0][t], steps), int8_product(squares[1][t], steps)
                own = (noise.scale[t, part], row_ids, t, noise.site, noise.key)
                read_noise.noisy_adc_add(*chain, *variance, *own)

    if noise is not None:
        squares = [_by_tile(plane, tokens, bounds) for plane in read_noise.square_planes(codes)]
    fused = tokens <= FEW_TOKENS and noise is None
    run_blocks(few if fused else many, tiles.cols, _columns(tokens, tiles))
    return out


def _by_tile(codes: I8, tokens: int, bounds: I64) -> list[I8]:
    """Views (B, K_t) of flat tile-major codes."""
    ends = zip(bounds[:-1], bounds[1:], strict=True)
    return [codes[tokens * a : tokens * b].reshape(tokens, -1) for a, b in ends]


def _columns(tokens: int, tiles: TiledMatrix) -> int:
    """Columns of a block: sums that stay in cache, and a share for every thread where there is work enough."""
    share = math.ceil(tiles.cols / num_threads() / COLUMN_UNIT) * COLUMN_UNIT
    if tokens <= FEW_TOKENS:
        return share if tokens * tiles.rows * tiles.cols >= FEW_WORTH_A_THREAD else tiles.cols
    return max(COLUMN_UNIT, min(SCRATCH // tokens // COLUMN_UNIT * COLUMN_UNIT, share))


@contextmanager
def _scratch(tokens: int, width: int) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Two buffers (tokens, width), lent from a store that grows to one pair a thread and is then only reused.

    (Threads of OpenMP have no Python thread-local storage that outlives a call.)
    """
    size = tokens * width
    held = _spare.pop() if _spare else None
    if held is None or held[0].size < size:
        held = (np.empty(size, np.int32), np.empty(size, np.int32))
    try:
        yield held[0][:size].reshape(tokens, width), held[1][:size].reshape(tokens, width)
    finally:
        _spare.append(held)


def tile_sums(x: F32, tiles: TiledMatrix) -> Iterator[tuple[F32, F32]]:
    """For each row tile: what the ADC sees before its gain, (B, N) float32, and β (B,). Needs a DAC."""
    bounds, tokens = tiles.bounds, x.shape[0]
    if tiles.weights is None:
        codes, beta, sums = codes_of(x, tiles)
        for t, q in enumerate(_by_tile(codes, tokens, bounds)):
            high, low = (int8_product(q, plane) for plane in tiles.planes(t))
            yield converters.combine_reference(high, low, sums[:, t : t + 1]), beta[:, t]
        return
    import torch

    beta = _ranges_of(x, tiles)
    for t in range(bounds.size - 1):
        rows = slice(bounds[t], bounds[t + 1])
        codes_f = converters.dac_reference(x[:, rows], beta[:, t : t + 1], tiles.dac_levels)
        yield (
            torch.mm(torch.from_numpy(codes_f), torch.from_numpy(tiles.weights[:, rows]).t()).numpy(),
            beta[:, t],
        )


def _ranges_of(x: F32, tiles: TiledMatrix) -> F32:
    """β (B, tiles)."""
    if tiles.input_range is None:
        return converters.token_range_reference(x, tiles.bounds, tiles.range_per_tile)
    return np.repeat(tiles.input_range[None, :], x.shape[0], axis=0)


def _digital(value: F32, beta: F32, tiles: TiledMatrix, t: int) -> F32:
    """What row tile t adds to the outputs: ADC (or none), LSB and column scale, input range."""
    if tiles.adc_levels:
        value = converters.adc_reference(value, tiles.inverse[t], tiles.adc_levels)
    else:
        value = value * tiles.inverse[t]
    return np.asarray((value * tiles.scale[t]) * beta[:, None])


def _float_path(x: F32, tiles: TiledMatrix) -> F32:
    import torch

    assert tiles.weights is not None
    if not tiles.dac_levels:
        return np.asarray(torch.mm(torch.from_numpy(x), torch.from_numpy(tiles.weights).t()).numpy())
    out = np.zeros((x.shape[0], tiles.cols), np.float32)
    for t, (value, beta) in enumerate(tile_sums(x, tiles)):
        out += _digital(value, beta, tiles, t)
    return out


def tile_matmul_reference(x: F32, tiles: TiledMatrix, row_ids: I64 | None = None) -> F32:
    """`tile_matmul` of the integer path in plain NumPy, with integers of 64 bits: bit for bit the same result."""
    bounds, beta = tiles.bounds, _ranges_of(x, tiles)
    out = np.zeros((x.shape[0], tiles.cols), np.float32)
    for t in range(bounds.size - 1):
        q = converters.dac_reference(x[:, bounds[t] : bounds[t + 1]], beta[:, t : t + 1], tiles.dac_levels)
        q64 = q.astype(np.int64)
        high, low = ((q64 @ plane.astype(np.int64).T).astype(np.int32) for plane in tiles.planes(t))
        value = converters.combine_reference(high, low, q64.sum(axis=1, keepdims=True).astype(np.int32))
        if tiles.noise is None:
            out += _digital(value, beta[:, t], tiles, t)
            continue
        assert row_ids is not None
        steps = tiles.block(tiles.noise.steps, t).astype(np.int64).T
        squares = read_noise.square_planes(q.astype(np.int8))
        variance = tuple((part.astype(np.int64) @ steps).astype(np.int32) for part in squares)
        z = read_noise.product_normals(row_ids, tiles.cols, t, int(tiles.noise.site), tiles.noise.key)
        signal = read_noise.noisy_adc_reference(
            value, tiles.inverse[t], variance, tiles.noise.scale[t], z, tiles.adc_levels
        )
        out += (signal * tiles.scale[t]) * beta[:, t : t + 1]
    return out
