"""Programming a chip: whose ranges it gets, and when they are calibrated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim import Hardware, WeightFile, calibrate, program
from aimc_sim.chip.ranges import MatrixRange, Ranges

FITTED: Ranges = {"model.layers.0.self_attn.q_proj": MatrixRange(None, np.ones((1, 1), np.float32))}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What calibration was asked for; it answers `FITTED`."""
    calls: list[tuple[Any, ...]] = []

    def ranges_for(*arguments: Any) -> Ranges:
        calls.append(arguments)
        return FITTED

    monkeypatch.setattr(calibrate, "ranges_for", ranges_for)
    return calls


@pytest.mark.parametrize("given", [{}, dict(FITTED)], ids=["none", "some"])
def test_ranges_that_are_given_are_the_chips_and_none_are_calibrated(
    given: Ranges, asked: list[tuple[Any, ...]], tiny_weights: Path
) -> None:
    chip = program(tiny_weights, 3, "hermes-256", ranges=given)
    assert chip.ranges == given
    assert all(chip.ranges[name] is item for name, item in given.items())
    assert asked == []


def test_ranges_that_are_not_given_are_calibrated_once_for_this_file_and_hardware(
    asked: list[tuple[Any, ...]], tiny_weights: Path
) -> None:
    file = WeightFile(tiny_weights)
    hardware = Hardware.load({"base": "hermes-256", "tile": {"rows": 32}})
    assert hardware != file.hardware

    def progress(stage: str, done: int, total: int) -> None: ...

    chip = program(file, 3, hardware, progress=progress)
    assert asked == [(file, hardware, progress)]
    assert chip.ranges == FITTED


def test_hardware_that_needs_no_ranges_is_not_calibrated(
    asked: list[tuple[Any, ...]], tiny_weights: Path
) -> None:
    assert program(tiny_weights, 3, "ideal").ranges == {}
    assert asked == []
