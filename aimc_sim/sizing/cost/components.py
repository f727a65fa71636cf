"""The components of a tile, each an object that says its energy, area and delay for every point and matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.sizing.cost.activity import Activity
from aimc_sim.sizing.cost.adc import adc_survey, zigzag_adc
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.profile import AdcPart, Part
from aimc_sim.sizing.cost.silicon import neurram_counts, neurram_time_us

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
PARTIAL_SUM_BYTES = 2  # what a row tile hands on for one output


@dataclass(frozen=True)
class Use:
    """What one product of each matrix asks of its tiles; arrays (P, M) or (P, 1).

    K × N weights on ceil(K/R) × ceil(N·s/C) tiles, and so many for every copy; lines that are left empty are switched
    off.
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

    @classmethod
    def of(cls, designs: Designs, k: npt.ArrayLike, n: npt.ArrayLike) -> Use:
        """k, n: inputs and outputs of M matrices, (M,); or (P, 1), another matrix for every point."""
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
    """A part of a tile at the points of a design space."""

    name: str
    designs: Designs
    part: Part

    def energy_pj(self, use: Use) -> F64:
        """Energy of one product of each matrix, (P, M) pJ; what waits is not in it."""
        part, total = self.part, np.zeros(use.row_tiles.shape)
        for name, count in (
            ("energy_per_product", use.tiles), ("energy_per_row_read", use.row_reads),
            ("energy_per_column_read", use.column_reads), ("energy_per_conversion", use.conversions),
            ("energy_per_input_byte", use.input_bytes), ("energy_per_output_byte", use.output_bytes),
        ):  # fmt: skip
            if getattr(part, name) is not None:
                total = total + part.of(name) * count
        if part.energy_per_cell_read is not None:
            total = total + part.of("energy_per_cell_read") * use.cells * self.designs.reads[:, None]
        if part.energy_per_converted_bit is not None:
            total = (
                total + part.of("energy_per_converted_bit") * use.conversions * self.designs.adc_bits[:, None]
            )
        if part.power_tile is not None:
            total = total + part.of("power_tile") * use.tiles * product_ns(self.designs)[:, None]
        return np.asarray(total, np.float64)

    def area_um2(self) -> F64:
        """Area in one tile, (P,) µm²."""
        part, d = self.part, self.designs
        total = np.full(len(d), part.of("area_tile"))
        for name, count in (
            ("area_row", d.rows),
            ("area_column", d.physical_cols),
            ("area_converter", d.adcs_per_tile),
        ):
            if getattr(part, name) is not None:
                total = total + part.of(name) * count
        if part.area_cell is not None:
            total = total + part.of("area_cell") * d.rows * d.physical_cols * d.devices
        if part.area_converter_bit is not None:
            total = total + part.of("area_converter_bit") * d.adc_bits * d.adcs_per_tile
        return total

    def delay_ns(self) -> F64:
        """Its share of the time of one product, (P,) ns; the shares of all components add up to `product_ns`."""
        return np.zeros(len(self.designs))


class Array(Component):
    """The cells: V²·t·ΣG of what is stored, by what is put in."""

    activity: Activity | None = None

    def energy_pj(self, use: Use, activity: F64 | None = None) -> F64:
        """activity: (P, M) mean of drive × G/g_max over the cells; needed where the profile has a reading voltage."""
        d, part = self.designs, self.designs.profile.array
        total = super().energy_pj(use)
        if part.energy_per_pulse_cell is not None:
            pulses = neurram_counts(d.dac_bits, d.adc_bits, d.phases >= 2)[0]
            total = total + part.of("energy_per_pulse_cell") * use.cells * pulses[:, None]
        if part.voltage_read is not None and activity is not None:
            device = d.hardware.device
            if device.domain == "weight":
                raise BadInput(
                    "array energy", got=device.name, why="its noise acts on weights, and weights carry no current",
                    do="choose a device of the conductance domain, or a profile with a fixed energy of a cell",
                )  # fmt: skip
            # V² · ns · µS = 1e-15 J
            full = (d.v_read_v**2 * d.t_read_ns * device.g_max_us * d.devices)[:, None] * 1e-3
            weights = use.rows * use.cols * use.copies
            total = total + full * weights * activity
        return np.asarray(total, np.float64)

    def delay_ns(self) -> F64:
        """Reading."""
        return timing(self.designs)[0]


