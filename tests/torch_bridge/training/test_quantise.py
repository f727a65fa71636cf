"""The quantisers by themselves: codes, gradients at the edges, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge import (
    quantize_input,
    quantize_output,
)


def test_input_quantiser() -> None:
    x = torch.tensor(
        [2.0, -2.0, 2.5, -2.5, 1.0, 0.4 / 127 * 2, 1.5 / 127 * 2, 2.5 / 127 * 2]
    ).requires_grad_()
    beta = torch.tensor([2.0]).requires_grad_()
    q = quantize_input(x, beta, 8)
    np.testing.assert_allclose(q.detach().numpy() * 127 / 2, [127, -127, 127, -127, 64, 0, 2, 2], rtol=1e-6)
    g = torch.tensor([-1.0, 4.0, -8.0, 16.0, 1.0, 1.0, 1.0, 1.0])
    q.backward(g)
    assert x.grad is not None
    assert x.grad.tolist() == [-1, 4, 0, 0, 1, 1, 1, 1]
    assert beta.grad is not None
    assert beta.grad.tolist() == [2 * ((-1 - 8) - (4 + 16))]
    beta.grad = None
    quantize_input(torch.zeros(4), beta, 8, decay=0.25).sum().backward()
    assert beta.grad.tolist() == [0.5]
    compiled = torch.compile(quantize_input, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, beta, 8), q)
    torch.library.opcheck(torch.ops.aimc_sim.quantize_input.default, (x, beta, 127, 0.01, 0.95))


def test_output_quantiser() -> None:
    y = torch.tensor([[0.5, 1.5, 127.4, 127.6, -300.0], [1.0, 3.0, 100.0, 0.0, -127.4]]).requires_grad_()
    q = quantize_output(y, 127.0, 8)
    assert q.tolist() == [[0, 2, 127, 127, -127], [1, 3, 100, 0, -127]]
    (masked,) = torch.autograd.grad(q.sum(), y)
    assert masked.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    bound = torch.tensor([127.0, 254, 127, 127, 127], requires_grad=True)
    q = quantize_output(y, bound, 8, saturation="straight_through")
    assert q[0, 1] == 2
    slope, none = torch.autograd.grad(q.sum(), [y, bound], allow_unused=True)
    assert bool((slope == 1).all())
    assert none is None
    torch.library.opcheck(torch.ops.aimc_sim.quantize_output.default, (y, bound.detach(), 127, True))


def test_quantisers_refuse_what_they_cannot_use() -> None:
    x = torch.zeros(3)
    with pytest.raises(BadInput, match="2 to 16 bits"):
        quantize_input(x, torch.ones(1), 1)
    with pytest.raises(BadInput, match="one range serves"):
        quantize_input(x, torch.ones(2), 8)
    with pytest.raises(BadInput, match="does not fit outputs"):
        quantize_output(x, torch.ones(4), 8)
    with pytest.raises(BadInput, match="two variants"):
        quantize_output(x, 1.0, 8, saturation="none")  # type: ignore[arg-type]
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="range"):
            quantize_input(x, torch.tensor(wrong), 8)
        with pytest.raises(BadInput, match="bound"):
            quantize_output(x, torch.tensor([1.0, wrong, 0.0]), 8)


def test_quantisers_take_any_layout() -> None:
    """Compiled code believes the shape and strides that the fake results have."""
    beta = torch.tensor([1.5], requires_grad=True)
    base = torch.linspace(-2, 2, 24)
    for x in (base.reshape(6, 4).t(), base.reshape(2, 3, 4).permute(2, 0, 1), base[3]):
        leaf = x.detach().requires_grad_()
        torch.library.opcheck(torch.ops.aimc_sim.quantize_input.default, (leaf, beta, 127, 0.01, 0.95))
        torch.library.opcheck(torch.ops.aimc_sim.quantize_output.default, (leaf, beta.detach()[0], 127, True))
        q, y = quantize_input(leaf, beta, 8), quantize_output(leaf, 1.5, 8)
        assert q.shape == y.shape == x.shape
        assert q.is_contiguous()
        assert y.is_contiguous()
        assert torch.equal(q, quantize_input(x.contiguous(), beta, 8))
