"""Models of every family on simulated chips: exact cells give the plain model, and nothing is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim import BadInput, Hardware, WeightFile, export, program
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.torch_bridge import AnalogLinear, TileLinear, build_model, load_digital, load_model, mount
from aimc_sim.torch_bridge.coverage import coverage
from aimc_sim.torch_bridge.half import HalfLinear

SMALL: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, Callable[[Any], Any]] = {
    "llama": lambda t: t.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama-biased": lambda t: t.LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "mistral": lambda t: t.MistralConfig(**SMALL, sliding_window=None),
    "qwen2": lambda t: t.Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen3": lambda t: t.Qwen3Config(**SMALL, head_dim=16),
    "phi3": lambda t: t.Phi3Config(**SMALL),
    "gemma3": lambda t: t.Gemma3TextConfig(**SMALL, head_dim=16, sliding_window=32),
    "gpt2": lambda t: t.GPT2Config(vocab_size=96, n_embd=48, n_layer=2, n_head=4, n_positions=64, bos_token_id=1,
                                   eos_token_id=2),
}  # fmt: skip


def fill(model: torch.nn.Module) -> None:
    """Deterministic weights, norms and biases included."""
    with torch.no_grad():
        for ordinal, parameter in enumerate(model.parameters()):
            counter = np.zeros((-(-parameter.numel() // 4), 4), np.uint32)
            counter[:, 0], counter[:, 1] = np.arange(len(counter)), ordinal
            z = torch.from_numpy(
                normals(counter, key_of(3)).ravel()[: parameter.numel()].reshape(parameter.shape)
            )
            parameter.copy_(1 + 0.1 * z if parameter.ndim == 1 else z / parameter.shape[-1] ** 0.5)


@pytest.fixture(params=FAMILIES)
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[torch.nn.Module, WeightFile]:
    import transformers

    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[request.param](transformers)).eval()
    fill(model)
    model.save_pretrained(tmp_path / "checkpoint")
    return model, export(tmp_path / "checkpoint", tmp_path / "w.h5", "ideal", calibration_tokens=0)


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits.double()


def test_exact_cells_give_the_plain_model(plain: tuple[torch.nn.Module, WeightFile]) -> None:
    model, file = plain
    ids = (torch.arange(2 * 40).reshape(2, 40) * 37 + 5) % 96
    truth = logits(model, ids)
    assert float((logits(load_digital(file), ids) - truth).norm() / truth.norm()) <= 1e-6
    ideal = load_model(file)
    assert float((logits(ideal, ids) - truth).norm() / truth.norm()) <= 1e-4
    grid = load_model(file, hardware={"device": "ideal", "tile": {"rows": 32}})
    assert float((logits(grid, ids) - truth).norm() / truth.norm()) <= 5e-4

    seen = coverage(ideal, ids)
    analog = [module for module in ideal.modules() if isinstance(module, AnalogLinear)]
    assert {module.matrix_name for module in analog} == {matrix.name for matrix in file.matrices}
    assert seen.static_share == 1.0
    assert not seen.unused
    held = sum(parameter.numel() for parameter in ideal.parameters())
    assert held < 0.5 * sum(parameter.numel() for parameter in model.parameters()), (
        "a second copy of the weights"
    )


@pytest.fixture(scope="module")
def file(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


IDS = (torch.arange(40).reshape(1, 40) * 31 + 7) % 256


def test_mounting_swaps_the_chip(file: WeightFile) -> None:
    model = build_model(file)
    chip = program(file, 3)
    mount(model, chip.at(0.0))
    first = logits(model, IDS)
    mount(model, chip.at(1e6))
    assert not torch.equal(logits(model, IDS), first)
    mount(model, chip.at(0.0))
    assert torch.equal(logits(model, IDS), first)
    assert torch.equal(logits(load_model(str(file.path), seed=3), IDS), first)


def test_more_noise_hurts_more(file: WeightFile) -> None:
    truth = logits(load_digital(file), IDS)
    errors = []
    for hardware in (
        Hardware.load("hermes-256").with_ideal_cells(),
        Hardware.load("hermes-256"),
        Hardware.load("hermes-256").with_noise_scale(2),
    ):
        errors.append(float((logits(load_model(file, hardware=hardware), IDS) - truth).norm()))
    assert errors[0] < 0.5 * errors[1] < 0.5 * errors[2]


def test_noise_without_converters_tiled_and_untiled(file: WeightFile) -> None:
    truth = logits(load_digital(file), IDS)
    for tile in ({}, {"rows": 16, "cols": 16}):
        noisy = load_model(file, hardware={"device": "pcm-afm", "tile": tile}, seed=1)
        error = float((logits(noisy, IDS) - truth).norm() / truth.norm())
        assert 0.01 < error < 2


def test_placement_keeps_matrices_digital_by_choice(file: WeightFile) -> None:
    hardware = {"device": "ideal", "placement": {"lm_head": "digital", "digital": ["model.layers.0.mlp.*"]}}
    model = load_model(file, hardware=hardware)
    digital = {"lm_head", *(f"model.layers.0.mlp.{part}_proj" for part in ("gate", "up", "down"))}
    kinds = (torch.nn.Linear, HalfLinear)
    assert {name for name, module in model.named_modules() if isinstance(module, kinds)} == digital
    truth = logits(load_digital(file), IDS)
    assert float((logits(model, IDS) - truth).norm() / truth.norm()) <= 5e-4
    assert coverage(model, IDS, digital=digital).static_share < 1
    with pytest.raises(BadInput, match="digital"):
        coverage(model, IDS)
    with pytest.raises(BadInput, match="matches no matrix"):
        build_model(file, Hardware.load({"device": "ideal", "placement": {"digital": ["model.layer.0*"]}}))


def test_an_empty_layer_and_a_gradient_are_refused(file: WeightFile) -> None:
    with pytest.raises(BadInput, match="no chip is mounted"):
        logits(build_model(file), IDS)
    layer = TileLinear("x", 4, 3)
    with pytest.raises(BadInput, match="the layer is 4 × 3"):
        layer.mount(program(file, 0).at(0).tiles(file.matrices[0].name))
    model = load_model(file)
    first = next(module for module in model.modules() if isinstance(module, AnalogLinear))
    with pytest.raises(BadInput, match="no gradient"):
        first(torch.ones(1, first.in_features, requires_grad=True))


def test_generation_with_a_cache_agrees_with_one_pass(file: WeightFile) -> None:
    model = load_model(file, hardware="ideal")
    ids = IDS[:, :8]
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    greedy = ids
    for _ in range(out.shape[1] - 8):
        greedy = torch.cat([greedy, logits(model, greedy)[:, -1:].argmax(-1)], 1)
    assert torch.equal(out, greedy)


def test_dtype_and_shape_follow_the_input(file: WeightFile) -> None:
    model = load_model(file)
    layer = next(module for module in model.modules() if isinstance(module, AnalogLinear))
    x = torch.ones(2, 3, layer.in_features, dtype=torch.bfloat16)
    y = layer(x)
    assert y.shape == (2, 3, layer.out_features)
    assert y.dtype == torch.bfloat16


def test_a_chip_of_another_placement_cannot_be_mounted(file: WeightFile) -> None:
    model = build_model(file, Hardware.load({"base": "hermes-256", "placement": {"lm_head": "digital"}}))
    with pytest.raises(BadInput, match="lm_head is analog in the chip"):
        mount(model, program(file, 0, "hermes-256").at(0))
