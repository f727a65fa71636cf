"""Figures of merit of a tile and of a chip at full load, as papers give them: TOPS, TOPS/W, TOPS/mm²."""

from __future__ import annotations

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.sizing.cost.activity import gaussian
from aimc_sim.sizing.cost.analog import OPERATIONS
from aimc_sim.sizing.cost.components import Use, components, product_ns
from aimc_sim.sizing.cost.designs import Designs


def peak(designs: Designs) -> dict[str, F64]:
    """Compute figures of merit at full load, each (P,): a tile's and, where the profile says how many tiles a chip has,
    its.

    Operations are 2 a multiply-accumulate of one whole weight (all slices) with one whole input (all bits).

    >>> from aimc_sim.sizing import Designs, peak
    >>> peak(Designs.of("hermes-256", adc_bits=[6, 8]))["tops_per_w"].shape
    (2,)
    """
    weights = np.floor(designs.cols / designs.columns_per_weight)
    ns, rows = product_ns(designs), designs.rows[:, None]
    activity = gaussian(designs, rows) if designs.profile.array.voltage_read is not None else None
    use = Use.of(designs, rows, weights[:, None], activity)
    pj = sum(part.energy_pj(use) for part in components(designs).values())
    pj = np.asarray(pj)[:, 0] / designs.copies  # of one of the tiles that hold the same weights
    mm2 = np.asarray(sum(part.area_um2() for part in components(designs).values())) * 1e-6
    tops = OPERATIONS * designs.rows * weights / designs.copies / ns * 1e-3
    merits = {"product_ns": ns, "product_pj": pj, "tops": tops, "power_w": pj / ns * 1e-3, "area_mm2": mm2,
              "tops_per_w": tops / (pj / ns * 1e-3), "tops_per_mm2": tops / mm2}  # fmt: skip
    chip = designs.profile.chip
    if chip.published_tiles is not None:
        power = merits["power_w"] * chip.published_tiles + chip.of("power_fixed") * 1e-3
        area = mm2 * chip.published_tiles + chip.of("area_fixed") * 1e-6
        whole = tops * chip.published_tiles
        merits |= {"chip_tops": whole, "chip_power_w": power, "chip_area_mm2": area,
                   "chip_tops_per_w": whole / power, "chip_tops_per_mm2": whole / area}  # fmt: skip
    return merits
