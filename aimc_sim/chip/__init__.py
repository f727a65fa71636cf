"""A chip: a weight file programmed under one hardware and one seed, and what its tiles hold at any time."""

from __future__ import annotations

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange, Ranges, needs_ranges, ranges_id
from aimc_sim.chip.state import Chip, ChipState, channel_transform, outputs_stand_alone

__all__ = [
    "CellMatrix", "Chip", "ChipState", "MatrixRange", "Ranges", "channel_transform", "needs_ranges",
    "outputs_stand_alone", "ranges_id",
]  # fmt: skip
