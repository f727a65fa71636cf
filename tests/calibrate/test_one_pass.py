"""Calibration in bounded memory gives what calibration in one piece gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aimc_sim import Hardware, WeightFile, export
from aimc_sim.calibrate import ranges as calibrate
from aimc_sim.calibrate.moments import collect_moments
from aimc_sim.testing import assert_bits
from aimc_sim.torch_bridge import load_digital
from helpers.tiny_models import save_tiny


@pytest.mark.parametrize(
    ("family", "dtype"), [("llama", "float32"), ("llama", "float16"), ("gpt2", "bfloat16")]
)
@pytest.mark.parametrize("split", ["filled", "even"])
def test_groups_of_columns_change_no_bit(
    family: str, dtype: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "checkpoint", family, dtype)
    file = export(tmp_path / "checkpoint", tmp_path / "w.h5", calibration_tokens=64)
    hardware = Hardware.load({"base": "hermes-256", "tile": {"rows": 16, "cols": 20, "split": split}})
    whole = calibrate.derive_ranges(file, hardware)
    for columns in (1, 50):
        monkeypatch.setattr(calibrate, "FIT_COLUMNS", columns)
        parts = calibrate.derive_ranges(file, hardware)
        for name, item in whole.items():
            assert_bits(item.full_scale, parts[name].full_scale)


@pytest.mark.parametrize(
    ("bounds", "groups"),
    [([0, 5], [(0, 1)]), ([0, 5, 10, 12], [(0, 2), (2, 3)]), ([0, 30, 60], [(0, 1), (1, 2)])],
)
def test_groups_are_whole_tiles(bounds: list[int], groups: list[tuple[int, int]]) -> None:
    assert calibrate._column_groups(np.array(bounds), 10) == groups


def test_ranges_come_from_the_file_and_not_from_a_changed_model(tiny_weights: Path) -> None:
    file = WeightFile(tiny_weights)
    before = calibrate.derive_ranges(file, file.hardware)
    name = file.matrices[0].name
    with torch.no_grad():
        load_digital(file).get_submodule(name).weight.mul_(3.0)
    assert_bits(calibrate.derive_ranges(file, file.hardware)[name].full_scale, before[name].full_scale)


def test_calibration_survives_a_file_that_was_moved(tmp_path: Path, tiny_weights: Path) -> None:
    (tmp_path / "w.h5").write_bytes(tiny_weights.read_bytes())
    file = WeightFile(tmp_path / "w.h5")
    (tmp_path / "w.h5").rename(tmp_path / "moved.h5")
    found = calibrate.derive_ranges(file, file.hardware)
    expected = calibrate.derive_ranges(WeightFile(tiny_weights), file.hardware)
    assert_bits(found["lm_head"].full_scale, expected["lm_head"].full_scale)


def test_calibration_computes_no_logits_that_nobody_reads(tiny_weights: Path) -> None:
    model, shapes = load_digital(WeightFile(tiny_weights)), []
    model.get_output_embeddings().register_forward_hook(lambda module, args, out: shapes.append(out.shape))
    ids = np.arange(3 * 8, dtype=np.int32).reshape(3, 8)
    whole = collect_moments(model, ids, ["lm_head"], batch=3)["lm_head"]
    assert [tuple(shape[:2]) for shape in shapes] == [(1, 1)]
    with torch.no_grad():
        hidden = model.model(input_ids=torch.from_numpy(ids).long()).last_hidden_state
    np.testing.assert_allclose(whole.max_abs, hidden.abs().amax((0, 1)).numpy(), rtol=1e-6)
    assert model(input_ids=torch.from_numpy(ids).long()).logits.shape[1] == 8  # and the hook is gone
