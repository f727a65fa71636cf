"""Every matrix product with static weights is found, named and ordered, in every family."""

from __future__ import annotations

import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.models.families import FAMILIES, candidates, generation_defaults, skeleton
from helpers.tiny_models import tiny_config

ATTENTION = {"q": (32, 32), "k": (32, 16), "v": (32, 16), "o": (32, 32)}
LLAMA = ATTENTION | {"gate": (32, 48), "up": (32, 48), "down": (48, 32)}
BLOCKS = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma3_text": LLAMA,
    "phi3": {"qkv": (32, 64), "o": (32, 32), "gate_up": (32, 96), "down": (48, 32)},
    "gpt2": {"qkv": (32, 96), "o": (32, 32), "up": (32, 48), "down": (48, 32)},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_candidates_of_a_family(family: str) -> None:
    found = candidates(skeleton(tiny_config(family)))
    block = BLOCKS[family]
    assert len(found) == 2 * len(block) + 1
    assert found[-1].name == "lm_head"
    assert (found[-1].role, found[-1].rows, found[-1].cols) == ("head", 32, 97)
    for layer in range(2):
        part = found[layer * len(block) : (layer + 1) * len(block)]
        assert {item.role: (item.rows, item.cols) for item in part} == block
        assert all(f".{layer}." in item.name for item in part)
    expected = "in_out" if family == "gpt2" else "out_in"
    assert {item.layout for item in found[:-1]} == {expected}
    assert {item.role for item in found if item.has_bias} == {
        "qwen2": {"q", "k", "v"},
        "gpt2": {"qkv", "o", "up", "down"},
    }.get(family, set())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_skeleton_has_empty_parameters_and_real_buffers(family: str) -> None:
    model = skeleton(tiny_config(family))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())
    assert not model.training
    if family == "gemma3_text":
        assert float(model.get_input_embeddings().embed_scale) == pytest.approx(32**0.5)


def test_an_unknown_architecture_is_named_beside_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"'mamba'.*llama, mistral, qwen2, qwen3, phi3, gemma3_text, gpt2"):
        skeleton({"model_type": "mamba"})
    with pytest.raises(BadInput, match="model_type"):
        skeleton({})


def test_a_damaged_configuration_is_bad_input() -> None:
    with pytest.raises(BadInput, match="model configuration"):
        skeleton(tiny_config("llama", hidden_size="wide"))


def test_a_matrix_product_of_unknown_role_is_refused() -> None:
    model = skeleton(tiny_config("llama"))
    model.model.surprise = torch.nn.Linear(4, 4)
    with pytest.raises(BadInput, match=r"model\.surprise"):
        candidates(model)


CODE = {
    "attn_implementation": "someone/kernel:attention",
    "_attn_implementation": "someone/kernel",
    "_attn_implementation_internal": "someone/kernel",
    "experts_implementation": "someone/kernel",
    "auto_map": {"AutoModelForCausalLM": "someone/repository--modeling.Model", "AutoConfig": "x.Config"},
    "trust_remote_code": True,
    "kernel_config": {"RMSNorm": "someone/kernel"},
    "use_kernels": True,
    "to_dict": "hides a method",
    "from_dict": "hides a method",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_cannot_choose_code(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    for name in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, fetch)
    config = tiny_config(family)
    plain, hostile = skeleton(config), skeleton(config | CODE | {"nested": {"auto_map": {}, "_private": 1}})
    assert hostile.config._attn_implementation == plain.config._attn_implementation == "sdpa"
    assert type(hostile) is type(plain)
    assert not hasattr(hostile.config, "auto_map")
    assert hostile.config.nested == {}
    assert candidates(hostile) == candidates(plain)
    assert skeleton(config, attn_implementation="eager").config._attn_implementation == "eager"


@pytest.mark.parametrize("change", [
    {"hidden_size": "wide"}, {"num_hidden_layers": None}, {"num_attention_heads": 0}, {"vocab_size": -1},
    {"rope_scaling": [1]}, {"hidden_act": "someone/kernel"},
])  # fmt: skip
def test_a_configuration_that_makes_no_model(change: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="model configuration"):
        skeleton(tiny_config("llama") | change)


def test_generation_defaults_are_data() -> None:
    found = generation_defaults(
        {"eos_token_id": [2, 3], "to_dict": 1, "trust_remote_code": True, "_private": 1, "temperature": 0.5}
    )
    assert found.eos_token_id == [2, 3]
    assert callable(found.to_dict)
    assert not hasattr(found, "trust_remote_code")
    for table in ({"cache_implementation": "nothing"}, {"compile_config": 3}, {"watermarking_config": 3}):
        with pytest.raises(BadInput, match=r"generation_config\.json"):
            generation_defaults(table)
