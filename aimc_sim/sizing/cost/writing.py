"""What a chip costs before and between products: programming, programming anew, calibrating, wearing out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.sizing.cost.analog import Cost
from aimc_sim.sizing.cost.profile import Constant
from aimc_sim.units import SECONDS_PER


@dataclass(frozen=True)
class Writing:
    """This is what writing takes, in arrays (P,). None: the hardware has no such thing."""

    devices: F64  # that are programmed
    energy_j: F64  # once, pulses with their verification
    time_s: F64  # all chips at the same time
    refresh_w: F64 | None  # mean power of programming every refresh.every_s
    refresh_share: F64 | None  # of the time
    lifetime_y: F64 | None  # until the endurance is used up by refreshes
    calibration_j: F64  # one readout of all tiles for drift compensation
    calibration_s: F64
    calibration_w: F64 | None  # mean power, every compensation.every_s


def writing(cost: Cost) -> Writing:
    """Price writing. Programming: devices × pulses × (energy, time / devices at once a chip); calibration: products of
    every tile.

    >>> from aimc_sim.sizing import Designs, Workload, evaluate, writing
    >>> writing(evaluate(Designs.of("hermes-256"), Workload.of("SmolLM2-135M"))) is not None
    True
    """
    d, chip = cost.designs, cost.designs.hardware
    table = d.profile.writing
    polarities = 1 if chip.weights.pair == "offset_column" else 2
    devices = np.zeros(len(d))
    for column in cost.matrices:
        if column.analog:
            points = d.held_by(column.special)
            one = points.slices * points.copies * np.maximum(points.devices, chip.device.devices_per_polarity)
            devices += column.rows * column.cols * column.count * column.layers * one * polarities
    pulses = devices * table.of("number_pulses")
    energy = pulses * table.of("energy_pulse") * 1e-12
    time = pulses * table.of("delay_pulse") * 1e-9 / (table.of("number_at_once") * cost.chips)
    every = None if chip.refresh is None else chip.refresh.every_s
    lifetime = None
    if every is not None and isinstance(table.number_endurance, Constant):
        survives = table.of("number_endurance") / table.of("number_pulses") * every
        lifetime = np.full(len(d), survives / SECONDS_PER["y"])
    compensation = chip.compensation
    given = None if compensation is None else compensation.vectors
    vectors = table.of("number_calibration_products") if given is None else float(given)
    active, counts = (
        np.array([getattr(column, name) for column in cost.matrices], np.float64)
        for name in ("active", "count")
    )
    per_product = np.asarray(sum(
        (energy_pj / np.maximum(active, 1) * counts) @ cost.layers for energy_pj in cost.energy_pj_each.values()
    ))  # fmt: skip
    calibration = vectors * per_product * 1e-12
    product_s = sum(cost.stage_ns[name].max(axis=1) for name in ("array", "adc")) * 1e-9
    reread = None if compensation is None else compensation.every_s
    return Writing(
        devices, energy, time,
        None if every is None else energy / every, None if every is None else time / every, lifetime,
        calibration, np.asarray(vectors * product_s), None if reread is None else calibration / reread,
    )  # fmt: skip
