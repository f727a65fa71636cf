"""Adapters as peft saves them: bit for bit, and a refusal of every setting that is more than scale·B(A·x)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import aimc_sim
from aimc_sim.errors import BadInput
from aimc_sim.models import open_checkpoint
from aimc_sim.torch_bridge import load_digital
from aimc_sim.weightfile import WeightFile
from helpers.tiny_models import save_tiny

UP = "model.layers.0.mlp.up_proj"
KEY = f"base_model.model.{UP}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, adapted: ModuleType) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_tiny(folder, "llama")
    found: Path = adapted.add(folder)
    return found


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) remove tensors of the adapter beside UP."""
    path = folder / "adapter" / "adapter_model.safetensors"
    state: dict[str, Any] = load_file(path)
    state |= {f"{KEY}.{name}.weight": value for name, value in changes.items()}
    save_file({name: value for name, value in state.items() if value is not None}, path)


def export(folder: Path, **options: Any) -> WeightFile:
    return aimc_sim.export(folder, folder.parent / "w.h5", "ideal", calibration_tokens=0, **options)


def test_a_and_b_are_kept_bit_for_bit(folder: Path) -> None:
    state = load_file(folder / "adapter" / "adapter_model.safetensors")
    weights = export(folder)
    assert len(state) == 2 * len(weights.adapters)
    for name, value in state.items():
        stored = weights.tensor(name.removeprefix("base_model.model."))
        assert stored.bits.tobytes() == value.numpy().tobytes()
    assert {item.scale for item in weights.adapters} == {1.5}
    assert weights.verify() == []
    named = [file["name"] for file in weights.provenance["files"]]
    assert named == ["model.safetensors", "adapter_config.json", "adapter_model.safetensors"]


def test_in_half_precision(folder: Path) -> None:
    half = torch.linspace(-1, 1, 4 * 32).reshape(4, 32).bfloat16()
    tensors(folder, lora_A=half)
    stored = export(folder).tensor(f"{UP}.lora_A.weight")
    assert stored.dtype == "bfloat16"
    np.testing.assert_array_equal(stored.bits, half.view(torch.uint16).numpy())


def test_ranks_of_their_own_and_the_root_of_the_rank(folder: Path, adapted: ModuleType) -> None:
    settings(folder, use_rslora=True, rank_pattern={UP: 2})
    tensors(folder, lora_A=torch.ones(2, 32), lora_B=torch.ones(48, 2))
    weights = export(folder)
    scales = {item.matrix: item.scale for item in weights.adapters}
    assert scales.pop(UP) == 6 / 2**0.5
    assert set(scales.values()) == {3.0}
    assert weights.adapter_ranks[UP] == 2
    ids = torch.arange(12)[None]
    with torch.no_grad():
        expected, found = (
            model(input_ids=ids).logits for model in (adapted.by_peft(folder), load_digital(weights))
        )
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("use_dora", True),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("alpha_pattern", {UP: 4}),
        ("rank_pattern", [2]),
        ("rank_pattern", {UP: "2"}),
        ("init_lora_weights", "pissa"),
        ("trainable_token_indices", [3]),
        ("layer_replication", [[0, 1]]),
        ("target_parameters", ["x"]),
        ("of_a_later_version", 1),
        ("r", 5),
        ("r", None),
        ("r", True),
        ("lora_alpha", "6"),
        ("lora_alpha", float("nan")),
        ("use_rslora", "yes"),
    ],
)
def test_settings_that_cannot_be_represented(folder: Path, key: str, value: Any) -> None:
    settings(folder, **{key: value})
    with pytest.raises(BadInput, match="rank 5" if value == 5 else key):
        export(folder)
    assert not (folder.parent / "w.h5").exists()
    assert export(folder, base_alone=True).adapters == ()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lora_A": None}, "adapter of model.layers.0.mlp.up_proj"),
        ({"lora_B": None}, "adapter of model.layers.0.mlp.up_proj"),
        ({"lora_A": torch.ones(4, 31)}, r"\(r, 32\)"),
        ({"lora_B": torch.ones(48, 3)}, r"\(48, r\)"),
        ({"lora_A": torch.ones(4)}, r"\(r, 32\)"),
        ({"lora_A": torch.full((4, 32), torch.inf)}, "not finite"),
        ({"lora_magnitude_vector": torch.ones(48)}, "neither A nor B"),
        ({"lora_A": torch.ones(4, 32, dtype=torch.int32)}, "dtype"),
    ],
)
def test_tensors_that_do_not_fit(folder: Path, changes: dict[str, torch.Tensor | None], match: str) -> None:
    tensors(folder, **changes)
    with pytest.raises(BadInput, match=match):
        export(folder)
    assert not (folder.parent / "w.h5").exists()


def test_files_that_are_missing_or_of_another_model(folder: Path) -> None:
    path = folder / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    save_file({name.replace("layers.1", "layers.7"): value for name, value in state.items()}, path)
    with pytest.raises(BadInput, match=r"layers\.7.*no such matrix"):
        export(folder)
    save_file({}, path)
    with pytest.raises(BadInput, match="no tensors"):
        export(folder)
    path.write_bytes(b"no header")
    with pytest.raises(BadInput, match="damaged"):
        export(folder)
    path.rename(path.with_name("adapter_model.bin"))
    with pytest.raises(BadInput, match="it has no adapter_model"):
        export(folder)
    (folder / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(BadInput, match="it has no adapter_config"):
        export(folder)


def test_training_and_sampling_do_not_leave_it_out(folder: Path) -> None:
    from aimc_sim.finetuning.models import open_for_training

    for checkpoint in (folder, open_checkpoint(folder)):
        with pytest.raises(BadInput, match="without the low-rank adapter"):
            open_for_training(checkpoint)
