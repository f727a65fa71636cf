"""The description of a chip, Hardware: its device, tiles, converters and imperfections, frozen, in TOML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim import devices
from aimc_sim.converters import (
    Adc,
    AdcErrors,
    Dac,
    DacErrors,
    LambdaRule,
    LeastSquares,
    PerTokenRange,
    StaticRange,
)
from aimc_sim.devices import Device
from aimc_sim.errors import BadInput
from aimc_sim.fault_map import load as load_fault_map
from aimc_sim.hardware_checks import cell_conflicts, weight_conflicts
from aimc_sim.imperfection_checks import imperfection_conflicts
from aimc_sim.imperfections import Faults, Repair, Temperature, Variation, Wires
from aimc_sim.kernels.panels import MAX_TILE_ROWS
from aimc_sim.kernels.reads import LINEAR, OFFSET, POLARITY, SLICED, SQUARE
from aimc_sim.kernels.tile_engine import Reads
from aimc_sim.placement import Placement, Special
from aimc_sim.spec import Spec, content_id, merge, nearest, read_toml, write_toml
from aimc_sim.transforms import Transform
from aimc_sim.weights import Weights

MAX_ROWS = MAX_TILE_ROWS
__all__ = [
    "Adc", "AdcErrors", "Compensation", "Dac", "DacErrors", "Faults", "Hardware", "LambdaRule", "LeastSquares",
    "PerTokenRange", "Placement", "ReadNoise", "Refresh", "Special", "StaticRange", "Tile", "Transform", "Variation",
    "Weights", "Wires", "preset_names",
]  # fmt: skip
_PRESETS = Path(__file__).parent / "presets"
TAGGED = (
    ("dac", "range", "method"),
    ("adc", "full_scale", "rule"),
)  # tables whose fields depend on one of them


class Tile(Spec):
    """Shape of one crossbar. None: as many rows or columns as the matrix has (untiled)."""

    rows: int | None = Field(default=None, ge=1, le=MAX_ROWS)
    cols: int | None = Field(default=None, ge=1)
    split: Literal["filled", "even"] = (
        "filled"  # filled: whole tiles, then the rest; even: row tiles of equal height
    )
    weight_grid: Literal["int16", "float32"] = (
        "int16"  # int16: effective weights on 16 bits a column, exact products
    )


class ReadNoise(Spec):
    """Noise of the cells that is fresh in every product: σ² = sigma²·G/g_max of each device, in units of g_max².

    Output-referred, at full input and the reading time that the spec stands for (σ falls as 1/√t_read). The input mode
    decides how it grows with the code. The default is the constant of aihwkit's ``PCM_READ``.
    """

    sigma: float = Field(default=0.0175, ge=0, le=100)
    spectrum: Literal["white", "slow"] = (
        "white"  # pulse widths: white noise grows with |q|, slow noise with q²
    )


class Compensation(Spec):
    """Drift compensation: a digital factor, Σ|readout| at programming over Σ|readout| later, a tile or a column.

    ``affine``: gain and offset of each tile, the least squares of ``vectors`` products (default 16) at programming and
    later (see `aimc_sim.compensation`).
    ``every_s``: read out again every so many seconds after programming, and kept until the next; None: read out at
    every time that is asked for.
    """

    per: Literal["tile", "column", "affine"] = "tile"
    vectors: int | None = Field(default=None, ge=2, le=4096)
    every_s: float | None = Field(default=None, ge=1e-6)


class Refresh(Spec):
    """The whole chip is programmed anew every so many seconds: new draws, drift begins again, faults remain."""

    every_s: float = Field(ge=1)


class Hardware(Spec):
    """Everything about a chip that decides what its products are. ``None`` means that the effect is absent."""

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
    transform: tuple[Transform, ...] | None = (
        None  # of outliers, before mapping; the first that names a matrix counts
    )
    wires: Wires | None = None
    faults: Faults | None = None
    repair: Repair | None = None
    temperature: Temperature | None = None
    variation: Variation | None = None
    placement: Placement = Placement()

    @model_validator(mode="after")
    def _converters(self) -> Self:
        if self.adc is not None and isinstance(self.adc.full_scale, LambdaRule) and self.dac is None:
            raise ValueError(
                "the ADC's lambda rule is in units of the DAC's full scale, so it needs a [dac] table; "
                "add one, or use full_scale = {rule = 'least_squares'}"
            )
        if self.dac is None and self.adc is not None:
            raise ValueError("an ADC without a DAC has no input full scale to refer to: add a [dac] table")
        return self

    @model_validator(mode="after")
    def _imperfections(self) -> Self:
        stuck = self.faults is not None and (self.faults.stuck_low_rate or self.faults.stuck_high_rate)
        if stuck and self.device.domain == "weight":
            raise ValueError(
                f"a stuck cell has a conductance, and {self.device.name!r} acts on the weight itself; "
                "choose a device of the conductance domain, or leave the stuck rates at 0"
            )
        if self.wires is not None and self.device.domain == "weight":
            raise ValueError(
                f"wires carry currents of conductances, and {self.device.name!r} acts on the weight itself; "
                "choose a device of the conductance domain"
            )
        if self.dac is not None and self.dac.mode == "bit_serial" and not self.uses_integers:
            raise ValueError(
                "bit-serial inputs are simulated on the integer path: give the DAC at most 8 bits and keep "
                "tile.weight_grid = 'int16'"
            )
        bent = self.dac is not None and self.dac.errors is not None and self.dac.errors.inl_sigma_lsb
        if (bent or self.reads.times > 1) and not self.uses_integers:
            raise ValueError(
                "several phases, and a DAC's nonlinearity, are simulated on the integer path: give the DAC at most 8 "
                "bits and keep tile.weight_grid = 'int16'"
            )
        thermal = self.adc is not None and self.adc.errors is not None and self.adc.errors.noise_lsb
        if thermal and not self.uses_integers:
            raise ValueError(
                "thermal noise of the ADC is simulated on the integer path: add a [dac] table of at most 8 bits and "
                "keep tile.weight_grid = 'int16'"
            )
        return self

    @model_validator(mode="after")
    def _weights(self) -> Self:
        ways: list[Hardware] = [self]
        ways += [special.applied_to(self) for special in self.placement.special or ()]
        for chip in ways:
            conflicts = chain(
                chip.weights.conflicts(),
                weight_conflicts(chip),
                cell_conflicts(chip),
                imperfection_conflicts(chip),
            )
            for conflict in conflicts:
                raise ValueError(conflict if chip is self else f"placement.special: {conflict}")
        return self

    @model_validator(mode="after")
    def _read_noise(self) -> Self:
        if self.read_noise is not None:
            if self.device.domain == "weight":
                raise ValueError(
                    f"read noise follows the conductances, and {self.device.name!r} acts on the weight itself; "
                    "choose a device of the conductance domain"
                )
            if not self.uses_integers:
                raise ValueError(
                    "read noise is simulated on the integer path: add a [dac] table of at most 8 bits and keep "
                    "tile.weight_grid = 'int16'"
                )
        return self

    @property
    def id(self) -> str:
        """By content, as of every spec; what the device knows and nothing here asks for is left out."""
        heated = self.temperature is not None or bool(
            self.variation and self.variation.die_temperature_sigma_c
        )
        return content_id(self.model_copy(update={"device": self.device.without_unused(heated)}))

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | Hardware) -> Hardware:
        """A preset's name, a TOML file, a mapping of its tables, or a Hardware. Raises BadInput for anything else."""
        if isinstance(source, Hardware):
            return source
        if isinstance(source, Mapping):
            return _from_tables(source, "hardware", Path())
        if not isinstance(source, (str, Path)):
            raise BadInput(
                "hardware",
                got=source,
                why="it is neither a name, a path nor a mapping of tables",
                do=f"give a preset ({', '.join(preset_names())}) or a TOML file",
            )
        text = str(source)
        if text in preset_names():
            return _preset(text)
        path = Path(source)
        if path.suffix == ".toml" or path.exists():
            return _from_tables(read_toml(path), str(path), path.parent)
        raise BadInput(
            "hardware",
            got=text,
            why="no preset has that name and no file is there",
            do=nearest(text, preset_names()),
        )

    def to_toml(self) -> str:
        """TOML that `load` reads back to an equal Hardware: everything resolved, nothing left to defaults."""
        return write_toml(self.model_dump(mode="json"))

    def of_matrix(self, name: str) -> Hardware:
        """The hardware as one matrix sees it: with what ``placement.special`` says of it."""
        special = self.placement.special_of(name)
        return self if special is None else special.applied_to(self)

    def check_time(self, t_s: float) -> None:
        """Raises BadInput for a time at which the cells are older than the device's data, or negative."""
        self.device.check_time(self.age(t_s)[1])

    def age(self, t_s: float) -> tuple[int, float]:
        """How often the chip has been programmed again by t_s, and the seconds since the last time."""
        if self.refresh is None or not 0 <= t_s < math.inf:
            return 0, t_s
        cycles = math.floor(t_s / self.refresh.every_s)
        return cycles, max(t_s - cycles * self.refresh.every_s, 0.0)

    def compensated_at(self, age_s: float) -> float:
        """When the compensation in force at an age was read out, in seconds since programming."""
        every = None if self.compensation is None else self.compensation.every_s
        read_out_s = age_s if every is None else min(math.floor(age_s / every) * every, age_s)
        return read_out_s if read_out_s >= self.device.t_min_s else 0.0

    @property
    def uses_integers(self) -> bool:
        """Whether products are exact integer arithmetic (DAC codes of 8 bits or fewer, weights on the 16-bit grid)."""
        return self.dac is not None and self.dac.bits <= 8 and self.tile.weight_grid == "int16"

    @property
    def one_signed_reads(self) -> bool:
        """Whether no read drives rows with both signs, so that one column alone gives currents of one sign."""
        return self.reads.parts in (OFFSET, POLARITY)

    @property
    def reads(self) -> Reads:
        """How the product reads a code: parts that are converted one by one, and m(q) of read noise."""
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
    def read_levels(self) -> int:
        """Largest code of one read that is converted: its inputs are then at full scale."""
        assert self.dac is not None
        whole = self.reads.times == 1 or self.dac.mode != "bit_serial"
        return self.dac.levels if whole else 2**self.dac.slice_bits - 1

    def _with(self, **changes: Any) -> Hardware:
        """A copy with other fields, checked like any other hardware."""
        return Hardware.parse({**self.model_dump(mode="json"), **changes}, str(changes["name"]))

    def with_ideal_cells(self) -> Hardware:
        """The same tiles and converters around exact cells that never change: no faults, ideal wires, a nominal die."""
        ideal = devices.get("ideal").model_dump(mode="json")
        parts = "compensation refresh read_noise wires faults repair temperature variation"
        absent = dict.fromkeys(parts.split())
        return self._with(name=f"{self.name}, ideal cells", device=ideal, **absent)

    def with_device(self, device: str | Device) -> Hardware:
        """The same tiles and converters with other cells."""
        chosen = devices.get(device) if isinstance(device, str) else device
        return self._with(name=f"{self.name}, {chosen.name}", device=chosen.model_dump(mode="json"))

    def with_noise_scale(self, scale: float) -> Hardware:
        """The same hardware with programming, 1/f and read noise multiplied by ``scale``."""
        read = None if self.read_noise is None else {"sigma": self.read_noise.sigma * scale}
        device = self.device.with_noise_scale(scale).model_dump(mode="json")
        return self._with(name=f"{self.name}, noise*{scale:g}", device=device, read_noise=read)


