"""Weights that stay in half precision: the float32 product of the widened ones, without a widened copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import aimc_sim
from aimc_sim.errors import BadInput
from aimc_sim.kernels import parallel
from aimc_sim.torch_bridge import half, load_digital
from aimc_sim.torch_bridge.coverage import DIGITAL, LOOKUP, coverage
from aimc_sim.torch_bridge.half import HalfEmbedding, HalfLinear
from aimc_sim.weightfile import WeightFile
from helpers.tiny_models import save_tiny, tiny_weights


def tensor(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(tiny_weights(name, shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("batch", "rows", "cols"), [((3, 5), 37, 301), ((1,), 64, 128), ((0,), 8, 3)])
def test_a_product_is_that_of_the_widened_weights(
    dtype: torch.dtype, transposed: bool, batch: tuple[int, ...], rows: int, cols: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(half, "BLOCK_WEIGHTS", 64 * rows)
    weight, x = tensor("weight", cols, rows).to(dtype), tensor("x", *batch, rows)
    layer = HalfLinear(
        weight.t().contiguous() if transposed else weight, transposed=transposed, has_bias=True
    )
    layer.bias = nn.Parameter(tensor("bias", cols), requires_grad=False)
    expected = functional.linear(x, weight.float(), layer.bias)
    found = layer(x)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    x.requires_grad_(True)
    layer(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(
        x.grad.numpy(), weight.float().sum(0).expand(*batch, rows).numpy(), rtol=1e-4, atol=1e-5
    )


def test_threads_and_inference_mode_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "BLOCK_WEIGHTS", 64 * 64)
    layer = HalfLinear(tensor("weight", 700, 64).bfloat16(), transposed=False, has_bias=False)
    x, own, found = tensor("x", 9, 64), torch.get_num_threads(), []
    torch.set_num_threads(2)  # whatever the suite runs on: a product of torch's own would be on two
    try:
        for threads in (1, 2, 5):
            parallel.set_num_threads(threads)
            with torch.inference_mode(threads > 1):
                found.append(layer(x).clone().numpy())
        assert torch.get_num_threads() == 2
    finally:
        parallel.set_num_threads(None)
        torch.set_num_threads(own)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_an_embedding_widens_what_it_looks_up() -> None:
    table, ids = tensor("table", 11, 6).half(), torch.tensor([[3, 3, 10], [0, 1, 3]])
    layer = HalfEmbedding(table, nn.Embedding(11, 6, padding_idx=10))
    torch.testing.assert_close(layer(ids), table.float()[ids], rtol=0, atol=0)
    assert not list(layer.parameters())


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "gpt2"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WeightFile:
    path: Path = tmp_path_factory.mktemp(request.param)
    save_tiny(path / "checkpoint", request.param, "bfloat16")
    return aimc_sim.export(path / "checkpoint", path / "w.h5", "hermes-256", calibration_tokens=64)


def test_a_digital_model_holds_its_matrices_as_they_are_stored(exported: WeightFile) -> None:
    model = load_digital(exported)
    assert model.dtype == torch.float32
    buffers = dict(model.named_buffers())
    for matrix in exported.matrices:
        held = buffers[f"{matrix.name}.weight"]
        assert held.dtype == torch.bfloat16
        assert held.data_ptr() == exported.tensor(matrix.tensor).bits.ctypes.data
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert max(parameter.numel() for parameter in model.parameters()) < 200  # norms and biases
    # Generation with a cache is that of one pass: masks and caches have the dtype that the products have.
    start = torch.tensor([[1, 5, 9]])
    out = model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=5, do_sample=False)
    with torch.no_grad():
        again = model(input_ids=out[:, :-1]).logits[:, 2:].argmax(-1)
    assert torch.equal(again, out[:, 3:])


def test_the_coverage_report_sees_every_product_once(exported: WeightFile) -> None:
    model, ids = load_digital(exported), torch.arange(3, 35)[None]
    names = {matrix.name for matrix in exported.matrices}
    found = coverage(model, ids, digital=names)
    rows = {row.name: row for row in found.rows if row.kind == DIGITAL}
    assert rows.keys() == names
    for matrix in exported.matrices:
        assert rows[matrix.name].macs == matrix.rows * matrix.cols
        assert rows[matrix.name].calls == 1
    assert next(row.shape[0] for row in found.rows if row.kind == LOOKUP) == exported.vocabulary
    left_out = exported.matrices[1].name
    with pytest.raises(BadInput, match=left_out):
        coverage(model, ids, digital=names - {left_out})
