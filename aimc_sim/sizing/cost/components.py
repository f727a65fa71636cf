"""The components of a tile, each an object that says its energy, area and delay for every point and matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.sizing.cost.adc import adc_survey, zigzag_adc
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.profile import AdcPart, Part
from aimc_sim.sizing.cost.timing import TIMINGS, Parts, neurram_counts

TILE_PARTS = (
    "array",
    "dac",
    "adc",
    "sample_hold",
    "shift_add",
    "periphery",
    "buffers",
    "interconnect",
    "rest",
)
TIMED = ("array", "adc", "periphery")  # that read, convert, and compute between reads, as `timing` has them
PARTIAL_SUM_BYTES = 2  # what a row tile hands on for one output


@dataclass(frozen=True)
class Use:
    """A use says what one product of each matrix asks of its tiles; arrays (P, M) or (P, 1).

    K × N weights on ceil(K/R) × ceil(N·s/C) tiles, and so many for every copy; lines that are left empty are switched
    off. activity: mean of drive × G/g_max over the cells; needed where the profile has a reading voltage.
    """

    designs: Designs
    rows: F64  # K (1, M)
    cols: F64  # N (1, M)
    row_tiles: F64
    col_tiles: F64
    copies: F64
    cells: F64
    row_reads: F64
    column_reads: F64
    conversions: F64
    input_bytes: F64
    output_bytes: F64
    activity: F64 | None

    @classmethod
    def of(cls, designs: Designs, k: npt.ArrayLike, n: npt.ArrayLike, activity: F64 | None = None) -> Use:
        """Count for M matrices. k, n: their inputs and outputs, (M,); or (P, 1), another matrix for every point."""
        K, N = (np.atleast_2d(np.asarray(extent, np.float64)) for extent in (k, n))

        def column(name: str) -> F64:
            return np.asarray(getattr(designs, name), np.float64)[:, None]

        s, reads = column("columns_per_weight"), column("reads")
        row_tiles, col_tiles = np.ceil(K / column("rows")), np.ceil(N * s / column("cols"))
        copies = column("copies")
        extra = col_tiles if designs.offset_column else 0.0  # the column of offsets is converted once a tile
        reuse = designs.profile.buffers.of("input_reuse") or 1.0
        return cls(
            designs, K, N, row_tiles, col_tiles, copies,
            cells=K * N * s * copies,
            row_reads=K * col_tiles * reads * copies,
            column_reads=row_tiles * (N + extra) * s * reads * copies,
            conversions=row_tiles * (N + extra) * column("conversions_per_output") * copies,
            input_bytes=K * col_tiles * column("dac_bits") / 8 / reuse * copies,
            output_bytes=row_tiles * N * PARTIAL_SUM_BYTES * copies,
            activity=activity,
        )  # fmt: skip

    @property
    def tiles(self) -> F64:
        """Tiles of a matrix, (P, M)."""
        return self.row_tiles * self.col_tiles * self.copies

    @property
    def additions(self) -> F64:
        """Sums that an output waits for one after the other, (P, M): over row tiles and copies."""
        return self.row_tiles * self.copies - 1


@dataclass(frozen=True)
class Component:
    """A component is a part of a tile at the points of a design space."""

    name: str
    designs: Designs
    part: Part

    def energy_pj(self, use: Use) -> F64:
        """Compute the energy of one product of each matrix, (P, M) pJ; what waits is not in it."""
        reads, bits = self.designs.reads[:, None], self.designs.adc_bits[:, None]
        total = self._charged(
            np.zeros(use.row_tiles.shape),
            ("energy_per_product", use.tiles), ("energy_per_row_read", use.row_reads),
            ("energy_per_column_read", use.column_reads), ("energy_per_conversion", use.conversions),
            ("energy_per_input_byte", use.input_bytes), ("energy_per_output_byte", use.output_bytes),
            ("energy_per_cell_read", use.cells, reads), ("energy_per_converted_bit", use.conversions, bits),
        )  # fmt: skip
        if self.part.power_tile is not None:
            total = total + self.part.of("power_tile") * use.tiles * product_ns(self.designs)[:, None]
        return total

    def area_um2(self) -> F64:
        """Compute the area in one tile, (P,) µm²."""
        d = self.designs
        return self._charged(
            np.full(len(d), self.part.of("area_tile")),
            ("area_row", d.rows), ("area_column", d.physical_cols), ("area_converter", d.adcs_per_tile),
            ("area_cell", d.rows, d.physical_cols, d.devices), ("area_converter_bit", d.adc_bits, d.adcs_per_tile),
        )  # fmt: skip

    def _charged(self, total: F64, *charges: Any) -> F64:
        """Add constant × its counts to a total, for the constants that the profile has."""
        for name, *counts in charges:
            if getattr(self.part, name) is not None:
                total = total + math.prod(counts, start=self.part.of(name))
        return total

    def delay_ns(self) -> F64:
        """Compute its share of the time of one product, (P,) ns; the shares of all components add up to
        `product_ns`.
        """
        if self.name not in TIMED:
            return np.zeros(len(self.designs))
        return timing(self.designs)[TIMED.index(self.name)]


class Array(Component):
    """The array is the cells: V²·t·ΣG of what is stored, by what is put in."""

    def energy_pj(self, use: Use) -> F64:
        """Compute the energy of reading them all."""
        d, part = self.designs, self.designs.profile.array
        total = super().energy_pj(use)
        if part.energy_per_pulse_cell is not None:
            pulses = neurram_counts(d.dac_bits, d.adc_bits, d.phases >= 2)[0]
            total = total + part.of("energy_per_pulse_cell") * use.cells * pulses[:, None]
        if part.voltage_read is not None and use.activity is not None:
            device = d.hardware.device
            if device.domain == "weight":
                raise BadInput(
                    "array energy", got=device.name, why="its noise acts on weights, and weights carry no current",
                    do="choose a device of the conductance domain, or a profile with a fixed energy of a cell",
                )  # fmt: skip
            # V² · ns · µS = 1e-15 J
            full = (d.v_read_v**2 * d.t_read_ns * device.g_max_us * d.devices)[:, None] * 1e-3
            total = total + full * (use.rows * use.cols * use.copies) * use.activity
        return total


class Converters(Component):
    """These are the ADCs, by constants at ``reference_bits``: law "scaled"."""

    part: AdcPart

    def conversion_ns(self) -> F64:
        """Compute the time of one conversion, (P,) ns; where the profile names none, what keeps pace with reading."""
        d = self.designs
        if self.part.delay_conversion is None:
            return np.asarray(d.t_read_ns / d.rounds)
        return np.full(len(d), self.part.of("delay_conversion"))

    def conversion_pj(self) -> F64:
        """Compute the energy of one conversion, (P,) pJ."""
        d, part = self.designs, self.part
        reading = d.t_read_ns if TIMINGS[d.profile.timing.law].converts_while_reading else 0.0
        once = part.of("energy_per_conversion") + part.of("power_converter") * (
            self.conversion_ns() + reading
        )
        # a converter of fewer effective bits is a cheaper one, so noise in the simulation is paid back here
        return np.asarray(once * self._growth(d.enob))

    def energy_pj(self, use: Use) -> F64:
        """Compute the energy of all conversions, at the effective bits of the simulated converter."""
        return np.asarray(self.conversion_pj()[:, None] * use.conversions)

    def area_um2(self) -> F64:
        """Compute the area of all converters of a tile, (P,) µm²."""
        return super().area_um2() * self._growth(self.designs.adc_bits)

    def _growth(self, bits: F64) -> F64:
        return np.asarray(self.part.of("growth_per_bit", 1.0) ** (bits - self.part.reference_bits))


class SurveyConverters(Converters):
    """These are converters as the survey's fit has them (`adc_survey`): law "survey"."""

    def _fit(self) -> tuple[F64, F64]:
        d = self.designs
        rate = 1e9 * d.adcs_per_tile / self.conversion_ns()
        return adc_survey(d.enob, d.profile.node_nm, rate, d.adcs_per_tile)

    def conversion_pj(self) -> F64:
        """Compute the energy of one conversion, (P,) pJ."""
        return self._fit()[0] * self.part.of("factor_energy", 1.0)

    def area_um2(self) -> F64:
        """Compute the area of all converters of a tile, (P,) µm²."""
        return self._fit()[1] * self.part.of("factor_area", 1.0)


