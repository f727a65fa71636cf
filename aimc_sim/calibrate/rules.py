"""The rules behind converter ranges: input ranges β, and ADC full scales from the currents of a matrix's tiles.

Everything here looks at one matrix and its inputs on the calibration text, in groups of columns, so that memory is
bounded by a group. Currents are in full-scale weights times full-scale inputs; cells are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from aimc_sim.aliases import F32, F64, I64
from aimc_sim.chip.mapping import TileMap
from aimc_sim.execute import dac_inputs, tile_sums
from aimc_sim.hardware.converters import (
    FittedScale,
    FullScale,
    LambdaRule,
    LeastOutputError,
    LeastSquares,
    PercentileScale,
    StaticRange,
    WorstCase,
)
from aimc_sim.kernels import full_scale as kernel
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.tiles.matrix import TiledMatrix

Pieces = Callable[[], Iterator[tuple[int, int, TiledMatrix]]]  # column tiles first … last-1, and their tiles
INPUT_STEPS = 64  # candidates for β: 0.9^63 = 0.0013 of the largest input, as outliers reach hundreds of σ
INPUT_RATIO = 0.8  # from one candidate to the next where each costs a product
GRAM_ROWS = 4096  # of a tile: beyond, WᵀW would take more memory than it saves work
LAMBDAS = 2.0 ** (np.arange(12, -31, -1) / 6)  # of the inherited λ: 4 down to 1/32, in steps of 12 %
SWEEPS = 8  # over the tiles of a column, each fitted beside the others, until none changes
HISTOGRAM_SHIFT = 12  # float32 bits below the bins of a percentile: 0.05 %


@dataclass(frozen=True)
class Conversions:
    """Conversions hold what the ADCs of one row tile see. current: (reads, B, N). weight (N,) and gain (reads, B): its
    digital factors.

    part: which of the columns that hold a weight. Codes run from ``lowest`` to ``highest``, which is full scale.
    """

    part: int
    row_tile: int
    current: F32
    weight: F32
    gain: F32
    lowest: int
    highest: int

    def columns(self, a: int, b: int) -> tuple[F32, F32]:
        """Return (current, weight) of columns a … b-1, one row a read and token."""
        return self.current[:, :, a:b].reshape(-1, b - a), self.weight[a:b]


def conversions(x: F32, tiles: TiledMatrix, unit: int) -> Iterator[Conversions]:
    """Of inputs x (B, K) as the DACs get them, part by part and row tile by row tile; ``unit``: the tiles' own λ."""
    for number, part in enumerate((replace(tiles, parts=()), *tiles.parts)):
        reads, lsb = part.reads.times, np.float32(unit / part.adc_max_code)
        for t, (value, gain) in enumerate(tile_sums(x, part)):
            yield Conversions(
                number, t,
                (value * (part.inverse[t] * lsb)).reshape(reads, len(x), -1),
                np.ascontiguousarray(part.scale[t] / lsb), gain.reshape(reads, len(x)),
                part.adc_lowest, part.adc_max_code,
            )  # fmt: skip


def static_range(
    x: F32, tmap: TileMap, rule: StaticRange, levels: int = 127,
    columns: Callable[[], Iterator[F32]] = lambda: iter(()),
) -> F32:  # fmt: skip
    """Return β (row tiles,) of inputs x (tokens, K) by the rule, over the whole input or tile by tile.

    levels: the DAC's largest code. columns: gives the matrix in pieces (n, K), for the error of its products.
    """
    bounds = tmap.row_bounds
    whole = rule.per == "matrix"
    ends = (
        [(0, int(bounds[-1]))] if whole else list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    )
    if rule.method == "least_output_error":
        betas = _least_output_ranges(x, ends, levels, columns)
    else:
        betas = [_range_of(x[:, a:b], rule, levels) for a, b in ends]
    return np.broadcast_to(np.array(betas, np.float32), bounds.size - 1).astype(np.float32)


