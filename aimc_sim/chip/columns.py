"""Columns that are converted together, from cells to tiles that a product reads: periphery, grid, LSB, read noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, F64, U8
from aimc_sim.chip.blocks import Block
from aimc_sim.chip.fault_sites import MappedFaults
from aimc_sim.chip.mapping import TileMap
from aimc_sim.chip.periphery import Periphery
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, LambdaRule, PerTokenRange, StaticRange
from aimc_sim.kernels import panels, read_noise
from aimc_sim.kernels.tile_engine import Noise
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.tiles.matrix import NOISE_PLANES, WEIGHT_PLANES, TiledMatrix


class ConvertedColumns:
    """This sink makes tiles of the cells that it takes: `keep` takes an array's blocks, `finish` returns the tiles.

    part: which of the columns that hold a weight these are (slices; the two columns of a pair that is subtracted
    digitally; copies). polarity: 1 or -1 for one column of such a pair, 0 for both before one conversion. copy, lines,
    mapped: see `Periphery`.
    """

    def __init__(
        self, hardware: Hardware, tile_map: TileMap, ordinal: int, seed: int, ranges: MatrixRange, name: str,
        part: int = 0, polarity: Literal[-1, 0, 1] = 0, copy: int = 0,
        lines: npt.NDArray[np.int64] | None = None, mapped: MappedFaults | None = None,
    ) -> None:  # fmt: skip
        self.hardware, self.tile_map, self.ordinal, self.seed = hardware, tile_map, ordinal, seed
        self.ranges, self.name, self.part, self.polarity = ranges, name, part, polarity
        bounds = tile_map.row_bounds
        rows, cols = int(bounds[-1]), int(tile_map.col_bounds[-1])
        self._integers, self._noise = hardware.uses_integers, hardware.read_noise
        self._peak = np.ones((bounds.size - 1, cols), np.float32)
        self._quads = panels.quad_starts(bounds)
        self._packed = (
            panels.empty_panels(cols, bounds, WEIGHT_PLANES) if self._integers else np.empty(0, np.uint8)
        )
        self._weights = np.empty((0, 0) if self._integers else (cols, rows), np.float32)
        self._steps = (
            panels.empty_panels(cols, bounds, NOISE_PLANES) if self._noise else np.empty(0, np.uint8)
        )
        self._largest = np.empty((bounds.size - 1, cols), np.float32)
        self._around = Periphery(hardware, tile_map, ordinal, seed, part, copy, lines, mapped)
        self._offset_current = np.zeros((bounds.size - 1, cols))

    @property
    def needs_total(self) -> bool:
        """Read noise follows the sum of a pair, and one column of a pair is half of its sum and difference."""
        return self._noise is not None or bool(self.polarity)

    def keep(self, block: Block) -> None:
        """Take some columns through the periphery onto the grid. Without a polarity the block's memory is changed."""
        bounds, device = self.tile_map.row_bounds, self.hardware.device
        first, last, effective, total = block.first, block.last, block.effective, block.total
        if self.polarity:
            share = np.float32(device.g_max_us / (device.g_max_us - device.g_min_us))
            effective = (total * share + np.float32(self.polarity) * effective) * np.float32(0.5)
            total = effective * (1 / share) if self._noise else total[:, :0]
        self._around.scale_cells(first, last, effective, total)
        if (current := self._around.dac_offset_current(first, last, effective)) is not None:
            self._offset_current[:, first:last] = current
        if self._noise:
            values = np.empty(total.shape, np.uint8)
            read_noise.to_steps(total, bounds, first, self._largest, values)
            panels.pack_plane(values, bounds, self._quads, first, self._steps)
        if self.hardware.tile.weight_grid == "int16":
            grid = np.empty(effective.shape, np.int16)
            panels.to_grid(effective, bounds, first, self._peak, grid)
            if self._integers:
                panels.pack_grid(grid, bounds, self._quads, first, self._packed)
            else:
                for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
                    self._weights[first:last, a:b] = panels.from_grid(grid[:, a:b], self._peak[t, first:last])
        elif not self._integers:
            self._weights[first:last] = effective

    def finish(self, gain: F64) -> TiledMatrix:
        """Return the tiles. gain (row tiles, N): the weight that a full-scale cell stands for,
        drift compensation included.
        """
        gain = gain * -1 if self.polarity < 0 else gain
        if not self._integers:
            tiles, lsb = self._float_tiles(gain)
            if self.hardware.dac is not None:
                return self._around.with_converter_errors(tiles, self._offset_current, lsb)
            self._around.zero_dead_columns(self._weights)
            return tiles
        lsb = self._lsb(self._peak)
        per_unit = self._peak / (panels.GRID * self.hardware.read_max_code)
        tiles = self._convert(per_unit, gain, lsb, packed=self._packed)
        if self._noise is not None:
            tiles = replace(tiles, noise=self._read_noise(self._noise.sigma, lsb))
        return self._around.with_converter_errors(tiles, self._offset_current, lsb)

    def _read_noise(self, sigma: float, lsb: F64) -> Noise:
        """Read noise, its variance in squared codes (without an ADC: currents) per unit of the integer Σ steps·q²."""
        dac, device = self.hardware.dac, self.hardware.device
        assert dac is not None
        relative = (
            sigma * device.g_max_us / (device.g_max_us - device.g_min_us) / self.hardware.read_max_code
        ) ** 2 / self.hardware.weights.devices
        scale = relative * self._largest.astype(np.float64) / read_noise.STEPS / lsb**2
        site = site_word(Stream.READ, self.ordinal, self.part * self.hardware.reads.times)
        return Noise(key_of(self.seed), site, self._steps, scale.astype(np.float32))

    def _float_tiles(self, gain: F64) -> tuple[TiledMatrix, F64]:
        dac, bounds, weights = self.hardware.dac, self.tile_map.row_bounds, self._weights
        if dac is not None:
            ends = zip(bounds[:-1], bounds[1:], strict=True)
            peak = np.stack([np.abs(weights[:, a:b]).max(axis=1) for a, b in ends])
            lsb = self._lsb(peak)
            return self._convert(np.full(gain.shape, 1.0 / dac.max_code), gain, lsb, weights=weights), lsb
        # no converters: fold the scales in
        for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            weights[:, a:b] *= gain[t].astype(np.float32)[:, None]
        ones = np.ones((1, gain.shape[1]), np.float32)
        return TiledMatrix(bounds[[0, -1]], ones, ones, weights=weights), np.ones((1, 1))

    def _convert(
        self, current_per_unit: npt.NDArray[np.floating], gain: F64, lsb: F64, *,
        packed: U8 | None = None, weights: F32 | None = None,
    ) -> TiledMatrix:  # fmt: skip
        """Make the tiles behind converters; current_per_unit (tiles, N):
        full-scale currents per unit of the tile's sum.
        """
        dac, adc = self.hardware.dac, self.hardware.adc
        assert dac is not None
        beta = None
        if isinstance(dac.range, StaticRange):
            beta = self._need(self.ranges.input_range, "static input range")
        return TiledMatrix(
            self.tile_map.row_bounds,
            inverse=(current_per_unit.astype(np.float64) / lsb).astype(np.float32),
            scale=(lsb * gain * (self.hardware.read_max_code / dac.max_code)).astype(np.float32),
            reads=self.hardware.reads,
            panels=packed, weights=weights,
            dac_max_code=dac.max_code,
            adc_max_code=self._max_code,
            adc_unsigned=adc is not None and self._unsigned,
            input_range=beta,
            range_per_tile=isinstance(dac.range, PerTokenRange) and dac.range.per == "tile",
        )  # fmt: skip

    @property
    def _unsigned(self) -> bool:
        """One column of a pair gives currents of one sign, if its inputs have one."""
        return bool(self.polarity) and self.hardware.one_signed_reads

    @property
    def _max_code(self) -> int:
        """Return the largest code of the ADC; 0 without one."""
        adc = self.hardware.adc
        if adc is None:
            return 0
        return 2 * adc.max_code + 1 if self._unsigned else adc.max_code

    def _lsb(self, peak: F32) -> F64:
        """Return (tiles, N) or (tiles, 1): an ADC code in full-scale currents; 1 without an ADC.

        peak: (tiles, N) the largest |effective weight| of each column in its tile.
        """
        adc, rows = self.hardware.adc, self.tile_map.row_bounds.size - 1
        if adc is None:
            return np.ones((rows, 1))
        if not isinstance(adc.full_scale, LambdaRule) or adc.full_scale.calibrated:
            fitted = self._need(self.ranges.full_scale, "ADC full scale").astype(np.float64)
            own = fitted if fitted.ndim == 2 else fitted[self.part]
            return np.asarray(own[:, self.tile_map.column_tile] / self._max_code)
        if adc.full_scale.bound_from == "target":
            return np.full((rows, 1), adc.full_scale.lambda_ / self._max_code)
        full = adc.full_scale.lambda_ * np.where(peak > 0, peak.astype(np.float64), 1.0)
        return np.asarray(full / self._max_code)

    def _need(self, value: F32 | None, what: str) -> F32:
        if value is None:
            raise BadInput(
                f"ranges of {self.name}",
                why=f"the hardware needs its {what}, and none was given",
                do="calibrate them: aimc_sim.program does it from the weight file's text",
            )
        return value
