"""Every product with a parameter is claimed, or it is an error that names both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge import load_digital, load_model
from aimc_sim.torch_bridge.coverage import ANALOG, ATTENTION, DIGITAL, LOOKUP, POSITIONS, coverage
from aimc_sim.weightfile import WeightFile

SMALL: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
IDS = torch.arange(24).reshape(2, 12)


def linears(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if type(module).__name__ in ("Linear", "Conv1D")}


@pytest.fixture(scope="module")
def weights(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


def test_a_chip_runs_every_static_product_in_tiles(weights: WeightFile) -> None:
    found = coverage(load_model(weights), IDS)
    assert {row.name for row in found.rows if row.kind == ANALOG} == {
        matrix.name for matrix in weights.matrices
    }
    assert found.macs(ANALOG) == sum(matrix.rows * matrix.cols for matrix in weights.matrices)
    assert found.macs(DIGITAL) == 0
    assert found.static_share == 1.0
    assert 0.5 < found.analog_share < 1.0
    assert [row.name for row in found.rows if row.kind == LOOKUP] == ["model.embed_tokens"]
    assert found.unused == ()


def test_attention_counts_scores_and_values(weights: WeightFile) -> None:
    found = coverage(load_model(weights), IDS)
    # 2 layers × 12 keys × 64 channels, for the scores and for the values.
    assert found.macs(ATTENTION) == 2 * 2 * 12 * 64


def test_eager_attention_counts_the_same(weights: WeightFile) -> None:
    model = load_model(weights)
    fused = coverage(model, IDS).macs(ATTENTION)
    model.set_attn_implementation("eager")
    assert coverage(model, IDS).macs(ATTENTION) == fused


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "family", ["LlamaConfig", "Phi3Config", "Qwen3Config", "MistralConfig", "Gemma3TextConfig"]
)
def test_every_family_is_accounted_for(family: str, attention: str) -> None:
    config = getattr(transformers, family)(**SMALL, head_dim=8)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    found = coverage(model, IDS, digital=linears(model))
    assert {row.name for row in found.rows if row.kind == DIGITAL} == linears(model)
    static = sum(model.get_submodule(name).weight.numel() for name in linears(model))
    assert found.macs(DIGITAL) == static
    for name in sorted(linears(model)):
        with pytest.raises(BadInput, match=rf"{name}\.weight.*mm"):
            coverage(model, IDS, digital=linears(model) - {name})


def test_experts_of_a_mixture_are_three_dimensional_and_caught() -> None:
    config = transformers.Qwen3MoeConfig(
        **SMALL,
        head_dim=8,
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
        decoder_sparse_step=1,
        mlp_only_layers=[],
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    gates = {name for name, _ in model.named_modules() if name.endswith("mlp.gate")}
    with pytest.raises(BadInput, match=r"layers\.0\.mlp\.experts\.\w*proj"):
        coverage(model, IDS, digital=linears(model) | gates)
    experts = {name for name, _ in model.named_modules() if name.endswith("mlp.experts")}
    assert coverage(model, IDS, digital=linears(model) | gates | experts).macs(DIGITAL) > 0


class Toy(nn.Module):
    """A model of one product, written in a way that hides it."""

    def __init__(self, how: Any, **tensors: torch.Tensor) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 8)
        self.how = how
        for name, value in tensors.items():
            setattr(self, name, nn.Parameter(value, requires_grad=False))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.as_tensor(self.how(self, self.embed(input_ids)))


SQUARE = torch.eye(8) + 0.5
HIDDEN = {
    "functional": lambda m, x: F.linear(x, m.w),
    "cast": lambda m, x: x.double() @ m.w.double(),
    "scaled": lambda m, x: x @ (m.w * m.w.abs().max()),
    "transposed copy": lambda m, x: x @ m.w.t().contiguous(),
    "slice": lambda m, x: x[..., :4] @ m.w[:4, 2:5],
    "einsum": lambda m, x: torch.einsum("btk,kn->btn", x, m.w),
    "one output": lambda m, x: F.linear(x, m.w[:1]),
    "matrix times vector": lambda m, x: torch.mv(x[0], m.w[0]),
    "gathered": lambda m, x: torch.bmm(x, m.w[None].expand(4, -1, -1)[torch.tensor([0, 3])]),
    "copied in place": lambda m, x: x @ torch.empty(8, 8).copy_(m.w),
    "baddbmm": lambda m, x: torch.baddbmm(torch.zeros(1, 1, 8), x, m.w[None].expand(2, -1, -1)),
    "convolution": lambda m, x: F.conv1d(x.transpose(1, 2), m.w[:, :, None]),
    "through numpy": lambda m, x: x @ torch.from_numpy(m.w.numpy()[1:]).t()[:, :5],
}


@pytest.mark.parametrize("how", HIDDEN)
def test_a_product_cannot_hide(how: str) -> None:
    model = Toy(HIDDEN[how], w=SQUARE.clone())
    with pytest.raises(BadInput, match="parameter w"):
        coverage(model, IDS)
    found = coverage(model, IDS, digital={"w"})
    assert [row.kind for row in found.rows if row.kind != LOOKUP] == [DIGITAL]


def test_products_are_seen_in_inference_mode_too() -> None:
    def inference(model: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return F.linear(x, model.w)

    with pytest.raises(BadInput, match="parameter w"):
        coverage(Toy(inference, w=SQUARE.clone()), IDS)


def test_what_is_no_product_passes() -> None:
    def harmless(model: Any, x: torch.Tensor) -> torch.Tensor:
        normed = F.layer_norm(x, (8,), model.scale, model.shift) * model.scale
        angles = model.rates[:, None] @ torch.arange(12.0)[None]  # an outer product, as in rotary embeddings
        return normed + angles.sum() + torch.bmm(x, x.transpose(1, 2)).sum()

    model = Toy(harmless, scale=torch.ones(8), shift=torch.zeros(8), rates=torch.ones(4))
    assert {row.kind for row in coverage(model, IDS).rows} <= {LOOKUP, POSITIONS, "digital: activations"}


def test_an_unknown_operation_on_a_weight_is_an_error() -> None:
    @torch.library.custom_op("aimc_test::fused", mutates_args=())
    def fused(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x + w.sum()

    with pytest.raises(BadInput, match=r"parameter w.*aimc_test::fused"):
        coverage(Toy(lambda m, x: torch.ops.aimc_test.fused(x, m.w), w=SQUARE.clone()), IDS)


def test_a_layer_that_never_ran_is_listed(weights: WeightFile) -> None:
    model = load_model(weights)
    model.model.layers = model.model.layers[:1]
    model.spare = load_model(weights).model.layers[1]
    assert all(name.startswith("model.layers.1") for name in coverage(model, IDS).unused)
    assert len(coverage(model, IDS).unused) == 7


def test_the_report_folds_layers_and_adds_up(weights: WeightFile) -> None:
    found = coverage(load_digital(weights), IDS, digital={matrix.name for matrix in weights.matrices})
    groups = found.groups()
    assert sum(row.macs for row in groups) == pytest.approx(sum(row.macs for row in found.rows))
    assert "model.layers.*.mlp.up_proj" in {row.name for row in groups}
    document = found.to_dict()
    assert document["analog_share"] == 0.0
    assert set(document) == {"tokens", "analog_share", "static_share", "macs_per_token", "rows", "unused"}
    assert "0.0 %" in found.summary()


def test_the_hooks_go_even_after_an_error(weights: WeightFile) -> None:
    model = load_digital(weights)
    with pytest.raises(BadInput):
        coverage(model, IDS)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    with pytest.raises(BadInput, match="example_ids"):
        coverage(model, torch.arange(3))