def _range_of(part: F32, rule: StaticRange, levels: int) -> float:
    if rule.method == "std":
        return rule.kappa * float(np.std(part, dtype=np.float64))
    if rule.method == "least_squares":
        ones = np.ones(max(part.shape), np.float32)
        part = np.ascontiguousarray(part)
        return float(
            kernel.best_full_scale(
                part, ones[: part.shape[1]], ones[: len(part)], -levels, levels, INPUT_STEPS
            )
        )
    size = np.abs(part)
    return float(size.max() if rule.method == "max" else np.percentile(size, rule.percentile))


def _least_output_ranges(
    x: F32, ends: list[tuple[int, int]], levels: int, columns: Callable[[], Iterator[F32]]
) -> list[float]:
    """Return β of each group of rows a … b-1 with the least ‖(x - DAC(x))·W‖² over tokens,
    the rest of the rows left out.
    """
    import torch  # late: torch takes seconds to load

    # late: it needs torch
    from aimc_sim.torch_bridge.converters import quantise

    outputs = sum(len(w) for w in columns())
    steps = 1 + int(np.ceil((INPUT_STEPS - 1) * np.log(0.9) / np.log(INPUT_RATIO)))
    betas = []
    for a, b in ends:
        part = torch.from_numpy(np.ascontiguousarray(x[:, a:b]))
        peak = float(part.abs().max())
        candidates = [peak * INPUT_RATIO**k for k in range(steps if peak else 0)]

        def lost(beta: float) -> torch.Tensor:
            return part - quantise(part, torch.tensor(beta), levels)  # noqa: B023

        errors = np.zeros(len(candidates))
        if b - a <= min(outputs, GRAM_ROWS):  # ‖e·W‖² = Σ e·(W·Wᵀ)·e
            gram = torch.zeros((b - a, b - a))
            for w in columns():
                rows = torch.from_numpy(np.ascontiguousarray(w[:, a:b]))
                gram += rows.t() @ rows
            errors += [float(((e := lost(beta)) @ gram * e).sum(dtype=torch.float64)) for beta in candidates]
        else:
            for w in columns():
                rows = torch.from_numpy(np.ascontiguousarray(w[:, a:b])).t()
                errors += [
                    float((lost(beta) @ rows).square().sum(dtype=torch.float64)) for beta in candidates
                ]
        betas.append(candidates[int(np.argmin(errors))] if peak else 1.0)
    return betas


def full_scales(x: F32, pieces: Pieces, tmap: TileMap, rule: FullScale, unit: int, top: int) -> F32:
    """Return the full scales (row tiles, column tiles), or (parts, …, …) where several columns hold a weight, by the
    rule.

    x (B, K): inputs as the DACs get them; not read for the worst case. unit: λ of the tiles; top: largest input code.
    """
    if isinstance(rule, WorstCase):
        scales = _assemble(pieces, tmap, lambda tiles, ends: _largest_sums(tiles, ends, unit, top))
    elif isinstance(rule, LambdaRule) or rule.per == "matrix":
        return _of_matrix(x, pieces, tmap, rule, unit)
    else:
        scales = _assemble(pieces, tmap, lambda tiles, ends: _of_tiles(x, tiles, ends, rule, unit))
    scales = np.where(scales > 0, scales, np.float32(1))  # where no current flows
    if rule.per == "matrix":
        scales[:] = scales.max()
    return scales[0] if len(scales) == 1 else scales


def lambda_errors(x: F32, pieces: Pieces, tmap: TileMap, inherited: float, unit: int) -> F64:
    """Return the relative square error (LAMBDAS.size,) of the products of inputs x at each λ of the grid around the
    inherited.
    """
    return _common_errors(x, pieces, tmap, (inherited * LAMBDAS).astype(np.float32), unit)


def shape_of(pieces: Pieces, tmap: TileMap) -> tuple[int, ...]:
    """Return the shape of this matrix's full scales."""
    _, _, tiles = next(pieces())
    shape = (tmap.row_bounds.size - 1, tmap.col_bounds.size - 1)
    return (1 + len(tiles.parts), *shape) if tiles.parts else shape


def _assemble(pieces: Pieces, tmap: TileMap, fit: Callable[[TiledMatrix, I64], F32]) -> F32:
    """Put fit(tiles, column bounds) → (parts, row tiles, column tiles) of every piece side by side."""
    return np.concatenate(
        [fit(tiles, tmap.col_bounds[a : b + 1] - tmap.col_bounds[a]) for a, b, tiles in pieces()], axis=2
    )


