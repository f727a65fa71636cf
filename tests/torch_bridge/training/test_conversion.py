"""Models that train for a chip: conversion and the way back, and torch's machinery around them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.models.families import candidates
from aimc_sim.torch_bridge import (
    AnalogLinear,
    Training,
    TrainingLinear,
    analog_layers,
    attach_clipping,
    convert,
    digital,
    initialise_ranges,
    on_chip,
    parameter_groups,
    restore,
    set_step,
)
from aimc_sim.torch_bridge.coverage import ANALOG, coverage

SMALL: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
# Inductor builds C++, so it is tested where a compiler is; the graphs are the same without it.
BACKENDS = ["aot_eager", *(["inductor"] if shutil.which("g++") else [])]
IDS = torch.arange(24).reshape(2, 12) * 5 % 96


# -- conversion

FAMILIES: dict[str, Any] = {
    "llama": lambda t: t.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "phi3": lambda t: t.Phi3Config(**SMALL),  # fused projections
    "gpt2": lambda t: t.GPT2Config(vocab_size=96, n_embd=48, n_layer=2, n_head=4, n_positions=64, bos_token_id=1,
                                   eos_token_id=2),  # Conv1D, tied
}  # fmt: skip


@pytest.fixture(params=FAMILIES)
def language_model(small: Any, request: pytest.FixtureRequest) -> Any:
    import transformers

    return small.filled(
        transformers.AutoModelForCausalLM.from_config(FAMILIES[request.param](transformers)).eval()
    )


def test_language_models_convert_train_and_come_back(small: Any, language_model: Any, tmp_path: Path) -> None:
    model = language_model
    with torch.no_grad():
        expected = model(IDS).logits
    names = [item.name for item in candidates(model)]
    tied = model.config.tie_word_embeddings
    convert(model, small.HARDWARE, Training(gamma=0.02))
    layers = analog_layers(model)
    assert sorted(layers) == sorted(names)
    assert {name: layer.ordinal for name, layer in layers.items()} == {
        name: i for i, name in enumerate(names)
    }
    initialise_ranges(model, [{"input_ids": IDS}])
    with torch.no_grad(), digital(model):
        torch.testing.assert_close(model(IDS).logits, expected, atol=1e-5, rtol=1e-5)
    report = coverage(model, IDS)
    assert {row.name for row in report.rows if row.kind == ANALOG} == set(names)
    assert not model.config.tie_word_embeddings
    head, table = model.lm_head.weight, model.get_input_embeddings().weight
    assert head is not table
    assert tied == torch.equal(head, table) or not tied
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-3)
    attach_clipping(model, optimizer)
    model.train()
    losses = []
    for number in range(4):
        set_step(model, number)
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.eval()
    with on_chip(model, 5):
        first = model(IDS).logits
    with on_chip(model, 6):
        second = model(IDS).logits
    assert not torch.equal(first, second)
    with torch.no_grad(), digital(model):
        learned = model(IDS).logits
    found = restore(model)
    assert sorted(found) == sorted(names)
    assert not analog_layers(model)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, learned, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).logits, learned, atol=1e-5, rtol=1e-5)


def test_placement_keeps_matrices_digital(small: Any, language_model: Any) -> None:
    name = candidates(language_model)[0].name
    convert(language_model, {**small.HARDWARE, "placement": {"lm_head": "digital", "digital": [name]}})
    assert name not in analog_layers(language_model)
    assert "lm_head" not in analog_layers(language_model)
    with pytest.raises(BadInput, match=r"placement\.digital"):
        convert(small.network(), {**small.HARDWARE, "placement": {"digital": ["nothing.*"]}})
    with pytest.raises(BadInput, match="no Linear or Conv1D"):
        convert(nn.Sequential(nn.GELU()), small.HARDWARE)


def test_weights_that_two_layers_share_are_refused(small: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    with pytest.raises(BadInput, match="untie"):
        convert(model, small.HARDWARE)
    assert not analog_layers(model), "nothing is half converted"


def test_what_the_fast_forward_does_not_simulate_is_refused(small: Any) -> None:
    tables: list[dict[str, Any]] = [
        {"read_noise": {}},
        {"wires": {"r_row_ohm": 1.0, "r_col_ohm": 1.0}},
        {"faults": {"stuck_low_rate": 0.01}},
        {"dac": {"mode": "bit_serial"}},
    ]
    for table in tables:
        hardware = {**small.HARDWARE, "device": "pcm-hermes-2", **table}
        with pytest.raises(BadInput, match="forward='exact'"):
            convert(small.network(), hardware)
        exact = Training(noise="device", forward="exact", saturation="straight_through")
        assert analog_layers(convert(small.network(), hardware, exact))
    with pytest.raises(BadInput, match="least_squares"):
        convert(small.network(), {**small.HARDWARE, "adc": {}})
    with pytest.raises(BadInput, match="Linear or a transformers Conv1D"):
        AnalogLinear.from_linear(nn.GELU(), small.HARDWARE)
    with pytest.raises(BadInput, match="float32, bfloat16 or float16"):
        small.ready()(small.values(4, 50).double())


def test_fitted_full_scales_train_as_they_infer(small: Any) -> None:
    """Full scales of calibration: the layer in eval mode is the chip of exact cells."""
    hardware = Hardware.load(
        {
            **small.HARDWARE,
            "device": "ideal",
            "dac": {},
            "adc": {},
            "tile": {"rows": 24, "cols": 8, "weight_grid": "float32"},
        }
    )
    ranges = {
        "0": MatrixRange(None, np.linspace(1, 3, 12, dtype=np.float32).reshape(3, 4)),
        "2": MatrixRange(None, np.linspace(1, 3, 4, dtype=np.float32).reshape(2, 2)),
    }
    model = convert(small.network(), hardware, Training(), ranges=ranges).eval()
    x = small.values(6, 50)
    with torch.no_grad():
        found = model[0](x)
    with on_chip(model, 1):
        expected = model[0](x)
    assert ((found - expected).abs() > 1e-5).double().mean() < 0.01
    set_step(model.train(), 0)
    assert torch.isfinite(model(x)).all()


def test_conversion_without_training_gives_a_chip(small: Any) -> None:
    hardware = {**small.HARDWARE, "dac": {}}
    model = convert(small.network(), hardware, training=False, seed=4)
    trained = convert(small.network(), hardware, Training())
    with on_chip(trained, 4):
        expected = trained(small.values(4, 50))
    with torch.no_grad():
        assert torch.equal(model(small.values(4, 50)), expected)
    assert not any(p.requires_grad for layer in analog_layers(model).values() for p in layer.parameters())


# -- torch's machinery


@pytest.mark.filterwarnings(
    "ignore:.*script_method.*:DeprecationWarning"
)  # torch's own, in importing inductor
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "training", [Training(), Training(noise="device", backward="noisy", weight_bits=4)], ids=str
)
def test_compiled_whole_it_computes_the_same(small: Any, training: Training, backend: str) -> None:
    torch._dynamo.reset()
    model = small.ready(training)
    compiled: Any = torch.compile(model, fullgraph=True, backend=backend)
    torch._dynamo.utils.counters.clear()
    for number in range(3):
        set_step(model, number)
        x = small.values(16, 50).requires_grad_()
        pairs = [(f(x), f) for f in (model, compiled)]
        torch.testing.assert_close(pairs[0][0], pairs[1][0])
        slopes = [torch.autograd.grad(y.square().sum(), [x, *model.parameters()]) for y, _ in pairs]
        for plain, fused in zip(*slopes, strict=True):
            torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1, "a step does not compile anew"


def test_autocast_computes_in_half_precision_and_learns_in_full(small: Any) -> None:
    model = small.ready()
    set_step(model, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(small.values(16, 50))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
    full = model(small.values(16, 50))
    assert (y.float() - full).norm() < 0.05 * full.norm()


def test_operators_pass_torchs_own_checks(small: Any) -> None:
    """Schema, fake tensors, autograd registration and AOT dispatch, by torch.library.opcheck."""
    layer = analog_layers(small.ready())["0"]
    assert layer.input_range is not None
    state = layer.state.clone()
    arguments = (
        small.values(5, 50).requires_grad_(), layer.weight, layer.input_range.value, None, state, None, layer.plan_text,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.aimc_sim.analog_linear.default, arguments)
    x, weight, beta, _, key, _, plan = (a.detach() if isinstance(a, torch.Tensor) else a for a in arguments)
    y, bits, saturated = torch.ops.aimc_sim.analog_linear(x, weight, beta, None, key, None, plan)
    for needs in ((True, True, True), (False, True, True), (False, False, True), (True, False, False)):
        torch.library.opcheck(
            torch.ops.aimc_sim.analog_linear_backward.default,
            (y, x, weight, beta, key, bits, saturated, plan, *needs),
            test_utils=("test_schema", "test_faketensor"),
        )


def test_the_spec_refuses_what_contradicts_itself(small: Any) -> None:
    for table in (
        {"forward": "exact"},
        {"forward": "exact", "noise": "device"},
        {"gamma": -1},
        {"gama": 0.1},
    ):
        with pytest.raises(BadInput):
            Training.parse(table, "training")
    assert Training().id != Training(gamma=0.02).id
    assert isinstance(small.ready()[0], TrainingLinear)


def test_layers_that_tiles_could_not_stand_for_are_refused(small: Any) -> None:
    """Weights computed from others, and weights that another module multiplies by itself."""
    dynamic = {**small.HARDWARE, "dac": {"range": {"method": "per_token"}}}
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    with pytest.raises(BadInput, match="parametrization"):
        convert(nn.Sequential(normed), dynamic)
    attention = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)
    with pytest.raises(BadInput, match="MultiheadAttention"):
        convert(attention, dynamic)
    assert type(attention.linear1) is nn.Linear
    held = convert(attention, {**dynamic, "placement": {"digital": ["self_attn.*"]}})
    assert set(analog_layers(held)) == {"linear1", "linear2"}
