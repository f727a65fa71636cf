"""Points of a design space: one hardware description, and arrays for what a sweep varies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.cells import MAX_COPIES
from aimc_sim.hardware.placement import Special
from aimc_sim.kernels.reads import slice_count
from aimc_sim.sizing.cost.adc import lost_bits
from aimc_sim.sizing.cost.profile import Profile, profile_for
from aimc_sim.sizing.cost.timing import TIMINGS
from aimc_sim.spec import nearest

WHOLE = ("rows", "cols", "dac_bits", "slice_bits", "phases", "adc_bits", "adcs_per_tile", "slices", "pair_columns",
         "devices", "copies")  # fmt: skip
REAL = ("t_read_ns", "t_lsb_ns", "v_read_v")
PULSES = ("pulse_width", "multi_phase")
_LIMITS = {"rows": 32768, "cols": 1 << 20, "dac_bits": 16, "slice_bits": 15, "phases": 64, "adc_bits": 16,
           "adcs_per_tile": 1 << 20, "slices": 32, "pair_columns": 2, "devices": 2,
           "copies": MAX_COPIES}  # fmt: skip


@dataclass(frozen=True)
class Designs:
    """Designs are P points. Arrays are (P,) float64; what a sweep does not vary comes from the hardware and the
    profile.

    rows, cols: of a tile, physical lines; slices: cells that hold the digits of a weight; pair_columns: 2 where the two
    polarities are columns of their own; conversions_per_pair: 2 where their codes are subtracted; adcs_per_tile: shared
    by the columns in turn; copies: sets of tiles that hold the same matrix; t_read_ns: one read at full input;
    v_read_v: its voltage.

    >>> from aimc_sim.sizing import Designs
    >>> Designs.of("hermes-256", adc_bits=[6, 7, 8]).adc_bits.tolist()
    [6.0, 7.0, 8.0]
    """

    hardware: Hardware
    profile: Profile
    mode: str  # of the DAC
    offset_coding: bool  # slices of q + 2^(bits-1) instead of its magnitude
    analog_sum: bool  # the reads of a product are converted once
    analog_slices: bool  # so are the slices of a weight
    conversions_per_pair: int
    offset_column: bool
    rows: F64
    cols: F64
    dac_bits: F64
    slice_bits: F64
    phases: F64
    adc_bits: F64
    adcs_per_tile: F64
    slices: F64
    pair_columns: F64
    devices: F64
    copies: F64
    t_read_ns: F64
    t_reference_ns: F64  # the reading time that the hardware's noise stands for
    v_read_v: F64
    v_reference_v: F64  # and the voltage

    @classmethod
    def of(
        cls, hardware: Hardware | str, profile: Profile | str | Path | None = None, **changes: npt.ArrayLike
    ) -> Designs:
        """Make the points of a hardware. changes: arrays or numbers that broadcast, of ``WHOLE`` and ``REAL``.

        profile: None is the one that stands for the hardware's device. Raises BadInput for what cannot be built, and
        for a reading time without read noise, where speed would be free.
        """
        chip = Hardware.load(hardware)
        costs = profile_for(chip.device.name) if profile is None else Profile.load(profile)
        values, size = _arrays(changes)
        for name, usual in _usual(chip).items():
            if name in values:
                continue
            if usual is None:
                raise BadInput(
                    f"{name} of {chip.name}",
                    why=_MISSING[name],
                    do=f"choose a hardware that has it, or give {name}",
                )
            values[name] = np.full(size, float(usual))
        timing = _reading(chip, costs, values, size)
        mode = "amplitude" if chip.dac is None else chip.dac.mode
        four = mode == "multi_phase" and (values["phases"] == 4).all()  # each polarity is read for itself
        weights = chip.weights
        digital_pair = weights.subtract == "digital"
        offset = weights.pair == "offset_column"
        per_pair = 2 if digital_pair and not offset and not four else 1
        converted = np.ceil(values["cols"] * per_pair / values["pair_columns"])
        if "adcs_per_tile" not in values:
            per_tile = costs.adc.per_tile
            values["adcs_per_tile"] = converted if per_tile is None else np.full(size, float(per_tile))
        values["adcs_per_tile"] = np.minimum(values["adcs_per_tile"], converted)
        values.pop("t_lsb_ns", None)
        return cls(
            hardware=chip, profile=costs, mode=mode,
            offset_coding=chip.dac is not None and chip.dac.coding == "offset",
            analog_sum=chip.dac is not None and mode == "bit_serial" and chip.dac.accumulate == "analog",
            analog_slices=weights.slice_sum == "analog",
            conversions_per_pair=per_pair, offset_column=offset,
            **{**values, **timing},
        )  # fmt: skip

    def __len__(self) -> int:
        return int(self.rows.size)

    @cached_property
    def levels(self) -> F64:
        """Largest code of an input, (P,)."""
        return np.asarray(2 ** (self.dac_bits - 1) - 1)

    @cached_property
    def reads(self) -> F64:
        """Reads of a product, (P,): phases, times the slices of a code where inputs come bit by bit."""
        if self.mode != "bit_serial":
            return self.phases
        pairs = {
            (b, s): slice_count(int(2**b if self.offset_coding else 2 ** (b - 1)) - 1, int(s))
            for b, s in {*zip(self.dac_bits.tolist(), self.slice_bits.tolist(), strict=True)}
        }
        counts = [pairs[key] for key in zip(self.dac_bits.tolist(), self.slice_bits.tolist(), strict=True)]
        return np.asarray(counts, np.float64) * self.phases

    @property
    def columns_per_weight(self) -> F64:
        """Physical columns of a weight, (P,): s of the tile count."""
        return self.slices * self.pair_columns

    @property
    def physical_cols(self) -> F64:
        """Columns that a tile has, (P,): those for weights, spares, and the offset columns."""
        repair = self.hardware.repair
        more = (0 if repair is None else repair.spare_columns) + int(self.offset_column)
        return self.cols + more * self.columns_per_weight

    def held_by(self, special: Special | None) -> Designs:
        """Return the same points for matrices that ``special`` holds otherwise."""
        if special is None:
            return self
        given = {"copies": special.copies, "devices": special.devices, "adc_bits": special.adc_bits}
        arrays = {
            name: np.full(len(self), float(value)) for name, value in given.items() if value is not None
        }
        changes: dict[str, Any] = {"hardware": self.hardware.with_special(special), **arrays}
        return replace(self, **changes)

    @property
    def conversions_per_output(self) -> F64:
        """Conversions of an output of a row tile, (P,): reads × slices × polarities, as far as sums are digital."""
        reads = np.ones_like(self.reads) if self.analog_sum else self.reads
        return reads * (1 if self.analog_slices else self.slices) * self.conversions_per_pair

    @cached_property
    def rounds(self) -> F64:
        """How often the converters of a tile work one after the other for all of its columns, (P,)."""
        return np.ceil(self.cols * self.conversions_per_pair / self.pair_columns / self.adcs_per_tile)

    @cached_property
    def enob(self) -> F64:
        """Effective bits of the simulated converter, (P,), its thermal noise scaled to the reading time."""
        errors = None if self.hardware.adc is None else self.hardware.adc.errors
        if errors is None:
            return self.adc_bits
        return self.adc_bits - lost_bits(errors, self.adc_bits, self.thermal_factor)

    @cached_property
    def noise_factor(self) -> F64:
        """What read and thermal noise are multiplied by, (P,): 1/√(reading time / the one they were stated for)."""
        factor = np.ones(len(self))
        changed = self.t_read_ns != self.t_reference_ns
        factor[changed] = np.sqrt(self.t_reference_ns[changed] / self.t_read_ns[changed])
        return factor

    @cached_property
    def thermal_factor(self) -> F64:
        """What the converters' noise, in lsb, is multiplied by, (P,): a lower voltage makes the lsb smaller, too."""
        ratio = np.divide(self.v_reference_v, self.v_read_v, out=np.ones(len(self)), where=self.v_read_v > 0)
        return np.asarray(self.noise_factor * ratio)

    def hardware_at(self, i: int) -> Hardware:
        """Return the hardware of point i as the simulator takes it, with noise that fits its reading time.

        Cells' noise is a share of their conductance, so a voltage does not change it; converters' noise is a current.
        """
        tables = self.hardware.model_dump(mode="json")
        tables["name"] = f"{self.hardware.name}, point {i}"
        tables["tile"] |= {"rows": int(self.rows[i]), "cols": int(self.cols[i])}
        for name, fields in (("dac", ("dac_bits", "slice_bits")), ("adc", ("adc_bits",))):
            for field in fields:
                if tables[name] is not None:
                    tables[name][field.removeprefix(f"{name}_")] = int(getattr(self, field)[i])
        if int(self.slices[i]) != self.hardware.weights.slices:
            raise BadInput(
                "slices", got=int(self.slices[i]), do="set weights.bits and weights.cell_bits there",
                why="the digits of a weight belong to the hardware, which the simulator reads",
            )  # fmt: skip
        tables["weights"]["devices"] = int(self.devices[i])
        tables["weights"]["copies"] = int(self.copies[i]) if self.copies[i] > 1 else None
        if self.mode == "multi_phase":
            tables["dac"]["phases"] = int(self.phases[i])
        factor = float(self.noise_factor[i])
        if factor != 1 and tables["read_noise"] is not None:
            tables["read_noise"]["sigma"] *= factor
        if tables["adc"] is not None and tables["adc"]["errors"] is not None:
            tables["adc"]["errors"]["noise_lsb"] *= float(self.thermal_factor[i])
        return Hardware.parse(tables, tables["name"])


