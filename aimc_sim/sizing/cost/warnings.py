"""What a reader must know before using a figure, loudly and with the next step."""

from __future__ import annotations

import numpy as np

from aimc_sim.sizing.cost.activity import Activity
from aimc_sim.sizing.cost.analog import Cost
from aimc_sim.sizing.cost.dies import Chips
from aimc_sim.sizing.cost.writing import Writing

RETICLE_MM2 = 858.0  # 26 mm × 33 mm
LOW_UTILISATION = 0.7
SECONDS_A_DAY = 86_400.0


def warnings_of(cost: Cost, chips: Chips, writing: Writing, activity: Activity) -> tuple[str, ...]:
    """One sentence each, the most important first; of the first point."""
    return (*_model(cost), *_silicon(cost, chips), *_cells(cost, activity), *_writing(writing))


def _model(cost: Cost) -> list[str]:
    d, profile = cost.designs, cost.designs.profile
    name, device, found = profile.name, cost.designs.hardware.device.name, []
    if profile.kind == "bound":
        found.append(
            f"{name} is a bound, not an estimate: real converters take 2.7 times its energy and 5.1 times its area at "
            "the median, and drivers, logic, buffers and wires are not in it at all"
        )
    elif profile.kind == "simulation":
        found.append(f"{name} is a simulation that no silicon has confirmed")
    if profile.devices and device not in profile.devices and device != "ideal":
        of = ", ".join(profile.devices)
        found.append(f"{name} was made for cells of {of}, not {device}: its constants are borrowed")
    measured = profile.calibration
    if measured is not None and (d.rows[0], d.cols[0]) != (measured.rows, measured.cols):
        here, there = f"{d.rows[0]:.0f} × {d.cols[0]:.0f}", f"{measured.rows} × {measured.cols}"
        found.append(f"{name} was calibrated at {there} tiles; {here} is extrapolated")
    if name.startswith("sram-28nm") and (d.slices[0], d.dac_bits[0]) != (8, 8):
        found.append(
            f"{name} counts the adders of 8-bit weights in 8 columns and 8-bit inputs: others are off"
        )
    if profile.kind != "bound" and not any(
        part.power_idle and part.of("power_idle") for part in profile.parts()
    ):
        found.append("tiles that wait are counted without power: no source says what they draw")
    return found


def _silicon(cost: Cost, chips: Chips) -> list[str]:
    found = []
    area, one = float(cost.area_total_mm2[0]), float(cost.tile_mm2[0])
    if one > RETICLE_MM2:
        found.append(
            f"one tile takes {one:,.0f} mm², a reticle exposes {RETICLE_MM2:.0f} mm²: use smaller tiles"
        )
    elif area > RETICLE_MM2:
        dies = f"{chips.count:,} {'die' if chips.count == 1 else 'dies'}"
        found.append(
            f"{area:,.0f} mm² do not fit a reticle ({RETICLE_MM2:.0f} mm²): this is {dies} of up to "
            f"{chips.tiles_per_chip:,} tiles"
        )
    asked, fastest = cost.scenario.rate, float(cost.fastest_tokens_per_s[0])
    if asked is not None and asked > fastest:
        found.append(
            f"{asked:,.4g} tokens/s are asked for, and it gives {fastest:,.4g}: more streams, or faster steps"
        )
    full = float(cost.utilisation[0])
    if cost.tiles[0] and full < LOW_UTILISATION:
        shares = _shares(cost)
        worst = sorted(shares, key=lambda role: shares[role])[:3]
        listed = ", ".join(f"{role} {shares[role]:.2f}" for role in worst)
        found.append(
            f"only {full:.0%} of the cells hold weights (worst: {listed}): other tile shapes waste less"
        )
    share = float((cost.energy_j["attention"] / cost.energy_per_token_j)[0])
    if share > 0.5:
        found.append(
            f"attention, digital, takes {share:.0%} of the energy, nearly all for moving keys and values: the tile "
            "matters little until the cache is cheaper or the context shorter"
        )
    return found


def _shares(cost: Cost) -> dict[str, float]:
    """Role → share of its tiles' cells that hold weights, those of copies included."""
    held: dict[str, float] = {}
    there: dict[str, float] = {}
    one = float((cost.designs.rows * cost.designs.cols)[0])
    for i, column in enumerate(cost.matrices):
        if column.analog:
            cells, tiles = (float(each[0, i]) * column.layers for each in (cost.cells_each, cost.tiles_each))
            held[column.role] = held.get(column.role, 0.0) + cells
            there[column.role] = there.get(column.role, 0.0) + tiles * one
    return {role: held[role] / there[role] for role in held}


def _cells(cost: Cost, activity: Activity) -> list[str]:
    d, found = cost.designs, []
    if d.profile.array.voltage_read is not None and not activity.measured:
        found.append(
            "the array's energy is that of Gaussian weights and inputs: a weight file gives the model's own"
        )
    if d.hardware.read_noise is None and d.profile.array.of("delay_read"):
        found.append(
            f"{d.hardware.name} has no read noise, so its accuracy does not depend on the reading time"
        )
    if np.any(d.enob < d.adc_bits - 1):
        left = f"{float(d.enob[0]):.1f} of {float(d.adc_bits[0]):.0f} bits"
        found.append(f"noise and nonlinearity leave {left}: fewer bits cost less and lose little")
    return found


def _writing(writing: Writing) -> list[str]:
    found = []
    share, life = writing.refresh_share, writing.lifetime_y
    if share is not None and share[0] > 0.01:
        found.append(f"programming anew takes {float(share[0]):.0%} of the time")
    if life is not None and life[0] < 10:
        found.append(f"programming that often uses up the cells in {float(life[0]):.2g} years")
    if writing.time_s[0] > SECONDS_A_DAY:
        found.append(f"programming once takes {float(writing.time_s[0]) / SECONDS_A_DAY:.1f} days")
    return found