class ZigzagConverters(Converters):
    """This is a flash converter below every column of an SRAM array (`zigzag_adc`): law "zigzag"."""

    def _model(self) -> tuple[F64, F64, F64]:
        return zigzag_adc(self.designs.adc_bits, self.designs.rows)

    def conversion_ns(self) -> F64:
        """Compute the time of one conversion, (P,) ns."""
        return self._model()[2]

    def conversion_pj(self) -> F64:
        """Compute the energy of one conversion, (P,) pJ."""
        return self._model()[0] * self.part.of("factor_energy", 1.0)

    def area_um2(self) -> F64:
        """Compute the area of all converters of a tile, (P,) µm²."""
        return self._model()[1] * 1e6 * self.designs.adcs_per_tile * self.part.of("factor_area", 1.0)


class NeurramConverters(Converters):
    """These are neurons that convert bit by bit, both phases of an input: of the timing law "neurram"."""

    def energy_pj(self, use: Use) -> F64:
        """Compute the energy of the bits that they convert."""
        d = self.designs
        bits = neurram_counts(d.dac_bits, d.adc_bits, d.phases >= 2)[1]
        outputs = use.row_tiles * use.copies * use.cols * (d.slices * d.conversions_per_pair)[:, None]
        return np.asarray(self.part.of("energy_per_converted_bit") * outputs * bits[:, None])


