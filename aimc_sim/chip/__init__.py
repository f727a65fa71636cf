"""A chip: a weight file programmed under one hardware and one seed, and what its tiles hold at any time."""

from __future__ import annotations

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.chip.state import Chip, ChipState

__all__ = ["CellMatrix", "Chip", "ChipState", "MatrixRange"]
