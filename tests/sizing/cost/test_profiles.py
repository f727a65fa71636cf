"""Profiles: strict data with sources, bands that mean something, and a user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimc_sim import devices
from aimc_sim.errors import BadInput
from aimc_sim.sizing import Profile, profile_for, profile_names

OWN = """
base = "hermes-14nm"
[sources.mine]
text = "our test chip, 2026"
licence = "ours"
[adc]
power_converter = { value = 0.1, low = 0.05, high = 0.2, unit = "mW", source = "mine" }
"""


def test_the_profiles_that_ship() -> None:
    assert profile_names() == ("adc-survey", "hermes-14nm", "isaac-32nm", "neurram-130nm", "sram-28nm")
    kinds = {name: Profile.load(name).kind for name in profile_names()}
    assert kinds == {"adc-survey": "bound", "hermes-14nm": "calibrated", "isaac-32nm": "simulation",
                     "neurram-130nm": "fit", "sram-28nm": "simulation"}  # fmt: skip
    known = set(devices.names())
    for name in profile_names():
        profile = Profile.load(name)
        assert set(profile.devices) <= known
        assert profile.constants()
        for _, constant in profile.constants():
            assert constant.low <= constant.value <= constant.high
            assert len(constant.source) > 3
            assert constant.licence


def test_a_device_finds_its_profile_and_all_others_the_bound() -> None:
    assert profile_for("pcm-hermes-2").name == "hermes-14nm"
    assert profile_for("reram-wan").name == "neurram-130nm"
    assert profile_for("pcm-ibm2019").name == "adc-survey"


def test_the_survey_carries_its_band() -> None:
    adc = dict(Profile.load("adc-survey").constants())
    energy, area = adc["adc.factor_energy"], adc["adc.factor_area"]
    assert (energy.low, energy.value, energy.high) == (0.34, 1, 20)
    assert (area.low, area.value, area.high) == (0.85, 1, 38)


def test_corners_take_every_constant_to_its_cheap_or_dear_end() -> None:
    profile = Profile.load("adc-survey")
    low, high = profile.at("low"), profile.at("high")
    assert profile.at("value") is profile
    assert low.adc.of("factor_energy") == 0.34
    assert high.adc.of("factor_energy") == 20
    assert low.digital.of("bandwidth_memory") == 1024  # more of it is cheap
    assert high.digital.of("bandwidth_memory") == 64
    assert len({low.id, profile.id, high.id}) == 3


def test_units_are_converted_and_checked() -> None:
    isaac = Profile.load("isaac-32nm")
    assert isaac.array.of("energy_per_cell_read") == pytest.approx(
        1.8310546875e-3
    )  # fJ in the file, pJ inside
    assert isaac.chip.of("area_fixed") == pytest.approx(22.88e6)
    assert isaac.chip.of("power_fixed") == pytest.approx(10400)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN, encoding="utf-8")
    mine, base = Profile.load(path), Profile.load("hermes-14nm")
    assert mine.adc.of("power_converter") == 0.1
    assert mine.adc.power_converter is not None
    assert mine.adc.power_converter.source == "our test chip, 2026"
    assert mine.adc.of("delay_conversion") == base.adc.of("delay_conversion")
    assert mine.id != base.id
    assert mine.devices == ()  # the changed constants stand for nobody's device


def constant(**changes: Any) -> dict[str, Any]:
    return {"value": 1.0, "low": 1.0, "high": 1.0, "unit": "pJ", "source": "s", "licence": "l", **changes}


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"adc": {"power_convertor": constant()}}, "did you mean 'power_converter'"),
        ({"adc": {"power_converter": constant(unit="pJ")}}, "is a power and cannot be in 'pJ'"),
        ({"adc": {"power_converter": constant(unit="mw")}}, "unit 'mw' is unknown"),
        ({"adc": {"power_converter": constant(unit="mW", low=2.0)}}, "low ≤ value ≤ high"),
        ({"adc": {"power_converter": constant(unit="mW", value=-1.0, low=-1.0)}}, "at least 0"),
        (
            {"adc": {"power_converter": {"value": 1, "low": 1, "high": 1, "unit": "mW", "source": "no"}}},
            r"\[sources\]",
        ),
        ({"timing": {"law": "soon"}}, "sequential"),
        ({"base": "hermes-14"}, "did you mean 'hermes-14nm'"),
    ],
)
def test_what_is_wrong_is_named(tables: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Profile.load({"base": "hermes-14nm", **tables})


def test_an_unknown_profile_offers_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'isaac-32nm'"):
        Profile.load("isaac-32")


def test_a_calibration_that_its_parts_exceed_is_refused() -> None:
    from aimc_sim.sizing import Designs, peak

    heavy = Profile.load(
        {"base": "hermes-14nm", "adc": {"power_converter": constant(value=9, low=9, high=9, unit="mW")}}
    )
    with pytest.raises(BadInput, match="exceed the tile that was measured"):
        peak(Designs.of("hermes-256", heavy))
