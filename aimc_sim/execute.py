"""One matrix product through the tiles of a programmed matrix: DAC, cells, ADC, digital sum over row tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, I8, I64
from aimc_sim.errors import BadInput
from aimc_sim.kernels import converters, panels, read_noise, reads
from aimc_sim.kernels.int8_product import int8_product
from aimc_sim.tiles.matrix import NOISE_PLANES, TiledMatrix

if TYPE_CHECKING:
    import torch

__all__ = ["tile_matmul", "tile_matmul_reference", "tile_matmul_tensor"]


def tile_matmul(x: F32, tiles: TiledMatrix, row_ids: I64 | None = None) -> F32:
    """Multiply x (B, K) → y (B, N), both float32, through DAC, tiles and ADC. Each row's result depends on that row
    alone.

    x: any dtype that converts to float32, any strides; NaN comes out as NaN. B may be 0.
    row_ids: (B,) int64, what each row is called; rows of one name draw the same read noise. Only needed for that.
    The result is new memory. On the integer path it has the same bits for any number of threads, any split of B and
    any processor. Off it the sums are a library's, in float32, which may add in another order for another B: then
    outputs differ in their last bits, or, where a sum lies on the edge of one, by a code of an ADC.
    Raises BadInput for another shape, or for row ids that are missing.

    >>> import numpy as np
    >>> from aimc_sim import Hardware
    >>> from aimc_sim.chip import CellMatrix
    >>> from aimc_sim.execute import tile_matmul
    >>> w = np.float32([[0.5, -0.25, 1.0]])  # one output of three inputs
    >>> tiles = CellMatrix(w, Hardware.load("ideal"), seed=0, t_s=0.0).tiles()
    >>> tile_matmul(np.float32([[1.0, 2.0, 3.0]]), tiles).tolist()
    [[3.0]]
    """
    if x.dtype.kind not in "fiub":
        raise BadInput("x", got=str(x.dtype), why="inputs are real numbers", do="convert them to float32")
    _check_shape(x.shape, tiles)
    x = _transform(x, tiles)
    out = _columns(x, tiles, row_ids)
    for part in tiles.parts:
        out += _columns(x, part, row_ids)
    return out


def tile_matmul_tensor(x: torch.Tensor, tiles: TiledMatrix, row_ids: I64 | None = None) -> torch.Tensor:
    """Compute `tile_matmul` of a tensor x (B, K) → y (B, N): the same checks, the same bits, no gradient.

    x: on the CPU, any dtype that converts to float32, any strides. Where the compiled product gives the outputs by
    itself no array of NumPy is made: that would cost as much as a small product.
    Raises BadInput for what `tile_matmul` refuses, and for a tensor on another device.

    >>> import numpy as np, torch
    >>> from aimc_sim import Hardware
    >>> from aimc_sim.chip import CellMatrix
    >>> from aimc_sim.execute import tile_matmul_tensor
    >>> tiles = CellMatrix(np.float32([[0.5, -0.25, 1.0]]), Hardware.load("ideal"), seed=0, t_s=0.0).tiles()
    >>> tile_matmul_tensor(torch.tensor([[1.0, 2.0, 3.0]]), tiles).tolist()
    [[3.0]]
    """
    import torch  # late: torch takes seconds to load

    _check_shape(x.shape, tiles)
    if not x.is_cpu or x.is_complex():
        raise BadInput(
            "x",
            got=(str(x.dtype), str(x.device)),
            why="the product reads real numbers in this machine's memory",
            do="give it x.cpu().float()",
        )
    if x.dtype != torch.float32 or not x.is_contiguous() or x.is_neg():
        x = x.resolve_neg().to(torch.float32).contiguous()
    if not tiles.is_direct:
        return torch.from_numpy(tile_matmul(x.detach().numpy(), tiles, row_ids))
    out = torch.empty((x.shape[0], tiles.cols))
    if tiles.noise is None:
        tiles.product.run(x.shape[0], x.data_ptr(), out.data_ptr())
    else:
        names = _check_row_ids(row_ids, x.shape[0])
        tiles.product.run(x.shape[0], x.data_ptr(), out.data_ptr(), names.ctypes.data)
    return out


def _check_shape(shape: tuple[int, ...], tiles: TiledMatrix) -> None:
    """Raise BadInput unless inputs of this shape are (tokens, K)."""
    if len(shape) != 2 or shape[1] != tiles.rows:
        raise BadInput(
            "x", got=tuple(shape), why=f"this matrix takes (tokens, {tiles.rows})", do="reshape the input"
        )


def _columns(x: F32, tiles: TiledMatrix, row_ids: I64 | None) -> F32:
    """Return what the first columns give, without ``parts``, for inputs as the DACs get them."""
    if tiles.weights is not None:
        return _float_path(x, tiles)
    if tiles.noise is not None:
        row_ids = _check_row_ids(row_ids, x.shape[0])
    out = np.empty((x.shape[0], tiles.cols), np.float32)
    tiles.product(x, out, row_ids)
    return out


def _transform(x: F32, tiles: TiledMatrix) -> F32:
    """Return the inputs as the DACs get them: float32, side by side, after the matrix's transform if it has one."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    return x if tiles.transform is None else tiles.transform.apply_input(x)


