"""Ids outlive the names of fields: they are made of version 0.1's keys."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from pydantic import Field

from aimc_sim import devices, identity
from aimc_sim.evaluate.text import SelfText
from aimc_sim.hardware import Hardware, preset_names
from aimc_sim.identity import canonical, content_id
from aimc_sim.signoff.execution.journal import open_journal
from aimc_sim.sizing.partition.sensitivity import SensitivityPlan
from aimc_sim.sizing.sweep.plan import SweepPlan
from aimc_sim.spec import Spec
from aimc_sim.testing import strategies as some
from helpers.plans import make_plan

TEXT = SelfText(sequences=2, length=16)


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


def identities(hardware: Hardware, folder: Path) -> dict[str, str]:
    """Every id and stored text that a hardware has a part in."""
    plan = make_plan(
        weights="0" * 64, hardware=hardware, chips=2, times_s=(60.0,), margin_nats=0.5, text=TEXT
    )
    tables = hardware.model_dump(mode="json")
    sweep = SweepPlan.parse(
        {
            "model": "m",
            "code": "",
            "hardware": [tables],
            "profiles": ["p"],
            "axes": {},
            "scenario": {},
            "metric": "cost",
        },
        "sweep",
    )
    profile = SensitivityPlan.parse({"weights": "w", "code": "", "hardware": tables}, "sensitivity")
    path = folder / f"{len(list(folder.iterdir()))}.sqlite"
    open_journal(path, plan, "code").close()
    with sqlite3.connect(path) as base:
        stored = dict(base.execute("SELECT name, value FROM identity"))
    return {
        "hardware": hardware.id,
        "its file": hardware.to_toml(),
        "plan": plan.id,
        "part": plan.part(hardware.name, "text").id,
        "journal": stored["plan"],
        "sweep": sweep.id,
        "sweep's store": str(canonical(sweep)),
        "placement study": profile.id,
    }


def test_every_identity_goes_through_the_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another key for a field changes them all: so a field that is renamed, with its old key there, changes none."""
    hardware = Hardware.load({"base": "hermes-256", "name": "mine", "read_noise": {"spectrum": "slow"}})
    before = identities(hardware, tmp_path)
    monkeypatch.setitem(identity.KEYS, "ReadNoise", {"spectrum": "colour"})
    after = identities(hardware, tmp_path)
    assert [name for name in before if after[name] == before[name]] == []
