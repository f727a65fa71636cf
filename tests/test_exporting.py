"""Checkpoint to weight file: bit for bit, calibrated, and whole or not there at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import aimc_sim
from aimc_sim.errors import BadInput
from aimc_sim.models import load_tokenizer, open_checkpoint
from aimc_sim.models.families import FAMILIES
from aimc_sim.torch_bridge import load_digital
from aimc_sim.weightfile import WeightFile
from helpers.tiny_models import save_tiny, tiny_config


def bits_of(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    save_tiny(path, "llama", tokenizer=True)
    return path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "shard_size"), [("float32", "1GB"), ("float16", "1GB"), ("bfloat16", "8KB")]
)
def test_export_keeps_bits_and_logits(family: str, dtype: str, shard_size: str, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "checkpoint", family, dtype, shard_size=shard_size)
    file = aimc_sim.export(tmp_path / "checkpoint", tmp_path / "model.aimc", "ideal", calibration_tokens=8)
    assert file.verify() == []
    state = model.state_dict()
    for name in file.tensor_names:
        np.testing.assert_array_equal(file.tensor(name).bits, bits_of(state[name]))
        assert file.tensor(name).dtype == dtype
    assert set(file.tensor_names) == state.keys() - ({"lm_head.weight"} if file.tied else set())
    for matrix in file.matrices:
        weight = state[f"{matrix.name}.weight"].float().numpy()
        np.testing.assert_array_equal(
            file.weight(matrix.name), weight.T if matrix.layout == "in_out" else weight
        )
        assert file.moments(matrix.name).mean.shape == (matrix.rows,)
        assert matrix.has_bias == (f"{matrix.name}.bias" in file.digital_names)
    ids = torch.arange(3, 35)[None]
    # Not model.float(): half-precision models have rounded their rotary tables, too.
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", dtype=torch.float32)
    with torch.inference_mode():
        expected, found = reference(ids).logits, load_digital(file)(ids).logits
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_shards_and_single_files_give_the_same_id(folder: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "sharded", "llama", shard_size="8KB", tokenizer=True)
    one = aimc_sim.export(folder, tmp_path / "one.aimc", "ideal", calibration_tokens=16)
    two = aimc_sim.export(
        str(tmp_path / "sharded"), str(tmp_path / "two.aimc"), "ideal", calibration_tokens=16
    )
    assert one.id == two.id
    assert one.provenance["files"] != two.provenance["files"]
    again = aimc_sim.export(folder, tmp_path / "again.aimc", "ideal", calibration_tokens=16)
    assert again.path.read_bytes() == one.path.read_bytes()


def test_everything_else_travels_too(folder: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    file = aimc_sim.export(
        folder,
        tmp_path / "model.aimc",
        "ideal",
        calibration_tokens=100,
        progress=lambda *call: calls.append(call),
    )
    assert file.config == open_checkpoint(folder).config
    assert file.hardware.id == aimc_sim.Hardware.load("ideal").id
    assert file.calibration.token_ids.shape == (2, 64)  # whole rows, as long as the model's context
    assert "seed 0" in file.calibration.source
    assert file.provenance["files"][0]["name"] == "model.safetensors"
    assert file.provenance["versions"]["transformers"]
    tokenizer = load_tokenizer(file.tokenizer(), file.config)
    assert tokenizer("w5 w6", add_special_tokens=False)["input_ids"] == [5, 6]
    for stage in ("tensors", "sample", "calibrate"):
        done = [call for call in calls if call[0] == stage]
        assert done[-1][1] == done[-1][2]
        assert [call[1] for call in done] == sorted(call[1] for call in done)


def test_moments_are_those_of_the_inputs(folder: Path, tmp_path: Path) -> None:
    file = aimc_sim.export(folder, tmp_path / "model.aimc", "ideal", calibration_tokens=320)
    model, seen = load_digital(file), {}
    for matrix in file.matrices:

        def keep(module: torch.nn.Module, args: tuple[torch.Tensor, ...], name: str = matrix.name) -> None:
            seen[name] = args[0].reshape(-1, args[0].shape[-1]).double().numpy()

        model.get_submodule(matrix.name).register_forward_pre_hook(keep)
    with torch.inference_mode():
        model(torch.from_numpy(file.calibration.token_ids.astype(np.int64)))
    for name, x in seen.items():
        moments = file.moments(name)
        assert len(x) == file.calibration.token_ids.size
        np.testing.assert_allclose(moments.max_abs, abs(x).max(axis=0), rtol=1e-5)
        np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(moments.second_moment, (x**2).mean(axis=0), rtol=1e-5)
    assert len(seen) == len(file.matrices)


def test_calibration_on_given_text_and_tokens(folder: Path, tmp_path: Path) -> None:
    words = " ".join(f"w{3 + index % 90}" for index in range(300))
    file = aimc_sim.export(folder, tmp_path / "text.aimc", "ideal", calibration_tokens=128, text=words)
    assert file.calibration.token_ids.shape == (2, 64)
    assert (file.calibration.token_ids[:, 0] == 1).all()
    assert file.calibration.token_ids[0, 1:4].tolist() == [3, 4, 5]
    assert file.calibration.token_ids[1, 1] == 3 + 63
    ids = np.arange(20).reshape(2, 10)
    given = aimc_sim.export(folder, tmp_path / "ids.aimc", "ideal", token_ids=ids)
    np.testing.assert_array_equal(given.calibration.token_ids, ids)
    skipped = aimc_sim.export(folder, tmp_path / "none.aimc", "ideal", calibration_tokens=0)
    with pytest.raises(BadInput, match="without calibration"):
        _ = skipped.calibration


@pytest.mark.parametrize(("options", "what"), [
    ({"calibration_tokens": -1}, "calibration_tokens"),
    ({"calibration_tokens": 1}, "calibration_tokens"),
    ({"text": "w3 w4"}, "calibration text"),
    ({"text": "w3", "token_ids": np.ones((1, 2), int)}, "both"),
    ({"token_ids": np.ones(3, int)}, "token_ids"),
    ({"token_ids": np.ones((1, 2))}, "token_ids"),
    ({"token_ids": np.full((1, 2), 97)}, "97 tokens"),
    ({"token_ids": np.full((1, 2), -1)}, "97 tokens"),
    ({"token_ids": np.ones((1, 65), int)}, "at most 64"),
    ({"seed": -3}, "seed"),
    ({"seed": 1 << 64}, "seed"),
    ({"hardware": "hermes-257"}, "hermes-256"),
])  # fmt: skip
def test_requests_that_cannot_be_met(
    options: dict[str, Any], what: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=what):
        aimc_sim.export(folder, tmp_path / "model.aimc", **({"hardware": "ideal"} | options))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_leave_no_file(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.down_proj.weight"][3, 4] = float("nan")
    spoilt = tmp_path / "checkpoint"
    spoilt.mkdir()
    (spoilt / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(state, spoilt / "model.safetensors")
    with pytest.raises(BadInput, match=r"down_proj\.weight.*\(3, 4\)"):
        aimc_sim.export(spoilt, tmp_path / "model.aimc", "ideal")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("stage", ["tensors", "sample", "calibrate"])
def test_an_interrupt_at_any_stage_leaves_no_file(stage: str, folder: Path, tmp_path: Path) -> None:
    def interrupt(name: str, done: int, total: int) -> None:
        if name == stage and 2 * done >= total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        aimc_sim.export(folder, tmp_path / "model.aimc", "ideal", calibration_tokens=32, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
import aimc_sim
def stop(stage, done, total):
    if stage == sys.argv[3] and 2 * done >= total:
        os.kill(os.getpid(), signal.SIGKILL)
aimc_sim.export(sys.argv[1], sys.argv[2], "ideal", calibration_tokens=32, progress=stop)
"""


