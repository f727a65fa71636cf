"""A layer that trains for a chip: slopes of its forward, chips that it stands for, and bits that nothing may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import training as kernel
from aimc_sim.kernels.parallel import set_num_threads
from aimc_sim.randomness import row_ids
from aimc_sim.testing import assert_bits
from aimc_sim.torch_bridge import AnalogLinear, Training, TrainingLinear, on_chip, set_step
from aimc_sim.torch_bridge.training import cpu

K, N, TOKENS, SEED, STEP, ORDINAL = 200, 70, 37, 2**40 + 5, 7, 3


def layer_for(
    small: Any, hardware: Hardware, training: Training, beta: float | None = 2.0, bias: bool = False
) -> TrainingLinear:
    """A layer of K × N with weights of our own, ready for its step."""
    linear = torch.nn.Linear(K, N, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(small.values(N, K, seed=2) / 50)
        if bias:
            linear.bias.copy_(small.values(1, N, seed=6)[0])
    layer = AnalogLinear.from_linear(linear, hardware, training, ordinal=ORDINAL, seed=SEED)
    if layer.input_range is not None and beta is not None:
        layer.put_ranges(torch.tensor([beta]))
    set_step(layer, STEP)
    return layer.train()


@pytest.mark.parametrize("beta", [None, 2.0])
def test_a_layer_that_is_fed_with_data_has_the_gradient_of_its_weights(
    small: Any, beta: float | None
) -> None:
    """Inputs that need no gradient, as a model's first layer has them: the weights' is that of inputs that do."""
    dac = {} if beta is None else {"range": {"method": "std", "kappa": 8.0, "per": "matrix"}}
    hardware = Hardware.load({"device": "gaussian", "dac": dac})
    grads = []
    for needed in (False, True):
        layer = layer_for(small, hardware, Training(), beta)
        layer(small.values(TOKENS, K, seed=3).requires_grad_(needed)).sum().backward()
        grads.append(layer.weight.grad.numpy())
    assert_bits(*grads)


def test_names_of_rows_do_not_run_into_the_next_step() -> None:
    from aimc_sim.torch_bridge.training.exact import names

    ids = row_ids(np.arange(4096), np.zeros(4096, np.int64)).reshape(-1)
    assert not set(names(ids, 7).tolist()) & set(names(ids, 8).tolist())
    with pytest.raises(BadInput, match="at most 4096"):
        names(row_ids(np.array([4096]), np.array([0])).reshape(-1), 7)


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("backward", ["noisy", "clean"])
def test_gradients_are_numerical_derivatives(small: Any, tile: int | None, backward: Any) -> None:
    """Converters of 16 bits are smooth at steps far above theirs: central differences, with the noise held by its key.

    A clean backward is the derivative at the clean weights. The largest weight of a column sets σ and bound, which take
    no gradient, so it is not moved.
    """
    fine = {"bits": 16, "range": {"method": "std"}}
    hardware = small.chip(
        tile={"rows": tile}, dac=fine, adc={"bits": 16, "full_scale": {**small.LAMBDA, "lambda_": 20.0}}
    )
    noise = None if backward == "clean" else "gaussian"
    layer = layer_for(small, hardware, Training(noise=noise, backward=backward), beta=2.0)
    x, g = small.values(4, K, seed=8), small.values(4, N, seed=9)
    x[(x.abs() - 2).abs() < 0.3] = 1.0  # away from the clamp
    given = x.clone().requires_grad_()
    layer(given).backward(g)
    assert given.grad is not None
    assert layer.weight.grad is not None

    def loss(inputs: torch.Tensor) -> float:
        with torch.no_grad():
            return float((layer(inputs).double() * g).sum())

    for place in range(0, 4 * K, 29):
        moved = [x.clone(), x.clone()]
        for inputs, h in zip(moved, (0.1, -0.1), strict=True):
            inputs.view(-1)[place] += h
        slope = (loss(moved[0]) - loss(moved[1])) / 0.2
        assert given.grad.view(-1)[place].item() == pytest.approx(slope, abs=0.02)
    weight = layer.weight.data
    bounds = layer.plan.bounds
    top = torch.cat([weight[:, a:b].abs().amax(dim=1, keepdim=True).expand(-1, b - a)
                     for a, b in zip(bounds[:-1], bounds[1:], strict=True)], dim=1)  # fmt: skip
    for place in range(0, N * K, 997):
        before = weight.view(-1)[place].item()
        if abs(before) > 0.7 * top.reshape(-1)[place].item():
            continue
        found = []
        for h in (0.005, -0.005):
            weight.view(-1)[place] = before + h
            found.append(loss(x))
        weight.view(-1)[place] = before
        slope = (found[0] - found[1]) / 0.01
        assert layer.weight.grad.view(-1)[place].item() == pytest.approx(slope, abs=0.1)


def test_the_range_learns_by_the_published_rule(small: Any) -> None:
    """The gradient of each tile's range is that of its own rows, written by hand."""
    layer = layer_for(small, small.chip(tile={"rows": 64}), Training(noise=None), beta=1.2)
    x, g = small.values(TOKENS, K, seed=8), small.values(TOKENS, N, seed=9)
    x[0, :4] = torch.tensor([1.2, -1.2, 1.2, -1.2])
    given = x.clone().requires_grad_()
    layer(given).backward(g)
    assert layer.input_range is not None
    assert layer.input_range.value.grad is not None
    assert given.grad is not None
    inner = (g.double() @ layer.weight.detach().double()).numpy()
    for t, (a, b) in enumerate(zip(layer.plan.bounds[:-1], layer.plan.bounds[1:], strict=True)):
        beta = float(np.float32(1.2))
        to_x, to_range = kernel.range_gradient_reference(
            inner[:, a:b], x[:, a:b].double().numpy(), beta, 0.01, 0.95
        )
        assert layer.input_range.value.grad[t].item() == pytest.approx(to_range, rel=1e-5)
        np.testing.assert_allclose(given.grad[:, a:b].numpy(), to_x, atol=1e-5)
    on_the_bound = given.grad[0, :4]
    assert bool((on_the_bound != 0).all())