def _empty(tiles: TiledMatrix, ends: I64) -> F32:
    return np.empty((1 + len(tiles.parts), tiles.bounds.size - 1, ends.size - 1), np.float32)


def _largest_sums(tiles: TiledMatrix, ends: I64, unit: int, top: int) -> F32:
    """Return Σ|weight| of each column as its tile holds it, times the largest input of a read:
    the largest of each tile.
    """
    out = _empty(tiles, ends)
    for number, part in enumerate((tiles, *tiles.parts)):
        lsb = unit / part.adc_max_code
        for t in range(part.bounds.size - 1):
            if part.weights is None:
                high, low = part.planes()[t]
                weight_sums = (
                    np.abs(256 * high.astype(np.int32) + low + 128)
                    .sum(axis=1, dtype=np.int64)
                    .astype(np.float64)
                )
            else:
                rows = slice(part.bounds[t], part.bounds[t + 1])
                weight_sums = np.abs(part.weights[:, rows]).sum(axis=1, dtype=np.float64)
            largest = weight_sums * top * np.abs(part.inverse[t]) * lsb
            out[number, t] = np.maximum.reduceat(largest, ends[:-1])
    return out


def _of_tiles(x: F32, tiles: TiledMatrix, ends: I64, rule: FittedScale, unit: int) -> F32:
    """Return the full scales (parts, row tiles, column tiles) of one piece."""
    out = _empty(tiles, ends)
    by_conversion: list[Conversions] = []
    for seen_by_adcs in conversions(x, tiles, unit):
        if isinstance(rule, LeastOutputError):
            by_conversion.append(seen_by_adcs)
            continue

        def part(first: int, last: int, seen_by_adcs: Conversions = seen_by_adcs) -> None:
            for c in range(first, last):
                current, weight = seen_by_adcs.columns(int(ends[c]), int(ends[c + 1]))
                if isinstance(rule, PercentileScale):
                    value = np.percentile(np.abs(current), rule.percentile)
                else:
                    value = kernel.best_full_scale(
                        current,
                        weight,
                        seen_by_adcs.gain.ravel(),
                        seen_by_adcs.lowest,
                        seen_by_adcs.highest,
                        kernel.STEPS,
                    )
                out[seen_by_adcs.part, seen_by_adcs.row_tile, c] = value

        run_blocks(part, ends.size - 1, 1)
    if by_conversion:
        run_blocks(lambda first, last: _descend(by_conversion, ends, first, last, out), ends.size - 1, 1)
    return out


def _descend(by_conversion: list[Conversions], ends: I64, first: int, last: int, out: F32) -> None:
    """Least output error of column tiles first … last-1: tile after tile, each beside what the others lose."""
    for c in range(first, last):
        a, b = int(ends[c]), int(ends[c + 1])
        lost, scales, peaks = [], [], []
        for each in by_conversion:
            current, weight = each.columns(a, b)
            peaks.append(kernel.peak_current(current))
            gain = each.gain.ravel()
            scales.append(
                kernel.best_full_scale(current, weight, gain, each.lowest, each.highest, kernel.STEPS)
            )
            lost.append(_measure_loss(each, a, b, scales[-1]))
        total = np.sum(lost, axis=0, dtype=np.float32)
        for _ in range(SWEEPS):
            before = list(scales)
            for k, each in enumerate(by_conversion):
                rest = total - lost[k]
                scales[k] = kernel.best_beside(
                    np.ascontiguousarray(each.current[:, :, a:b]), each.weight[a:b], each.gain, rest, peaks[k],
                    each.lowest, each.highest, kernel.STEPS)  # fmt: skip
                lost[k] = _measure_loss(each, a, b, scales[k])
                total = rest + lost[k]
            if scales == before:
                break
        for each, value in zip(by_conversion, scales, strict=True):
            out[each.part, each.row_tile, c] = value


def _measure_loss(each: Conversions, a: int, b: int, scale: float) -> F32:
    """Return (B, n) what converting columns a … b-1 at this full scale changes of the outputs."""
    total = np.zeros((each.current.shape[1], b - a), np.float32)
    current = np.ascontiguousarray(each.current[:, :, a:b])
    kernel.output_errors(current, each.weight[a:b], each.gain, scale, each.lowest, each.highest, total)
    return total


