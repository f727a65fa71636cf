"""The table of effects is complete, and each of its rows does what it says."""

from __future__ import annotations

from typing import Any

import pytest

from aimc_sim.attribution.effect_table import EFFECTS, NEUTRAL, NONE, SCALES
from aimc_sim.attribution.effects import effects_of, variant
from aimc_sim.attribution.study import sets_of
from aimc_sim.hardware import Hardware
from aimc_sim.spec import Spec
from helpers.tables import switches_of

DAY = 86400.0


class Crosstalk(Spec):
    ohm: float = 0.0


class Denser(Hardware):
    crosstalk: Crosstalk | None = None


def unlisted(spec: type[Spec]) -> set[str]:
    listed = [path for row in EFFECTS for path in row.tables] + list(NEUTRAL)
    return switches_of(spec) - set(listed)


def test_every_table_of_a_hardware_is_an_effect_or_declared_neutral() -> None:
    assert unlisted(Hardware) == set(), (
        "add a row to EFFECTS, or a line to NEUTRAL that says why it is no effect"
    )
    listed = [path for row in EFFECTS for path in row.tables] + list(NEUTRAL)
    assert len(listed) == len(set(listed))
    assert set(listed) <= switches_of(Hardware), "and nothing is listed that is not there"


def test_an_effect_that_nobody_lists_is_noticed() -> None:
    assert unlisted(Denser) == {"crosstalk"}


def test_every_rule_of_a_full_scale_has_a_name() -> None:
    for rule in SCALES:
        found = Hardware.load({"base": "hermes-256", "adc": {"full_scale": {"rule": rule, "per": "matrix"}}})
        adc = next(effect for effect in effects_of(found, DAY) if effect.key == "adc")
        assert adc.detail == f"8 bits, {SCALES[rule]} full scale per matrix"
    derived = Hardware.load(
        {"base": "afm-llama", "tile": {"rows": 256}, "adc": {"full_scale": {"derive": "model"}}}
    )
    assert "λ derived per model" in effects_of(derived, DAY)[-1].detail


EXTRAS: dict[str, dict[str, Any]] = {
    "weight codes": {"weights": {"bits": 4}},
    "codes of a checkpoint": {
        "tile": {"rows": 128},
        "weights": {"bits": 4, "scale": "grid", "group_rows": 128},
    },
    "slices": {"weights": {"bits": 8, "cell_bits": 2}},
    "single columns": {"weights": {"subtract": "digital"}},
    "phases": {"dac": {"mode": "multi_phase"}},
    "offset inputs": {"dac": {"mode": "bit_serial", "coding": "offset"}},
    "a sar": {"adc": {"kind": "sar", "errors": {"unit_cap_sigma": 0.01, "gain_sigma": 0.01}}},
    "temperature": {"temperature": {"read_c": 45.0}, "variation": {"die_temperature_sigma_c": 1.0}},
    "droop": {"variation": {"supply_droop": 0.05, "tile_supply_sigma": 0.01}},
    "verify": {
        "device": {
            "programming": {
                "iterations": 10,
                "verify": {"iterations": [5, 20], "sigma_ratio": [1.3, 0.8], "source": "a test"},
            }
        }
    },
    "repair": {"faults": {"stuck_low_rate": 0.01}, "repair": {"spare_columns": 2}},
    "affine": {"compensation": {"per": "affine"}},
    "curved dacs": {"dac": {"errors": {"inl_sigma_lsb": 0.5}}},
}


@pytest.mark.parametrize("name", EXTRAS)
def test_every_set_of_such_a_hardware_is_a_hardware(name: str) -> None:
    """And what is on in it is what was asked for."""
    hardware = Hardware.load({"base": "hermes-256", **EXTRAS[name]})
    effects = effects_of(hardware, DAY)
    for on in sets_of(effects):
        shown = {effect.key for effect in effects_of(variant(hardware, effects, on), DAY)}
        assert shown - {"dac"} == on - {"dac"}
    assert variant(hardware, effects, NONE).repair is None


def test_what_temperature_acts_on() -> None:
    hardware = Hardware.load({"base": "hermes-256", **EXTRAS["temperature"]})
    effects = {effect.key: effect for effect in effects_of(hardware, DAY)}
    assert effects["temperature"].acts_on == {"drift"}
    assert effects["temperature"].detail == "programmed at 25 °C, stored at 45, read at 45"
    assert effects["variation"].acts_on == {"drift"}
    assert effects_of(Hardware.load({"base": "hermes-256", "temperature": {}}), DAY) == effects_of(
        Hardware.load("hermes-256"), DAY
    )
