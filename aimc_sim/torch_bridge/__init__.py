"""Torch on one side, tiles on the other: models whose static matrix products run on a simulated chip, or train for one.

Names load on first use, so that specs such as `training.spec.Training` come without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimc_sim.loading import load_model
    from aimc_sim.torch_bridge.analog import AnalogLinear
    from aimc_sim.torch_bridge.linear import TileLinear
    from aimc_sim.torch_bridge.model import build_model, load_digital, mount
    from aimc_sim.torch_bridge.rows import sequence_names
    from aimc_sim.torch_bridge.training.clipping import attach_clipping, clip_weights
    from aimc_sim.torch_bridge.training.conversion import analog_layers, convert, learned_ranges, restore
    from aimc_sim.torch_bridge.training.layer import TrainingLinear
    from aimc_sim.torch_bridge.training.mounted import digital, mounted
    from aimc_sim.torch_bridge.training.quantise import quantize_input, quantize_output
    from aimc_sim.torch_bridge.training.ranges import initialise_ranges, initialising_ranges, ranges_ready
    from aimc_sim.torch_bridge.training.spec import Training
    from aimc_sim.torch_bridge.training.steps import parameter_groups, set_step, shard
    from aimc_sim.weightfile.analog import analog_matrices, is_analog

__all__ = [
    "AnalogLinear",
    "TileLinear",
    "Training",
    "TrainingLinear",
    "analog_layers",
    "analog_matrices",
    "attach_clipping",
    "build_model",
    "clip_weights",
    "convert",
    "digital",
    "initialise_ranges",
    "initialising_ranges",
    "is_analog",
    "learned_ranges",
    "load_digital",
    "load_model",
    "mount",
    "mounted",
    "parameter_groups",
    "quantize_input",
    "quantize_output",
    "ranges_ready",
    "restore",
    "sequence_names",
    "set_step",
    "shard",
]

_HOME = {
    "aimc_sim.loading": ("load_model",),
    "aimc_sim.torch_bridge.analog": ("AnalogLinear",),
    "aimc_sim.torch_bridge.linear": ("TileLinear",),
    "aimc_sim.torch_bridge.model": ("build_model", "load_digital", "mount"),
    "aimc_sim.torch_bridge.rows": ("sequence_names",),
    "aimc_sim.torch_bridge.training.clipping": ("attach_clipping", "clip_weights"),
    "aimc_sim.torch_bridge.training.conversion": ("analog_layers", "convert", "learned_ranges", "restore"),
    "aimc_sim.torch_bridge.training.layer": ("TrainingLinear",),
    "aimc_sim.torch_bridge.training.mounted": ("digital", "mounted"),
    "aimc_sim.torch_bridge.training.quantise": ("quantize_input", "quantize_output"),
    "aimc_sim.torch_bridge.training.ranges": ("initialise_ranges", "initialising_ranges", "ranges_ready"),
    "aimc_sim.torch_bridge.training.spec": ("Training",),
    "aimc_sim.torch_bridge.training.steps": ("parameter_groups", "set_step", "shard"),
    "aimc_sim.weightfile": ("analog_matrices", "is_analog"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
