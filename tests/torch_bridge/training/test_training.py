"""Layers that train for a chip: product and gradients against the formulas, noise against inference, and the rules."""

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
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.parallel import set_num_threads
from aimc_sim.randomness import Stream, key_of, row_ids, site_word
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)
from aimc_sim.torch_bridge import AnalogLinear, Training, TrainingLinear, mounted, set_step
from aimc_sim.torch_bridge.training import cpu
from aimc_sim.torch_bridge.training import reference as formula
from aimc_sim.torch_bridge.training.plan import plan_for

K, N, TOKENS, SEED, STEP, ORDINAL = 200, 70, 37, 2**40 + 5, 7, 3
LAMBDA = {"rule": "lambda", "lambda_": 14.0}


def values(*shape: int, seed: int = 1) -> torch.Tensor:
    """Standard normals of our own."""
    count = int(np.prod(shape))
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return torch.from_numpy(normals(counter, key_of(seed)).ravel()[:count].reshape(shape).copy())


def chip(**changes: Any) -> Hardware:
    """A small chip with every converter; changes replace tables."""
    tables = {
        "device": "pcm-ibm2019",
        "dac": {"range": {"method": "std", "per": "tile"}},
        "adc": {"full_scale": LAMBDA},
    }
    return Hardware.load({**tables, **changes})


def key(step: int = STEP) -> torch.Tensor:
    low, high = key_of(SEED)
    return torch.tensor([int(low), int(high), step, ORDINAL, 0, 0])


