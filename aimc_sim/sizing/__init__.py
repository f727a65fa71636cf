"""What a model costs on analog tiles: tiles, energy, latency, area, in closed forms (docs/sizing.md).

Workload (matrices of a model) × Designs (points of a hardware) × Profile (constants) --evaluate--> Cost
"""

from __future__ import annotations

from aimc_sim.sizing.cost.activity import Activity, measure_activity
from aimc_sim.sizing.cost.adc import adc_survey, enob_of, zigzag_adc, zigzag_dac
from aimc_sim.sizing.cost.analog import Cost, evaluate
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.dies import place, replicate
from aimc_sim.sizing.cost.document import Sizing, size
from aimc_sim.sizing.cost.merit import peak
from aimc_sim.sizing.cost.profile import Constant, Profile, profile_for, profile_names
from aimc_sim.sizing.cost.silicon import neurram_time_us, neurram_tops, zigzag_macro
from aimc_sim.sizing.cost.tiles import conversions_per_mac, tiles
from aimc_sim.sizing.cost.workload import Scenario, Workload
from aimc_sim.sizing.cost.writing import writing

__all__ = [
    "Activity", "Constant", "Cost", "Designs", "Profile", "Scenario", "Sizing", "Workload", "adc_survey",
    "conversions_per_mac", "enob_of", "evaluate", "measure_activity", "neurram_time_us", "neurram_tops", "peak",
    "place", "profile_for", "profile_names", "replicate", "size", "tiles", "writing", "zigzag_adc", "zigzag_dac",
    "zigzag_macro",
]  # fmt: skip
