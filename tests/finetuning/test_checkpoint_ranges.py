"""Learned ranges travel: from analog.json through the export into the weight file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.exporting import export
from aimc_sim.models import open_checkpoint

NAME = "model.layers.0.self_attn.q_proj"


def folder_with(ranges: object, source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    (folder / "analog.json").write_text(json.dumps({"ranges": ranges}), encoding="utf-8")
    return folder


def test_the_weight_file_holds_them(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = folder_with({NAME: [2.5]}, tiny_checkpoint, tmp_path / "trained")
    weights = export(folder, tmp_path / "trained.h5", "afm-llama", calibration_tokens=32)
    found = weights.ranges(NAME)
    assert found is not None
    assert np.array_equal(found, np.float32([2.5]))
    assert weights.ranges("model.layers.0.self_attn.k_proj") is None
    from aimc_sim.calibrate import derive_ranges

    derived = derive_ranges(weights, weights.hardware)
    assert np.array_equal(derived[NAME].input_range, np.float32([2.5]))


@pytest.mark.parametrize(
    "ranges", [{"nothing": [1.0]}, {NAME: [0.0]}, {NAME: []}, {NAME: [[1.0]]}, {NAME: 3}, 5]
)
def test_ranges_that_make_no_sense_are_refused(ranges: object, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = folder_with(ranges, tiny_checkpoint, tmp_path / "trained")
    with pytest.raises(BadInput):
        export(folder, tmp_path / "trained.h5", "afm-llama", calibration_tokens=32)
    assert not (tmp_path / "trained.h5").exists()


def test_without_analog_json_there_are_none(tiny_checkpoint: Path) -> None:
    assert open_checkpoint(tiny_checkpoint).ranges == {}
