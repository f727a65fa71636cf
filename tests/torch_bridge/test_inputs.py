"""What matrices are given and what they give is seen once a product, and no hook stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim.torch_bridge import load_digital
from aimc_sim.torch_bridge.inputs import matrix_inputs, matrix_products, read_inputs, spread
from aimc_sim.weightfile import WeightFile

DOWN, HEAD = "model.layers.1.mlp.down_proj", "lm_head"


def hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_a_pass_shows_every_position_of_every_matrix_once(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    model, ids = load_digital(weights), weights.calibration.token_ids[:2]
    before, seen = hooks(model), {}
    read_inputs(model, ids, [DOWN, HEAD], lambda name, x: seen.setdefault(name, []).append(x))
    assert hooks(model) == before
    assert {name: [x.shape for x in inputs] for name, inputs in seen.items()} == {
        name: [(ids.size, weights.matrix(name).rows)] for name in (DOWN, HEAD)
    }
    with torch.no_grad():
        hidden = model.model(input_ids=torch.from_numpy(ids.astype(np.int64))).last_hidden_state
    np.testing.assert_allclose(seen[HEAD][0], hidden.reshape(ids.size, -1).numpy(), rtol=1e-5, atol=1e-6)


def test_products_are_those_of_the_stored_weights_without_bias(tmp_path: Path) -> None:
    import aimc_sim
    from helpers.tiny_models import save_tiny

    save_tiny(tmp_path / "gpt2", "gpt2", "float32")
    weights = aimc_sim.export(tmp_path / "gpt2", tmp_path / "w.h5", calibration_tokens=0)
    model = load_digital(weights)
    matrix = next(matrix for matrix in weights.matrices if matrix.has_bias)
    torch.nn.init.constant_(model.get_submodule(matrix.name).bias, 3.0)
    seen: list[tuple[str, Any, Any]] = []
    with matrix_products(model, [matrix.name], lambda *found: seen.append(found)), torch.no_grad():
        model(input_ids=torch.arange(8)[None])
    ((name, x, y),) = seen
    assert name == matrix.name
    np.testing.assert_allclose(y, x @ weights.weight(name).T, rtol=1e-4, atol=1e-5)


def test_hooks_go_with_an_error(tiny_weights: Path) -> None:
    model = load_digital(WeightFile(tiny_weights))
    before = hooks(model)
    with pytest.raises(AttributeError), matrix_inputs(model, [DOWN, "none"], lambda name, x: None):
        pass
    with pytest.raises(ZeroDivisionError), matrix_products(model, [DOWN], lambda name, x, y: None):
        raise ZeroDivisionError
    assert hooks(model) == before


def test_rows_are_spread_from_the_first_to_the_last() -> None:
    assert spread(3, 9).tolist() == [0, 4, 8]
    assert spread(9, 3).tolist() == [0, 1, 2]
    assert spread(1, 5).tolist() == [0]