def preset_names() -> tuple[str, ...]:
    """Names of the hardware that ships with aimc-sim."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


@cache
def _preset(name: str) -> Hardware:
    path = _PRESETS / f"{name}.toml"
    return _from_tables({"name": name, **read_toml(path)}, f"preset {name!r}", _PRESETS)


def _from_tables(tables: Mapping[str, Any], where: str, folder: Path) -> Hardware:
    """Tables with defaults filled in; ``base = "hermes-256"`` starts from a preset and lays the rest over it."""
    data = dict(tables)
    if "base" in data:
        name = data.pop("base")
        if name not in preset_names():
            raise BadInput(
                f"{where}: base",
                got=name,
                why="no preset has that name",
                do=nearest(str(name), preset_names()),
            )
        device = data.get("device")
        own = isinstance(device, Mapping) and (
            "base" in device or "measurements" in device or "name" in device
        )
        preset = _preset(str(name)).model_dump(mode="json")
        if own or isinstance(device, str):
            preset.pop("device")
        for converter, key, tag in TAGGED:  # another rule brings its own fields, and none of the preset's
            table, known = data.get(converter), preset.get(converter)
            if isinstance(table, Mapping) and isinstance(known, dict) and key in table:
                new = table[key].get(tag) if isinstance(table[key], Mapping) else table[key]
                if new is not None and new != known[key][tag]:
                    known.pop(key)
        data = merge(preset, {"name": f"{name}, changed", **data})
    if "device" not in data:
        raise BadInput(
            f"{where}: device",
            why="a chip needs cells",
            do='add [device] with base = "pcm-hermes-2", or base = "ideal"',
        )
    if not isinstance(data["device"], (str, Mapping)):
        raise BadInput(
            f"{where}: device",
            got=data["device"],
            why="it is neither a name nor a table",
            do='write device = "pcm-hermes-2" or a [device] table',
        )
    device = devices.from_table(data["device"], f"{where}: device", folder)
    data["device"] = device.model_dump(mode="json")
    for part in (
        "dac adc compensation read_noise refresh transform wires faults repair temperature variation".split()
    ):
        if data.get(part) is False:
            data[part] = None
    faults = data.get("faults")
    if isinstance(faults, Mapping) and isinstance(faults.get("map"), str):
        found = load_fault_map((folder / faults["map"]).absolute())
        data["faults"] = {**faults, "map": {"source": found.path, "sha256": found.sha256}}
    if isinstance(data.get("transform"), Mapping):
        data["transform"] = [data["transform"]]
    placement = data.get("placement")
    if isinstance(placement, Mapping) and isinstance(placement.get("special"), Mapping):
        data["placement"] = {**placement, "special": [placement["special"]]}
    data.setdefault("name", Path(where).stem if where.endswith(".toml") else "custom")
    for converter, key, tag in TAGGED:
        table = data.get(converter)
        if isinstance(table, Mapping) and isinstance(table.get(key), str):
            data[converter] = {**table, key: {tag: table[key]}}
    return Hardware.parse(data, where)
