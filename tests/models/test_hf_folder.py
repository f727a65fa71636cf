"""Hugging Face folders: bit for bit what was saved, and a clear refusal of everything that is not sound."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aimc_sim.errors import BadInput
from aimc_sim.models import load_tokenizer, open_checkpoint
from aimc_sim.models.families import FAMILIES
from aimc_sim.models.tensors import check_finite
from helpers.tiny_models import save_tiny

WEIGHTS = "model.safetensors"


def bits_of(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_tiny(folder, "llama", tokenizer=True)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Replace (or with None remove) tensors; a double underscore stands for a dot."""
    state = load_file(folder / WEIGHTS)
    for key, value in tensors.items():
        name = key.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "shard_size"), [("float32", "1GB"), ("float16", "8KB"), ("bfloat16", "8KB")]
)
def test_tensors_are_what_was_saved(family: str, dtype: str, shard_size: str, tmp_path: Path) -> None:
    model = save_tiny(tmp_path, family, dtype, shard_size=shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "8KB")
    checkpoint = open_checkpoint(tmp_path)
    found = {tensor.name: tensor for tensor in checkpoint.tensors()}
    expected = {name: value for name, value in model.state_dict().items() if name not in checkpoint.tied}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == dtype
        assert found[name].bits.shape == tuple(value.shape)
        np.testing.assert_array_equal(found[name].bits, bits_of(value))
    assert checkpoint.nbytes == sum(value.numel() * value.element_size() for value in expected.values())
    assert len(checkpoint.source["files"]) == len(list(tmp_path.glob("*.safetensors")))
    assert all(len(file["sha256"]) == 64 and file["bytes"] > 0 for file in checkpoint.source["files"])


def test_the_tokenizer_travels_as_bytes(saved: Path) -> None:
    checkpoint = open_checkpoint(saved)
    assert checkpoint.tokenizer_files["tokenizer.json"] == (saved / "tokenizer.json").read_bytes()
    tokenizer = load_tokenizer(checkpoint.tokenizer_files, checkpoint.config)
    assert tokenizer("w3 w9 w4", add_special_tokens=False)["input_ids"] == [3, 9, 4]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    with pytest.raises(BadInput, match="without one"):
        load_tokenizer({})
    with pytest.raises(BadInput, match="cannot load it"):
        load_tokenizer({"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"})


def test_names_without_the_base_prefix_are_understood(tmp_path: Path) -> None:
    """The published GPT-2 was saved from the bare base model, with its causal masks."""
    model = save_tiny(tmp_path, "gpt2")
    state = {
        name.removeprefix("transformer."): value for name, value in load_file(tmp_path / WEIGHTS).items()
    }
    state["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    state["h.1.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)  # as newer exports store the mask
    save_file(state, tmp_path / WEIGHTS)
    found = {tensor.name: tensor.bits for tensor in open_checkpoint(tmp_path).tensors()}
    np.testing.assert_array_equal(
        found["transformer.h.1.mlp.c_fc.weight"], model.transformer.h[1].mlp.c_fc.weight.detach().numpy()
    )
    assert not any(name.endswith(".attn.bias") for name in found)


def test_a_tied_head_may_be_stored_twice_but_not_differ(folder: Path) -> None:
    embedding = load_file(folder / WEIGHTS)["model.embed_tokens.weight"]
    change(folder, lm_head__weight=embedding.clone())
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert "lm_head.weight" not in checkpoint.infos
    change(folder, lm_head__weight=embedding + 1)
    with pytest.raises(BadInput, match="tie_word_embeddings"):
        open_checkpoint(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_named_with_their_index(
    folder: Path, value: float, dtype: torch.dtype
) -> None:
    weight = load_file(folder / WEIGHTS)["model.layers.1.mlp.up_proj.weight"].to(dtype)
    weight[5, 7] = value
    weight[9, 1] = value
    change(folder, model__layers__1__mlp__up_proj__weight=weight)
    with pytest.raises(BadInput, match=r"model\.layers\.1\.mlp\.up_proj\.weight.*index \(5, 7\)"):
        list(open_checkpoint(folder).tensors())


def test_the_search_for_infinities_crosses_blocks() -> None:
    bits = np.zeros((3, (1 << 22) - 1), np.float16)
    check_finite("x", bits, "float16")
    bits[1, 1] = np.inf  # in the second block of elements
    with pytest.raises(BadInput, match=r"\(1, 1\)"):
        check_finite("x", bits, "float16")


@pytest.mark.parametrize("kept", [0, 4, 8, 200, -1, -4096])
def test_truncated_safetensors(folder: Path, kept: int) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:kept])
    with pytest.raises(BadInput, match="truncated or damaged"):
        open_checkpoint(folder)


