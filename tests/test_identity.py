"""Ids outlive the names of fields: they are made of version 0.1's keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from pydantic import Field

from aimc_sim import devices, identity
from aimc_sim.hardware import Hardware, preset_names
from aimc_sim.identity import canonical, content_id
from aimc_sim.spec import Spec
from aimc_sim.testing import strategies as some


class Adc(Spec):
    levels: int
    description: str = ""
    noise: float | None = None


class Chip(Spec):
    adc: Adc
    parts: tuple[Adc, ...] = ()


class RenamedAdc(Spec):
    max_code: int
    description: str = ""
    noise: float | None = None
    inl: float | None = None  # new, and not used


class RenamedChip(Spec):
    adc: RenamedAdc
    parts: tuple[RenamedAdc, ...] = Field(default=())


def test_a_renamed_field_keeps_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Chip(adc=Adc(levels=127, description="ours"), parts=(Adc(levels=7),))
    new = RenamedChip(adc=RenamedAdc(max_code=127), parts=(RenamedAdc(max_code=7),))
    assert new.id != old.id
    monkeypatch.setitem(identity.KEYS, "RenamedAdc", {"max_code": "levels"})
    assert new.id == old.id == content_id(new)
    assert canonical(new)["parts"] == [{"levels": 7, "description": "", "noise": None, "inl": None}]
    changed = RenamedChip(adc=RenamedAdc(max_code=126), parts=(RenamedAdc(max_code=7),))
    assert changed.id != old.id


@pytest.mark.parametrize("name", preset_names())
def test_canonical_form_of_a_preset_is_its_json_today(name: str) -> None:
    hardware = Hardware.load(name)
    assert canonical(hardware) == hardware.model_dump(mode="json")


@settings(max_examples=50)
@given(hardware=some.hardware())
def test_canonical_form_of_any_hardware_is_its_json_today(hardware: Hardware) -> None:
    assert canonical(hardware) == hardware.model_dump(mode="json")


@pytest.mark.parametrize("name", devices.names())
def test_canonical_form_of_a_device_is_its_json_today(name: str) -> None:
    assert canonical(devices.get(name)) == devices.get(name).model_dump(mode="json")
