"""Shapes alone: the catalogue adds up to the published sizes, and agrees with the models that transformers builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.errors import BadInput
from aimc_sim.models.catalogue import (
    catalogue_entry,
    catalogue_names,
    config_shapes,
    model_shapes,
    named_shapes,
)
from aimc_sim.models.families import FAMILIES, candidates, skeleton
from helpers.tiny_models import tiny_config

TINY_MOE: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                  "shared_expert_intermediate_size": 24},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8,
                  "mlp_only_layers": [1]},
    "deepseek_v3": {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "q_lora_rank": 12,
                    "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
                    "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
                    "num_key_value_heads": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", catalogue_names())
def test_a_model_has_as_many_weights_as_its_maker_states(name: str) -> None:
    """Norms and biases are left out, so within half a percent; a wrong width or layer count is off by far more."""
    stated = catalogue_entry(name)["parameters"] * 1e9
    assert named_shapes(name).parameters == pytest.approx(stated, rel=5e-3)
    assert catalogue_entry(name)["source"]


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_are_those_of_the_model(family: str) -> None:
    config = tiny_config(family)
    expected = {(c.name, c.role, c.rows, c.cols) for c in candidates(skeleton(config))}
    shapes = model_shapes(config)
    assert {(m.name, m.role, m.rows, m.cols) for m in shapes.matrices()} == expected
    assert len(shapes.matrices()) == len(expected)
    assert shapes.matrices()[-1].role == "head"


@pytest.mark.parametrize("family", TINY_MOE)
def test_mixtures_have_the_parameters_of_the_model(family: str) -> None:
    """Against transformers' own model on the meta device, matrices only."""
    import torch
    from accelerate import init_empty_weights
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = {**tiny_config("llama"), "tie_word_embeddings": False, **TINY_MOE[family], "model_type": family}
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family].from_dict(config))
    built = sum(p.numel() for p in model.parameters() if isinstance(p, torch.nn.Parameter) and p.dim() > 1)
    assert model_shapes(config).parameters == built


def test_experts_stages_and_attention_of_a_mixture() -> None:
    shapes = named_shapes("DeepSeek-V3")
    dense, sparse = shapes.layers[2], shapes.layers[3]
    assert {m.count for m in dense.matrices} == {1}
    experts = [m for m in sparse.matrices if m.count == 256]
    assert {m.role for m in experts} == {"gate", "up", "down"}
    assert {m.active for m in experts} == {8}
    assert sparse.kv_elements == 576  # the latent and the rotary part, of no particular head
    assert sparse.attention_after == 1
    assert [m.stage for m in sparse.matrices if m.role == "o"] == [2]
    assert named_shapes("Kimi-K2").parameters > 1e12


def test_windows_of_sliding_attention() -> None:
    gemma = named_shapes("Gemma-3-1B").layers
    assert [layer.window for layer in gemma[:6]] == [512] * 5 + [None]
    assert named_shapes("Phi-3-mini").layers[0].window == 2047
    assert named_shapes("Llama-3.2-1B").layers[0].window is None
    listed = tiny_config(
        "gemma3_text", layer_types=["full_attention", "sliding_attention"], sliding_window=16
    )
    assert [layer.window for layer in model_shapes(listed).layers] == [None, 16]
    off = tiny_config("qwen2", sliding_window=8, use_sliding_window=False)
    assert [layer.window for layer in model_shapes(off).layers] == [None, None]


def test_names_are_found_whatever_their_case_and_owner() -> None:
    assert named_shapes("meta-llama/llama-3.2-1b").name == "Llama-3.2-1B"
    with pytest.raises(BadInput, match=r"did you mean 'Llama-3.2-1B'"):
        named_shapes("Llama3.2-1B")


def test_a_configuration_from_a_file_or_its_folder(tmp_path: Path) -> None:
    config = tiny_config("llama")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert config_shapes(tmp_path).layers == config_shapes(tmp_path / "config.json").layers
    assert config_shapes(tmp_path).name == tmp_path.name
    whole = {"model_type": "some_pictures_too", "text_config": config}
    assert model_shapes(whole).layers == model_shapes(config).layers


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"vocab_size": None}, "vocab_size"),
        ({"intermediate_size": True}, "intermediate_size"),
        ({"model_type": "mamba"}, "mamba"),
    ],
)
def test_what_is_missing_or_odd_is_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        model_shapes({**tiny_config("llama"), **change})


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in ("{", "[]", "[" * 100_000):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput):
            config_shapes(path)
    with pytest.raises(BadInput, match="cannot be read"):
        config_shapes(tmp_path / "nothing")
