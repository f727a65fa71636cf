"""Which matrices of a weight file a hardware holds in tiles."""

from __future__ import annotations

from aimc_sim.hardware import Hardware
from aimc_sim.weightfile.manifest import MatrixInfo
from aimc_sim.weightfile.reader import WeightFile


def is_analog(matrix: MatrixInfo, hardware: Hardware) -> bool:
    """Decide whether the placement puts this matrix into tiles."""
    return hardware.placement.is_analog(matrix.name, matrix.role)


def analog_matrices(weight_file: WeightFile, hardware: Hardware) -> tuple[MatrixInfo, ...]:
    """List the matrices that the hardware holds in tiles. Raises BadInput for a placement pattern that matches nothing.

    >>> from aimc_sim import Hardware, WeightFile
    >>> from aimc_sim.weightfile import analog_matrices
    >>> digital = Hardware.load({"base": "hermes-256", "placement": {"digital": ["*"]}})
    >>> analog_matrices(WeightFile("model.h5"), digital)
    ()
    """
    hardware.placement.check([(matrix.name, matrix.role) for matrix in weight_file.matrices])
    return tuple(matrix for matrix in weight_file.matrices if is_analog(matrix, hardware))
