"""The weight file: one HDF5 file that holds a language model as it is, ready to be programmed (docs/format.md)."""

from aimc_sim.weightfile.analog import analog_matrices
from aimc_sim.weightfile.manifest import Calibration, MatrixInfo, Moments
from aimc_sim.weightfile.reader import WeightFile

__all__ = ["Calibration", "MatrixInfo", "Moments", "WeightFile", "analog_matrices"]
