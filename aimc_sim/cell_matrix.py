"""One weight matrix in the cells of one chip: programmed, drifted, read as tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aimc_sim.cell_wires import WiredCells
from aimc_sim.errors import BadInput
from aimc_sim.execute import NOISE_PLANES, WEIGHT_PLANES, TiledMatrix
from aimc_sim.hardware import Hardware, LambdaRule, PerTokenRange, StaticRange
from aimc_sim.kernels import conductance, panels, read_noise
from aimc_sim.kernels.conductance import Cells, DeviceTables, SiteKeys
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.kernels.tile_engine import Noise
from aimc_sim.mapping import TileMap, tile_map
from aimc_sim.periphery import Periphery, die_of
from aimc_sim.randomness import Stream, event_word, key_of, site_word
from aimc_sim.transforms import ChannelTransform

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
POLARITIES = 2
BLOCK_WEIGHTS = 1 << 15  # weights per block of columns: its effective weights stay in second-level cache


@dataclass(frozen=True)
class MatrixRange:
    """Converter ranges of one matrix; None where the hardware needs none."""

    input_range: F32 | None = None  # (row tiles,) static β
    full_scale: F32 | None = None  # (row tiles, column tiles) ADC full scale, in full-scale weights × inputs


Ranges = Mapping[str, MatrixRange]


def ranges_id(ranges: Ranges) -> str:
    """16 hex digits of what the ranges are, bit for bit; empty where there are none."""
    if not ranges:
        return ""
    digest = hashlib.sha256()
    for name in sorted(ranges):
        for kind in ("input_range", "full_scale"):
            value = getattr(ranges[name], kind)
            if value is not None:
                digest.update(f"{name} {kind} {value.shape} ".encode())
                digest.update(np.ascontiguousarray(value, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def needs_ranges(hardware: Hardware) -> bool:
    """Whether converter ranges must be calibrated on text."""
    static = hardware.dac is not None and isinstance(hardware.dac.range, StaticRange)
    fitted = hardware.adc is not None and not isinstance(hardware.adc.full_scale, LambdaRule)
    return static or fitted


@dataclass(frozen=True)
class CellMatrix:
    """A matrix w (N, K) float32 (out × in) in the cells of the chip that ``seed`` names, at one time.

    ordinal: which matrix of the model it is, a part of its cells' names. epoch: programming cycle. session: which draw
    of the frozen 1/f noise. ranges: converter ranges, where the hardware needs them.
    Raises BadInput for weights that are not finite or not a matrix, and for a time that the device does not cover.
    """

    w: F32
    hardware: Hardware
    seed: int
    t_s: float = 0.0
    ordinal: int = 0
    epoch: int = 0
    session: int = 0
    ranges: MatrixRange = MatrixRange()
    name: str = "matrix"
    transform: ChannelTransform | None = None  # that w went through already, and its inputs have to

    def __post_init__(self) -> None:
        if self.w.ndim != 2 or self.w.dtype != np.float32 or 0 in self.w.shape:
            raise BadInput(
                f"weights of {self.name}",
                got=(self.w.shape, str(self.w.dtype)),
                why="a crossbar holds a matrix",
                do="give (outputs, inputs) float32",
            )
        self.hardware.check_time(self.t_s)

    @cached_property
    def tile_map(self) -> TileMap:
        """Where the matrix is cut into tiles."""
        return tile_map(self.w.shape[1], self.w.shape[0], self.hardware.tile)

    @cached_property
    def _age(self) -> tuple[int, float]:
        """Programming cycle and seconds since it ended."""
        cycles, age_s = self.hardware.age(self.t_s)
        return self.epoch + cycles, age_s

    @cached_property
    def _tables(self) -> DeviceTables:
        return self._tables_at(self._age[1])

    def _tables_at(self, age_s: float) -> DeviceTables:
        """The device at an age of this chip's cells."""
        tables, faults = self.hardware.device.tables(age_s), self.hardware.faults
        die = die_of(self.hardware.variation, self.seed)
        scale = tables.y_scale.copy()
        scale[conductance.SIGMA] *= np.float32(die.noise_scale)
        tables = tables._replace(y_scale=scale, nu_shift=np.float32(die.nu_shift))
        if faults is None:
            return tables
        low, high = (round(rate * 2**32) for rate in (faults.stuck_low_rate, faults.stuck_high_rate))
        return tables._replace(stuck_low=low, stuck_high=high)

    @cached_property
    def _sites(self) -> SiteKeys:
        def words(stream: Stream) -> npt.NDArray[np.uint32]:
            return np.array(
                [site_word(stream, self.ordinal, plane) for plane in range(POLARITIES)], np.uint32
            )

        return SiteKeys(
            words(Stream.PROGRAMMING),
            words(Stream.DRIFT),
            words(Stream.FLICKER),
            words(Stream.FAULT),
            np.uint32(event_word(self._age[0], "epoch")),
            np.uint32(event_word(self.session)),
            key_of(self.seed),
        )

    def cells(self, columns: int | None = None) -> Cells:
        """Conductances and effective weights of the first ``columns`` columns (None: all), by the readable formula.

        ``programmed`` and ``now`` are (polarities, N, K) µS, the positive one first; ``effective`` is (N, K).
        """
        return conductance.effective_weights_reference(
            np.ascontiguousarray(self.w[:columns]), self.tile_map.row_bounds, self._tables, self._sites
        )

    def effective_weights(self) -> F32:
        """(N, K) float32: every weight as its cells hold it now, in units of its column's largest in the tile."""
        out = np.empty(self.w.shape, np.float32)

        def keep(first: int, last: int, effective: F32, total: F32) -> None:
            out[first:last] = effective

        self._visit(keep)
        return out

    def _visit(self, use: Callable[[int, int, F32, F32], None]) -> tuple[F32, F32]:
        """Effective weights and, for read noise, (G⁺ + G⁻)/g_max, block of columns by block, to
        use(first, last, effective (n, K), total (n, K) or empty), from several threads.

        Returns the largest |w| and the drift compensation of each column, both (tiles, N).
        """
        (cols, rows), tmap = self.w.shape, self.tile_map
        count = tmap.row_bounds.size - 1
        compensation, with_total = self.hardware.compensation, self.hardware.read_noise is not None
        column_max = np.empty((count, cols), np.float32)
        before, after = (np.zeros((count, cols), np.int64) for _ in range(2))

        def cells(first: int, last: int, tables: DeviceTables, readout: bool, total: bool) -> tuple[F32, F32]:
            effective = np.empty((last - first, rows), np.float32)
            both = np.empty((last - first, rows if total else 0), np.float32)
            conductance.effective_weights(
                self.w, tmap.row_bounds, tables, self._sites, first, last, readout, total, effective, both, column_max,
                before, after)  # fmt: skip
            return effective, both

        age_s = self._age[1]
        read_out_s = self.hardware.compensated_at(age_s)
        earlier = None if compensation is None or read_out_s == age_s else self._tables_at(read_out_s)

        def block(first: int, last: int) -> None:
            if earlier is not None:
                cells(first, last, earlier, True, False)
            readout = compensation is not None and earlier is None
            use(first, last, *cells(first, last, self._tables, readout, with_total))

        unit = max(1, BLOCK_WEIGHTS // rows // panels.HALF) * panels.HALF
        if self.hardware.wires is None:
            run_blocks(block, cols, unit)
        else:
            wired = WiredCells(
                self.hardware, tmap, lambda a, b, tables: cells(a, b, tables, False, True), unit
            )
            wired.visit(self._tables, use, (before, after) if compensation else None, earlier or self._tables)
        if not np.isfinite(column_max).all():
            column = int(np.flatnonzero(~np.isfinite(column_max).all(axis=0))[0])
            raise BadInput(
                f"weights of {self.name}, output {column}",
                why="they are not all finite",
                do="mend the checkpoint: a cell cannot hold NaN or infinity",
            )
        alpha = np.ones((count, cols), np.float32)
        if compensation is not None:
            if compensation.per == "tile":
                before, after = (
                    np.add.reduceat(s, tmap.col_bounds[:-1], axis=1)[:, tmap.column_tile]
                    for s in (before, after)
                )
            np.divide(before, after, out=alpha, where=after > 0, casting="unsafe")
        return column_max, alpha

    def tiles(self) -> TiledMatrix:
        """The matrix as `execute.tile_matmul` reads it."""
        (cols, rows), bounds = self.w.shape, self.tile_map.row_bounds
        on_grid = self.hardware.tile.weight_grid == "int16"
        integers = self.hardware.uses_integers
        peak = np.ones((bounds.size - 1, cols), np.float32)
        quads = panels.quad_starts(bounds)
        packed = panels.empty_panels(cols, bounds, WEIGHT_PLANES) if integers else np.empty(0, np.uint8)
        weights = np.empty((0, 0) if integers else (cols, rows), np.float32)

        noise = self.hardware.read_noise
        steps = panels.empty_panels(cols, bounds, NOISE_PLANES) if noise else np.empty(0, np.uint8)
        largest = np.empty((bounds.size - 1, cols), np.float32)

        around = Periphery(self.hardware, self.tile_map, self.ordinal, self.seed)
        pushed = np.zeros((bounds.size - 1, cols))

        def keep(first: int, last: int, effective: F32, total: F32) -> None:
            around.act_on(first, last, effective, total)
            if (current := around.pushed(first, last, effective)) is not None:
                pushed[:, first:last] = current
            if noise:
                values = np.empty(total.shape, np.uint8)
                read_noise.to_steps(total, bounds, first, largest, values)
                panels.pack_plane(values, bounds, quads, first, steps)
            if on_grid:
                grid = np.empty(effective.shape, np.int16)
                panels.to_grid(effective, bounds, first, peak, grid)
                if integers:
                    panels.pack_grid(grid, bounds, quads, first, packed)
                else:
                    for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
                        weights[first:last, a:b] = panels.from_grid(grid[:, a:b], peak[t, first:last])
            elif not integers:
                weights[first:last] = effective

        column_max, alpha = self._visit(keep)
        gain = column_max.astype(np.float64) * alpha
        if not integers:
            tiles, lsb = self._float_tiles(weights, gain)
            tiles = replace(tiles, transform=self.transform)
            if self.hardware.dac is not None:
                return around.behind(tiles, pushed, lsb)
            around.silence(weights)
            return tiles
        lsb = self._lsb(peak)
        tiles = self._integer_tiles(packed, peak, gain, lsb)
        if noise is not None:
            tiles = replace(tiles, noise=self._noise(noise.sigma, steps, largest, lsb))
        return around.behind(replace(tiles, transform=self.transform), pushed, lsb)

    def _integer_tiles(self, packed: U8, peak: F32, gain: F64, lsb: F64) -> TiledMatrix:
        dac = self.hardware.dac
        assert dac is not None
        per_unit = peak / (panels.GRID * self.hardware.read_levels)
        return self._converted(per_unit, gain, lsb, packed=packed)

    def _noise(self, sigma: float, steps: U8, largest: F32, lsb: F64) -> Noise:
        """Read noise, its variance in squared codes (without an ADC: currents) per unit of the integer Σ steps·q²."""
        dac, device = self.hardware.dac, self.hardware.device
        assert dac is not None
        relative = (
            sigma * device.g_max_us / (device.g_max_us - device.g_min_us) / self.hardware.read_levels
        ) ** 2
        scale = relative * largest.astype(np.float64) / read_noise.STEPS / lsb**2
        site = site_word(Stream.READ, self.ordinal)
        return Noise(key_of(self.seed), site, steps, scale.astype(np.float32))

    def _float_tiles(self, weights: F32, gain: F64) -> tuple[TiledMatrix, F64]:
        dac, bounds = self.hardware.dac, self.tile_map.row_bounds
        if dac is not None:
            ends = zip(bounds[:-1], bounds[1:], strict=True)
            peak = np.stack([np.abs(weights[:, a:b]).max(axis=1) for a, b in ends])
            lsb = self._lsb(peak)
            return self._converted(np.full(gain.shape, 1.0 / dac.levels), gain, lsb, weights=weights), lsb
        for t, (a, b) in enumerate(
            zip(bounds[:-1], bounds[1:], strict=True)
        ):  # no converters: fold the scales in
            weights[:, a:b] *= gain[t].astype(np.float32)[:, None]
        ones = np.ones((1, gain.shape[1]), np.float32)
        return TiledMatrix(bounds[[0, -1]], ones, ones, weights=weights), np.ones((1, 1))

    def _converted(
        self, current_per_unit: npt.NDArray[np.floating], gain: F64, lsb: F64, *,
        packed: U8 | None = None, weights: F32 | None = None,
    ) -> TiledMatrix:  # fmt: skip
        """Tiles behind converters; current_per_unit (tiles, N): full-scale currents per unit of the tile's sum."""
        dac, adc = self.hardware.dac, self.hardware.adc
        assert dac is not None
        beta = None
        if isinstance(dac.range, StaticRange):
            beta = self._needed(self.ranges.input_range, "static input range")
        return TiledMatrix(
            self.tile_map.row_bounds,
            inverse=(current_per_unit.astype(np.float64) / lsb).astype(np.float32),
            scale=(lsb * gain * (self.hardware.read_levels / dac.levels)).astype(np.float32),
            reads=self.hardware.reads,
            panels=packed, weights=weights,
            dac_levels=dac.levels,
            adc_levels=adc.levels if adc else 0,
            input_range=beta,
            range_per_tile=isinstance(dac.range, PerTokenRange) and dac.range.per == "tile",
        )  # fmt: skip

    def _lsb(self, peak: F32) -> F64:
        """(tiles, N) or (tiles, 1): an ADC code in full-scale currents; 1 without an ADC.

        peak: (tiles, N) the largest |effective weight| of each column in its tile.
        """
        adc = self.hardware.adc
        if adc is None:
            return np.ones((self.tile_map.row_bounds.size - 1, 1))
        if not isinstance(adc.full_scale, LambdaRule):
            fitted = self._needed(self.ranges.full_scale, "ADC full scale")
            return fitted.astype(np.float64)[:, self.tile_map.column_tile] / adc.levels
        if adc.full_scale.bound_from == "target":
            return np.full((self.tile_map.row_bounds.size - 1, 1), adc.full_scale.lambda_ / adc.levels)
        full = adc.full_scale.lambda_ * np.where(peak > 0, peak.astype(np.float64), 1.0)
        return np.asarray(full / adc.levels)

    def _needed(self, value: F32 | None, what: str) -> F32:
        if value is None:
            raise BadInput(
                f"ranges of {self.name}",
                why=f"the hardware needs its {what}, and none was given",
                do="calibrate them: aimc_sim.program does it from the weight file's text",
            )
        return value