def test_a_training_forward_is_the_chip_that_it_trains_for(small: Any) -> None:
    """Step 0 of a seed is the chip of that seed, programmed and read: the same codes, up to rounding of sums."""
    hardware = small.chip(tile={"rows": 64, "weight_grid": "float32"})
    layer = layer_for(small, hardware, Training(noise="device"), bias=True)
    x = small.values(2, 9, K, seed=8)
    set_step(layer, 0)
    with torch.no_grad():
        trained = layer(x)
    with on_chip(layer, SEED):
        read = layer(x)
    with on_chip(layer, SEED + 1):
        other = layer(x)
    assert ((trained - read).abs() > 1e-5).double().mean() < 2e-3
    assert ((trained - other).abs() > 1e-5).double().mean() > 0.5
    assert layer.tiles is None


def test_exact_forward_is_the_simulator_with_gradients(small: Any) -> None:
    """Everything that inference has (read noise here), and gradients straight through it."""
    hardware = small.chip(tile={"rows": 64}, read_noise={})
    settings = Training(noise="device", forward="exact", saturation="straight_through")
    layer = layer_for(small, hardware, settings)
    x, g = small.values(3, 5, K, seed=8), small.values(3, 5, N, seed=9)
    given = x.clone().requires_grad_()
    y = layer(given)
    y.backward(g)
    ranges = MatrixRange(np.full(layer.plan.tiles, 2, np.float32))
    cells = CellMatrix(
        layer.weight.detach().numpy(), hardware, SEED, ordinal=ORDINAL, programming_cycle=STEP, ranges=ranges
    )
    names = row_ids((STEP << 12) + np.arange(3)[:, None], np.arange(5)[None]).reshape(-1)
    expected = tile_matmul(x.reshape(15, K).numpy(), cells.tiles(), names)
    assert_bits(y.detach().reshape(15, N).numpy(), expected)
    inner = g @ layer.weight.detach()
    assert given.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(given.grad, torch.where(x.abs() > 2, 0.0, inner))
    quantised = torch.clamp(torch.round(x * (127 / 2)), -127, 127) * (2 / 127)
    torch.testing.assert_close(layer.weight.grad, g.reshape(15, N).t() @ quantised.reshape(15, K))
    set_step(layer, STEP + 1)
    assert not torch.equal(layer(x), y), "another step, other noise"


