"""Torch on one side, tiles on the other: models whose static matrix products run on a simulated chip, or train for one.

Names load on first use, so that specs such as `training.spec.Training` come without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimc_sim.lazy import lazy_names

if TYPE_CHECKING:
    from aimc_sim.programming import load_model as load_model
    from aimc_sim.torch_bridge.analog import AnalogLinear as AnalogLinear
    from aimc_sim.torch_bridge.linear import TileLinear as TileLinear
    from aimc_sim.torch_bridge.model import build_model as build_model
    from aimc_sim.torch_bridge.model import load_digital as load_digital
    from aimc_sim.torch_bridge.model import mount as mount
    from aimc_sim.torch_bridge.rows import sequence_names as sequence_names
    from aimc_sim.torch_bridge.training.clipping import attach_clipping as attach_clipping
    from aimc_sim.torch_bridge.training.clipping import clip_weights as clip_weights
    from aimc_sim.torch_bridge.training.conversion import analog_layers as analog_layers
    from aimc_sim.torch_bridge.training.conversion import convert as convert
    from aimc_sim.torch_bridge.training.conversion import learned_ranges as learned_ranges
    from aimc_sim.torch_bridge.training.conversion import restore as restore
    from aimc_sim.torch_bridge.training.layer import TrainingLinear as TrainingLinear
    from aimc_sim.torch_bridge.training.mounted import digital as digital
    from aimc_sim.torch_bridge.training.mounted import mounted as mounted
    from aimc_sim.torch_bridge.training.mounted import on_chip as on_chip
    from aimc_sim.torch_bridge.training.quantise import quantize_input as quantize_input
    from aimc_sim.torch_bridge.training.quantise import quantize_output as quantize_output
    from aimc_sim.torch_bridge.training.ranges import initialise_ranges as initialise_ranges
    from aimc_sim.torch_bridge.training.ranges import initialising_ranges as initialising_ranges
    from aimc_sim.torch_bridge.training.ranges import ranges_ready as ranges_ready
    from aimc_sim.torch_bridge.training.spec import Training as Training
    from aimc_sim.torch_bridge.training.steps import parameter_groups as parameter_groups
    from aimc_sim.torch_bridge.training.steps import set_step as set_step
    from aimc_sim.torch_bridge.training.steps import shard as shard
    from aimc_sim.weightfile.analog import analog_matrices as analog_matrices
    from aimc_sim.weightfile.analog import is_analog as is_analog

__getattr__, __dir__, __all__ = lazy_names(__name__)