def _check_row_ids(row_ids: I64 | None, tokens: int) -> I64:
    """Check row ids and return them as the kernel reads them. Raises BadInput."""
    if row_ids is None or row_ids.shape != (tokens,):
        raise BadInput(
            "row_ids",
            got=None if row_ids is None else row_ids.shape,
            why="read noise is drawn afresh for every row, by its id, so that batches change nothing",
            do=f"give ({tokens},) int64, different for every product that is to be different",
        )
    return np.ascontiguousarray(row_ids, dtype=np.int64)


def dac_inputs(x: F32, tiles: TiledMatrix) -> tuple[F32, F32]:
    """Return x (B, K) as the DACs get it, after any transform, and their ranges β (B, tiles)."""
    x = _transform(x, tiles)
    return x, _ranges_of(x, tiles)


def tile_sums(x: F32, tiles: TiledMatrix) -> Iterator[tuple[F32, F32]]:
    """For each row tile of the first columns: what the ADC sees before its gain, (reads·B, N) float32, and its factor
    β·2^… (reads·B,).

    x: as the DACs get it, after any transform. Needs a DAC. One read after the other, each of all tokens; the constant
    of offset-binary inputs is still in the sums, and the factor of what is negative is negative.
    """
    bounds, tokens = tiles.bounds, x.shape[0]
    if tiles.weights is None:
        codes, beta = _compute_codes(x, tiles)
        for t, planes in enumerate(tiles.planes()):
            q = codes[tokens * bounds[t] : tokens * bounds[t + 1]].reshape(tokens, -1)
            driven = _drive_reads(q, tiles)
            q, weights = driven.reshape(-1, driven.shape[2]), tiles.reads.weights
            high, low = (int8_product(q, plane) for plane in planes)
            sums = q.sum(axis=1, dtype=np.int32)[:, None]
            yield converters.combine_reference(high, low, sums), (weights[:, None] * beta[:, t]).ravel()
        return
    import torch  # late: torch takes seconds to load

    beta = _ranges_of(x, tiles)
    for t in range(bounds.size - 1):
        rows = slice(bounds[t], bounds[t + 1])
        codes_f = converters.dac_reference(x[:, rows], beta[:, t : t + 1], tiles.dac_max_code)
        yield (
            torch.mm(torch.from_numpy(codes_f), torch.from_numpy(tiles.weights[:, rows]).t()).numpy(),
            beta[:, t],
        )


def tile_outputs(x: F32, tiles: TiledMatrix) -> Iterator[F32]:
    """What each row tile of the first columns adds to the outputs, (B, N), without noise. x: as the DACs get it."""
    for t, (value, factor) in enumerate(tile_sums(x, tiles)):
        out = _convert_back(value, factor, tiles, t).reshape(-1, x.shape[0], tiles.cols).sum(axis=0)
        if tiles.constant is not None:
            out -= (tiles.constant[t] * tiles.scale[t]) * _ranges_of(x, tiles)[:, t : t + 1]
        yield out


def _drive_reads(codes: I8, tiles: TiledMatrix) -> I8:
    """Return the reads (times, B, K_t) of codes (B, K_t) of one row tile,
    behind each the codes of its INL if DACs have it.
    """
    count, bits, _, parts = tiles.reads
    rows = reads.parts_reference(codes, parts, bits, count, tiles.dac_max_code)
    if not tiles.dac_inl:
        return rows
    inl = reads.inl_table(tiles.dac_max_code)[rows.astype(np.int16) + reads.LARGEST]
    return np.concatenate([rows, inl], axis=2)


def _compute_codes(x: F32, tiles: TiledMatrix) -> tuple[I8, F32]:
    """Compute what the DAC makes of x: codes flat, tile by tile (B·K,), and β (B, tiles)."""
    tokens, count = x.shape[0], tiles.bounds.size - 1
    codes, sums = np.empty(tokens * tiles.rows, np.int8), np.empty((tokens, count), np.int32)
    beta = np.empty((tokens, count), np.float32)
    dynamic = tiles.input_range is None
    if not dynamic:
        beta[:] = tiles.input_range
    converters.dac(x, tiles.bounds, tiles.bounds, tiles.dac_max_code, dynamic, tiles.range_per_tile, 0, tokens, codes,
                   tokens, 1, beta, sums)  # fmt: skip
    return codes, beta


def _ranges_of(x: F32, tiles: TiledMatrix) -> F32:
    """Return β (B, tiles)."""
    if tiles.input_range is None:
        return converters.token_range_reference(x, tiles.bounds, tiles.range_per_tile)
    beta = np.repeat(tiles.input_range[None, :], x.shape[0], axis=0)
    lost = np.isnan(x)  # a static range clips what is large, but must not hide what is no number
    if lost.any():
        ends = zip(tiles.bounds[:-1], tiles.bounds[1:], strict=True)
        beta[np.stack([lost[:, a:b].any(axis=1) for a, b in ends], axis=1)] = np.nan
    return beta