def first(figures: npt.ArrayLike) -> float:
    """Return the figure of the first point, of an array (P,); or the number itself."""
    return float(np.asarray(figures).reshape(-1)[0])


_MISSING = {
    "rows": "it is untiled, and cells of no particular array have no area",
    "cols": "it is untiled, and cells of no particular array have no area",
    "dac_bits": "it has no DAC, and exact inputs have no cost",
    "adc_bits": "it has no ADC, and exact outputs have no cost",
}


def _usual(chip: Hardware) -> dict[str, int | None]:
    """Return what the hardware itself says about a point."""
    dac, weights = chip.dac, chip.weights
    digital = weights.subtract == "digital"
    four = dac is not None and dac.mode == "multi_phase" and dac.phases == 4
    two_columns = digital and not four and weights.pair == "differential"
    return {
        "rows": chip.tile.rows, "cols": chip.tile.cols,
        "dac_bits": None if dac is None else dac.bits,
        "slice_bits": 1 if dac is None else dac.slice_bits,
        "phases": dac.phases if dac is not None and dac.mode == "multi_phase" else 1,
        "adc_bits": None if chip.adc is None else chip.adc.bits,
        "slices": weights.slices, "pair_columns": 2 if two_columns else 1,
        "devices": weights.devices, "copies": weights.copies or 1,
    }  # fmt: skip


