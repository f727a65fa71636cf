"""What faults, their repair and temperatures need of the rest of a hardware, with the reason and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aimc_sim.devices import PowerDrift

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware

ROOM_C = 25.0  # where a device without temperature data is known


def imperfection_conflicts(hardware: Hardware) -> Iterator[str]:
    """Why faults, repair or temperature do not go with the rest."""
    faults, device = hardware.faults, hardware.device
    if faults is not None and faults.map is not None and device.domain == "weight":
        yield (
            f"a fault map names cells, and {device.name!r} acts on the weight itself; "
            "choose a device of the conductance domain"
        )
    if hardware.repair is not None:
        if faults is None:
            yield "repair answers faults that a test has found; add a [faults] table, or leave [repair] out"
        if device.domain == "weight":
            yield (
                f"repair compares conductances, and {device.name!r} acts on the weight itself; "
                "choose a device of the conductance domain"
            )
        weights = hardware.weights
        if not weights.plain or weights.subtract == "digital":
            yield (
                "columns are moved as pairs that hold a whole weight; leave [weights] bits, pair, subtract, devices "
                "and copies at their defaults, or [repair] out"
            )
    policy = hardware.compensation
    if policy is not None and policy.per == "affine" and not hardware.uses_integers:
        yield (
            "affine compensation reads codes, on the integer path: add a [dac] table of at most 8 bits and keep "
            "tile.weight_grid = 'int16'"
        )
    if policy is not None and policy.per != "affine" and policy.vectors is not None:
        yield "compensation.vectors are those of an affine fit; leave them out, or set per = 'affine'"
    yield from _thermal_conflicts(hardware)


def _thermal_conflicts(hardware: Hardware) -> Iterator[str]:
    device, wanted = hardware.device, hardware.temperature
    spread = hardware.variation is not None and hardware.variation.die_temperature_sigma_c
    if wanted is None and not spread:
        return
    reference = ROOM_C if device.thermal is None else device.thermal.reference_c
    program = reference if wanted is None else wanted.program_c
    read = reference if wanted is None else wanted.read_c
    storage = read if wanted is None or wanted.storage_c is None else wanted.storage_c
    if device.thermal is None:
        if spread or {program, read, storage} != {reference}:
            yield (
                f"device {device.name!r} has no data on temperature, so it is known at {reference:g} °C only; "
                "give it a [device.thermal] table, or leave temperatures out"
            )
        return
    for what, value in (("program_c", program), ("read_c", read), ("storage_c", storage)):
        if not device.thermal.t_min_c <= value <= device.thermal.t_max_c:
            yield (
                f"temperature.{what} = {value:g}, and the data of device {device.name!r} cover "
                f"{device.thermal.t_min_c:g} to {device.thermal.t_max_c:g} °C; stay within"
            )
    drifts = device.drift is not None or (
        device.programming is not None and len(device.programming.by_age) > 1
    )
    rescaled = isinstance(device.drift, PowerDrift) and device.thermal.attempt_time_s is not None
    if drifts and not rescaled and (spread or {program, read, storage} != {reference}):
        yield (
            f"no data say how the drift of {device.name!r} depends on temperature; give a power law with "
            "thermal.attempt_time_s, or drift = false"
        )