class Rest(Component):
    """The rest is static power, and what a calibrated tile holds beside its modelled parts: with its rows and its
    columns.
    """

    def energy_pj(self, use: Use) -> F64:
        """Compute the energy of the power that flows while the tile works."""
        total = super().energy_pj(use)
        if self.designs.profile.calibration is None:
            return total
        return total + (self._beside(0) * product_ns(self.designs))[:, None] * use.tiles

    def area_um2(self) -> F64:
        """Compute the area that the other components of the measured tile leave."""
        total = super().area_um2()
        return total if self.designs.profile.calibration is None else total + self._beside(1)

    def _beside(self, what: int) -> F64:
        """Return (P,) mW or µm² of `calibrated_rest`, in tiles of these sizes."""
        measured = self.designs.profile.calibration
        assert measured is not None
        scale = (self.designs.rows / measured.rows + self.designs.cols / measured.cols) / 2
        return np.asarray(calibrated_rest(self.designs)[what] * scale)


_CLASSES: dict[str, type[Component]] = {"array": Array, "rest": Rest}
_CONVERTERS = {
    "scaled": Converters, "survey": SurveyConverters, "zigzag": ZigzagConverters, "neurram": NeurramConverters,
}  # fmt: skip


def converters(designs: Designs) -> Converters:
    """Make the converters of a tile: as the timing has them, or by the law of the profile's ADC."""
    adc, law = designs.profile.adc, designs.profile.timing.law
    return _CONVERTERS[law if law in _CONVERTERS else adc.law]("adc", designs, adc)


def components(designs: Designs) -> dict[str, Component]:
    """Make every component of a tile, by name and in the order of the signal."""
    made = {
        name: _CLASSES.get(name, Component)(name, designs, getattr(designs.profile, name))
        for name in TILE_PARTS
    }
    return {**made, "adc": converters(designs)}


def timing(designs: Designs) -> Parts:
    """Compute (reading, converting, logic) of one product, (P,) ns each: what each adds to the time of the others."""
    known: dict[str, Parts] = designs.__dict__
    if "_timing" not in known:  # asked for by several components
        law = TIMINGS[designs.profile.timing.law]
        known["_timing"] = law.parts(designs, converters(designs).conversion_ns())
    return known["_timing"]


def product_ns(designs: Designs) -> F64:
    """Compute the time of one product of a tile, (P,) ns."""
    reading, converting, logic = timing(designs)
    return reading + converting + logic


def calibrated_rest(designs: Designs) -> tuple[float, float]:
    """Compute the (mW, µm²) that the measured tile has beyond its cells and converters. Raises BadInput if negative."""
    measured = designs.profile.calibration
    assert measured is not None
    part, adc = designs.profile.array, designs.profile.adc
    cells = measured.rows * measured.cols
    volt, read = part.of("voltage_read"), part.of("delay_read")
    array = volt**2 * read * measured.g_max_us * 1e-3 * measured.mean_activity * cells
    busy = read + adc.of("delay_conversion")
    converting = measured.cols * (adc.of("energy_per_conversion") + adc.of("power_converter") * busy)
    power = (measured.of("energy_product") - array - converting) / measured.of("delay_product")
    area = measured.of("area_whole") - part.of("area_cell") * cells - adc.of("area_converter") * measured.cols
    if power < 0 or area < 0:
        raise BadInput(
            f"calibration of {designs.profile.name}", got={"power_mw": round(power, 3), "area_um2": round(area, 1)},
            why="its cells and converters alone exceed the tile that was measured",
            do="correct the constants of the array and of the ADC",
        )  # fmt: skip
    return power, area
