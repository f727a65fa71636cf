"""The tables of a hardware description, and what follows from them: how a code is read, ages, what a matrix sees.

`Tables` is abstract, and `aimc_sim.hardware.Hardware` its one final subclass, which checks, loads and names them.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field
from typing_extensions import Self

from aimc_sim.devices import Device
from aimc_sim.hardware.cells import Weights
from aimc_sim.hardware.converters import Adc, Dac
from aimc_sim.hardware.imperfections import Faults, Repair, Temperature, Variation, Wires
from aimc_sim.hardware.placement import Placement, Special
from aimc_sim.hardware.transform import Transform
from aimc_sim.kernels.panels import MAX_TILE_ROWS
from aimc_sim.kernels.reads import LINEAR, OFFSET, POLARITY, SLICED, SQUARE
from aimc_sim.kernels.tile_engine import Reads
from aimc_sim.spec import Spec

MAX_ROWS = MAX_TILE_ROWS


class Tile(Spec):
    """A tile has the shape of one crossbar. None: as many rows or columns as the matrix has (untiled).

    >>> from aimc_sim.hardware import Tile
    >>> Tile(rows=256, cols=256).split
    'filled'
    """

    rows: int | None = Field(default=None, ge=1, le=MAX_ROWS)
    cols: int | None = Field(default=None, ge=1)
    # filled: whole tiles, then the rest; even: row tiles of equal height
    split: Literal["filled", "even"] = "filled"
    # int16: effective weights on 16 bits a column, exact products
    weight_grid: Literal["int16", "float32"] = "int16"


class ReadNoise(Spec):
    """Read noise of the cells is fresh in every product: σ² = sigma²·G/g_max of each device, in units of g_max².

    Output-referred, at full input and the reading time that the spec stands for (σ falls as 1/√t_read). The input mode
    decides how it grows with the code. The default is the constant of aihwkit's ``PCM_READ``.

    >>> from aimc_sim.hardware import ReadNoise
    >>> ReadNoise().sigma
    0.0175
    """

    sigma: float = Field(default=0.0175, ge=0, le=100)
    # pulse widths: white noise grows with |q|, slow noise with q²
    spectrum: Literal["white", "slow"] = "white"


class Compensation(Spec):
    """Drift compensation is a digital factor, Σ|readout| at programming over Σ|readout| later, a tile or a column.

    ``affine``: gain and offset of each tile, the least squares of ``vectors`` products (default 16) at programming and
    later (see `aimc_sim.chip.compensation`).
    ``every_s``: read out again every so many seconds after programming, and kept until the next; None: read out at
    every time that is asked for.

    >>> from aimc_sim.hardware import Compensation
    >>> Compensation(every_s=3600.0).per
    'tile'
    """

    per: Literal["tile", "column", "affine"] = "tile"
    vectors: int | None = Field(default=None, ge=2, le=4096)
    every_s: float | None = Field(default=None, ge=1e-6)


class Refresh(Spec):
    """Refresh programs the whole chip anew every so many seconds: new draws, drift begins again, faults remain.

    >>> from aimc_sim.hardware import Refresh
    >>> Refresh(every_s=86400.0).every_s
    86400.0
    """

    every_s: float = Field(ge=1)


class Tables(Spec):
    """Tables hold everything about a chip that decides what its products are. ``None`` means that the effect is
    absent.
    """

    name: str = Field(min_length=1)
    description: str = ""
    source: str = ""
    device: Device
    tile: Tile = Tile()
    weights: Weights = Weights()
    dac: Dac | None = None
    adc: Adc | None = None
    read_noise: ReadNoise | None = None
    compensation: Compensation | None = None
    refresh: Refresh | None = None
    # of outliers, before mapping; the first that names a matrix counts
    transform: tuple[Transform, ...] | None = None
    wires: Wires | None = None
    faults: Faults | None = None
    repair: Repair | None = None
    temperature: Temperature | None = None
    variation: Variation | None = None
    placement: Placement = Placement()

    def of_matrix(self, name: str) -> Self:
        """Return the hardware as one matrix sees it: with what ``placement.special`` says of it."""
        special = self.placement.special_of(name)
        return self if special is None else self.with_special(special)

    def with_special(self, special: Special) -> Self:
        """Return the hardware as the matrices of one ``placement.special`` table see it.

        Raises ValueError where the table changes a converter that this hardware does not have.
        """
        weights: dict[str, Any] = {} if special.devices is None else {"devices": special.devices}
        if special.copies is not None:
            weights["copies"] = None if special.copies == 1 else special.copies
        changes: dict[str, Any] = {"weights": self.weights.model_copy(update=weights)} if weights else {}
        if special.adc_bits is not None:
            if self.adc is None:
                raise ValueError(
                    "placement.special asks for adc_bits of a hardware without an ADC; add [adc], or leave them out"
                )
            changes["adc"] = self.adc.model_copy(update={"bits": special.adc_bits})
        return self.model_copy(update=changes)

    def check_time(self, t_s: float) -> None:
        """Raise BadInput for a time at which the cells are older than the device's data, or negative."""
        self.device.check_time(self.age(t_s)[1])

    def age(self, t_s: float) -> tuple[int, float]:
        """Return how often the chip has been programmed again by t_s, and the seconds since the last time."""
        if self.refresh is None or not 0 <= t_s < math.inf:
            return 0, t_s
        cycles = math.floor(t_s / self.refresh.every_s)
        return cycles, max(t_s - cycles * self.refresh.every_s, 0.0)

    def compensated_at(self, age_s: float) -> float:
        """Return when the compensation in force at an age was read out, in seconds since programming."""
        every = None if self.compensation is None else self.compensation.every_s
        read_out_s = age_s if every is None else min(math.floor(age_s / every) * every, age_s)
        return read_out_s if read_out_s >= self.device.t_min_s else 0.0

    @property
    def uses_integers(self) -> bool:
        """Return whether products are exact integer arithmetic (DAC codes of 8 bits or fewer,
        weights on the 16-bit grid).
        """
        return self.dac is not None and self.dac.bits <= 8 and self.tile.weight_grid == "int16"

    @property
    def one_signed_reads(self) -> bool:
        """Return whether no read drives rows with both signs, so that one column alone gives currents of one sign."""
        return self.reads.parts in (OFFSET, POLARITY)

    @property
    def reads(self) -> Reads:
        """Return how the product reads a code: parts that are converted one by one, and m(q) of read noise."""
        dac, noise = self.dac, self.read_noise
        if dac is None or dac.mode == "amplitude":
            return Reads()
        at_once = self.adc is None or dac.accumulate == "analog"  # nothing is rounded between the parts
        if dac.mode in ("pulse_width", "multi_phase"):
            kind = LINEAR if noise is not None and noise.spectrum == "white" else SQUARE
            return Reads(noise_kind=kind) if at_once or dac.reads == 1 else Reads(2, 0, kind, POLARITY)
        if dac.coding == "offset":  # slices of another code, each with noise of its own
            exact = self.adc is None and (noise is None or not noise.sigma)
            return Reads() if exact else Reads(dac.reads, dac.slice_bits, SQUARE, OFFSET)
        if at_once:
            return Reads(1, dac.slice_bits, SLICED)
        return Reads(dac.reads, dac.slice_bits, SQUARE)

    @property
    def columns_per_weight(self) -> int:
        """Columns that are converted, and kept in tiles, each by itself for one weight: copies × slices × polarities,
        as far as their sum is digital. Without an ADC: copies."""
        weights = self.weights
        copies = weights.copies or 1
        if self.adc is None:
            return copies
        slices = 1 if weights.slice_sum == "analog" else weights.slices
        return copies * slices * (2 if weights.subtract == "digital" else 1)

    @property
    def conversions_per_weight(self) -> int:
        """Return ADC conversions of one output of a row tile: columns that hold a weight × reads of a code."""
        return self.columns_per_weight * self.reads.times

    @property
    def read_max_code(self) -> int:
        """Return the largest code of one read that is converted: its inputs are then at full scale."""
        assert self.dac is not None
        whole = self.reads.times == 1 or self.dac.mode != "bit_serial"
        return self.dac.max_code if whole else 2**self.dac.slice_bits - 1