def _arrays(changes: dict[str, npt.ArrayLike]) -> tuple[dict[str, F64], int]:
    """Return checked arrays of one length."""
    arrays: dict[str, F64] = {}
    for name, value in changes.items():
        if name not in (*WHOLE, *REAL):
            raise BadInput(
                "design", got=name, why="a point has no such field", do=nearest(name, (*WHOLE, *REAL))
            )
        array = np.atleast_1d(np.asarray(value))
        numbers = array.ndim == 1 and array.dtype.kind in "iuf" and np.isfinite(array).all()
        if not numbers or (array <= 0).any():
            raise BadInput(
                name, got=value, why="it is a positive number, or a list of them", do="correct the value"
            )
        if name in WHOLE and not ((array == np.rint(array)) & (array <= _LIMITS[name])).all():
            raise BadInput(
                name, got=value, why="it is a whole number", do=f"use whole numbers from 1 to {_LIMITS[name]}"
            )
        arrays[name] = array.astype(np.float64)
    sizes = {array.size for array in arrays.values()} - {1}
    if len(sizes) > 1:
        raise BadInput(
            "design", got={name: array.size for name, array in arrays.items()},
            why="lists of several lengths do not make points", do="give lists of one length, or numbers",
        )  # fmt: skip
    size = sizes.pop() if sizes else 1
    return {name: np.broadcast_to(array, (size,)).copy() for name, array in arrays.items()}, size


def _reading(chip: Hardware, costs: Profile, values: dict[str, F64], size: int) -> dict[str, F64]:
    """Return reading time and voltage of each point, and the time that the hardware's noise was stated for."""
    array = costs.array
    lsb = array.of("delay_lsb")
    dac = (
        chip.dac if chip.dac is not None and chip.dac.mode in PULSES and lsb > 0 else None
    )  # inputs are pulses
    stated = np.full(size, array.of("delay_read") if dac is None else dac.max_code * lsb)
    if "t_lsb_ns" in values and dac is None:
        raise BadInput(
            "t_lsb_ns", why="inputs are no pulse widths here, or the profile has no time of a code",
            do="give t_read_ns",
        )  # fmt: skip
    time = stated
    if dac is not None:
        time = (2 ** (values["dac_bits"] - 1) - 1) * values.get("t_lsb_ns", np.full(size, lsb))
    time = values.get("t_read_ns", time)
    if TIMINGS[costs.timing.law].fixed and (time != stated).any():
        raise BadInput("t_read_ns", why="the times of this profile are its chip's", do="use another profile")
    faster = (time < stated * (1 - 1e-12)).any() and {"t_read_ns", "t_lsb_ns"} & set(values)
    if chip.read_noise is None and faster:
        raise BadInput(
            "t_read_ns", got=float(time.min()),
            why=f"{chip.name} has no read noise, so reading faster than in {stated[0]:g} ns would cost no accuracy",
            do="add a [read_noise] table to the hardware",
        )  # fmt: skip
    usual = np.full(size, array.of("voltage_read"))
    voltage = values.get("v_read_v", usual)
    errors = None if chip.adc is None else chip.adc.errors
    if (voltage < usual * (1 - 1e-12)).any() and not (errors is not None and errors.noise_lsb):
        raise BadInput(
            "v_read_v", got=float(voltage.min()), do="give adc.errors.noise_lsb in the hardware",
            why=f"the converters of {chip.name} have no noise, so reading below {usual[0]:g} V would cost no accuracy",
        )  # fmt: skip
    return {"t_read_ns": time, "t_reference_ns": stated, "v_read_v": voltage, "v_reference_v": usual}


def crest(n: npt.ArrayLike) -> F64:
    """Compute the expected largest |z| of n standard normals, to about 3 % from 16 on (extreme-value expansion)."""
    count = np.maximum(np.asarray(n, np.float64), 4)
    b = np.sqrt(2 * np.log(2 * count))
    return np.asarray(b - (np.log(np.log(2 * count)) + math.log(4 * math.pi)) / (2 * b) + 0.5772156649 / b)