@pytest.mark.under_load
@pytest.mark.parametrize("stage", ["tensors", "calibrate"])
def test_a_killed_export_leaves_nothing_under_the_final_name(
    stage: str, folder: Path, tmp_path: Path
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(tmp_path / "model.aimc"), stage])
    assert done.returncode == -9
    assert not (tmp_path / "model.aimc").exists()
    assert all(path.suffix == ".partial" for path in tmp_path.iterdir())
    file = aimc_sim.export(folder, tmp_path / "model.aimc", "ideal", calibration_tokens=16)
    assert WeightFile(file.path).verify() == []


def test_an_opened_checkpoint_can_be_exported(tmp_path: Path) -> None:
    save_tiny(tmp_path / "checkpoint", "qwen2")
    opened = open_checkpoint(tmp_path / "checkpoint")
    file = aimc_sim.export(opened, tmp_path / "model.aimc", "ideal", calibration_tokens=0)
    assert not file.tied
    assert file.config["vocab_size"] == tiny_config("qwen2")["vocab_size"]
    assert file.tokenizer() == {}


def test_a_shrunken_gpt2_with_the_tokens_of_the_full_one(tmp_path: Path) -> None:
    save_tiny(tmp_path / "checkpoint", "gpt2", bos_token_id=50256, eos_token_id=50256)
    file = aimc_sim.export(tmp_path / "checkpoint", tmp_path / "model.aimc", "ideal", calibration_tokens=8)
    assert (file.calibration.token_ids[:, 0] == 0).all()


@pytest.mark.under_load
def test_leftovers_of_dead_exports_go_and_those_of_living_ones_stay(folder: Path, tmp_path: Path) -> None:
    from aimc_sim.weightfile.writer import WeightFileWriter, remove_leftovers

    path = tmp_path / "model.aimc"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(path), "tensors"])
    assert done.returncode == -9
    (dead,) = tmp_path.iterdir()
    (tmp_path / "target").write_text("precious")
    others = [".other.aimc.abcdefgh.partial", ".model.aimc.partial", ".model.aimc.b.abcdefgh.partial"]
    for name in others:
        (tmp_path / name).write_text("not ours")
    (tmp_path / ".model.aimc.linklink.partial").symlink_to(tmp_path / "target")
    with WeightFileWriter(path) as living:
        assert not dead.exists()
        assert living._temporary.exists()
        assert remove_leftovers(path) == []
        with WeightFileWriter(path) as second:
            assert second._temporary != living._temporary
            assert living._temporary.exists()
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"target", ".model.aimc.linklink.partial", *others}
    assert (tmp_path / "target").read_text() == "precious"


def test_a_finished_file_is_never_a_leftover(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.aimc"
    aimc_sim.export(folder, path, "ideal", calibration_tokens=0)
    before = path.read_bytes()
    aimc_sim.export(folder, path, "ideal", calibration_tokens=0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
