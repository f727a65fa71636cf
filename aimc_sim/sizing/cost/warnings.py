"""What a reader must know before using a figure, loudly and with the next step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from aimc_sim.sizing.cost.activity import Activity
from aimc_sim.sizing.cost.analog import Cost
from aimc_sim.sizing.cost.designs import Designs, first
from aimc_sim.sizing.cost.dies import Chips
from aimc_sim.sizing.cost.writing import Writing

RETICLE_MM2 = 858.0  # 26 mm × 33 mm
LOW_UTILISATION = 0.7
SECONDS_A_DAY = 86_400.0


def warnings_of(cost: Cost, chips: Chips, writing: Writing, activity: Activity) -> tuple[str, ...]:
    """Write one sentence each, the most important first; of the first point."""
    return (
        *warnings_of_designs(cost.designs), *_tiles(cost.designs), *_silicon(cost, chips), *_cells(cost, activity),
        *_writing(writing),
    )  # fmt: skip


def warnings_of_designs(d: Designs) -> Iterable[str]:
    """Say what a profile is not, of every point of the designs."""
    profile, name, device = d.profile, d.profile.name, d.hardware.device.name
    if profile.kind == "bound":
        yield (
            f"{name} is a bound, not an estimate: real converters take 2.7 times its energy and 5.1 times its area at "
            "the median, and drivers, logic, buffers and wires are not in it at all"
        )
    elif profile.kind == "simulation":
        yield f"{name} is a simulation that no silicon has confirmed"
    if profile.devices and device not in profile.devices and device != "ideal":
        yield f"{name} was made for cells of {', '.join(profile.devices)}, not {device}: its constants are borrowed"
    measured = profile.calibration
    if measured is not None and ((d.rows != measured.rows) | (d.cols != measured.cols)).any():
        sizes = f"{d.rows[0]:.0f} × {d.cols[0]:.0f} is" if len(d) == 1 else "other tiles are"
        yield f"{name} was calibrated at {measured.rows} × {measured.cols} tiles; {sizes} extrapolated"


def _tiles(d: Designs) -> Iterable[str]:
    profile = d.profile
    if profile.name.startswith("sram-28nm") and (d.slices[0], d.dac_bits[0]) != (8, 8):
        yield f"{profile.name} counts the adders of 8-bit weights in 8 columns and 8-bit inputs: others are off"
    if profile.kind != "bound" and not any(part.of("power_idle") for _, part in profile.named_parts()):
        yield "tiles that wait are counted without power: no source says what they draw"


def _silicon(cost: Cost, chips: Chips) -> Iterable[str]:
    area, tile = first(cost.area_total_mm2), first(cost.tile_mm2)
    if tile > RETICLE_MM2:
        yield f"one tile takes {tile:,.0f} mm², a reticle exposes {RETICLE_MM2:.0f} mm²: use smaller tiles"
    elif area > RETICLE_MM2:
        dies = f"{chips.count:,} {'die' if chips.count == 1 else 'dies'}"
        yield (
            f"{area:,.0f} mm² do not fit a reticle ({RETICLE_MM2:.0f} mm²): this is {dies} of up to "
            f"{chips.tiles_per_chip:,} tiles"
        )
    asked, fastest = cost.scenario.rate, first(cost.fastest_tokens_per_s)
    if asked is not None and asked > fastest:
        yield f"{asked:,.4g} tokens/s are asked for, and it gives {fastest:,.4g}: more streams, or faster steps"
    full = first(cost.utilisation)
    if cost.tiles[0] and full < LOW_UTILISATION:
        shares = _shares(cost)
        listed = ", ".join(
            f"{role} {shares[role]:.2f}" for role in sorted(shares, key=shares.__getitem__)[:3]
        )
        yield f"only {full:.0%} of the cells hold weights (worst: {listed}): other tile shapes waste less"
    share = first(cost.energy_j["attention"] / cost.energy_per_token_j)
    if share > 0.5:
        yield (
            f"attention, digital, takes {share:.0%} of the energy, nearly all for moving keys and values: the tile "
            "matters little until the cache is cheaper or the context shorter"
        )


def _shares(cost: Cost) -> dict[str, float]:
    """Return role → share of its tiles' cells that holds weights, those of copies included."""
    used, whole = defaultdict[str, float](float), defaultdict[str, float](float)
    for i, column in enumerate(cost.matrices):
        if column.analog:
            used[column.role] += cost.cells_each[0, i] * column.layers
            whole[column.role] += (
                cost.tiles_each[0, i] * column.layers * first(cost.designs.rows * cost.designs.cols)
            )
    return {role: float(used[role] / whole[role]) for role in used}


def _cells(cost: Cost, activity: Activity) -> Iterable[str]:
    d = cost.designs
    if d.profile.array.voltage_read is not None and not activity.measured:
        yield "the array's energy is that of Gaussian weights and inputs: a weight file gives the model's own"
    if d.hardware.read_noise is None and d.profile.array.of("delay_read"):
        yield f"{d.hardware.name} has no read noise, so its accuracy does not depend on the reading time"
    if np.any(d.enob < d.adc_bits - 1):
        left = f"{first(d.enob):.1f} of {first(d.adc_bits):.0f} bits"
        yield f"noise and nonlinearity leave {left}: fewer bits cost less and lose little"


def _writing(writing: Writing) -> Iterable[str]:
    share, life, time = writing.refresh_share, writing.lifetime_y, first(writing.time_s)
    if share is not None and share[0] > 0.01:
        yield f"programming anew takes {first(share):.0%} of the time"
    if life is not None and life[0] < 10:
        yield f"programming that often uses up the cells in {first(life):.2g} years"
    if time > SECONDS_A_DAY:
        yield f"programming once takes {time / SECONDS_A_DAY:.1f} days"
