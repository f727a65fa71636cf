"""Counters of a mounted model are those of its matrices on the inputs that they get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aimc_sim import Hardware, WeightFile
from aimc_sim.chip.saturation import saturation
from aimc_sim.evaluate import saturation as module
from aimc_sim.evaluate.saturation import saturation_of
from aimc_sim.evaluate.windows import Windows
from aimc_sim.torch_bridge import AnalogLinear, load_model

HARDWARE = {
    "base": "hermes-256", "tile": {"rows": 32, "cols": 48},
    "dac": {"range": {"method": "std", "kappa": 2.0}},
    "adc": {"full_scale": {"rule": "percentile", "percentile": 99.0}},
}  # fmt: skip


def test_each_matrix_is_counted_on_what_it_sees(tiny_weights: Path) -> None:
    weights, hardware = WeightFile(tiny_weights), Hardware.load(HARDWARE)
    model = load_model(weights, seed=1, time=0.0, hardware=hardware)
    row = weights.calibration.token_ids[0]
    windows = Windows((row[:40], row[40:70], row[10:50]))
    seen: dict[str, list[np.ndarray]] = {}
    layers = [layer for layer in model.modules() if isinstance(layer, AnalogLinear)]
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, args: seen.setdefault(layer.matrix_name, []).append(
                args[0].reshape(-1, args[0].shape[-1]).numpy()
            )
        )
        for layer in layers
    ]
    found = saturation_of(model, hardware, windows, tokens=60)
    for handle in handles:
        handle.remove()
    assert set(found) == {matrix.name for matrix in weights.matrices}
    assert [len(x) for x in seen["lm_head"]] == [40, 20]
    for layer in layers:
        x = np.concatenate(seen[layer.matrix_name])
        assert layer.tiles is not None
        whole, mine = saturation(x, layer.tiles), found[layer.matrix_name]
        assert mine.inputs_clipped.tolist() == whole.inputs_clipped.tolist()
        assert mine.conversions_clipped.sum(axis=1).tolist() == whole.conversions_clipped[:, 0].tolist()
        assert mine.conversions.shape == (-(-layer.in_features // 32), -(-layer.out_features // 48))
    assert 0.02 < np.mean([each.input_share for each in found.values()]) < 0.1, "2 σ of a normal is 4.6 %"
    assert 0.002 < np.mean([each.conversion_share for each in found.values()]) < 0.05
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_batches_of_rows_change_nothing(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, hardware = WeightFile(tiny_weights), Hardware.load(HARDWARE)
    model = load_model(weights, seed=1, time=0.0, hardware=hardware)
    windows = Windows((weights.calibration.token_ids[0][:30],))
    whole = saturation_of(model, hardware, windows)
    monkeypatch.setattr(module, "AT_ONCE", 7)
    parts = saturation_of(model, hardware, windows)
    for name, found in whole.items():
        assert (found.conversions_clipped == parts[name].conversions_clipped).all()
        assert (found.inputs == parts[name].inputs).all()
    assert torch.is_grad_enabled()


def test_without_a_dac_nothing_is_counted(tiny_weights: Path) -> None:
    weights, plain = WeightFile(tiny_weights), Hardware.load("ideal")
    model = load_model(weights, seed=0, time=0.0, hardware=plain)
    assert saturation_of(model, plain, Windows((weights.calibration.token_ids[0][:8],))) == {}
