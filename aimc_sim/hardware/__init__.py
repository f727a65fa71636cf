"""Descriptions of chips: `Hardware`, its tables, and the presets that ship with aimc-sim."""

from __future__ import annotations

from aimc_sim.hardware.cells import Weights
from aimc_sim.hardware.converters import (
    Adc,
    AdcErrors,
    Dac,
    DacErrors,
    LambdaRule,
    LeastSquares,
    PerTokenRange,
    StaticRange,
)
from aimc_sim.hardware.description import Hardware, HardwareSource, preset_names
from aimc_sim.hardware.imperfections import Faults, Repair, Temperature, Variation, Wires
from aimc_sim.hardware.placement import Placement, Special
from aimc_sim.hardware.tables import Compensation, ReadNoise, Refresh, Tile
from aimc_sim.hardware.transform import Transform

__all__ = [
    "Adc", "AdcErrors", "Compensation", "Dac", "DacErrors", "Faults", "Hardware", "HardwareSource", "LambdaRule",
    "LeastSquares", "PerTokenRange", "Placement", "ReadNoise", "Refresh", "Repair", "Special", "StaticRange",
    "Temperature", "Tile", "Transform", "Variation", "Weights", "Wires", "preset_names",
]  # fmt: skip
