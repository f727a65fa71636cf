"""Converter ranges from one pass of the digital model over the stored calibration text, cached by content.

Input ranges: κ·std, maximum or a percentile of |x|. ADC full scales: per tile, the one that minimises the square error
of the tile's outputs with exact cells (least squares); an untrained checkpoint loses far less that way than by a rule.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.calibrate_moments import keep_last_position
from aimc_sim.cell_matrix import CellMatrix, MatrixRange, Ranges
from aimc_sim.chip import channel_transform
from aimc_sim.errors import BadInput
from aimc_sim.execute import TiledMatrix, tile_sums
from aimc_sim.hardware import Adc, Hardware, LambdaRule, StaticRange
from aimc_sim.kernels._jit import cache_root
from aimc_sim.kernels.full_scale import best_full_scale
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.mapping import TileMap, tile_map
from aimc_sim.spec import canonical_json
from aimc_sim.torch_bridge.model import analog_matrices, load_digital
from aimc_sim.weightfile import MatrixInfo, WeightFile, to_float32

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]
FIT_TOKENS = 512  # tokens that full scales are fitted on, spread evenly over the calibration text
FIT_COLUMNS = 8192  # outputs fitted at once, in whole tiles: bounds what the head of a large vocabulary takes
VERSION = 3  # of the method: a change makes cached ranges stale


def derive_ranges(
    weight_file: WeightFile, hardware: Hardware, progress: Progress | None = None
) -> dict[str, MatrixRange]:
    """Ranges of every analog matrix, in one pass over the calibration text. Raises BadInput if the file has none."""
    ranges = _one_pass(_mapped_anew(weight_file), hardware, progress)
    gc.collect()  # a model is full of cycles, and keeps the whole file mapped
    return ranges


def _one_pass(
    weight_file: WeightFile, hardware: Hardware, progress: Progress | None
) -> dict[str, MatrixRange]:
    tokens = weight_file.calibration.token_ids
    matrices = {matrix.name: matrix for matrix in analog_matrices(weight_file, hardware)}
    ranges: dict[str, MatrixRange] = {}
    cells = hardware.with_ideal_cells()
    if (
        hardware.adc is not None
    ):  # one whose codes are full-scale currents, so that none of its own is asked for
        unit = LambdaRule(rule="lambda", lambda_=hardware.adc.levels)
        adc = hardware.adc.model_copy(update={"full_scale": unit, "errors": None})
        dac = hardware.dac and hardware.dac.model_copy(update={"errors": None})
        cells = cells.model_copy(update={"adc": adc, "dac": dac})
    model = load_digital(weight_file)

    def see(name: str, x: F32) -> None:
        ranges[name] = _matrix_range(weight_file, matrices[name], hardware, cells, x)
        if progress:
            progress("calibrating converter ranges", len(ranges), len(matrices))

    with _watching(model, matrices, see):
        _forward(model, tokens)
    return ranges


def _mapped_anew(weight_file: WeightFile) -> WeightFile:
    """The same file in a mapping of its own: the pages that one pass reads leave memory with it, and nobody's changes
    to a digital model's weights reach the ranges."""
    try:
        fresh = WeightFile(weight_file.path)
    except BadInput:  # moved since
        return weight_file
    return fresh if fresh.id == weight_file.id else weight_file


def ranges_for(weight_file: WeightFile, hardware: Hardware, progress: Progress | None = None) -> Ranges:
    """`derive_ranges`, remembered in the user's cache folder by (weight file, converters, tiles, placement)."""
    identity = canonical_json({
        "version": VERSION, "weights": weight_file.id,
        "hardware": hardware.model_dump(mode="json", include={"tile", "dac", "adc", "placement", "transform"}),
    })  # fmt: skip
    path = cache_folder() / f"{_digest(identity)}.npz"
    known = _read(path)
    if known is None or not _fits(known, weight_file, hardware):
        known = derive_ranges(weight_file, hardware, progress)
        _write(path, known)
    return known


def cache_folder() -> Path:
    """Where derived ranges are kept: beside the compiler's cache, in the user's cache folder."""
    return cache_root().parent / "ranges"


def _matrix_range(
    weight_file: WeightFile, matrix: MatrixInfo, hardware: Hardware, cells: Hardware, x: F32
) -> MatrixRange:
    tmap = tile_map(matrix.rows, matrix.cols, hardware.tile)
    transform = None
    if hardware.transform is not None:
        transform = channel_transform(weight_file, matrix, hardware, weight_file.weight(matrix.name))
    if transform is not None:
        x = transform.apply_input(np.ascontiguousarray(x))
    beta = None
    if hardware.dac is not None and isinstance(hardware.dac.range, StaticRange):
        learned = weight_file.ranges(matrix.name)
        if learned is not None and transform is not None:
            raise BadInput(
                f"transform of {matrix.name}",
                why="its input range was learned in training, for inputs as they were",
                do="leave the matrix out of [[transform]], or export a checkpoint without learned ranges",
            )
        beta = _learned(learned, tmap) if learned is not None else static_range(x, tmap, hardware.dac.range)
    full_scale = None
    if hardware.adc is not None and not isinstance(hardware.adc.full_scale, LambdaRule):
        rows = np.unique(np.linspace(0, len(x) - 1, min(FIT_TOKENS, len(x))).astype(np.int64))
        fit, parts = np.ascontiguousarray(x[rows]), []
        for first, last in _column_groups(tmap.col_bounds):
            w = _columns(weight_file, matrix, int(tmap.col_bounds[first]), int(tmap.col_bounds[last]))
            if transform is not None:
                w = transform.apply_weight(w)
            tiles = CellMatrix(w, cells, 0, ranges=MatrixRange(beta), name=matrix.name).tiles()
            bounds = tmap.col_bounds[first : last + 1] - tmap.col_bounds[first]
            parts.append(_least_squares(fit, tiles, bounds, hardware.adc))
        full_scale = np.concatenate(parts, axis=1)
    return MatrixRange(beta, full_scale)


