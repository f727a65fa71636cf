"""Devices by name, and a hardware file's [device] table: a name, changes to one, or a device of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from aimc_sim.devices.measured import from_csv
from aimc_sim.devices.model import Device
from aimc_sim.errors import BadInput
from aimc_sim.spec import merge, nearest, read_toml

_FOLDER = Path(__file__).parent


@lru_cache(maxsize=1)
def _library() -> dict[str, Device]:
    devices = {}
    for file in sorted(_FOLDER.glob("*.toml")):
        for name, table in read_toml(file).items():
            devices[name] = Device.parse({"name": name, **table}, f"device {name!r} in {file.name}")
    return devices


def names() -> tuple[str, ...]:
    """Return the names of the devices that ship with aimc-sim.

    >>> from aimc_sim import devices
    >>> "pcm-hermes-2" in devices.names()
    True
    """
    return tuple(sorted(_library()))


def get(name: str) -> Device:
    """Return the device of that name. Raises BadInput with the nearest known name.

    >>> from aimc_sim import devices
    >>> devices.get("pcm-hermes-2").g_max_us
    20.7
    """
    try:
        return _library()[name]
    except KeyError:
        raise BadInput("device", got=name, why="no device has that name", do=nearest(name, names())) from None


def from_table(table: Mapping[str, Any] | str, where: str, folder: Path = Path()) -> Device:
    """Return the device that a name or a TOML table describes. Raises BadInput for what it cannot be.

    ``base = "pcm-hermes-2"`` starts from a device that ships and lays the other keys over it; ``drift = false`` or
    ``flicker = false`` switch an effect off; ``drift = "pcm-ibm2019"`` borrows another device's law;
    ``measurements = "cells.csv"`` (beside the file) reads a table of measurements.

    >>> from aimc_sim import devices
    >>> cold = devices.from_table({"base": "pcm-hermes-2", "drift": False}, "an example")
    >>> cold.drift is None, cold.programming == devices.get("pcm-hermes-2").programming
    (True, True)
    """
    if isinstance(table, str):
        return get(table)
    changes = dict(table)
    base: dict[str, Any] = {}
    if "measurements" in changes:
        path = folder / str(changes.pop("measurements"))
        base = from_csv(path, name=str(changes.get("name", path.stem))).model_dump(mode="json")
    elif "base" in changes:
        base = get(str(changes.pop("base"))).model_dump(mode="json")
    drift = changes.get("drift")
    if isinstance(drift, str):
        donor = get(drift)
        if donor.drift is None:
            raise BadInput(
                f"{where}: drift",
                got=drift,
                why="that device has no drift law to borrow",
                do="name one that has, such as 'pcm-ibm2019'",
            )
        changes["drift"] = donor.drift.model_dump(mode="json")
        changes.setdefault("t_max_s", donor.t_max_s)
        base.pop("drift", None)
    for effect in ("programming", "drift", "flicker"):
        if isinstance(changes.get(effect), Mapping) and "kind" in changes[effect]:
            base.pop(effect, None)  # another kind of law replaces, it does not mix
    if not base and "name" not in changes:
        changes["name"] = "custom"
    merged = merge(base, changes)
    for key, value in changes.items():
        field = Device.model_fields.get(key)
        if value is False and field is not None and field.annotation is bool:
            merged[key] = False  # a plain no, and no effect that is switched off
    return Device.parse(merged, where)
