"""The effects of a hardware, in the order of the signal, and the same hardware with only some of them.

`effect_table.EFFECTS` lists them, one row each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aimc_sim.attribution.effect_table import EFFECTS, NONE, Keys
from aimc_sim.hardware import Hardware


@dataclass(frozen=True)
class Effect:
    """An effect is one thing that a chip does to a product.

    key: its name in files and in sets. detail: what it is on this hardware. random: whether chips differ by it.
    needs: effects without which it cannot be simulated. acts_on: effects that it also changes, so that it shows in
    full only beside them.
    """

    key: str
    name: str
    detail: str
    random: bool
    needs: Keys = NONE
    acts_on: Keys = NONE


def effects_of(hardware: Hardware, t_s: float) -> tuple[Effect, ...]:
    """List the effects that this hardware has t_s seconds after programming, in the order of the signal; dies and
    tiles, which act on all of them, last. What is off, zero, or without effect at that time is left out.

    Raises BadInput for a time outside the range of the device's data.
    """
    hardware.check_time(t_s)
    details = {row.key: row.detail(hardware, t_s) for row in EFFECTS}
    present = frozenset(key for key, detail in details.items() if detail is not None)
    return tuple(
        Effect(row.key, row.name, detail, row.random, row.needs(hardware), row.acts_on(hardware) & present)
        for row in EFFECTS
        if (detail := details[row.key]) is not None
    )


def context(effects: Iterable[Effect], effect: Effect) -> Keys:
    """Return what must be on beside one effect for it to show alone: what it needs and acts on, and what those need."""
    by_key = {other.key: other for other in effects}
    keys = effect.needs | effect.acts_on
    while more := {need for key in keys for need in by_key[key].needs} - keys:
        keys |= more
    return keys


def dependents(effects: Iterable[Effect], effect: Effect) -> Keys:
    """Return the effects that cannot be simulated without this one, directly or through another."""
    listed, keys = tuple(effects), frozenset({effect.key})
    while more := {other.key for other in listed if other.needs & keys} - keys:
        keys |= more
    return keys - {effect.key}


def variant(hardware: Hardware, effects: Iterable[Effect], on: Keys) -> Hardware:
    """Return the same tiles and placement with only the effects in ``on``; with all of them, the hardware itself.

    Compensation belongs to drift and repair to faults; programming again at intervals stays, whatever is on, so that
    every set sees cells of the same age and the same draws. Without its DAC, inputs reach the cells as they are; an
    ADC, whose full scale is in units of the input range, then reads inputs of 16 bits in that same range.
    """
    if on == frozenset(effect.key for effect in effects):
        return hardware
    tables = hardware.model_dump(mode="json")
    for row in EFFECTS:
        if row.key not in on:
            row.switch_off(tables, hardware, on)
    tables["name"] = f"{hardware.name}, {' + '.join(e.key for e in effects if e.key in on) or 'ideal'}"
    return Hardware.parse(tables, f"{hardware.name}, some effects off")
