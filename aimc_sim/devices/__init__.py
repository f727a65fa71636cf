"""Memory devices: the library that ships, and three ways to add one (TOML, Python functions, a CSV of measurements)."""

from __future__ import annotations

from aimc_sim.devices.catalogue import from_table, get, names
from aimc_sim.devices.effects import AdditiveDrift, AgedLaw, Flicker, PowerDrift, Programming
from aimc_sim.devices.laws import Law, Piece
from aimc_sim.devices.measured import from_csv, from_functions
from aimc_sim.devices.model import Device

__all__ = [
    "AdditiveDrift", "AgedLaw", "Device", "Flicker", "Law", "Piece", "PowerDrift", "Programming",
    "from_csv", "from_functions", "from_table", "get", "names",
]  # fmt: skip
