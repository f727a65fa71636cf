"""The training product and its gradients are the formulas, and its noise is that of inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.kernels import training as kernel
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)
from aimc_sim.torch_bridge import Training
from aimc_sim.torch_bridge.training import cpu
from aimc_sim.torch_bridge.training import reference as formula
from aimc_sim.torch_bridge.training.plan import plan_for

K, N, TOKENS, SEED, STEP, ORDINAL = 200, 70, 37, 2**40 + 5, 7, 3


def key(step: int = STEP) -> torch.Tensor:
    low, high = key_of(SEED)
    return torch.tensor([int(low), int(high), step, ORDINAL, 0, 0])


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
def test_product_and_gradients_are_the_formula(
    small: Any, variant: dict[str, Any], dtype: torch.dtype
) -> None:
    """Against float64 with the same noisy weights. Sums in another order turn over at most a code in a thousand."""
    rule = {
        **small.LAMBDA,
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
    plan = plan_for(K, N, small.chip(**changes), settings, "layer")
    x, w, g = (
        small.values(*s, seed=i).to(dtype) for i, s in enumerate([(TOKENS, K), (N, K), (TOKENS, N)], 2)
    )
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
    if dtype == torch.float32 and not plan.weight_max_code:
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


def test_tiles_that_share_a_range_learn_one(small: Any) -> None:
    """∂L/∂β of one β is the sum over its tiles, and it decays by what the whole input clips."""
    x, w, g = (small.values(*s, seed=i) for i, s in enumerate([(TOKENS, K), (N, K), (TOKENS, N)], 2))
    x[:, :64] *= 9  # one tile clips much, the others little: 27 % of all
    beta = torch.full((4,), 3.0)
    found = {}
    for per, unclipped in (("tile", 0.95), ("matrix", 0.95), ("matrix", 0.6)):
        hardware = small.chip(tile={"rows": 64}, dac={"range": {"method": "std", "per": per}})
        plan = plan_for(K, N, hardware, Training(noise=None, range_unclipped=unclipped), "layer")
        _, bits, lost = cpu.forward(x, w / 50, beta, None, key(), plan)
        slopes = cpu.backward(g, x, w / 50, beta, key(), bits, lost, plan, True, True, True)[2]
        found[per, unclipped] = slopes.double()
    decay = 0.01 * 3.0
    alone = found["tile", 0.95] - torch.tensor([0, 1, 1, 1]) * decay
    torch.testing.assert_close(found["matrix", 0.95], alone.sum().expand(4), rtol=1e-5, atol=0)
    torch.testing.assert_close(found["matrix", 0.6], (alone.sum() + decay).expand(4), rtol=1e-5, atol=0)


@pytest.mark.parametrize("backward", ["clean", "noisy"])
def test_wide_layers_in_half_precision_sum_in_full(small: Any, backward: Any) -> None:
    """More columns than a block takes: the gradient to x is a sum over blocks, and half precision loses none of it."""
    wide, deep = 700, 96
    settings = Training(backward=backward, saturation="straight_through")
    plan = plan_for(deep, wide, small.chip(tile={"rows": 64}), settings, "layer")
    x, w, g = (
        small.values(*s, seed=i).bfloat16() for i, s in enumerate([(5, deep), (wide, deep), (5, wide)], 2)
    )
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


def test_the_noise_is_that_of_inference(small: Any) -> None:
    """A step trains on the cells of the chip that its seed and number name, for every kind of cell, bit for bit."""
    for device in ("pcm-ibm2019", "pcm-afm", "reram-wan"):
        hardware = small.chip(device=device, tile={"rows": 64})
        w = small.values(N, K, seed=2) / 50
        plan = plan_for(K, N, hardware, Training(noise="device"), "layer")
        source = cpu.Weights(w, key(), plan)
        source.prepare()
        held = np.empty((N, K), np.float32)
        source.fill(0, N, 0, K, held)
        cells = CellMatrix(w.numpy(), hardware, SEED, ordinal=ORDINAL, programming_cycle=STEP)
        largest = np.repeat(kernel.column_max_reference(w.numpy(), plan.ends).T, np.diff(plan.ends), axis=1)
        assert_bits(held, cells.effective_weights() * largest)
        assert not np.array_equal(held, w.numpy())


def test_moments_of_the_noise(small: Any, ledger: AlphaLedger) -> None:
    """(w' - w)/(γ·max|column|) is standard normal, and no two steps, layers or columns share a draw."""
    w = small.values(64, 512, seed=2)
    plan = plan_for(512, 64, small.chip(tile={"rows": 128}), Training(gamma=0.5), "layer")

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