def layer_for(
    hardware: Hardware, training: Training, beta: float | None = 2.0, bias: bool = False
) -> TrainingLinear:
    """A layer of K × N with weights of our own, ready for its step."""
    linear = torch.nn.Linear(K, N, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(values(N, K, seed=2) / 50)
        if bias:
            linear.bias.copy_(values(1, N, seed=6)[0])
    layer = AnalogLinear.from_linear(linear, hardware, training, ordinal=ORDINAL, seed=SEED)
    if layer.input_range is not None and beta is not None:
        layer.put_ranges(torch.tensor([beta]))
    set_step(layer, STEP)
    return layer.train()


VARIANTS = [
    {"tile": {"rows": 64}},
    {"tile": {}},
    {"tile": {"rows": 70}, "noise": "device"},
    {"tile": {}, "noise": "device", "backward": "noisy"},
    {"tile": {"rows": 64}, "lambda_": 0.7, "backward": "noisy"},
    {"tile": {}, "lambda_": 0.7},
    {"tile": {"rows": 64}, "lambda_": 0.7, "saturation": "straight_through"},
    {"tile": {"rows": 64}, "bound_from": "noisy"},
    {"tile": {}, "bound_from": "noisy", "lambda_": 0.7},
    {"tile": {"rows": 64}, "weight_bits": 4},
    {"tile": {}, "weight_bits": 4, "noise": "device", "backward": "noisy"},
    {"tile": {"rows": 64}, "range": {"method": "per_token", "per": "tile"}},
    {"tile": {"rows": 64}, "range": {"method": "per_token", "per": "matrix"}, "noise": None},
    {"tile": {}, "adc": None, "noise": None, "weight_bits": 4},
    {"tile": {"rows": 64}, "adc": None},
    {"tile": {"rows": 64}, "adc": None, "dac": None},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_product_and_gradients_are_the_formula(variant: dict[str, Any], dtype: torch.dtype) -> None:
    """Against float64 with the same noisy weights. Sums in another order turn over at most a code in a thousand."""
    rule = {
        **LAMBDA,
        "lambda_": variant.get("lambda_", 14.0),
        "bound_from": variant.get("bound_from", "target"),
    }
    changes: dict[str, Any] = {"tile": variant["tile"], "adc": {"full_scale": rule}}
    changes["dac"] = {"range": variant.get("range", {"method": "std"})}
    changes |= {part: False for part in ("dac", "adc") if part in variant}
    names = ("backward", "saturation", "weight_bits")
    settings = Training(
        noise=variant.get("noise", "gaussian"), **{n: variant[n] for n in names if n in variant}
    )
    plan = plan_for(K, N, chip(**changes), settings, "layer")
    x, w, g = (values(*s, seed=i).to(dtype) for i, s in enumerate([(TOKENS, K), (N, K), (TOKENS, N)], 2))
    w = w / 50
    beta = torch.linspace(1.5, 2.5, plan.tiles) if plan.range_kind == "static" else None
    given = g.clone()

    y, bits, saturated = cpu.forward(x, w, beta, None, key(), plan)
    to_x, to_w, to_range = cpu.backward(
        g, x, w, beta, key(), bits, saturated, plan, True, True, beta is not None
    )
    assert torch.equal(g, given), "the gradient that came belongs to others too"

    held, target = np.empty((N, K), np.float32), np.empty((N, K), np.float32)
    source = cpu.Weights(w, key(), plan)
    source.prepare()
    source.fill(0, N, 0, K, held)
    source.base(0, N, 0, K, target)
    if dtype == torch.float32 and not plan.weight_levels:
        assert_bits(target, w.numpy())
    if plan.noise == "gaussian":
        site = site_word(Stream.TRAINING, ORDINAL)
        assert_bits(
            held, kernel.noisy_weights_reference(target, plan.ends, settings.gamma, STEP, site, key_of(SEED))
        )
    wide = [torch.from_numpy(a.astype(np.float64)) for a in (held, target)]
    through = wide[0] if plan.noisy_backward else wide[1]
    exact = (x.double(), None if beta is None else beta.double())
    expected, beyond = formula.forward(exact[0], wide[0], wide[1], exact[1], None, plan)
    hit = np.unpackbits(bits.numpy(), axis=2, bitorder="little")[:, :, :N].astype(bool)
    flags = torch.from_numpy(hit) if plan.mask_bytes else None
    if dtype == torch.float32:
        tied = (
            settings.weight_bits and settings.noise is None
        )  # sums of products of codes: many lie between two codes
        off = (y - expected).abs() > 1e-5 * expected.abs().max()
        assert off.double().mean() <= (0.05 if tied else 1e-3)
        if flags is not None:
            assert (flags != beyond).double().mean() <= 1e-3
            assert int(saturated.sum()) == int(flags.sum())
            assert bool(flags.any()) == (variant.get("lambda_", 14.0) < 1)
    else:
        assert (y.double() - expected).norm() < 0.03 * expected.norm()
    wanted = formula.backward(g.double(), exact[0], through, exact[1], flags, plan)
    close = 2e-6 if dtype == torch.float32 else 0.01
    for found, right in zip((to_x, to_w), wanted, strict=False):
        assert found.dtype == dtype
        assert (found.double() - right).norm() < close * right.norm()
    if beta is not None:
        assert to_range.dtype == torch.float32
        np.testing.assert_allclose(to_range.numpy(), wanted[2].numpy(), rtol=10 * close)


def test_tiles_that_share_a_range_learn_one() -> None:
    """∂L/∂β of one β is the sum over its tiles, and it decays by what the whole input clips."""
    x, w, g = (values(*s, seed=i) for i, s in enumerate([(TOKENS, K), (N, K), (TOKENS, N)], 2))
    x[:, :64] *= 9  # one tile clips much, the others little: 27 % of all
    beta = torch.full((4,), 3.0)
    found = {}
    for per, unclipped in (("tile", 0.95), ("matrix", 0.95), ("matrix", 0.6)):
        hardware = chip(tile={"rows": 64}, dac={"range": {"method": "std", "per": per}})
        plan = plan_for(K, N, hardware, Training(noise=None, range_unclipped=unclipped), "layer")
        _, bits, lost = cpu.forward(x, w / 50, beta, None, key(), plan)
        slopes = cpu.backward(g, x, w / 50, beta, key(), bits, lost, plan, True, True, True)[2]
        found[per, unclipped] = slopes.double()
    decay = 0.01 * 3.0
    alone = found["tile", 0.95] - torch.tensor([0, 1, 1, 1]) * decay
    torch.testing.assert_close(found["matrix", 0.95], alone.sum().expand(4), rtol=1e-5, atol=0)
    torch.testing.assert_close(found["matrix", 0.6], (alone.sum() + decay).expand(4), rtol=1e-5, atol=0)


@pytest.mark.parametrize("backward", ["clean", "noisy"])
def test_wide_layers_in_half_precision_sum_in_full(backward: Any) -> None:
    """More columns than a block takes: the gradient to x is a sum over blocks, and half precision loses none of it."""
    wide, deep = 700, 96
    settings = Training(backward=backward, saturation="straight_through")
    plan = plan_for(deep, wide, chip(tile={"rows": 64}), settings, "layer")
    x, w, g = (values(*s, seed=i).bfloat16() for i, s in enumerate([(5, deep), (wide, deep), (5, wide)], 2))
    beta = torch.full((plan.tiles,), 9.0)
    _, bits, saturated = cpu.forward(x, w, beta, None, key(), plan)
    to_x, to_w, _ = cpu.backward(g, x, w, beta, key(), bits, saturated, plan, True, True, True)
    source = cpu.Weights(w, key(), plan)
    source.prepare()
    held = np.empty((wide, deep), np.float32)
    (source.fill if backward == "noisy" else source.base)(0, wide, 0, deep, held)
    wanted = formula.backward(
        g.double(), x.double(), torch.from_numpy(held.astype(np.float64)), beta.double(), None, plan
    )
    # A rounding to bfloat16 moves numbers by 2⁻⁷/√12 of their power of two, 0.0016 of themselves. The clean gradient to
    # x has one, others one more in their factors and about two in the products of six blocks; sums of half precision
    # would add three and a half.
    roundings = {"clean": (1, 2), "noisy": (4, 2)}[backward]
    for found, right, count in zip((to_x, to_w), wanted, roundings, strict=False):
        assert (found.double() - right).norm() < 0.0018 * count**0.5 * right.norm()


def test_names_of_rows_do_not_run_into_the_next_step() -> None:
    from aimc_sim.torch_bridge.training.exact import names

    ids = row_ids(np.arange(4096), np.zeros(4096, np.int64)).reshape(-1)
    assert not set(names(ids, 7).tolist()) & set(names(ids, 8).tolist())
    with pytest.raises(BadInput, match="at most 4096"):
        names(row_ids(np.array([4096]), np.array([0])).reshape(-1), 7)


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("backward", ["noisy", "clean"])
def test_gradients_are_numerical_derivatives(tile: int | None, backward: Any) -> None:
    """Converters of 16 bits are smooth at steps far above theirs: central differences, with the noise held by its key.

    A clean backward is the derivative at the clean weights. The largest weight of a column sets σ and bound, which take
    no gradient, so it is not moved.
    """
    fine = {"bits": 16, "range": {"method": "std"}}
    hardware = chip(
        tile={"rows": tile}, dac=fine, adc={"bits": 16, "full_scale": {**LAMBDA, "lambda_": 20.0}}
    )
    noise = None if backward == "clean" else "gaussian"
    layer = layer_for(hardware, Training(noise=noise, backward=backward), beta=2.0)
    x, g = values(4, K, seed=8), values(4, N, seed=9)
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


def test_the_range_learns_by_the_published_rule() -> None:
    """The gradient of each tile's range is that of its own rows, written by hand."""
    layer = layer_for(chip(tile={"rows": 64}), Training(noise=None), beta=1.2)
    x, g = values(TOKENS, K, seed=8), values(TOKENS, N, seed=9)
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


def test_the_noise_is_that_of_inference() -> None:
    """A step trains on the cells of the chip that its seed and number name, for every kind of cell, bit for bit."""
    for device in ("pcm-ibm2019", "pcm-afm", "reram-wan"):
        hardware = chip(device=device, tile={"rows": 64})
        w = values(N, K, seed=2) / 50
        plan = plan_for(K, N, hardware, Training(noise="device"), "layer")
        source = cpu.Weights(w, key(), plan)
        source.prepare()
        held = np.empty((N, K), np.float32)
        source.fill(0, N, 0, K, held)
        cells = CellMatrix(w.numpy(), hardware, SEED, ordinal=ORDINAL, epoch=STEP)
        largest = np.repeat(kernel.column_max_reference(w.numpy(), plan.ends).T, np.diff(plan.ends), axis=1)
        assert_bits(held, cells.effective_weights() * largest)
        assert not np.array_equal(held, w.numpy())


def test_a_training_forward_is_the_chip_that_it_trains_for() -> None:
    """Step 0 of a seed is the chip of that seed, programmed and read: the same codes, up to rounding of sums."""
    hardware = chip(tile={"rows": 64, "weight_grid": "float32"})
    layer = layer_for(hardware, Training(noise="device"), bias=True)
    x = values(2, 9, K, seed=8)
    set_step(layer, 0)
    with torch.no_grad():
        trained = layer(x)
    with mounted(layer, SEED):
        read = layer(x)
    with mounted(layer, SEED + 1):
        other = layer(x)
    assert ((trained - read).abs() > 1e-5).double().mean() < 2e-3
    assert ((trained - other).abs() > 1e-5).double().mean() > 0.5
    assert layer.tiles is None


def test_exact_forward_is_the_simulator_with_gradients() -> None:
    """Everything that inference has (read noise here), and gradients straight through it."""
    hardware = chip(tile={"rows": 64}, read_noise={})
    settings = Training(noise="device", forward="exact", saturation="straight_through")
    layer = layer_for(hardware, settings)
    x, g = values(3, 5, K, seed=8), values(3, 5, N, seed=9)
    given = x.clone().requires_grad_()
    y = layer(given)
    y.backward(g)
    ranges = MatrixRange(np.full(layer.plan.tiles, 2, np.float32))
    cells = CellMatrix(
        layer.weight.detach().numpy(), hardware, SEED, ordinal=ORDINAL, epoch=STEP, ranges=ranges
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
def test_recomputation_gives_the_same_gradients(reentrant: bool) -> None:
    """Gradient checkpointing runs the forward twice, with the same key, so with the same bits."""
    first = layer_for(chip(tile={"rows": 64}), Training(backward="noisy"), bias=True)
    second = AnalogLinear.from_linear(torch.nn.Linear(N, K), chip(), Training(noise="device"), ordinal=9)
    second.put_ranges(torch.tensor([3.0]))
    model = torch.nn.Sequential(first, torch.nn.GELU(), second)
    set_step(model, 11)
    x = values(TOKENS, K, seed=8)
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


def test_threads_change_no_bit() -> None:
    layer, x = layer_for(chip(tile={"rows": 64}), Training()), values(TOKENS, K, seed=8)
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
    tile: int | None, lambda_: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small pieces give what one large one gives, up to the rounding of sums."""
    hardware = chip(tile={"rows": tile}, adc={"full_scale": {**LAMBDA, "lambda_": lambda_}})
    layer, x = layer_for(hardware, Training(backward="noisy")), values(TOKENS, K, seed=8)
    whole = [layer(x).detach(), *gradients(layer, x)]
    for name, size in {"COLUMNS": 64, "PIECE": 32, "SLICE": 64, "FEWEST_ROWS": 100, "CODES": 1}.items():
        monkeypatch.setattr(cpu, name, size)
    parts = [layer(x).detach(), *gradients(layer, x)]
    for found, expected in zip(parts, whole, strict=True):  # here and there a code turns over
        assert ((found - expected).abs() > 1e-4 * expected.abs().max()).double().mean() < 0.02
        assert (found - expected).norm() < 0.01 * expected.norm()


def test_frozen_weights_and_inputs_get_no_gradient() -> None:
    """As under an adapter: the base is frozen, its inputs' gradients are not."""
    layer, x = layer_for(chip(), Training()), values(4, K, seed=8)
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


def test_shapes_and_memory_layouts() -> None:
    """No tokens, one token, strided inputs and gradients, and a first dimension or three."""
    layer, x = layer_for(chip(tile={"rows": 64}), Training(), bias=True), values(6, K, seed=8)
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


def test_moments_of_the_noise(ledger: AlphaLedger) -> None:
    """(w' - w)/(γ·max|column|) is standard normal, and no two steps, layers or columns share a draw."""
    w = values(64, 512, seed=2)
    plan = plan_for(512, 64, chip(tile={"rows": 128}), Training(gamma=0.5), "layer")

    def drawn(step: int, ordinal: int) -> np.ndarray:
        name = key(step)
        name[3] = ordinal
        source = cpu.Weights(w, name, plan)
        source.prepare()
        held = np.empty((64, 512), np.float32)
        source.fill(0, 64, 0, 512, held)
        sigma = 0.5 * np.repeat(kernel.column_max_reference(w.numpy(), plan.ends).T, 128, axis=1)
        return (held.astype(np.float64) - w.numpy()) / sigma

    z = drawn(1, 1)
    assert_mean_normal(z, mean=0.0, sigma=1.0, alpha=ledger.spend("training noise: mean"))
    assert_variance(z, sigma=1.0, alpha=ledger.spend("training noise: variance"))
    for other in (drawn(2, 1), drawn(1, 2), np.roll(z, 1, axis=0), np.roll(z, 1, axis=1)):
        assert_uncorrelated(z, other, alpha=ledger.spend("training noise: correlation"))
