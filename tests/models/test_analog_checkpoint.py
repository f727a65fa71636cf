"""Analog checkpoints of aihwkit-lightning: tensors are read, ranges are used, and no pickle of theirs runs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aimc_sim import WeightFile, program
from aimc_sim.errors import BadInput
from aimc_sim.exporting import export
from aimc_sim.models import open_checkpoint
from aimc_sim.models.analog_checkpoint import PRESETS, AnalogReader, load_tensors

Q = "model.layers.0.self_attn.q_proj"
SHARD = "pytorch_model-00001-of-00002.bin"
CONFIGS = "aihwkit_lightning.simulator.configs.configs"


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def analog_state(folder: Path, tiles: int = 1) -> dict[str, torch.Tensor]:
    """The state dict of a folder's model as aihwkit-lightning 2.1.0 names it after training: half precision, every
    Linear analog, the head a matrix of its own."""
    state = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"] * 0.5
    for index, name in enumerate([n for n in state if n.endswith("_proj.weight") or n.startswith("lm_head")]):
        prefix = name.removesuffix("weight")
        state[prefix + "input_range"] = (torch.arange(1, tiles + 1) + index / 8).half()
        state[prefix + "input_range_update_idx"] = torch.full((tiles,), 500.0).half()
        state[prefix + "x_min"] = torch.full((tiles,), -1e-5).half()
        state[prefix + "x_max"] = torch.full((tiles,), 1e-5).half()
    return state


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """An analog checkpoint in two shards, as it is published: with an index, and a pickle called rpu_config."""
    where = tmp_path / "analog"
    where.mkdir()
    for path in tiny_checkpoint.iterdir():
        if path.suffix == ".json":
            (where / path.name).write_bytes(path.read_bytes())
    state = analog_state(tiny_checkpoint)
    names = list(state)
    parts = {
        "pytorch_model-00001-of-00002.bin": names[: len(names) // 2],
        "pytorch_model-00002-of-00002.bin": names[len(names) // 2 :],
    }
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, where / file)
    index = {name: file for file, part in parts.items() for name in part}
    (where / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (where / "rpu_config").write_bytes(pickle.dumps(Trap(tmp_path / "sprung by rpu_config")))
    return where


def merged(folder: Path, **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """All tensors in one file instead, some changed or taken away; dots are written as double underscores."""
    state: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("pytorch_model*")):
        if path.suffix == ".bin":
            state |= torch.load(path, weights_only=True)
        path.unlink()
    for key, value in changes.items():
        state.pop(key.replace("__", "."), None)
        if value is not None:
            state[key.replace("__", ".")] = value
    torch.save(state, folder / "pytorch_model.bin")
    return state


def test_every_tensor_and_range_is_read_bit_for_bit(folder: Path, tiny_checkpoint: Path) -> None:
    opened, wanted = open_checkpoint(folder), analog_state(tiny_checkpoint)
    found = {tensor.name: tensor for tensor in opened.tensors()}
    assert set(found) == {name for name in wanted if name.endswith("weight")}
    for name, tensor in found.items():
        assert tensor.dtype == "float16"
        np.testing.assert_array_equal(tensor.bits, wanted[name].numpy())
    assert set(opened.ranges) == {item.name for item in opened.candidates}
    assert opened.ranges[Q].dtype == np.float32
    for name, beta in opened.ranges.items():
        np.testing.assert_array_equal(beta, wanted[f"{name}.input_range"].float().numpy())
    assert [file["name"] for file in opened.source["files"]] == [
        f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)
    ]
    assert "tokenizer.json" in opened.tokenizer_files


def test_an_analog_head_is_a_matrix_of_its_own(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    opened = open_checkpoint(folder)
    assert not opened.config["tie_word_embeddings"]
    assert opened.tied == {}
    assert "lm_head.weight" in opened.infos


def test_a_digital_head_stays_tied(folder: Path) -> None:
    gone = [
        f"lm_head__{leaf}" for leaf in ("weight", "input_range", "input_range_update_idx", "x_min", "x_max")
    ]
    merged(folder, **dict.fromkeys(gone))
    opened = open_checkpoint(folder)
    assert opened.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert "lm_head" not in opened.ranges


def test_no_pickle_of_the_folder_runs(folder: Path, tmp_path: Path) -> None:
    open_checkpoint(folder)
    assert not list(tmp_path.glob("sprung*"))
    torch.save(
        {"weight": Trap(tmp_path / "sprung by torch.load")}, folder / "pytorch_model-00001-of-00002.bin"
    )
    with pytest.raises(BadInput, match="could run code"):
        open_checkpoint(folder)
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(
        pickle.dumps(Trap(tmp_path / "sprung by pickle"))
    )
    with pytest.raises(BadInput, match="could run code"):
        open_checkpoint(folder)
    assert not list(tmp_path.glob("sprung*"))


def test_the_trap_would_have_sprung(folder: Path, tmp_path: Path) -> None:
    program = f"import pickle; pickle.load(open({str(folder / 'rpu_config')!r}, 'rb'))"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "sprung by rpu_config").is_dir()


@pytest.fixture
def peer_classes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A configuration class under the peer's name, for saving only; its code would spring a trap."""
    module = types.ModuleType(CONFIGS)
    config = type("TorchInferenceRPUConfig", (), {"__module__": CONFIGS})
    module.TorchInferenceRPUConfig = config  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for index in range(len(CONFIGS.split("."))):
            name = ".".join(CONFIGS.split(".")[: index + 1])
            patch.setitem(sys.modules, name, module)
        yield config


