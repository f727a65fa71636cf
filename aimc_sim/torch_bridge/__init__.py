"""Torch on one side, tiles on the other: models whose static matrix products run on a simulated chip."""

from __future__ import annotations

from aimc_sim.torch_bridge.linear import AnalogLinear
from aimc_sim.torch_bridge.load import load_model
from aimc_sim.torch_bridge.model import analog_matrices, build_model, is_analog, load_digital, mount
from aimc_sim.torch_bridge.rows import sequence_names

__all__ = [
    "AnalogLinear",
    "analog_matrices",
    "build_model",
    "is_analog",
    "load_digital",
    "load_model",
    "mount",
    "sequence_names",
]
