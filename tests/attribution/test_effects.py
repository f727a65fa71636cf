"""Effects of a hardware, in order, and hardware with some of them only."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from aimc_sim.attribution.effect_table import NONE
from aimc_sim.attribution.effects import context, dependents, effects_of, variant
from aimc_sim.attribution.study import differs_by_chip, sets_of, without
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware, preset_names

DAY = 86400.0
ORDER = ["dac", "dac_errors", "programming", "faults", "drift", "flicker", "wires", "read_noise", "adc", "adc_errors",
         "variation"]  # fmt: skip


def keys(hardware: Hardware, t_s: float = DAY) -> list[str]:
    return [effect.key for effect in effects_of(hardware, t_s)]


def changed(**tables: Any) -> Hardware:
    return Hardware.load({"base": "hermes-256", **tables})


def test_effects_stand_in_the_order_of_the_signal(everything: Hardware) -> None:
    assert keys(everything) == ORDER
    assert keys(Hardware.load("hermes-256")) == ["dac", "programming", "drift", "flicker", "adc"]
    assert keys(Hardware.load("ideal")) == []


def test_what_is_zero_is_no_effect() -> None:
    nothing = changed(
        dac={"errors": {"gain_sigma": 0.0}}, adc={"errors": {"gain_sigma": 0.0}}, read_noise={"sigma": 0.0},
        wires={"r_row_ohm": 0.0, "r_col_ohm": 0.0}, faults={"dead_row_rate": 0.0}, variation={"nu_sigma": 0.0},
    )  # fmt: skip
    assert keys(nothing) == keys(Hardware.load("hermes-256"))


def test_nothing_has_drifted_at_programming() -> None:
    assert "drift" not in keys(Hardware.load("hermes-256"), 0.0)
    again = changed(refresh={"every_s": 3600.0})
    assert "drift" not in keys(again, 7200.0), "programmed again just now"
    assert "drift" in keys(again, 7201.0)


def test_a_time_beyond_the_data_is_refused() -> None:
    with pytest.raises(BadInput, match="data end at"):
        effects_of(Hardware.load("hermes-256"), 1e12)


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "ideal"])
def test_every_set_of_every_preset_is_a_hardware(name: str) -> None:
    hardware = Hardware.load(name)
    t_s = DAY if hardware.device.t_max_s is None else min(DAY, hardware.device.t_max_s)
    effects = effects_of(hardware, t_s)
    for on in sets_of(effects):
        found = effects_of(variant(hardware, effects, on), t_s)
        shown = {effect.key for effect in found}
        ideal_inputs = {"dac"} if "adc" in on and "dac" not in on else set()
        assert shown == on | ideal_inputs


def test_each_effect_can_be_taken_from_a_hardware_with_all(everything: Hardware) -> None:
    effects = effects_of(everything, DAY)
    for on in sets_of(effects):
        shown = {effect.key for effect in effects_of(variant(everything, effects, on), DAY)}
        assert shown - {"dac"} == on - {"dac"}
    everything_on = frozenset(ORDER)
    assert variant(everything, effects, everything_on) is everything
    assert len(sets_of(effects)) == len(set(sets_of(effects)))
    for count in range(len(ORDER)):
        assert frozenset(ORDER[:count]) in sets_of(effects)


def test_ideal_tiles_keep_their_shape_and_cells(everything: Hardware) -> None:
    effects = effects_of(everything, DAY)
    bare = variant(everything, effects, NONE)
    assert (bare.dac, bare.adc, bare.wires, bare.faults, bare.compensation) == (None,) * 5
    assert bare.tile == everything.tile
    assert bare.device.g_max_us == everything.device.g_max_us
    assert (bare.device.programming, bare.device.drift, bare.device.flicker) == (None, None, None)


def test_an_adc_without_its_dac_reads_fine_inputs_in_the_same_range() -> None:
    hardware = Hardware.load("afm-llama")
    effects = effects_of(hardware, DAY)
    found = variant(hardware, effects, frozenset({"adc"}))
    assert hardware.dac is not None
    assert found.dac is not None
    assert (found.dac.bits, found.dac.range) == (16, hardware.dac.range)
    assert found.adc == hardware.adc


def test_dead_columns_need_a_converter_whose_range_clips_nothing(everything: Hardware) -> None:
    effects = effects_of(everything, DAY)
    found = variant(everything, effects, frozenset({"faults"}))
    assert found.dac is not None
    assert (found.dac.bits, found.dac.range.method, found.dac.errors) == (16, "per_token", None)
    assert found.adc is None


def test_what_an_effect_needs_and_what_needs_it(everything: Hardware) -> None:
    effects = {effect.key: effect for effect in effects_of(everything, DAY)}
    listed = tuple(effects.values())
    assert context(listed, effects["adc_errors"]) == {"adc", "dac"}, "thermal noise is drawn on integers"
    assert context(listed, effects["variation"]) == {"adc", "drift", "programming"}
    assert dependents(listed, effects["dac"]) == {"dac_errors", "read_noise", "adc_errors"}
    assert dependents(listed, effects["adc"]) == {"adc_errors"}
    assert without(listed, effects["adc"]) == frozenset(ORDER) - {"adc", "adc_errors"}
    assert dependents(listed, effects["variation"]) == NONE
    plain = {effect.key: effect for effect in effects_of(Hardware.load("hermes-256"), DAY)}
    assert all(context(plain.values(), effect) == NONE for effect in plain.values())


def test_read_after_read_an_adc_needs_codes() -> None:
    def adc(**dac: Any) -> Any:
        listed = effects_of(changed(dac={"mode": "bit_serial", **dac}), DAY)
        return next(effect for effect in listed if effect.key == "adc")

    assert adc().needs == {"dac"}
    assert adc(accumulate="analog").needs == NONE


def test_statistics_by_age_hold_programming_and_drift() -> None:
    hardware = Hardware.load("reram-wan-256")
    effects = effects_of(hardware, DAY)
    by_key = {effect.key: effect for effect in effects}
    assert by_key["drift"].needs == {"programming"}
    early = variant(hardware, effects, frozenset({"programming"})).device
    late = hardware.device
    assert early.programming is not None
    assert early.programming.by_age == ()
    half = late.g_max_us / 2
    assert early.programming_sigma_us(half, DAY) == late.programming_sigma_us(half, 0.0)
    assert late.programming_sigma_us(half, DAY) != late.programming_sigma_us(half, 0.0)


def test_chips_differ_where_something_is_drawn(everything: Hardware) -> None:
    effects = effects_of(everything, DAY)
    fixed = ["dac", "wires", "adc"]
    for count in range(len(fixed) + 1):
        assert not any(differs_by_chip(effects, frozenset(on)) for on in combinations(fixed, count))
    assert all(differs_by_chip(effects, frozenset({"dac", key})) for key in set(ORDER) - set(fixed))
