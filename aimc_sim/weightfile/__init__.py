"""The weight file: one HDF5 file that holds a language model as it is, ready to be programmed (docs/format.md)."""

from __future__ import annotations

from aimc_sim.weightfile.analog import analog_matrices, is_analog
from aimc_sim.weightfile.manifest import (
    SCHEMA,
    Adapter,
    AdapterInfo,
    Calibration,
    Entry,
    Manifest,
    MatrixInfo,
    Moments,
    Tensor,
    to_float32,
)
from aimc_sim.weightfile.reader import WeightFile
from aimc_sim.weightfile.writer import WeightFileWriter

__all__ = [
    "SCHEMA", "Adapter", "AdapterInfo", "Calibration", "Entry", "Manifest", "MatrixInfo", "Moments", "Tensor",
    "WeightFile", "WeightFileWriter", "analog_matrices", "is_analog", "to_float32",
]  # fmt: skip
