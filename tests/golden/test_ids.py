"""Ids of 0.1: a chip, a plan or a file that had one has it still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden import figures, inputs

from aimc_sim import Hardware, WeightFile

NAMES = [path.stem for path in inputs.hardware_files()]


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    """Ids as they are."""
    return figures.ids()


@pytest.mark.parametrize("what", ["devices", "hardware", "presets"])
def test_an_id_stays(what: str, found: dict[str, dict[str, str]], expected: dict[str, Any]) -> None:
    there = {name: found[what].get(name) for name in expected["ids"][what]}
    assert there == expected["ids"][what], "more may come, none may change"


@pytest.mark.parametrize("name", NAMES)
def test_a_hardware_is_written_as_it_was_and_read_back(
    name: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    chip = inputs.hardware(name)
    text = (inputs.HARDWARE / "written" / f"{name}.toml").read_text(encoding="utf-8")
    assert inputs.written(chip) == text
    if "FOLDER" not in text:  # a fault map is read from where it lies
        (tmp_path / "again.toml").write_text(text, encoding="utf-8")
        again = Hardware.load(tmp_path / "again.toml")
        assert again == chip
        assert again.id == expected["ids"]["hardware"][name]


def test_the_golden_hardware_uses_every_optional_table() -> None:
    tables = {
        field
        for name in NAMES
        for field, value in inputs.hardware(name).model_dump(mode="json").items()
        if value is not None
    }
    assert tables >= set(Hardware.model_fields)


def test_ids_of_chips_stay(weights: WeightFile, expected: dict[str, Any]) -> None:
    assert figures.chip_ids(weights) == expected["chips"]


def test_ids_of_plans_stay(expected: dict[str, Any]) -> None:
    """Nothing of a plan's id comes out of a run: `--dry-run` says it before anything is scored."""
    assert figures.plan_ids() == expected["plans"]
    assert expected["plans"]["the stored study"] == expected["journal"]["plan_id"]
