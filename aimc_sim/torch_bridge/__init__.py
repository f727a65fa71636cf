"""Torch on one side, tiles on the other: models whose static matrix products run on a simulated chip, or train for one.

Names load on first use, so that specs such as `training_spec.Training` come without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimc_sim.torch_bridge.chips import digital, mounted
    from aimc_sim.torch_bridge.clipping import attach_clipping, clip_weights
    from aimc_sim.torch_bridge.conversion import analog_layers, convert, learned_ranges, restore
    from aimc_sim.torch_bridge.linear import AnalogLinear
    from aimc_sim.torch_bridge.load import load_model
    from aimc_sim.torch_bridge.model import analog_matrices, build_model, is_analog, load_digital, mount
    from aimc_sim.torch_bridge.quantise import quantize_input, quantize_output
    from aimc_sim.torch_bridge.rows import sequence_names
    from aimc_sim.torch_bridge.training_layer import TrainingLinear
    from aimc_sim.torch_bridge.training_ranges import initialise_ranges, initialising_ranges, ranges_ready
    from aimc_sim.torch_bridge.training_spec import Training
    from aimc_sim.torch_bridge.training_steps import parameter_groups, set_step, shard

__all__ = [
    "AnalogLinear",
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
    "conversion": ("analog_layers", "convert", "learned_ranges", "restore"),
    "chips": ("digital", "mounted"),
    "clipping": ("attach_clipping", "clip_weights"),
    "linear": ("AnalogLinear",),
    "load": ("load_model",),
    "model": ("analog_matrices", "build_model", "is_analog", "load_digital", "mount"),
    "quantise": ("quantize_input", "quantize_output"),
    "rows": ("sequence_names",),
    "training_layer": ("TrainingLinear",),
    "training_ranges": ("initialise_ranges", "initialising_ranges", "ranges_ready"),
    "training_spec": ("Training",),
    "training_steps": ("parameter_groups", "set_step", "shard"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