def _of_matrix(x: F32, pieces: Pieces, tmap: TileMap, rule: FullScale, unit: int) -> F32:
    """Return one full scale for every tile of the matrix, in the shape of `full_scales`."""
    shape = shape_of(pieces, tmap)
    if isinstance(rule, LambdaRule):
        candidates = (rule.lambda_ * LAMBDAS).astype(np.float32)
        return np.full(
            shape, candidates[np.argmin(_common_errors(x, pieces, tmap, candidates, unit))], np.float32
        )
    if isinstance(rule, PercentileScale):
        return np.full(shape, _percentile(x, pieces, rule.percentile, unit), np.float32)
    peak = max(
        (
            float(np.abs(each.current).max())
            for _, _, tiles in pieces()
            for each in conversions(x, tiles, unit)
        ),
        default=0.0,
    )
    if not peak:
        return np.ones(shape, np.float32)
    candidates = (peak * 0.9 ** np.arange(2 * kernel.STEPS)).astype(np.float32)
    if isinstance(rule, LeastSquares):
        errors = np.zeros(candidates.size)
        for _, _, tiles in pieces():
            for each in conversions(x, tiles, unit):
                _add_square_errors(each, candidates, errors)
    else:
        errors = _common_errors(x, pieces, tmap, candidates, unit)
    return np.full(shape, candidates[np.argmin(errors)], np.float32)


def _add_square_errors(each: Conversions, candidates: F32, errors: F64) -> None:
    current, weight = each.columns(0, each.weight.size)

    def part(first: int, last: int) -> None:
        for k in range(first, last):
            errors[k] += kernel.square_error(
                current, weight, each.gain.ravel(), candidates[k], each.lowest, each.highest
            )

    run_blocks(part, candidates.size, 1)


def _common_errors(x: F32, pieces: Pieces, tmap: TileMap, candidates: F32, unit: int) -> F64:
    """Return the square error (candidates,) of the products when every tile has the same full scale,
    over their square.
    """
    errors, square = np.zeros(candidates.size), 0.0
    for _, _, tiles in pieces():
        by_conversion = list(conversions(x, tiles, unit))
        exact = np.zeros((len(x), tiles.cols), np.float64)
        for each in by_conversion:
            exact += np.einsum("rbn,rb->bn", each.current, each.gain, dtype=np.float64) * each.weight
        for each_part in (tiles, *tiles.parts):
            if each_part.constant is not None:  # of offset-coded inputs, taken off after conversion
                beta = dac_inputs(x, each_part)[1]
                exact -= beta @ (each_part.constant * each_part.scale)
        square += float(np.square(exact).sum())

        def part(first: int, last: int, by_conversion: list[Conversions] = by_conversion) -> None:
            for k in range(first, last):
                total = np.zeros((len(x), by_conversion[0].weight.size), np.float32)
                for each in by_conversion:
                    kernel.output_errors(
                        each.current, each.weight, each.gain, candidates[k], each.lowest, each.highest, total
                    )
                errors[k] += float(np.square(total, dtype=np.float64).sum())

        run_blocks(part, candidates.size, 1)
    return errors / square if square else errors


def _percentile(x: F32, pieces: Pieces, percent: float, unit: int) -> float:
    """Return the percentile of |current| over all tiles, from a histogram of their leading bits:
    to 0.05 %, never too small.
    """
    counts = np.zeros(1 << (31 - HISTOGRAM_SHIFT), np.int64)
    for _, _, tiles in pieces():
        for each in conversions(x, tiles, unit):
            bits = np.abs(each.current).ravel().view(np.uint32) >> HISTOGRAM_SHIFT
            counts += np.bincount(bits, minlength=counts.size)
    rank = int(np.ceil(percent / 100 * counts.sum()))
    place = int(np.searchsorted(np.cumsum(counts), max(rank, 1)))
    edge = np.array([(place + 1) << HISTOGRAM_SHIFT], np.uint32).view(np.float32)[0]
    return float(edge) if place else 1.0
