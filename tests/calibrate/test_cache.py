"""The names of cached ranges: everything that ranges depend on is in them, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimc_sim.calibrate import cache
from aimc_sim.hardware import Hardware
from aimc_sim.weightfile import WeightFile
from helpers.tiny_weightfiles import write

BASE = "hermes-256"
DECIDES: dict[str, Any] = {
    "tile": {"rows": 128},
    "weights": {"bits": 8},
    "dac": {"bits": 7},
    "adc": {"bits": 7},
    "placement": {"digital": ["layer.a"]},
    "transform": {"rotate": "hadamard"},
}
DECIDES_NOTHING: dict[str, Any] = {
    "name": "another",
    "description": "another",
    "source": "another",
    "read_noise": {"sigma": 0.03},
    "compensation": {"per": "column", "every_s": 600.0},
    "refresh": {"every_s": 3600.0},
    "wires": {"r_row_ohm": 1.0, "r_col_ohm": 1.0},
    "faults": {"stuck_low_rate": 0.01},
    "temperature": {"read_c": 40.0},
    "variation": {"die_gain_sigma": 0.01},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> WeightFile:
    return write(tmp_path_factory.mktemp("cache") / "model.aimc")


def loaded(**tables: Any) -> Hardware:
    return Hardware.load({"base": BASE, **tables})


def name_of(file: WeightFile, **tables: Any) -> str:
    assert loaded(**tables) != loaded(), "the tables must change something"
    return cache.name_of(file, loaded(**tables))


@pytest.mark.parametrize("table", DECIDES)
def test_hardware_that_differs_in_a_table_that_decides_has_ranges_of_its_own(
    file: WeightFile, table: str
) -> None:
    assert name_of(file, **{table: DECIDES[table]}) != cache.name_of(file, loaded())


@pytest.mark.parametrize("table", DECIDES_NOTHING)
def test_hardware_that_differs_in_another_table_shares_its_ranges(file: WeightFile, table: str) -> None:
    assert name_of(file, **{table: DECIDES_NOTHING[table]}) == cache.name_of(file, loaded())


def test_repair_needs_faults_and_changes_no_ranges(file: WeightFile) -> None:
    both = {"faults": {"stuck_low_rate": 0.01}, "repair": {"spare_columns": 4}}
    assert name_of(file, **both) == cache.name_of(file, loaded())


def test_every_table_is_known_to_decide_or_not() -> None:
    assert set(DECIDES) | set(DECIDES_NOTHING) | {"repair", "device"} == set(Hardware.model_fields)


@pytest.mark.parametrize("end", ["g_min_us", "g_max_us"])
def test_of_the_device_only_its_span_decides(file: WeightFile, end: str) -> None:
    plain, device = cache.name_of(file, loaded()), loaded().device
    moved = device.model_copy(update={end: getattr(device, end) + 0.25})
    assert cache.name_of(file, loaded().model_copy(update={"device": moved})) != plain
    assert name_of(file, device={"flicker": False}) == plain
    assert cache.name_of(file, loaded().with_noise_scale(2.0)) == plain


def test_another_weight_file_has_ranges_of_its_own(file: WeightFile, tmp_path: Path) -> None:
    other = write(tmp_path / "other.aimc", calibrated=False)
    assert cache.name_of(other, loaded()) != cache.name_of(file, loaded())
    same = write(tmp_path / "same.aimc")
    assert cache.name_of(same, loaded()) == cache.name_of(file, loaded())