def test_the_configuration_in_metadata_is_dropped(folder: Path, peer_classes: Any, tmp_path: Path) -> None:
    state = OrderedDict(merged(folder))
    config = peer_classes()
    config.trap = "any attribute"
    state._metadata = OrderedDict({"": {"version": 1}, "lm_head": {"rpu_config": config}})  # type: ignore[attr-defined]
    torch.save(state, folder / "pytorch_model.bin")

    def spring(*_: Any) -> None:
        raise AssertionError("the configuration's own code ran")

    peer_classes.__init__ = peer_classes.__setstate__ = spring
    with pytest.raises(pickle.UnpicklingError):
        torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert set(load_tensors(folder / "pytorch_model.bin")) == set(state)
    assert open_checkpoint(folder).ranges[Q].shape == (1,)


def test_a_class_of_anybody_elses_is_refused(folder: Path) -> None:
    state = OrderedDict(merged(folder))
    state._metadata = OrderedDict({"": {"rpu_config": types.SimpleNamespace(a=1)}})  # type: ignore[attr-defined]
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="SimpleNamespace"):
        open_checkpoint(folder)


def test_it_runs_on_a_chip_with_its_learned_ranges(folder: Path, tmp_path: Path) -> None:
    file = export(folder, tmp_path / "analog.h5", PRESETS["llama"], calibration_tokens=64)
    assert file.ranges(Q) is not None
    chip = program(file, seed=3)
    for name, beta in open_checkpoint(folder).ranges.items():
        np.testing.assert_array_equal(file.ranges(name), beta)
        np.testing.assert_array_equal(chip.ranges[name].input_range, beta)
    np.testing.assert_array_equal(WeightFile(tmp_path / "analog.h5").ranges(Q), file.ranges(Q))


@pytest.mark.parametrize(
    ("beta", "why"),
    [
        (torch.tensor([0.0]), "above 0"),
        (torch.tensor([float("nan")]), "finite"),
        (torch.tensor(1.0), "one number a row tile"),
        (torch.ones(1, 1), "one number a row tile"),
        (torch.ones(1, dtype=torch.int64), "one number a row tile"),
    ],
)
def test_ranges_that_no_converter_has(folder: Path, beta: torch.Tensor, why: str) -> None:
    merged(folder, **{f"{Q}.input_range".replace(".", "__"): beta})
    with pytest.raises(BadInput, match=why):
        open_checkpoint(folder)


def test_what_else_is_refused(folder: Path) -> None:
    (folder / "pytorch_model-00002-of-00002.bin").rename(folder / "away")
    with pytest.raises(BadInput, match="shard is missing"):
        open_checkpoint(folder)
    (folder / "pytorch_model.bin.index.json").unlink()
    with pytest.raises(BadInput, match="00002-of-00002"):
        open_checkpoint(folder)
    (folder / "away").rename(folder / "pytorch_model-00002-of-00002.bin")
    assert open_checkpoint(folder).ranges  # the series is complete without an index
    state = merged(folder)
    for key, why in (
        ("x.analog_module.weight", "aihwkit"),
        (f"{Q}.learnable_weight_clip", "quantize_weights"),
    ):
        torch.save({**state, key: torch.ones(2)}, folder / "pytorch_model.bin")
        with pytest.raises(BadInput, match=why):
            open_checkpoint(folder)
    torch.save({**state, f"{Q}.weight": state[f"{Q}.weight"].double()}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="float64"):
        open_checkpoint(folder)
    torch.save([1], folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="no table of tensors"):
        open_checkpoint(folder)
    torch.save({k: v for k, v in state.items() if "range" not in k}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"a pickle, and it holds no analog ranges \(input_range\)"):
        open_checkpoint(folder)


def test_an_index_must_not_lead_out_of_the_folder(folder: Path) -> None:
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": {"a": "../elsewhere.bin"}})
    )
    with pytest.raises(BadInput, match="own folder"):
        open_checkpoint(folder)
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    with pytest.raises(BadInput, match="no weight_map"):
        open_checkpoint(folder)


def test_safetensors_are_preferred(folder: Path, tiny_checkpoint: Path) -> None:
    (folder / "model.safetensors").write_bytes((tiny_checkpoint / "model.safetensors").read_bytes())
    assert open_checkpoint(folder).ranges == {}


def test_the_old_file_format_and_bfloat16(folder: Path) -> None:
    state = {name: value.bfloat16() for name, value in merged(folder).items()}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    opened = open_checkpoint(folder)
    tensor = next(tensor for tensor in opened.tensors() if tensor.name == f"{Q}.weight")
    assert tensor.dtype == "bfloat16"
    np.testing.assert_array_equal(tensor.bits.view(np.int16), state[f"{Q}.weight"].view(torch.int16).numpy())


def test_each_release_has_the_preset_that_it_was_trained_for(folder: Path) -> None:
    from aimc_sim import Hardware

    assert AnalogReader(folder).preset == "afm-llama"
    for name in PRESETS.values():
        assert Hardware.load(name).tile.rows is None


def test_the_hub_is_asked_for_tensors_and_never_for_the_pickle(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert open_checkpoint("ibm-aimc/analog-Llama-3.2-1B-Instruct").ranges
    assert [any(fnmatch(SHARD, pattern) for pattern in patterns) for patterns in asked] == [False, True]
    assert not any(fnmatch("rpu_config", pattern) for patterns in asked for pattern in patterns)
