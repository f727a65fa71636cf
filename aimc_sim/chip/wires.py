"""Cells behind the wires of their tiles: one linear map a tile, after drift and faults, before anything reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim import wires
from aimc_sim.aliases import F32
from aimc_sim.chip.mapping import TileMap
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.imperfections import Wires

CHECKED = 1 << 20  # cells of a tile up to which an exact solution takes well below a second


def through_wires(
    hardware: Hardware, tile_map: TileMap, first_tile: int, last_tile: int, effective: F32, total: F32
) -> None:
    """Replace (G⁺ - G⁻)/span and (G⁺ + G⁻)/g_max, (n, K) each, columns of column tiles first_tile … last_tile-1, by
    what the wires leave of them. Two devices a polarity lie side by side at one crossing: twice the conductance."""
    device, spec = hardware.device, hardware.wires
    assert spec is not None
    devices = np.float32(hardware.weights.devices)
    span, g_max = (
        np.float32(device.g_max_us - device.g_min_us) * devices,
        np.float32(device.g_max_us) * devices,
    )
    rows, cols = tile_map.row_bounds, tile_map.col_bounds
    by_shape: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for c in range(first_tile, last_tile):
        columns = slice(int(cols[c] - cols[first_tile]), int(cols[c + 1] - cols[first_tile]))
        for a, b in zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True):
            by_shape.setdefault((b - a, columns.stop - columns.start), []).append((columns, slice(a, b)))
    options: dict[str, Any] = {
        "layout": spec.layout, "drive": spec.drive, "sense": spec.sense, "r_driver_ohm": spec.r_driver_ohm,
        "r_sense_ohm": spec.r_sense_ohm,
    }  # fmt: skip
    for places in by_shape.values():
        half_sum = np.stack([total[place].T for place in places]) * (g_max / 2)
        half_difference = np.stack([effective[place].T for place in places]) * (span / 2)
        plus, minus = np.maximum(half_sum + half_difference, 0), np.maximum(half_sum - half_difference, 0)
        ends = (plus, minus, spec.r_row_ohm, spec.r_col_ohm)
        if spec.model == "exact":
            through_plus, through_minus = (
                g.astype(np.float32) for g in wires.differential_effective_conductance(*ends, **options)
            )
        else:
            through_plus, through_minus, _ = wires.differential_effective_conductance_fast(*ends, **options)
            _spot_check(plus[0], minus[0], through_plus[0], through_minus[0], spec)
        noisy = wires.fluctuating_conductance(plus, through_plus)
        noisy += wires.fluctuating_conductance(minus, through_minus)
        for place, g_plus, g_minus, g_noisy in zip(places, through_plus, through_minus, noisy, strict=True):
            effective[place] = (g_plus - g_minus).T / span
            total[place] = g_noisy.T / g_max


def _spot_check(plus: F32, minus: F32, through_plus: F32, through_minus: F32, spec: Wires) -> None:
    """Solve one tile of a group exactly too, unless it is huge. Raises BadInput where the fast one breaks its bound."""
    if 2 * plus.size > CHECKED:
        return
    cells, fast = (
        wires.pair_columns(positive[None], negative[None], spec.layout)
        for positive, negative in ((plus, minus), (through_plus, through_minus))
    )
    check = wires.spot_check(
        cells, fast, spec.r_row_ohm, spec.r_col_ohm, tiles=1, drive=spec.drive, sense=spec.sense,
        r_driver_ohm=spec.r_driver_ohm, r_sense_ohm=spec.r_sense_ohm)  # fmt: skip
    if not check.holds:
        raise BadInput(
            "wires.model",
            got="fast",
            why=f"on a tile that was solved exactly too it is off by {check.worst:.3g} of the largest conductance, "
            f"more than its bound of {check.bound:.3g}",
            do="set wires.model = 'exact', and tell us about this hardware",
        )
