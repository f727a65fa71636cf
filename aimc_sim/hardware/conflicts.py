"""What cannot be together in one hardware: checks across its tables, each with the reason and the way out.

Every function takes the tables and yields one sentence a conflict; `conflicts` is all of them, in the order in which
a user is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from aimc_sim.devices import PowerDrift
from aimc_sim.hardware.converters import LambdaRule
from aimc_sim.hardware.tables import Tables
from aimc_sim.randomness import PLANE_BITS

ROOM_C = 25.0  # where a device without temperature data is known


def conflicts(hardware: Tables) -> Iterator[str]:
    """Everything that does not go together, also in the way that ``placement.special`` holds some matrices."""
    yield from converter_conflicts(hardware)
    yield from domain_conflicts(hardware)
    yield from integer_path_conflicts(hardware)
    yield from matrix_conflicts(hardware)
    for special in hardware.placement.special or ():
        for conflict in matrix_conflicts(hardware.with_special(special)):
            yield f"placement.special: {conflict}"
    yield from read_noise_conflicts(hardware)


def matrix_conflicts(hardware: Tables) -> Iterator[str]:
    """What does not go together in the way that a matrix is held."""
    yield from hardware.weights.conflicts()
    yield from weight_conflicts(hardware)
    yield from cell_conflicts(hardware)
    yield from imperfection_conflicts(hardware)


def converter_conflicts(hardware: Tables) -> Iterator[str]:
    """Why the ADC lacks a DAC that it refers to."""
    if hardware.dac is not None or hardware.adc is None:
        return
    if isinstance(hardware.adc.full_scale, LambdaRule):
        yield (
            "the ADC's lambda rule is in units of the DAC's full scale, so it needs a [dac] table; "
            "add one, or use full_scale = {rule = 'least_squares'}"
        )
    yield "an ADC without a DAC has no input full scale to refer to: add a [dac] table"


def domain_conflicts(hardware: Tables) -> Iterator[str]:
    """Why stuck cells and wires need a device that has conductances."""
    faults, device = hardware.faults, hardware.device
    if device.domain != "weight":
        return
    if faults is not None and (faults.stuck_low_rate or faults.stuck_high_rate):
        yield (
            f"a stuck cell has a conductance, and {device.name!r} acts on the weight itself; "
            "choose a device of the conductance domain, or leave the stuck rates at 0"
        )
    if hardware.wires is not None:
        yield (
            f"wires carry currents of conductances, and {device.name!r} acts on the weight itself; "
            "choose a device of the conductance domain"
        )


def integer_path_conflicts(hardware: Tables) -> Iterator[str]:
    """Why bit-serial inputs, several phases, DAC curves and ADC noise need the path of exact integers."""
    dac, adc = hardware.dac, hardware.adc
    if hardware.uses_integers:
        return
    if dac is not None and dac.mode == "bit_serial":
        yield (
            "bit-serial inputs are simulated on the integer path: give the DAC at most 8 bits and keep "
            "tile.weight_grid = 'int16'"
        )
    curved = dac is not None and dac.errors is not None and dac.errors.inl_sigma_lsb
    if curved or hardware.reads.times > 1:
        yield (
            "several phases, and a DAC's nonlinearity, are simulated on the integer path: give the DAC at most 8 "
            "bits and keep tile.weight_grid = 'int16'"
        )
    if adc is not None and adc.errors is not None and adc.errors.noise_lsb:
        yield (
            "thermal noise of the ADC is simulated on the integer path: add a [dac] table of at most 8 bits and "
            "keep tile.weight_grid = 'int16'"
        )


def read_noise_conflicts(hardware: Tables) -> Iterator[str]:
    """Why read noise does not go with the rest."""
    if hardware.read_noise is None:
        return
    if hardware.device.domain == "weight":
        yield (
            f"read noise follows the conductances, and {hardware.device.name!r} acts on the weight itself; "
            "choose a device of the conductance domain"
        )
    if not hardware.uses_integers:
        yield (
            "read noise is simulated on the integer path: add a [dac] table of at most 8 bits and keep "
            "tile.weight_grid = 'int16'"
        )


def weight_conflicts(hardware: Tables) -> Iterator[str]:
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
    if dac is not None and hardware.conversions_per_weight > 1 << PLANE_BITS:
        yield (
            f"a weight would be converted {hardware.conversions_per_weight} times, and {1 << PLANE_BITS} conversions "
            "have names; use more bits a cell or a read, or fewer copies"
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


def cell_conflicts(hardware: Tables) -> Iterator[str]:
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


def imperfection_conflicts(hardware: Tables) -> Iterator[str]:
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


def _thermal_conflicts(hardware: Tables) -> Iterator[str]:
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
