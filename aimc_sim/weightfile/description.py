"""What a weight file says about itself, without a weight being read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aimc_sim.errors import BadInput
from aimc_sim.weightfile.reader import WeightFile


def describe(weights: WeightFile) -> dict[str, Any]:
    """Return everything that the file says about itself as plain values."""
    return {
        "file": str(weights.path),
        "id": weights.id,
        "bytes": weights.path.stat().st_size,
        "schema_version": weights.schema_version,
        "architecture": str(
            (weights.config.get("architectures") or [weights.config.get("model_type", "unknown")])[0]
        ),
        "analog_weights": sum(matrix.rows * matrix.cols for matrix in weights.matrices),
        "tied_head": weights.tied,
        "matrices": [asdict(matrix) for matrix in weights.matrices],
        "digital": list(weights.digital_names),
        "adapters": [
            {"matrix": adapter.matrix, "rank": weights.adapter_ranks[adapter.matrix], "scale": adapter.scale}
            for adapter in weights.adapters
        ],
        "calibration": _calibration(weights),
        "hardware": weights.hardware.model_dump(mode="json"),
        "hardware_id": weights.hardware.id,
        "provenance": weights.provenance,
        "config": weights.config,
    }


def _calibration(weights: WeightFile) -> dict[str, Any] | None:
    try:
        calibration = weights.calibration
    except BadInput:  # exported without: a fact about the file, not an error here
        return None
    sequences, length = calibration.token_ids.shape
    return {"source": calibration.source, "sequences": sequences, "length": length}
