"""What happens to a trained language model when its weights live in analog crossbar tiles.

    checkpoint --export--> weight file --program(seed)--> chip --at(t)--> tiles --execute--> logits

Importing this package is cheap: names below load their module, and with it torch or transformers, on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import AimcError, BadInput

if TYPE_CHECKING:
    from aimc_sim.chip import Chip, ChipState
    from aimc_sim.exporting import export
    from aimc_sim.hardware import Hardware
    from aimc_sim.programming import program
    from aimc_sim.weightfile import WeightFile

__version__ = "0.1.0"

__all__ = [
    "AimcError",
    "BadInput",
    "Chip",
    "ChipState",
    "Hardware",
    "WeightFile",
    "__version__",
    "export",
    "program",
]

_HOME = {
    "Chip": "chip",
    "ChipState": "chip",
    "Hardware": "hardware",
    "WeightFile": "weightfile",
    "export": "exporting",
    "program": "programming",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
