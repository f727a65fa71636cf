"""What the trainer refuses, before anything is written, and what it leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.finetuning.logs import Log, read_log
from aimc_sim.finetuning.recipe import Recipe
from helpers.runs import CHIP, recipe


def test_rows_that_are_too_short_are_refused(train: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="rows of 16 tokens"):
        train(tmp_path, recipe(length=32), 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from aimc_sim.finetuning.models import require

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BadInput, match=r"aimc-sim\[train\]"):
        require("peft", "the recipe's adapter")


def test_a_context_without_a_text_is_refused(train: Any, tmp_path: Path) -> None:
    """It would cut nothing, and still make another run of the same numbers."""
    with pytest.raises(BadInput, match="none is given"):
        train(tmp_path / "new", recipe(), 1, context=16)
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_refused_writes_nothing(train: Any, trained: Path, tmp_path: Path) -> None:
    """Neither a folder for hardware that is not simulated, nor a teacher's cache beside another run's checkpoints."""
    with pytest.raises(BadInput, match="does not simulate"):
        train(tmp_path / "new", recipe(), 1, hardware={**CHIP, "dac": {**CHIP["dac"], "mode": "bit_serial"}})  # type: ignore[dict-item]
    assert not (tmp_path / "new").exists()
    before = sorted(trained.iterdir())
    with pytest.raises(BadInput, match="run of other settings"):
        train(trained, recipe(loss={"top_k": 4}), 8)
    assert sorted(trained.iterdir()) == before


def test_a_folder_keeps_one_run(train: Any, tmp_path: Path) -> None:
    train(tmp_path, recipe(), 2)
    with pytest.raises(BadInput, match=r"run of other settings: recipe.training.gamma was 0.03 and is 0.05"):
        train(tmp_path, recipe(training={"gamma": 0.05}), 2)
    again = train(tmp_path, recipe(), 2)
    assert again.losses == [], "a finished run has nothing left to do"


def test_a_folder_with_a_model_of_its_own_is_left_alone(train: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="did not write"):
        train(tmp_path, recipe(), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_gradient_that_is_not_finite_reaches_no_checkpoint(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a: norm(*a) * float("nan"))
    with pytest.raises(BadInput, match="gradient norm nan in step 1"):
        train(tmp_path, recipe(), 2, options={"save_every": 1})
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "model.safetensors").exists()


def test_a_token_that_the_model_does_not_know_is_found_in_any_shard(
    train: Any, data: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    from aimc_sim.finetuning.rows import TokenRows
    from aimc_sim.finetuning.shards import shard_path

    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    late = shard_path(copy, 1)
    tokens = load_file(late)["tokens"]
    tokens[0, 3] = 258
    save_file({"tokens": tokens}, late)
    with pytest.raises(BadInput, match="token 258 in tokens-000001"):
        train(tmp_path / "out", recipe(), 8, data=TokenRows(copy))


def test_a_log_begins_anew_where_no_checkpoint_is(tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint has logged its step 0, and does so again."""
    for _ in range(2):
        log = Log(tmp_path, tensorboard=False)
        log.write(0, noisy_loss=2.0)
        log.write(1, loss=3.0)
    assert [row["step"] for row in read_log(tmp_path)] == ["0", "1"]
    Log(tmp_path, step=1, tensorboard=False).write(2, loss=1.0)
    assert [row["step"] for row in read_log(tmp_path)] == ["0", "1", "2"]


def test_only_the_ranges_can_be_asked_for_again(train: Any, tmp_path: Path) -> None:
    """Such a run leaves no checkpoint; the same command gives the same folder, another one is refused."""
    ranged = {"base": "range-only", "sequences": 4, "length": 16, "training": {"range_forwards": 1}}
    train(tmp_path, Recipe.load(ranged), 1)
    before = (tmp_path / "analog.json").read_bytes()
    train(tmp_path, Recipe.load(ranged), 1)
    assert (tmp_path / "analog.json").read_bytes() == before
    with pytest.raises(BadInput, match="this run did not write"):
        train(tmp_path, Recipe.load(ranged), 1, seed=1)