def gradients(model: Any, x: torch.Tensor, **options: Any) -> list[torch.Tensor]:
    given = x.clone().requires_grad_()
    y = checkpoint(model, given, use_reentrant=options["reentrant"]) if options else model(given)
    return list(torch.autograd.grad((y * y).sum(), [given, *model.parameters()]))


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_gives_the_same_gradients(small: Any, reentrant: bool) -> None:
    """Gradient checkpointing runs the forward twice, with the same key, so with the same bits."""
    first = layer_for(small, small.chip(tile={"rows": 64}), Training(backward="noisy"), bias=True)
    second = AnalogLinear.from_linear(
        torch.nn.Linear(N, K), small.chip(), Training(noise="device"), ordinal=9
    )
    second.put_ranges(torch.tensor([3.0]))
    model = torch.nn.Sequential(first, torch.nn.GELU(), second)
    set_step(model, 11)
    x = small.values(TOKENS, K, seed=8)
    plain = gradients(model, x)
    assert all(map(torch.equal, gradients(model, x), plain))
    if reentrant:
        again: list[torch.Tensor] = []
        given = x.clone().requires_grad_()
        (checkpoint(model, given, use_reentrant=True).square()).sum().backward()
        again = [given.grad, *(p.grad for p in model.parameters())]  # type: ignore[list-item]
    else:
        again = gradients(model, x, reentrant=False)
    for found, expected in zip(again, plain, strict=True):
        assert_bits(found.numpy(), expected.numpy())


def test_threads_change_no_bit(small: Any) -> None:
    layer, x = layer_for(small, small.chip(tile={"rows": 64}), Training()), small.values(TOKENS, K, seed=8)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            set_num_threads(threads)
            found.append([layer(x).detach(), *gradients(layer, x)])
    finally:
        torch.set_num_threads(before)
        set_num_threads(None)
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("lambda_", [0.7, 14.0])
def test_the_size_of_blocks_changes_no_draw(
    small: Any, tile: int | None, lambda_: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small pieces give what one large one gives, up to the rounding of sums."""
    hardware = small.chip(tile={"rows": tile}, adc={"full_scale": {**small.LAMBDA, "lambda_": lambda_}})
    layer, x = layer_for(small, hardware, Training(backward="noisy")), small.values(TOKENS, K, seed=8)
    whole = [layer(x).detach(), *gradients(layer, x)]
    for name, size in {"COLUMNS": 64, "PIECE": 32, "SLICE": 64, "FEWEST_ROWS": 100, "CODES": 1}.items():
        monkeypatch.setattr(cpu, name, size)
    parts = [layer(x).detach(), *gradients(layer, x)]
    for found, expected in zip(parts, whole, strict=True):  # here and there a code turns over
        assert ((found - expected).abs() > 1e-4 * expected.abs().max()).double().mean() < 0.02
        assert (found - expected).norm() < 0.01 * expected.norm()


def test_frozen_weights_and_inputs_get_no_gradient(small: Any) -> None:
    """As under an adapter: the base is frozen, its inputs' gradients are not."""
    layer, x = layer_for(small, small.chip(), Training()), small.values(4, K, seed=8)
    layer.weight.requires_grad_(False)
    given = x.clone().requires_grad_()
    layer(given).sum().backward()
    assert layer.weight.grad is None
    assert given.grad is not None
    layer.weight.requires_grad_(True)
    layer(given).sum().backward()
    assert layer.weight.grad is not None
    both, layer.weight.grad = layer.weight.grad, None
    layer(x).sum().backward()
    assert_bits(layer.weight.grad.numpy(), both.numpy())
    with torch.inference_mode():
        assert layer(x).shape == (4, N)


def test_shapes_and_memory_layouts(small: Any) -> None:
    """No tokens, one token, strided inputs and gradients, and a first dimension or three."""
    layer = layer_for(small, small.chip(tile={"rows": 64}), Training(), bias=True)
    x = small.values(6, K, seed=8)
    y = layer(x)
    assert torch.equal(layer(x.reshape(1, 2, 3, K)), y.reshape(1, 2, 3, N))
    assert torch.equal(layer(x.t().contiguous().t()), y)
    torch.testing.assert_close(layer(x[0]), y[0])
    assert layer(x[:0]).shape == (0, N)
    given = x[:0].clone().requires_grad_()
    layer(given).sum().backward()
    assert given.grad is not None
    assert given.grad.shape == (0, K)
    assert not bool(torch.isnan(layer(torch.full((1, K), 1e30))).any())
    assert bool(torch.isnan(layer(torch.full((1, K), float("nan")))).all())
