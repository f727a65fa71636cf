"""Converter ranges from one pass of the digital model over the stored calibration text, cached by content.

Input ranges β by a rule of the DAC, ADC full scales by a rule of the ADC: `hardware.converters` lists them, and
`calibrate.rules` has their arithmetic. Matrix by matrix as the model runs; nothing of the text is kept. A λ for the
whole model is chosen when the pass is over. Where no rule needs text, none is read.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from aimc_sim.aliases import F32, F64, I64, Progress
from aimc_sim.calibrate import cache
from aimc_sim.calibrate.rules import LAMBDAS, full_scales, lambda_errors, shape_of, static_range
from aimc_sim.chip.mapping import TileMap, tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange, Ranges, needs_ranges
from aimc_sim.chip.state import channel_transform
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.converters import LambdaRule, LeastOutputError, StaticRange, WorstCase
from aimc_sim.tiles.channel_transform import ChannelTransform
from aimc_sim.torch_bridge.inputs import read_inputs, spread
from aimc_sim.torch_bridge.model import load_digital
from aimc_sim.torch_bridge.streaming import release_layers
from aimc_sim.weightfile import MatrixInfo, WeightFile
from aimc_sim.weightfile.analog import analog_matrices
from aimc_sim.weightfile.manifest import to_float32

FIT_TOKENS = 512  # tokens that full scales are fitted on, spread evenly over the calibration text
FIT_COLUMNS = 8192  # outputs fitted at once, in whole tiles: bounds what the head of a large vocabulary takes
HELD = 4 * FIT_COLUMNS  # outputs × conversions of one output, where all of them are held at once


def derive_ranges(
    weight_file: WeightFile, hardware: Hardware, progress: Progress | None = None
) -> dict[str, MatrixRange]:
    """Derive the ranges of every analog matrix, in one pass over the calibration text. Raises BadInput if the file has
    none.

    >>> from aimc_sim import Hardware, WeightFile
    >>> from aimc_sim.calibrate import derive_ranges
    >>> weights = WeightFile("model.h5")
    >>> sorted(derive_ranges(weights, Hardware.load("hermes-256"))) == sorted(m.name for m in weights.matrices)
    True
    """
    own = _map_again(weight_file)
    ranges = RangeFinder(own, hardware, progress, streams=own is not weight_file).run()
    gc.collect()  # a model is full of cycles, and keeps the whole file mapped
    return ranges


def ranges_for(weight_file: WeightFile, hardware: Hardware, progress: Progress | None = None) -> Ranges:
    """Derive ranges as `derive_ranges` does, or recall them from the user's cache folder by (weight file, converters,
    tiles, placement). Empty for a hardware whose converters need none.

    >>> from aimc_sim import Hardware, WeightFile
    >>> from aimc_sim.calibrate import ranges_for
    >>> weights = WeightFile("model.h5")
    >>> ranges_for(weights, Hardware.load("hermes-256"))[weights.matrices[0].name].full_scale.ndim
    2
    """
    if not needs_ranges(hardware):
        return {}
    known = cache.load(weight_file, hardware)
    if known is None:
        known = derive_ranges(weight_file, hardware, progress)
        cache.store(weight_file, hardware, known)
    return known


def needs_text(hardware: Hardware) -> bool:
    """Return whether any range depends on the calibration text, and not on the weights alone."""
    static = hardware.dac is not None and isinstance(hardware.dac.range, StaticRange)
    adc = hardware.adc
    return static or (
        adc is not None and adc.full_scale.calibrated and not isinstance(adc.full_scale, WorstCase)
    )


def derived_lambdas(hardware: Hardware, ranges: Ranges) -> dict[str, float]:
    """Return λ of every matrix where the hardware asks for one that is derived anew; empty where it does not."""
    rule = None if hardware.adc is None else hardware.adc.full_scale
    if not isinstance(rule, LambdaRule) or rule.derive is None:
        return {}
    return {
        name: float(item.full_scale.flat[0]) for name, item in ranges.items() if item.full_scale is not None
    }


class RangeFinder:
    """A range finder turns what each matrix sees in one pass over the text into its `ranges`, and forgets it.

    streams: layers that the pass is done with leave memory, which needs a mapping of its own.
    """

    def __init__(
        self, weight_file: WeightFile, hardware: Hardware, progress: Progress | None, streams: bool = False
    ) -> None:
        self._file, self._hardware, self._progress = weight_file, hardware, progress
        self._streams = streams
        self._matrices = {matrix.name: matrix for matrix in analog_matrices(weight_file, hardware)}
        self.ranges: dict[str, MatrixRange] = {}
        self._errors: dict[str, F64] = {}  # of products at each λ, for the one of the whole model

    def run(self) -> dict[str, MatrixRange]:
        """Find all ranges, in the order of the model."""
        if needs_text(self._hardware):
            if self._progress:  # while the model loads
                self._progress("calibrating converter ranges", 0, len(self._matrices))
            model = load_digital(self._file)
            if self._streams:
                release_layers(model, self._file)
            read_inputs(model, self._file.calibration.token_ids, self._matrices, self.see)
        else:
            for name, matrix in self._matrices.items():
                self.see(name, np.zeros((0, matrix.rows), np.float32))
                if self._streams:
                    self._file.forget(matrix.tensor)
        rule = None if self._hardware.adc is None else self._hardware.adc.full_scale
        if self._errors and isinstance(rule, LambdaRule):
            best = rule.lambda_ * LAMBDAS[int(np.argmin(np.mean(list(self._errors.values()), axis=0)))]
            for name, item in self.ranges.items():
                assert item.full_scale is not None
                self.ranges[name] = replace(item, full_scale=np.full_like(item.full_scale, best))
        return self.ranges

    def see(self, name: str, x: F32) -> None:
        """Find the ranges of a matrix from its inputs on the whole text, (tokens, K) float32."""
        matrix, hardware = self._matrices[name], self._hardware.of_matrix(name)
        tmap = tile_map(matrix.rows, matrix.cols, hardware.tile)
        transform = None
        if hardware.transform is not None:
            transform = channel_transform(self._file, matrix, hardware, self._file.weight(name))
        if transform is not None and len(x):
            x = transform.apply_input(np.ascontiguousarray(x))
        beta = self._input_range(matrix, tmap, transform, x)
        full_scale = None
        if hardware.adc is not None and hardware.adc.full_scale.calibrated:
            full_scale = self._full_scale(matrix, tmap, transform, _sample(x), beta)
        self.ranges[name] = MatrixRange(beta, full_scale)
        if self._progress:
            self._progress("calibrating converter ranges", len(self.ranges), len(self._matrices))

    def _input_range(
        self, matrix: MatrixInfo, tmap: TileMap, transform: ChannelTransform | None, x: F32
    ) -> F32 | None:
        dac = self._hardware.dac
        if dac is None or not isinstance(dac.range, StaticRange):
            return None
        learned = self._file.ranges(matrix.name)
        if learned is None:
            on_products = dac.range.method == "least_output_error"

            def columns() -> Iterator[F32]:
                for first, last in _column_groups(tmap.col_bounds, FIT_COLUMNS):
                    ends = int(tmap.col_bounds[first]), int(tmap.col_bounds[last])
                    yield self._columns(matrix, *ends, transform)

            return static_range(_sample(x) if on_products else x, tmap, dac.range, dac.max_code, columns)
        if transform is not None:
            raise BadInput(
                f"transform of {matrix.name}",
                why="its input range was learned in training, for inputs as they were",
                do="leave the matrix out of [[transform]], or export a checkpoint without learned ranges",
            )
        return _take_learned(learned, tmap)

    def _full_scale(
        self, matrix: MatrixInfo, tmap: TileMap, transform: ChannelTransform | None, x: F32, beta: F32 | None
    ) -> F32:
        hardware = self._hardware.of_matrix(matrix.name)
        assert hardware.adc is not None
        cells = _exact_cells(hardware)
        rule, unit = hardware.adc.full_scale, hardware.adc.max_code
        limit = FIT_COLUMNS
        if isinstance(rule, (LambdaRule, LeastOutputError)):
            limit = min(FIT_COLUMNS, HELD // ((tmap.row_bounds.size - 1) * hardware.conversions_per_weight))

        def pieces() -> Any:
            for first, last in _column_groups(tmap.col_bounds, limit):
                ends = int(tmap.col_bounds[first]), int(tmap.col_bounds[last])
                w = self._columns(matrix, *ends, transform)
                yield (
                    first,
                    last,
                    CellMatrix(w, cells, 0, ranges=MatrixRange(beta), name=matrix.name).tiles(),
                )

        if isinstance(rule, LambdaRule) and rule.derive == "model":
            self._errors[matrix.name] = lambda_errors(x, pieces, tmap, rule.lambda_, unit)
            return np.ones(shape_of(pieces, tmap), np.float32)
        return full_scales(x, pieces, tmap, rule, unit, hardware.read_max_code)

    def _columns(self, matrix: MatrixInfo, first: int, last: int, transform: ChannelTransform | None) -> F32:
        """Return the outputs first … last-1 of a matrix as its cells hold them, (n, K) float32."""
        stored = self._file.tensor(matrix.tensor).bits  # pages that the model has just read
        bits = stored[first:last] if matrix.layout == "out_in" else stored[:, first:last].T
        w = np.ascontiguousarray(to_float32(bits, matrix.dtype))
        return w if transform is None else transform.apply_weight(w)


class RangesInPass:
    """This object finds the ranges of one hardware, matrix by matrix in a pass over the text that somebody else makes.

    They come from the cache where it has them; else each is found when its matrix comes up, and `keep` caches all.
    """

    def __init__(self, weight_file: WeightFile, hardware: Hardware) -> None:
        self._file, self._hardware = weight_file, hardware
        rule = None if hardware.adc is None else hardware.adc.full_scale
        # One λ for the whole model is known when every matrix has been seen, too late for the first.
        one_lambda = isinstance(rule, LambdaRule) and rule.derive == "model"
        beforehand = one_lambda or not needs_ranges(hardware)
        known = (ranges_for if beforehand else cache.load)(weight_file, hardware)
        self._finder: RangeFinder | None = None
        if known is None:
            self._finder = RangeFinder(weight_file, hardware, None)
            known = self._finder.ranges
        self._known = known

    def of(self, name: str, x: F32) -> Ranges:
        """Return the ranges, with this matrix's where it needs them. x: its inputs on the whole text (tokens, K)."""
        if self._finder is not None:
            self._finder.see(name, x)
        return self._known

    def keep(self) -> None:
        """Cache the ranges of the pass."""
        if self._finder is not None:
            cache.store(self._file, self._hardware, self._finder.ranges)


