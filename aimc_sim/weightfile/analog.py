"""Which matrices of a weight file a hardware holds in tiles."""

from __future__ import annotations

from aimc_sim.hardware import Hardware
from aimc_sim.weightfile.manifest import MatrixInfo
from aimc_sim.weightfile.reader import WeightFile


def is_analog(matrix: MatrixInfo, hardware: Hardware) -> bool:
    """Return whether the placement of a hardware puts a matrix into tiles.

    >>> import aimc_sim
    >>> from aimc_sim.torch_bridge import is_analog
    >>> weights = aimc_sim.WeightFile("model.h5")
    >>> is_analog(weights.matrices[0], weights.hardware)
    True
    """
    return hardware.placement.is_analog(matrix.name, matrix.role)


def analog_matrices(weight_file: WeightFile, hardware: Hardware) -> tuple[MatrixInfo, ...]:
    """List the matrices that a hardware holds in tiles. Raises BadInput for a placement pattern that matches nothing.

    >>> import aimc_sim
    >>> from aimc_sim.torch_bridge import analog_matrices
    >>> weights = aimc_sim.WeightFile("model.h5")
    >>> analog_matrices(weights, weights.hardware)[0].name
    'model.layers.0.self_attn.q_proj'
    """
    hardware.placement.check([(matrix.name, matrix.role) for matrix in weight_file.matrices])
    return tuple(matrix for matrix in weight_file.matrices if is_analog(matrix, hardware))
