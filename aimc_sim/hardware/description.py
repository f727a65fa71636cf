"""The description of a chip, Hardware: its device, tiles, converters and imperfections, frozen, in TOML."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, final

from pydantic import model_validator
from typing_extensions import Self

from aimc_sim import devices
from aimc_sim.devices import Device
from aimc_sim.errors import BadInput
from aimc_sim.hardware.conflicts import conflicts
from aimc_sim.hardware.fault_map import load as load_fault_map
from aimc_sim.hardware.tables import Tables
from aimc_sim.identity import canonical, content_id
from aimc_sim.spec import check_base, load_named, merge, read_toml, write_toml

_PRESETS = Path(__file__).parent / "presets"
# tables whose fields depend on one of them
TAGGED = ("dac", "range", "method"), ("adc", "full_scale", "rule")


@final
class Hardware(Tables):
    """A hardware describes everything about a chip that decides what its products are: checked, loaded from TOML, known
    by its content.

    >>> from aimc_sim import Hardware
    >>> Hardware.load("hermes-256").tile.rows
    256
    """

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for conflict in conflicts(self):
            raise ValueError(conflict)
        return self

    @property
    def id(self) -> str:
        """Name the hardware by its content, as every spec; what the device knows and nothing here asks for is left
        out.
        """
        heated = self.temperature is not None or bool(
            self.variation and self.variation.die_temperature_sigma_c
        )
        return content_id(self.model_copy(update={"device": self.device.without_unused(heated)}))

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | Hardware) -> Hardware:
        """Load a hardware: a preset's name, a TOML file, a mapping of its tables, or itself.
        Raises BadInput for anything else.
        """
        return load_named(cls, source, preset_names(), _preset, _from_tables)

    def to_toml(self) -> str:
        """Return TOML that `load` reads back to an equal Hardware: everything resolved, nothing left to defaults."""
        return write_toml(canonical(self))

    def _with(self, **changes: Any) -> Hardware:
        """Return a copy with other fields, checked like any other hardware."""
        return Hardware.parse({**self.model_dump(mode="json"), **changes}, str(changes["name"]))

    def with_ideal_cells(self) -> Hardware:
        """Return the same tiles and converters around exact cells that never change:
        no faults, ideal wires, a nominal die.
        """
        ideal = devices.get("ideal").model_dump(mode="json")
        parts = "compensation refresh read_noise wires faults repair temperature variation"
        absent = dict.fromkeys(parts.split())
        return self._with(name=f"{self.name}, ideal cells", device=ideal, **absent)

    def with_device(self, device: str | Device) -> Hardware:
        """Return the same tiles and converters with other cells."""
        chosen = devices.get(device) if isinstance(device, str) else device
        return self._with(name=f"{self.name}, {chosen.name}", device=chosen.model_dump(mode="json"))

    def with_noise_scale(self, scale: float) -> Hardware:
        """Return the same hardware with programming, 1/f and read noise multiplied by ``scale``."""
        read = None if self.read_noise is None else {"sigma": self.read_noise.sigma * scale}
        device = self.device.with_noise_scale(scale).model_dump(mode="json")
        return self._with(name=f"{self.name}, noise*{scale:g}", device=device, read_noise=read)


HardwareSource = Hardware | str | Path | Mapping[str, Any]  # what `Hardware.load` takes


def preset_names() -> tuple[str, ...]:
    """Return the names of the hardware that ships with aimc-sim.

    >>> from aimc_sim.hardware import preset_names
    >>> "hermes-256" in preset_names()
    True
    """
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


@cache
def _preset(name: str) -> Hardware:
    path = _PRESETS / f"{name}.toml"
    return _from_tables(read_toml(path), f"preset {name!r}", path)


def _from_tables(data: dict[str, Any], where: str, path: Path) -> Hardware:
    """Fill tables with defaults filled in; ``base = "hermes-256"`` starts from a preset and lays the rest over it."""
    if "base" in data:
        name = check_base(data.pop("base"), preset_names(), where)
        device = data.get("device")
        is_whole_device = isinstance(device, Mapping) and (
            "base" in device or "measurements" in device or "name" in device
        )
        preset = _preset(name).model_dump(mode="json")
        if is_whole_device or isinstance(device, str):
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
    device = devices.from_table(data["device"], f"{where}: device", path.parent)
    data["device"] = device.model_dump(mode="json")
    for part in (
        "dac adc compensation read_noise refresh transform wires faults repair temperature variation".split()
    ):
        if data.get(part) is False:
            data[part] = None
    faults = data.get("faults")
    if isinstance(faults, Mapping) and isinstance(faults.get("map"), str):
        found = load_fault_map((path.parent / faults["map"]).absolute())
        data["faults"] = {**faults, "map": {"source": found.path, "sha256": found.sha256}}
    if isinstance(data.get("transform"), Mapping):
        data["transform"] = [data["transform"]]
    placement = data.get("placement")
    if isinstance(placement, Mapping) and isinstance(placement.get("special"), Mapping):
        data["placement"] = {**placement, "special": [placement["special"]]}
    data.setdefault("name", path.stem)
    for converter, key, tag in TAGGED:
        table = data.get(converter)
        if isinstance(table, Mapping) and isinstance(table.get(key), str):
            data[converter] = {**table, key: {tag: table[key]}}
    return Hardware.parse(data, where)
