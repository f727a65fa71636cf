"""What happens to a trained language model when its weights live in analog crossbar tiles.

    checkpoint --export--> weight file --program(seed)--> chip --at(t)--> tiles --execute--> logits

Importing this package is cheap: names below load their module, and with it torch or transformers, on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimc_sim.errors import AimcError, BadInput
from aimc_sim.lazy import lazy_names

if TYPE_CHECKING:
    from aimc_sim.attribution.explanation import Explanation as Explanation
    from aimc_sim.attribution.explanation import explain as explain
    from aimc_sim.chip import Chip as Chip
    from aimc_sim.chip import ChipState as ChipState
    from aimc_sim.devices import Device as Device
    from aimc_sim.evaluate.text import load_tokenizer as load_tokenizer
    from aimc_sim.exporting import export as export
    from aimc_sim.finetuning.run import train as train
    from aimc_sim.finetuning.samples import sample as sample
    from aimc_sim.hardware import Hardware as Hardware
    from aimc_sim.programming import load_model as load_model
    from aimc_sim.programming import program as program
    from aimc_sim.signoff.comparison import Comparison as Comparison
    from aimc_sim.signoff.comparison import compare as compare
    from aimc_sim.signoff.proposal import sign_off as sign_off
    from aimc_sim.signoff.verdict import Verdict as Verdict
    from aimc_sim.sizing.cost.estimate import size as size
    from aimc_sim.sizing.sweep.study import sweep as sweep
    from aimc_sim.torch_bridge.training.conversion import convert as convert
    from aimc_sim.torch_bridge.training.loop import training as training
    from aimc_sim.torch_bridge.training.mounted import on_chip as on_chip
    from aimc_sim.weightfile import WeightFile as WeightFile

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_names(__name__)
__all__ += ["AimcError", "BadInput", "__version__"]