def _exact_cells(hardware: Hardware) -> Hardware:
    """Return the same tiles around exact cells; currents in units of the ADC's code,
    so that no full scale is asked for.
    """
    cells = hardware.with_ideal_cells()
    if hardware.adc is None:
        return cells
    device = cells.device
    if hardware.weights.subtract == "digital" and hardware.device.domain == "conductance":
        span = {"g_min_us": hardware.device.g_min_us, "g_max_us": hardware.device.g_max_us}
        device = device.model_copy(update=span)  # a single column carries the current of g_min as well
    unit = LambdaRule(rule="lambda", lambda_=hardware.adc.max_code)
    adc = hardware.adc.model_copy(update={"full_scale": unit, "errors": None})
    dac = hardware.dac and hardware.dac.model_copy(update={"errors": None})
    return cells.model_copy(update={"adc": adc, "dac": dac, "device": device})


def _sample(x: F32) -> F32:
    """Return at most FIT_TOKENS rows of x, spread evenly."""
    return np.ascontiguousarray(x[spread(FIT_TOKENS, len(x))]) if len(x) else x


def _map_again(weight_file: WeightFile) -> WeightFile:
    """The same file in a mapping of its own: the pages that one pass reads leave memory with it, and nobody's changes
    to a digital model's weights reach the ranges."""
    try:
        fresh = WeightFile(weight_file.path)
    except BadInput:  # moved since
        return weight_file
    return fresh if fresh.id == weight_file.id else weight_file


def _column_groups(bounds: I64, limit: int) -> list[tuple[int, int]]:
    """Return column tiles first … last-1, group by group, each of at most ``limit`` outputs or one tile."""
    groups, first = [], 0
    for last in range(1, bounds.size):
        if last + 1 == bounds.size or bounds[last + 1] - bounds[first] > limit:
            groups.append((first, last))
            first = last
    return groups


def _take_learned(ranges: F32, tmap: TileMap) -> F32:
    count = tmap.row_bounds.size - 1
    if ranges.shape not in ((1,), (count,)):
        raise BadInput(
            "learned input ranges",
            got=ranges.shape,
            why=f"this tiling has {count} row tiles, and they were learned for another",
            do="use the tile height that the checkpoint was trained with, or calibrate: dac.range with a rule",
        )
    return np.broadcast_to(ranges, count).astype(np.float32)
