"""Which matrices of a weight file a hardware holds in tiles."""

from __future__ import annotations

from aimc_sim.hardware import Hardware
from aimc_sim.weightfile.manifest import MatrixInfo
from aimc_sim.weightfile.reader import WeightFile


def is_analog(matrix: MatrixInfo, hardware: Hardware) -> bool:
    """Whether the placement puts this matrix into tiles."""
    return hardware.placement.is_analog(matrix.name, matrix.role)


def analog_matrices(weight_file: WeightFile, hardware: Hardware) -> tuple[MatrixInfo, ...]:
    """Matrices that the hardware holds in tiles. Raises BadInput for a placement pattern that matches nothing."""
    hardware.placement.check([(matrix.name, matrix.role) for matrix in weight_file.matrices])
    return tuple(matrix for matrix in weight_file.matrices if is_analog(matrix, hardware))
