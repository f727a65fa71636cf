"""What cannot be together in one hardware: checks across its tables, each with the reason and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aimc_sim.randomness import PLANE_BITS

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware


def weight_conflicts(hardware: Hardware) -> Iterator[str]:
    """Why the way weights are held does not go with the rest."""
    weights, device, tile, adc, dac = (
        hardware.weights,
        hardware.device,
        hardware.tile,
        hardware.adc,
        hardware.dac,
    )
    offset = weights.pair == "offset_column"
    pairs = offset or weights.subtract == "digital" or weights.devices == 2
    if device.domain == "weight" and (pairs or weights.arrays > 1):
        yield (
            f"{device.name!r} acts on the weight itself and has no cells to pair, to slice or to copy; leave pair, "
            "subtract, devices, copies and cell_bits at their defaults, or choose a device of the conductance domain"
        )
    if weights.devices == 2 and device.devices_per_polarity == 2:
        yield (
            f"{device.name!r} describes the sum of two devices a polarity already, and two draws of it would count "
            "four; set weights.devices = 1, or choose the fit of one device (such as 'pcm-hermes-1')"
        )
    if weights.group_rows is not None and (
        tile.rows is None or weights.group_rows % tile.rows or tile.split != "filled"
    ):
        yield (
            f"weights.group_rows = {weights.group_rows} must be whole tiles high, because a tile's sum has one scale a "
            f"column: set tile.rows to a divisor of it, and tile.split = 'filled'; tile.rows is {tile.rows}"
        )
    if weights.slice_sum == "analog" and weights.slices > 1 and weights.copies is not None:
        yield "copies are converted one by one; set slice_sum = 'digital', or leave copies out"
    if adc is not None and weights.slice_sum == "analog" and weights.slices > 1:
        if weights.subtract == "digital":
            yield "slices summed in analog are converted once; set weights.subtract = 'analog'"
        if hardware.compensation is not None:
            yield (
                "slices summed in analog have no factor of their own, so drift compensation is not simulated for them; "
                "set compensation = false or slice_sum = 'digital'"
            )
    four = dac is not None and dac.mode == "multi_phase" and dac.phases == 4
    if adc is not None and four and weights.subtract != "digital":
        yield (
            "four phases read each sign of the inputs on each column of a pair, one by one, so their codes are "
            "subtracted digitally: set weights.subtract = 'digital', or dac.phases = 2"
        )
    parts = weights.copies or 1
    if adc is not None:
        slices = weights.slices if weights.slice_sum == "digital" else 1
        parts *= slices * (2 if weights.subtract == "digital" else 1)
    if dac is not None and parts * hardware.reads.times > 1 << PLANE_BITS:
        yield (
            f"a weight would be converted {parts * hardware.reads.times} times, and {1 << PLANE_BITS} conversions have "
            "names; use more bits a cell or a read, or fewer copies"
        )
    if not offset:
        return
    if hardware.wires is not None:
        yield (
            "wires are solved for pairs of columns, not for an offset column; set pair = 'differential', or "
            "wires = false"
        )
    noisy_adc = adc is not None and adc.errors is not None and adc.errors.noise_lsb
    if hardware.read_noise is not None or (noisy_adc and weights.subtract == "digital"):
        yield (
            "what an offset column reads, noise included, is subtracted from all columns of its tile alike, and noise "
            "that columns share is not simulated; set pair = 'differential', or switch that noise off"
        )


def cell_conflicts(hardware: Hardware) -> Iterator[str]:
    """Why cells that are not linear in the input do not go with what is exact for linear ones only."""
    device, dac = hardware.device, hardware.dac
    for declared, what, why in (
        (
            device.iv == "nonlinear",
            "has a nonlinear I-V curve",
            "its current is not proportional to the input voltage",
        ),
        (device.gate == "input", "is gated by its input", "which cells conduct depends on the input"),
    ):
        if not declared:
            continue
        if hardware.wires is not None:
            yield (
                f"{device.name!r} {what}, so {why}, and no one G_eff describes its wires; set wires = false, or use a "
                "circuit simulator for them"
            )
        binary = dac is not None and (
            dac.mode in ("pulse_width", "multi_phase") or (dac.mode == "bit_serial" and dac.slice_bits == 1)
        )
        if not binary:
            yield (
                f"{device.name!r} {what}, so {why}, and products with inputs of several voltages are not simulated; "
                "give the DAC mode 'pulse_width', 'multi_phase', or 'bit_serial' with slice_bits = 1, which read every "
                "cell at one voltage"
            )
