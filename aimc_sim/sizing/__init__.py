"""What a model costs on analog tiles: tiles, energy, latency, area, in closed forms (docs/sizing.md).

Workload (matrices of a model) × Designs (points of a hardware) × Profile (constants) --evaluate--> Cost

`size` and `sweep` stand at the top of the package (`aimc_sim.size`); which matrices stay digital is asked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimc_sim.lazy import lazy_names

if TYPE_CHECKING:
    from aimc_sim.sizing.cost.activity import Activity as Activity
    from aimc_sim.sizing.cost.activity import measure_activity as measure_activity
    from aimc_sim.sizing.cost.adc import adc_survey as adc_survey
    from aimc_sim.sizing.cost.adc import zigzag_adc as zigzag_adc
    from aimc_sim.sizing.cost.analog import Cost as Cost
    from aimc_sim.sizing.cost.analog import evaluate as evaluate
    from aimc_sim.sizing.cost.designs import Designs as Designs
    from aimc_sim.sizing.cost.dies import floorplan as floorplan
    from aimc_sim.sizing.cost.dies import place as place
    from aimc_sim.sizing.cost.dies import replicate as replicate
    from aimc_sim.sizing.cost.estimate import Sizing as Sizing
    from aimc_sim.sizing.cost.estimate import size as size
    from aimc_sim.sizing.cost.merit import peak as peak
    from aimc_sim.sizing.cost.profile import Constant as Constant
    from aimc_sim.sizing.cost.profile import Profile as Profile
    from aimc_sim.sizing.cost.profile import profile_for as profile_for
    from aimc_sim.sizing.cost.profile import profile_names as profile_names
    from aimc_sim.sizing.cost.tiles import conversions_per_mac as conversions_per_mac
    from aimc_sim.sizing.cost.tiles import tiles as tiles
    from aimc_sim.sizing.cost.workload import Scenario as Scenario
    from aimc_sim.sizing.cost.workload import Workload as Workload
    from aimc_sim.sizing.cost.writing import writing as writing
    from aimc_sim.sizing.partition.result import Partition as Partition
    from aimc_sim.sizing.partition.result import Sensitivity as Sensitivity
    from aimc_sim.sizing.partition.study import choose_partition as choose_partition
    from aimc_sim.sizing.partition.study import measure_sensitivity as measure_sensitivity
    from aimc_sim.sizing.sweep.result import Sweep as Sweep

__getattr__, __dir__, __all__ = lazy_names(__name__)
__all__.remove("place")  # `floorplan` now
