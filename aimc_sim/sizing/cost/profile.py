"""What a technology costs, as data: every constant with value, band, unit, source and licence. Profiles: profiles/."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.errors import BadInput
from aimc_sim.spec import Spec, check_base, load_named, merge, read_toml

_FOLDER = Path(__file__).parent / "profiles"
_COMMON = "common"  # the digital side, which every profile starts from
Corner = Literal["value", "low", "high"]

# unit → (what it measures, how many of the unit that is computed in: pJ, ns, µm², mW, V, B/ns, MAC/ns, 1)
UNITS: dict[str, tuple[str, float]] = {
    "aJ": ("energy", 1e-6), "fJ": ("energy", 1e-3), "pJ": ("energy", 1.0), "nJ": ("energy", 1e3),
    "ps": ("delay", 1e-3), "ns": ("delay", 1.0), "us": ("delay", 1e3), "ms": ("delay", 1e6),
    "um2": ("area", 1.0), "mm2": ("area", 1e6),
    "uW": ("power", 1e-3), "mW": ("power", 1.0), "W": ("power", 1e3),
    "V": ("voltage", 1.0), "GB/s": ("bandwidth", 1.0), "MAC/ns": ("rate", 1.0), "1": ("number", 1.0),
}  # fmt: skip
# More of these is cheaper or faster, so the cheap corner takes their high end.
_GOOD = frozenset({"input_reuse", "rate_macs", "bandwidth_memory", "bandwidth_link", "number_at_once"})


class Constant(Spec):
    """A constant is a number from somewhere: its band (how far it may be off), unit, source and the licence of that
    source.

    >>> from aimc_sim.sizing import Constant
    >>> Constant(value=1.0, low=0.5, high=2.0, unit="pJ", source="an example", licence="ours").high
    2.0
    """

    value: float = Field(ge=0)
    low: float = Field(ge=0)
    high: float = Field(ge=0)
    unit: str
    source: str
    licence: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.unit not in UNITS:
            raise ValueError(f"unit {self.unit!r} is unknown; use one of {', '.join(UNITS)}")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"low ≤ value ≤ high is broken by {self.low}, {self.value}, {self.high}")
        return self

    @property
    def si(self) -> float:
        """The value in the unit that is computed in: pJ, ns, µm², mW, V, B/ns, MAC/ns."""
        return self.value * UNITS[self.unit][1]


class _Table(Spec):
    """A table holds constants whose names begin with what they measure."""

    @model_validator(mode="after")
    def _units(self) -> Self:
        kinds = {kind for kind, _ in UNITS.values()}
        for name, value in self:
            if isinstance(value, Constant):
                kind = name.partition("_")[0]
                wanted = kind if kind in kinds else "number"
                if UNITS[value.unit][0] != wanted:
                    raise ValueError(
                        f"{name} is a {wanted} and cannot be in {value.unit!r}; give it a unit of {wanted}"
                    )
        return self

    def of(self, name: str, default: float = 0.0) -> float:
        """Return a constant in the unit that is computed in; the default where the profile has none."""
        constant = getattr(self, name)
        return constant.si if isinstance(constant, Constant) else default


class Part(_Table):
    """A part is one component of a tile. What is absent costs nothing, or is part of another component (the profile
    says).
    """

    note: str = ""
    energy_per_product: Constant | None = None  # of one tile
    energy_per_row_read: Constant | None = None
    energy_per_column_read: Constant | None = None
    energy_per_cell_read: Constant | None = None
    energy_per_conversion: Constant | None = None
    energy_per_converted_bit: Constant | None = None  # times the ADC's bits
    energy_per_input_byte: Constant | None = None
    energy_per_output_byte: Constant | None = None
    power_tile: Constant | None = None  # while the tile works
    power_idle: Constant | None = None  # of a tile that waits
    area_tile: Constant | None = None
    area_row: Constant | None = None
    area_column: Constant | None = None
    area_cell: Constant | None = None
    area_converter: Constant | None = None
    area_converter_bit: Constant | None = None  # times the ADC's bits, a converter


class ArrayPart(Part):
    """This part is the cells. With ``voltage_read``: V²·t·Σ G from conductances and codes; else
    ``energy_per_cell_read``.
    """

    voltage_read: Constant | None = None
    delay_read: Constant  # one read at full input, for amplitudes and bits
    delay_lsb: Constant | None = None  # pulse widths: a code of 1; a read takes (2^(bits-1) - 1) of it
    energy_per_pulse_cell: Constant | None = None  # timing.law = "neurram": an integration pulse, a cell


class AdcPart(Part):
    """This part is the converters. ``survey``, ``zigzag``: formulas; ``scaled``: constants at ``reference_bits``, ×
    growth^Δbits.

    survey and zigzag take factor_energy and factor_area: real converters over the formula.
    """

    law: Literal["survey", "zigzag", "scaled"]
    per_tile: int | None = Field(default=None, ge=1)  # converters; None: one a converted column
    reference_bits: int = Field(default=8, ge=1, le=16)
    growth_per_bit: Constant | None = None
    factor_energy: Constant | None = None
    factor_area: Constant | None = None
    power_converter: Constant | None = None  # while it converts
    delay_conversion: Constant | None = None  # None: as fast as the reading asks


class DigitalPart(Part):
    """This part scales, and sums over row tiles."""

    delay_per_read: Constant | None = None  # logic in the cycle of every read
    delay_add: Constant | None = None  # a partial sum of one more row tile


class BufferPart(Part):
    """This part holds inputs and outputs at rest. ``input_reuse``: tiles that a byte read once serves."""

    input_reuse: Constant | None = None


class LinkPart(Part):
    """This part is the links between tiles."""

    delay_hop: Constant | None = None  # from one step of a layer to the next


class Timing(Spec):
    """The timing says how reading and converting follow each other.

    sequential: read, then convert; overlapped: convert while the next read runs; integrating: a converter works through
    the whole read, so every round reads anew; neurram: that chip's closed form.
    """

    law: Literal["sequential", "overlapped", "integrating", "neurram"]


class Calibration(_Table):
    """A calibration is a tile that was measured: what its parts do not explain, ``rest`` takes, so that the whole is
    as measured.
    """

    rows: int = Field(ge=1)
    cols: int = Field(ge=1)
    energy_product: Constant
    delay_product: Constant
    area_whole: Constant
    mean_activity: float = Field(gt=0, lt=1)  # of the cells: mean of drive × G/g_max when it was measured
    g_max_us: float = Field(gt=0)


class Chip(_Table):
    """The chip is what surrounds the tiles of one die."""

    tiles: int | None = Field(default=None, ge=1)  # None: as many as the area holds
    published_tiles: int | None = Field(default=None, ge=1)  # of the chip whose figures of merit are shown
    area_limit: Constant  # the die
    area_fixed: Constant | None = None
    power_fixed: Constant | None = None
    energy_link_byte: Constant  # from die to die
    delay_link: Constant
    bandwidth_link: Constant


class Digital(_Table):
    """This table is about what is computed digitally: attention, matrices by choice, routers."""

    energy_mac: Constant
    rate_macs: Constant  # of the unit that serves one layer
    energy_memory_byte: Constant  # keys, values and digital weights
    bandwidth_memory: Constant


class Writing(_Table):
    """This table is about programming cells, verified pulse by pulse, and about what a readout for compensation
    takes.
    """

    number_pulses: Constant  # a device
    energy_pulse: Constant  # with its verification
    delay_pulse: Constant
    number_at_once: Constant  # devices programmed together, a die
    number_endurance: Constant | None = None  # pulses that a device survives
    number_calibration_products: Constant  # of every tile, for one compensation


class Profile(Spec):
    """A profile is a technology. ``kind``: bound (a best case), simulation, calibrated (on one measured tile) or fit
    (on a chip).

    >>> from aimc_sim.sizing import Profile
    >>> Profile.load("hermes-14nm").node_nm
    14.0
    """

    name: str
    description: str
    source: str
    licence: str
    kind: Literal["bound", "simulation", "calibrated", "fit"]
    node_nm: float = Field(gt=0)
    devices: tuple[str, ...] = ()  # whose cells it stands for, by name of the device
    timing: Timing
    array: ArrayPart
    dac: Part = Part()
    adc: AdcPart
    sample_hold: Part = Part()
    shift_add: Part = Part()
    periphery: DigitalPart = DigitalPart()
    buffers: BufferPart = BufferPart()
    interconnect: LinkPart = LinkPart()
    rest: Part = Part()  # static power, and what a source does not resolve
    calibration: Calibration | None = None
    chip: Chip
    digital: Digital
    writing: Writing

    def at(self, corner: Corner) -> Profile:
        """Return the profile with every constant at its value, or all at the cheap (``low``) or dear (``high``) end."""
        if corner == "value":
            return self
        return Profile.parse(_at(self.model_dump(mode="json"), corner, ""), self.name)

    def named_parts(self) -> list[tuple[str, Part]]:
        """Return the components of a tile with their names."""
        return [(name, part) for name, part in self if isinstance(part, Part)]

    def constants(self) -> list[tuple[str, Constant]]:
        """Return every constant with its path, ``adc.factor_energy``."""
        return [
            (f"{table}.{name}", value)
            for table, part in self
            if isinstance(part, _Table)
            for name, value in part
            if isinstance(value, Constant)
        ]

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | Profile) -> Profile:
        """Read a profile's name, a TOML file, a mapping of its tables, or a Profile.

        In a file or mapping, ``base = "hermes-14nm"`` starts from a profile and lays the other keys over it, and a
        constant's ``source`` names a row of its ``[sources]`` table ({text, licence}).
        """
        return load_named(cls, source, profile_names(), _shipped, _parse)


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that ship with aimc-sim.

    >>> from aimc_sim.sizing import profile_names
    >>> "adc-survey" in profile_names()
    True
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml") if path.stem != _COMMON))


def profile_for(device: str) -> Profile:
    """Choose the profile that stands for a device, by its name; the survey's bound for all others.

    >>> from aimc_sim.sizing import profile_for
    >>> profile_for("pcm-hermes-2").name
    'hermes-14nm'
    """
    for name in profile_names():
        if device in _shipped(name).devices:
            return _shipped(name)
    return _shipped("adc-survey")


@cache
def _raw(name: str) -> dict[str, Any]:
    """Read a shipped file with the names of its sources resolved."""
    return _resolve(read_toml(_FOLDER / f"{name}.toml"), f"profile {name!r}")


@cache
def _shipped(name: str) -> Profile:
    return _parse({"base": _COMMON, **_raw(name)}, f"profile {name!r}", Path(name))


def _parse(tables: dict[str, Any], where: str, path: Path) -> Profile:
    base = tables.pop("base", _COMMON)
    if base != _COMMON:
        check_base(base, profile_names(), where)
    start = _raw(_COMMON)
    if base != _COMMON:
        start = {**merge(start, _raw(base)), "name": f"{base}, changed", "devices": []}
    return Profile.parse(merge({"name": path.stem, **start}, _resolve(tables, where)), where)


def _resolve(tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return constants with their source spelled out, as text and licence."""
    sources = tables.get("sources", {})

    def walk(value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            return value
        if "value" in value and "unit" in value and "licence" not in value:
            key = value.get("source")
            if key not in sources:
                raise BadInput(
                    f"{where}: {path}.source", got=key, why="the [sources] table of the file has no such row",
                    do=f"add [sources.{key}] with text and licence, or give the constant a licence of its own",
                )  # fmt: skip
            return {**value, "source": sources[key]["text"], "licence": sources[key]["licence"]}
        return {inner: walk(item, f"{path}.{inner}".lstrip(".")) for inner, item in value.items()}

    return {key: walk(value, key) for key, value in tables.items() if key != "sources"}


def _at(value: Any, corner: Corner, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    if "value" in value and "unit" in value:
        end = value[("high" if corner == "low" else "low") if name in _GOOD else corner]
        return {**value, "value": end, "low": end, "high": end}
    return {key: _at(inner, corner, key) for key, inner in value.items()}