def _convert_back(value: F32, beta: F32, tiles: TiledMatrix, t: int, fluctuate: Any = None) -> F32:
    """Return what row tile t adds to the outputs: ADC (or none), LSB and column scale, input range.

    value: (B, N) sums; fluctuate: what is done to the signal in codes before the ADC's own errors.
    """
    signal = value * tiles.inverse[t]
    if fluctuate is not None:
        signal = fluctuate(signal)
    if tiles.adc_curve is not None:
        signal = converters.non_ideal_adc_reference(signal, *(part[t] for part in tiles.adc_curve))
    if tiles.capacitors is None:
        code = converters.quantise_reference(signal, tiles.adc_max_code, tiles.adc_unsigned)
    else:
        code = converters.sar_reference(signal, tiles.capacitors[t], tiles.adc_max_code, tiles.adc_unsigned)
    return np.asarray((code * tiles.scale[t]) * beta[:, None])


def _float_path(x: F32, tiles: TiledMatrix) -> F32:
    import torch  # late: torch takes seconds to load

    assert tiles.weights is not None
    if not tiles.dac_max_code:
        return np.asarray(torch.mm(torch.from_numpy(x), torch.from_numpy(tiles.weights).t()).numpy())
    out = np.zeros((x.shape[0], tiles.cols), np.float32)
    for t, (value, beta) in enumerate(tile_sums(x, tiles)):
        out += _convert_back(value, beta, tiles, t)
    return out


def tile_matmul_reference(x: F32, tiles: TiledMatrix, row_ids: I64 | None = None) -> F32:
    """Compute `tile_matmul` of the integer path in plain NumPy, with integers of 64 bits: bit for bit the same result.

    >>> import numpy as np
    >>> from aimc_sim import Hardware
    >>> from aimc_sim.chip import CellMatrix
    >>> from aimc_sim.execute import tile_matmul, tile_matmul_reference
    >>> tables = {"device": "ideal", "dac": {}, "adc": {"full_scale": {"rule": "lambda", "lambda_": 14}}}
    >>> tiles = CellMatrix(np.float32([[0.5, -0.25, 1.0]]), Hardware.load(tables), seed=0, t_s=0.0).tiles()
    >>> x = np.float32([[1.0, 2.0, 3.0]])
    >>> bool((tile_matmul_reference(x, tiles) == tile_matmul(x, tiles)).all())
    True
    """
    bounds, (x, beta) = tiles.bounds, dac_inputs(x, tiles)
    if tiles.parts:
        first, *others = (replace(part, parts=(), transform=None) for part in (tiles, *tiles.parts))
        out = tile_matmul_reference(x, first, row_ids)
        for part in others:
            out += tile_matmul_reference(x, part, row_ids)
        return out
    out = np.zeros((x.shape[0], tiles.cols), np.float32)
    planes = tiles.planes()
    for t in range(bounds.size - 1):
        q = converters.dac_reference(x[:, bounds[t] : bounds[t + 1]], beta[:, t : t + 1], tiles.dac_max_code)
        driven = _drive_reads(q.astype(np.int8), tiles)
        for read, (part, weight) in enumerate(zip(driven, tiles.reads.weights, strict=True)):
            q64 = part.astype(np.int64)
            high, low = ((q64 @ plane.astype(np.int64).T).astype(np.int32) for plane in planes[t])
            value = converters.combine_reference(high, low, q64.sum(axis=1, keepdims=True).astype(np.int32))
            fluctuate = None if tiles.noise is None else _noise_reference(part, tiles, t, row_ids, read)
            out += _convert_back(value, beta[:, t] * weight, tiles, t, fluctuate)
        if tiles.constant is not None:
            out -= (tiles.constant[t] * tiles.scale[t]) * beta[:, t : t + 1]
    return out


def _noise_reference(
    q: I8, tiles: TiledMatrix, t: int, row_ids: I64 | None, read: int
) -> Callable[[F32], F32]:
    """Return what the noise of row tile t does to a signal (B, N), for codes q (B, K_t) of one read."""
    noise, (_, bits, kind, _) = tiles.noise, tiles.reads
    assert noise is not None
    assert row_ids is not None
    zeros = np.zeros((len(q), tiles.cols), np.int32)
    variance: tuple[npt.NDArray[np.int32], ...] = (zeros, zeros)
    spread = np.zeros(tiles.cols, np.float32)
    if noise.steps is not None and noise.scale is not None:
        steps = panels.row_major(noise.steps, tiles.cols, tiles.cell_bounds, NOISE_PLANES)[t]
        rows = steps[0].astype(np.int64)
        weights = reads.noise_weights_reference(q, kind, tiles.dac_max_code, bits)
        variance = tuple((part.astype(np.int64) @ rows.T).astype(np.int32) for part in weights)
        spread = noise.scale[t]
    z = read_noise.product_normals(row_ids, tiles.cols, t, noise.site + read, noise.key)
    return lambda signal: read_noise.noisy_reference(signal, variance, spread, noise.floor, z)
