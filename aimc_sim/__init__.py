"""What happens to a trained language model when its weights live in analog crossbar tiles.

    checkpoint --export--> weight file --program(seed)--> chip --at(t)--> tiles --execute--> logits

Importing this package is cheap: names below load their module, and with it torch or transformers, on first use.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import AimcError, BadInput

if TYPE_CHECKING:
    from aimc_sim.chip import Chip, ChipState
    from aimc_sim.export import export
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
    "export": "export",
    "program": "programming",
}


class _Package(ModuleType):
    """`aimc_sim.export` is the function, also after something has imported the module of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "export" and isinstance(value, ModuleType):
            value = value.export
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