def _column_groups(bounds: I64) -> list[tuple[int, int]]:
    """Column tiles first … last-1, group by group, each of at most FIT_COLUMNS outputs or one tile."""
    groups, first = [], 0
    for last in range(1, bounds.size):
        if last + 1 == bounds.size or bounds[last + 1] - bounds[first] > FIT_COLUMNS:
            groups.append((first, last))
            first = last
    return groups


def _columns(weight_file: WeightFile, matrix: MatrixInfo, first: int, last: int) -> F32:
    """Outputs first … last-1 of a matrix, (n, K) float32."""
    stored = weight_file.digital(matrix.tensor).bits  # pages that the model has just read
    bits = stored[first:last] if matrix.layout == "out_in" else stored[:, first:last].T
    return np.ascontiguousarray(to_float32(bits, matrix.dtype))


def static_range(x: F32, tmap: TileMap, rule: StaticRange) -> F32:
    """β (row tiles,) of inputs x (tokens, K) by the rule, over the whole input or tile by tile."""

    def of(part: F32) -> float:
        if rule.method == "std":
            return rule.kappa * float(np.std(part, dtype=np.float64))
        size = np.abs(part)
        return float(size.max() if rule.method == "max" else np.percentile(size, rule.percentile))

    bounds = tmap.row_bounds
    if rule.per == "matrix":
        return np.full(bounds.size - 1, of(x), np.float32)
    return np.array([of(x[:, a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)], np.float32)


def _learned(ranges: F32, tmap: TileMap) -> F32:
    count = tmap.row_bounds.size - 1
    if ranges.shape not in ((1,), (count,)):
        raise BadInput(
            "learned input ranges",
            got=ranges.shape,
            why=f"this tiling has {count} row tiles, and they were learned for another",
            do="use the tile height that the checkpoint was trained with, or calibrate: dac.range with a rule",
        )
    return np.broadcast_to(ranges, count).astype(np.float32)


def _least_squares(x: F32, tiles: TiledMatrix, col_bounds: I64, adc: Adc) -> F32:
    """Full scales (row tiles, column tiles) with the smallest square error of the tile's outputs."""
    out = np.empty((tiles.bounds.size - 1, col_bounds.size - 1), np.float32)
    for t, (value, gain) in enumerate(tile_sums(x, tiles)):
        current = value * tiles.inverse[t]
        weight = np.ascontiguousarray(tiles.scale[t])

        def part(first: int, last: int) -> None:
            for c in range(first, last):
                a, b = col_bounds[c], col_bounds[c + 1]
                out[t, c] = best_full_scale(current[:, a:b], weight[a:b], gain, adc.levels)  # noqa: B023

        run_blocks(part, out.shape[1], 1)
    return out


@contextmanager
def _watching(model: Any, names: Any, see: Callable[[str, F32], None]) -> Iterator[None]:
    """Call see(name, x (tokens, K)) for every product of the model, once each, and keep nothing."""

    def watch(name: str) -> Any:
        def hook(module: Any, args: Any) -> None:
            see(name, args[0].detach().reshape(-1, args[0].shape[-1]).numpy())

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in names]
    handles.append(keep_last_position(model))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward(model: Any, tokens: npt.NDArray[np.int32]) -> None:
    import torch

    with torch.no_grad():
        model(input_ids=torch.from_numpy(tokens.astype(np.int64)), use_cache=False)


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> dict[str, MatrixRange] | None:
    """Cached ranges; None where there are none or they cannot be read."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found: dict[str, dict[str, F32]] = {}
            for key in file.files:
                kind, _, name = key.partition(":")
                found.setdefault(name, {})[kind] = file[key]
    except Exception:  # a damaged archive raises almost anything; it only costs another calibration
        return None
    return {
        name: MatrixRange(parts.get("input_range"), parts.get("full_scale")) for name, parts in found.items()
    }


def _fits(ranges: Ranges, weight_file: WeightFile, hardware: Hardware) -> bool:
    """Whether cached ranges are what this calibration would give: every matrix, its shape, finite and positive."""
    matrices = analog_matrices(weight_file, hardware)
    if {matrix.name for matrix in matrices} != set(ranges):
        return False
    static = hardware.dac is not None and isinstance(hardware.dac.range, StaticRange)
    fitted = hardware.adc is not None and not isinstance(hardware.adc.full_scale, LambdaRule)
    for matrix in matrices:
        tmap, item = tile_map(matrix.rows, matrix.cols, hardware.tile), ranges[matrix.name]
        rows, cols = tmap.row_bounds.size - 1, tmap.col_bounds.size - 1
        for value, shape, wanted in (
            (item.input_range, (rows,), static),
            (item.full_scale, (rows, cols), fitted),
        ):
            if (value is not None) != wanted:
                return False
            if value is not None and (value.shape != shape or not (np.isfinite(value) & (value > 0)).all()):
                return False
    return True


def _write(path: Path, ranges: Ranges) -> None:
    """Atomically; a cache that cannot be written costs time, never a result."""
    arrays = {}
    for name, item in ranges.items():
        for kind in ("input_range", "full_scale"):
            value = getattr(item, kind)
            if value is not None:
                arrays[f"{kind}:{name}"] = value
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(file.name, path)
    except OSError:
        with suppress(OSError, NameError):
            os.unlink(file.name)