class Converters(Component):
    """The ADCs."""

    part: AdcPart

    def conversion_ns(self) -> F64:
        """Time of one conversion, (P,) ns; where the profile names none, what keeps pace with reading."""
        d = self.designs
        if self.part.law == "zigzag":
            return zigzag_adc(d.adc_bits, d.rows)[2]
        if self.part.delay_conversion is None:
            return np.asarray(d.t_read_ns / d.rounds)
        return np.full(len(d), self.part.of("delay_conversion"))

    def conversion_pj(self) -> F64:
        """Energy of one conversion, (P,) pJ."""
        d, part = self.designs, self.part
        factor = 1.0 if part.factor_energy is None else part.of("factor_energy")
        if part.law == "survey":
            rate = 1e9 * d.adcs_per_tile / self.conversion_ns()
            return adc_survey(d.enob, d.profile.node_nm, rate, d.adcs_per_tile)[0] * factor
        if part.law == "zigzag":
            return zigzag_adc(d.adc_bits, d.rows)[0] * factor
        busy = self.conversion_ns() + (d.t_read_ns if d.profile.timing.law == "integrating" else 0.0)
        once = part.of("energy_per_conversion") + part.of("power_converter") * busy
        # a converter of fewer effective bits is a cheaper one, so noise in the simulation is paid back here
        return np.asarray(once * (part.of("growth_per_bit") or 1.0) ** (d.enob - part.reference_bits))

    def energy_pj(self, use: Use) -> F64:
        """Conversions, at the effective bits of the simulated converter."""
        if self.designs.profile.timing.law == "neurram":
            d = self.designs
            bits = neurram_counts(d.dac_bits, d.adc_bits, d.phases >= 2)[1]
            outputs = use.row_tiles * use.copies * use.cols * (d.slices * d.conversions_per_pair)[:, None]
            return np.asarray(self.part.of("energy_per_converted_bit") * outputs * bits[:, None])
        return np.asarray(self.conversion_pj()[:, None] * use.conversions)

    def area_um2(self) -> F64:
        """All converters of a tile, (P,) µm²."""
        d, part = self.designs, self.part
        factor = 1.0 if part.factor_area is None else part.of("factor_area")
        if part.law == "survey":
            rate = 1e9 * d.adcs_per_tile / self.conversion_ns()
            return adc_survey(d.enob, d.profile.node_nm, rate, d.adcs_per_tile)[1] * factor
        if part.law == "zigzag":
            return zigzag_adc(d.adc_bits, d.rows)[1] * 1e6 * d.adcs_per_tile * factor
        growth = (part.of("growth_per_bit") or 1.0) ** (d.adc_bits - part.reference_bits)
        return super().area_um2() * growth

    def delay_ns(self) -> F64:
        """Converting, as far as reading does not hide it."""
        return timing(self.designs)[1]


class Periphery(Component):
    """Digital logic in the cycle of a read."""

    def delay_ns(self) -> F64:
        """Logic between reads, as far as nothing hides it."""
        return timing(self.designs)[2]


class Rest(Component):
    """Static power, and what a calibrated tile holds beside its modelled parts: with its rows and its columns."""

    def _scale(self) -> F64:
        found = self.designs.profile.calibration
        assert found is not None
        return np.asarray((self.designs.rows / found.rows + self.designs.cols / found.cols) / 2)

    def energy_pj(self, use: Use) -> F64:
        """Power that flows while the tile works."""
        total = super().energy_pj(use)
        if self.designs.profile.calibration is not None:
            power, _ = calibrated_rest(self.designs)
            total = total + (power * self._scale() * product_ns(self.designs))[:, None] * use.tiles
        return total

    def area_um2(self) -> F64:
        """What the other components of the measured tile leave."""
        total = super().area_um2()
        if self.designs.profile.calibration is not None:
            total = total + calibrated_rest(self.designs)[1] * self._scale()
        return total


_CLASSES: dict[str, type[Component]] = {
    "array": Array,
    "adc": Converters,
    "periphery": Periphery,
    "rest": Rest,
}


def components(designs: Designs) -> dict[str, Component]:
    """Every component of a tile by name, in the order of the signal."""
    return {
        name: _CLASSES.get(name, Component)(name, designs, getattr(designs.profile, name))
        for name in TILE_PARTS
    }


def timing(designs: Designs) -> tuple[F64, F64, F64]:
    """(reading, converting, logic) of one product, (P,) ns each: what each adds to the time of the others."""
    known: dict[str, tuple[F64, F64, F64]] = designs.__dict__
    if "_timing" not in known:
        known["_timing"] = _timing(designs)  # asked for by several components
    return known["_timing"]


def _timing(designs: Designs) -> tuple[F64, F64, F64]:
    d, law = designs, designs.profile.timing.law
    if law == "neurram":
        pulses, _, _ = neurram_counts(d.dac_bits, d.adc_bits, d.phases >= 2)
        whole = neurram_time_us(d.dac_bits, d.adc_bits, d.phases >= 2) * 1e3 * d.rounds
        reading = d.profile.array.of("delay_read") * pulses * d.rounds
        return reading, whole - reading, np.zeros(len(d))
    converters = Converters("adc", d, d.profile.adc)
    convert = d.rounds * converters.conversion_ns()
    logic = np.full(len(d), d.profile.periphery.of("delay_per_read"))
    conversions = np.ones_like(d.reads) if d.analog_sum else d.reads
    read = d.reads * d.t_read_ns
    if law == "integrating":
        return read * d.rounds, convert * conversions, logic * d.reads
    convert = convert * conversions
    if law == "overlapped":  # the last conversion of a product hides behind the next product's first read
        convert = np.maximum(convert - read, 0)
    return read, convert, logic * d.reads


def product_ns(designs: Designs) -> F64:
    """Time of one product of a tile, (P,) ns."""
    reading, converting, logic = timing(designs)
    return reading + converting + logic


def calibrated_rest(designs: Designs) -> tuple[float, float]:
    """(mW, µm²) that the measured tile has beyond its cells and converters. Raises BadInput if negative."""
    found = designs.profile.calibration
    assert found is not None
    part, adc = designs.profile.array, designs.profile.adc
    cells = found.rows * found.cols
    volt, read = part.of("voltage_read"), part.of("delay_read")
    array = volt**2 * read * found.g_max_us * 1e-3 * found.mean_activity * cells
    busy = read + adc.of("delay_conversion")
    converters = found.cols * (adc.of("energy_per_conversion") + adc.of("power_converter") * busy)
    power = (found.of("energy_product") - array - converters) / found.of("delay_product")
    area = found.of("area_whole") - part.of("area_cell") * cells - adc.of("area_converter") * found.cols
    if power < 0 or area < 0:
        raise BadInput(
            f"calibration of {designs.profile.name}",
            got={"power_mw": round(power, 3), "area_um2": round(area, 1)},
            why="its cells and converters alone exceed the tile that was measured",
            do="correct the constants of the array and of the ADC",
        )
    return power, area
