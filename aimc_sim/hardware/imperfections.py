"""Specs of what is not ideal beside a chip's cells and converters: wires, faults, dies and tiles as a whole."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.spec import Spec

Rate = Annotated[float, Field(ge=0, le=1)]
Kelvins = Annotated[float, Field(ge=0, le=1000)]
Ohms = Annotated[float, Field(ge=0, le=1e15)]


class Wires(Spec):
    """Wires have a resistance: a segment between two cells, and one to each terminal. 0: an ideal wire.

    Both columns of a pair lie in one array. Cells are linear, so IR drop is one map of their conductances, solved after
    drift and faults: exactly, or by ``fast``, which errs by less than 2⁻²³·(rows + columns + 2) of a tile's largest.

    >>> from aimc_sim import Hardware
    >>> wires = {"r_row_ohm": 0.5, "r_col_ohm": 0.5}
    >>> Hardware.load({"device": "ideal", "tile": {"rows": 128, "cols": 128}, "wires": wires}).wires.model
    'fast'
    """

    r_row_ohm: Ohms  # one segment of a word line
    r_col_ohm: Ohms  # one segment of a bit line
    r_driver_ohm: Ohms = 0.0  # in series at each driven end
    r_sense_ohm: Ohms = 0.0  # in series at each sensed end
    drive: Literal["left", "right", "both"] = "left"  # driven end(s) of the word lines; left is column 0
    # sensed end(s) of the bit lines; bottom is the last row
    sense: Literal["bottom", "top", "both"] = "bottom"
    layout: Literal["interleaved", "side_by_side"] = "interleaved"  # 0⁺ 0⁻ 1⁺ 1⁻ …, or all ⁺ before all ⁻
    model: Literal["exact", "fast"] = "fast"


class FaultMapFile(Spec):
    """A fault map (see `hardware.fault_map`) is known by what it says: moved or rewritten, it is the same map."""

    source: str  # its path
    sha256: str = Field(pattern="^[0-9a-f]{64}$")  # of its faults, sorted


class Repair(Spec):
    """Repair works around stuck cells and dead columns that the test of a chip has found; it needs a [faults] table.

    ``spare_columns``: further columns of every tile, with cells and draws of their own. ``remap``: ``worst`` moves the
    columns that lose most to spares; ``assign`` chooses for all columns of a tile, spares among them, where in the
    tile each is written, so that the sum of squared errors that the known faults cause is least. A moved weight
    has the draws of its new site; the outputs are put back in order digitally.

    >>> from aimc_sim.hardware import Repair
    >>> Repair(spare_columns=8).remap
    'worst'
    """

    spare_columns: int = Field(default=0, ge=0, le=4096)  # of each tile
    remap: Literal["worst", "assign"] = "worst"

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.remap == "worst" and not self.spare_columns:
            raise ValueError(
                "without spare columns nothing can be moved; set spare_columns, or remap = 'assign'"
            )
        return self


class Temperature(Spec):
    """Temperatures of the cells are in °C; the device's [thermal] data say what follows (see
    `aimc_sim.chip.temperature`).

    ``program_c``: while they are programmed and verified; ``read_c``: in every product, and when drift compensation
    reads out; ``storage_c``: all the time in between, None: as they are read.

    >>> from aimc_sim.hardware import Temperature
    >>> Temperature(read_c=60.0).program_c
    25.0
    """

    program_c: float = Field(default=25.0, ge=-273.15)
    read_c: float = Field(default=25.0, ge=-273.15)
    storage_c: float | None = Field(default=None, ge=-273.15)


class Faults(Spec):
    """Faults are defects of manufacture, drawn once a chip: they outlast reprogramming and do not drift.

    Stuck cells are single devices, a share of all devices of either polarity. A dead row of a tile passes no input, a
    dead column gives code 0. ``map`` adds those that a test has found, by coordinates; it wins over what is drawn.

    >>> from aimc_sim.hardware import Faults
    >>> Faults(stuck_low_rate=0.001).dead_row_rate
    0.0
    """

    map: FaultMapFile | None = None
    stuck_low_rate: Rate = 0.0  # at g_min
    stuck_high_rate: Rate = 0.0  # at g_max
    dead_row_rate: Rate = 0.0
    dead_column_rate: Rate = 0.0

    @model_validator(mode="after")
    def _one_fate(self) -> Self:
        if self.stuck_low_rate + self.stuck_high_rate > 1:
            raise ValueError("a cell is stuck low or high, so both rates together are at most 1")
        return self


class Variation(Spec):
    """Variation says how dies, and tiles on a die, differ as a whole: standard deviations of one normal draw each.

    Gains multiply currents and are not calibrated out; ``nu_sigma`` shifts the mean drift exponent of every cell, and
    ``noise_scale_sigma`` scales the programming error (never below zero). Droop of the supply is not seen by the
    programming pulses, and multiplies every current of a tile, its read noise included.

    >>> from aimc_sim.hardware import Variation
    >>> Variation(die_gain_sigma=0.02).tile_gain_sigma
    0.0
    """

    die_gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    tile_gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    adc_gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative, all ADCs of a die alike
    nu_sigma: float = Field(default=0.0, ge=0, le=10)
    noise_scale_sigma: float = Field(default=0.0, ge=0, le=100)  # relative
    die_temperature_sigma_c: Kelvins | None = None  # added to read_c and storage_c of [temperature]
    # V_read is 1 - droop - σ·z of its nominal value …
    supply_droop: Annotated[float, Field(ge=0, lt=1)] | None = None
    die_supply_sigma: Annotated[float, Field(ge=0, le=0.5)] | None = None  # … with a z of the die …
    tile_supply_sigma: Annotated[float, Field(ge=0, le=0.5)] | None = None  # … and one of the tile