def test_missing_parts(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "other")
    with pytest.raises(BadInput, match="no weights in it"):
        open_checkpoint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BadInput, match="a pickle"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"no config\.json"):
        open_checkpoint(folder)
    with pytest.raises(BadInput, match="no such file or folder"):
        open_checkpoint(folder / "nowhere")


def test_names_and_shapes_must_fit_the_configuration(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    name = "model.layers.0.self_attn.k_proj.weight"
    change(folder, model__layers__0__self_attn__k_proj__weight=torch.zeros(32, 32))
    with pytest.raises(BadInput, match=r"k_proj\.weight.*\(32, 32\).*\(16, 32\)"):
        open_checkpoint(folder)
    change(folder, model__layers__0__self_attn__k_proj__weight=None)
    with pytest.raises(
        BadInput, match=r"1 tensors missing, first model\.layers\.0\.self_attn\.k_proj\.weight"
    ):
        open_checkpoint(folder)
    change(folder, **{name.replace(".", "__"): state[name], "model__experts": torch.zeros(2, 2, 2)})
    with pytest.raises(BadInput, match=r"'model\.experts'.*no place"):
        open_checkpoint(folder)


def test_formats_that_would_lose_something_are_refused(folder: Path) -> None:
    change(folder, model__norm__weight=torch.ones(32, dtype=torch.float64))
    with pytest.raises(BadInput, match=r"model\.norm\.weight.*F64"):
        open_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    change(folder, model__norm__weight=torch.ones(32))
    (folder / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq"}})
    )
    with pytest.raises(BadInput, match="gptq"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_damaged_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json"):
        open_checkpoint(folder)


def test_damaged_shards(tmp_path: Path) -> None:
    save_tiny(tmp_path, "qwen2", shard_size="30KB")
    index = tmp_path / "model.safetensors.index.json"
    whole = index.read_text()
    shard = sorted(tmp_path.glob("*.safetensors"))[-1]
    tensor = next(name for name, file in json.loads(whole)["weight_map"].items() if file == shard.name)

    def spoil(**entries: str) -> None:
        weight_map = json.loads(whole)["weight_map"] | entries
        index.write_text(json.dumps({"weight_map": weight_map}))

    spoil(**{tensor: f"../{tmp_path.name}/{shard.name}"})
    with pytest.raises(BadInput, match="own folder"):
        open_checkpoint(tmp_path)
    spoil(**{"model.ghost": shard.name})
    with pytest.raises(BadInput, match="promises"):
        open_checkpoint(tmp_path)
    index.write_text("{}")
    with pytest.raises(BadInput, match="weight_map"):
        open_checkpoint(tmp_path)
    index.write_text(whole)
    shard.unlink()
    with pytest.raises(BadInput, match="missing"):
        open_checkpoint(tmp_path)


def test_a_model_id_comes_from_the_hub(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options["allow_patterns"]))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert open_checkpoint("someone/tiny-llama").config["model_type"] == "llama"
    assert asked[0][0] == "someone/tiny-llama"
    assert "*.bin" not in asked[0][1]


def test_without_a_connection_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline mode is on")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(BadInput, match=r"someone/tiny.*hub did not deliver it \(offline mode is on\)"):
        open_checkpoint("someone/tiny")


def test_masks_of_another_type_may_be_missing_from_a_shard(tmp_path: Path) -> None:
    save_tiny(tmp_path, "gpt2", shard_size="8KB")
    index = json.loads((tmp_path / f"{WEIGHTS}.index.json").read_text())
    shard = sorted(set(index["weight_map"].values()))[0]
    state = load_file(tmp_path / shard)
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    save_file(state, tmp_path / shard)
    index["weight_map"]["transformer.h.0.attn.bias"] = shard
    (tmp_path / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert not any(name.endswith(".attn.bias") for name in open_checkpoint(tmp_path).infos)


def test_a_tokenizer_cannot_bring_code(saved: Path) -> None:
    checkpoint = open_checkpoint(saved)
    files = dict(checkpoint.tokenizer_files)
    table = json.loads(files["tokenizer_config.json"])
    table |= {
        "auto_map": {"AutoTokenizer": ["someone/repository--tokenization.Slow", None]},
        "trust_remote_code": True,
    }
    files["tokenizer_config.json"] = json.dumps(table).encode()
    config = checkpoint.config | {"auto_map": {"AutoConfig": "someone/repository--configuration.Config"}}
    tokenizer = load_tokenizer(files, config)
    assert type(tokenizer).__module__.startswith("transformers.")
    assert tokenizer("w3", add_special_tokens=False)["input_ids"] == [3]
