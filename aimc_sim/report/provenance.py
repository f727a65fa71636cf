"""Where the figures of a report come from: weight file, hardware, device, versions, machine."""

from __future__ import annotations

import platform
from typing import Any

from aimc_sim.hardware import Hardware
from aimc_sim.report.pages import VERSIONS, architecture, version
from aimc_sim.weightfile import WeightFile


def provenance_of(
    hardware: Hardware,
    *,
    weights: str,
    ranges_id: str | None,
    arithmetic: str,
    weight_file: WeightFile | None,
) -> dict[str, Any]:
    """Make the ``provenance`` of a document. weights: the id of the weight file, which may be unknown."""
    return {
        "weight_file": None if weight_file is None else weight_file.path.name,
        "weights": weights,
        "architecture": None if weight_file is None else architecture(weight_file.config),
        "source": None if weight_file is None else weight_file.provenance,
        "hardware": hardware.name,
        "hardware_id": hardware.id,
        "ranges_id": ranges_id,
        "arithmetic": arithmetic,
        "device": hardware.device.name,
        "device_source": hardware.device.source,
        "versions": {
            "aimc-sim": version("aimc-sim"),
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONS},
        },
        "machine": f"{platform.system()} {platform.machine()}",
    }
