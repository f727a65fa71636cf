"""Converter ranges from one pass of the digital model over the stored calibration text, cached by content."""

from __future__ import annotations

from aimc_sim.calibrate.cache import cache_folder
from aimc_sim.calibrate.ranges import derive_ranges, ranges_for

__all__ = ["cache_folder", "derive_ranges", "ranges_for"]
