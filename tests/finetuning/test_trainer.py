"""The trainer: goes on to the bit, keeps what it promises about the folder, and refuses another run's."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.finetuning.evaluation import NoisyLoss
from aimc_sim.finetuning.logs import read_log
from aimc_sim.finetuning.recipe import Recipe
from helpers.runs import STEP, recipe, tensors


def test_a_run_that_goes_on_is_the_run_to_the_last_bit(train: Any, trained: Path, tmp_path: Path) -> None:
    chosen = recipe(average=0.9)
    parts = []
    (tmp_path / "checkpoints" / ".step-00000001").mkdir(parents=True)  # of a process that was killed
    for stop in (3, 2, None):
        options = {"stop_after": stop, "save_every": 2}
        outcome = train(tmp_path, chosen, 8, chips=2, evaluate_every=4, options=options)
        assert outcome.finished == (stop is None)
        parts += outcome.losses
    assert not list((tmp_path / "checkpoints").glob(".*"))
    whole, again = read_log(trained), read_log(tmp_path)
    assert [row["step"] for row in whole] == [row["step"] for row in again]
    for column in ("loss", "learning_rate", "gradient_norm", "clean_loss", "noisy_loss", "tokens"):
        assert [row[column] for row in whole] == [row[column] for row in again], column
    assert [f"{loss:.9g}" for loss in parts] == [row["loss"] for row in whole if row["loss"]]
    first, second = tensors(trained), tensors(tmp_path)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    ranges = [json.loads((folder / "analog.json").read_text())["ranges"] for folder in (trained, tmp_path)]
    assert ranges[0] == ranges[1]


@pytest.mark.under_load
def test_an_interrupted_run_keeps_the_step_that_ran(train: Any, tmp_path: Path) -> None:
    """Ctrl-C in the third step: it is finished and kept, and the run that goes on is the one that was not disturbed."""
    chosen, seen = recipe(), []

    def press(stage: str, done: int, _total: int) -> None:
        if stage == "training":
            seen.append(done // STEP)
            if done == 2 * STEP:
                os.kill(os.getpid(), signal.SIGINT)

    own = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "a", chosen, 5, progress=press)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, own)
    assert [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()] == [f"step-{seen[-1]:08d}"]
    assert seen[-1] in (2, 3)
    rest = train(tmp_path / "a", chosen, 5).losses
    whole = train(tmp_path / "b", chosen, 5).losses
    assert rest == whole[seen[-1] :]


def test_noise_order_and_seed_decide_the_losses(train: Any, trained: Path, tmp_path: Path) -> None:
    """What the test above would also pass without: losses that depend on nothing."""
    seen = [[row["loss"] for row in read_log(trained) if row["loss"]]]
    seen.append([f"{x:.9g}" for x in train(tmp_path / "a", recipe(), 8, seed=1).losses])
    seen.append([f"{x:.9g}" for x in train(tmp_path / "b", recipe(training={"noise": None}), 8).losses])
    assert len({tuple(losses) for losses in seen}) == 3
    assert len(set(seen[0])) == 8


def test_recomputed_activations_change_no_loss(train: Any, tmp_path: Path) -> None:
    losses = [
        train(tmp_path / str(on), recipe(), 3, options={"gradient_checkpointing": on}).losses
        for on in (False, True)
    ]
    assert losses[0] == losses[1]


def test_the_folder_is_plain_and_loads_as_it_is(trained: Path, tiny_checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = {path.name for path in trained.rglob("*") if path.is_file()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "analog.json",
        "hardware.toml",
        "log.csv",
    } <= names
    assert {Path(name).suffix for name in names} <= {
        ".json",
        ".safetensors",
        ".csv",
        ".png",
        ".toml",
        ".jinja",
    }
    model = AutoModelForCausalLM.from_pretrained(trained)
    stored = tensors(trained)
    assert not model.config.tie_word_embeddings
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name]), name
    before = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    moved = stored["model.layers.0.self_attn.q_proj.weight"] - before.model.layers[0].self_attn.q_proj.weight
    assert moved.abs().max() > 1e-4, "it has learned something"
    assert AutoTokenizer.from_pretrained(trained)("ab")["input_ids"]


def test_weights_are_clipped(trained: Path) -> None:
    stored = tensors(trained)
    for name in ("model.layers.0.mlp.down_proj.weight", "lm_head.weight"):
        spread = stored[name].std(dim=1, keepdim=True)
        assert (stored[name].abs() <= 2.5 * spread * 1.05).all(), name
        assert (stored[name].abs().amax(1) > 2.0 * spread[:, 0]).any(), "the bound is not far off"


def test_the_export_holds_the_learned_ranges(trained: Path, tmp_path: Path) -> None:
    from aimc_sim.exporting import export
    from aimc_sim.hardware import Hardware
    from aimc_sim.torch_bridge import load_model

    document = json.loads((trained / "analog.json").read_text())
    assert set(document) == {"format", "schema", "ranges", "hardware", "run", "run_id"}
    chip = Hardware.load(trained / "hardware.toml")
    assert chip.model_dump(mode="json") == document["hardware"]
    weights = export(trained, tmp_path / "trained.h5", chip, calibration_tokens=16)
    assert len(weights.matrices) == len(document["ranges"]) == 15
    for matrix in weights.matrices:
        found = weights.ranges(matrix.name)
        assert found is not None
        assert np.array_equal(found, np.float32(document["ranges"][matrix.name])), matrix.name
    with torch.no_grad():
        logits = load_model(weights, seed=3)(input_ids=torch.arange(6)[None]).logits
    assert torch.isfinite(logits).all()


def test_without_noise_and_converters_there_is_nothing_to_learn(train: Any, tmp_path: Path) -> None:
    bare = recipe(
        converters="none", training={"noise": None, "clip_sigma": None}, optimizer={"weight_decay": 0.0}
    )
    assert abs(train(tmp_path, bare, 1).losses[0]) < 1e-6, "the student begins as its teacher"


def test_training_wins_back_what_few_bits_cost(train: Any, tmp_path: Path) -> None:
    qat = recipe(
        converters="inputs", training={"noise": None, "clip_sigma": None, "weight_bits": 3},
        optimizer={"learning_rate": 4e-3},
    )  # fmt: skip
    losses = train(tmp_path, qat, 40).losses
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_forwards_of_a_step_add_up(train: Any, tmp_path: Path) -> None:
    quiet = recipe(training={"noise": None})
    whole = train(tmp_path / "a", quiet, 3).losses
    parts = train(tmp_path / "b", quiet, 3, options={"micro": 2}).losses
    assert np.allclose(whole, parts, rtol=2e-3)
    with pytest.raises(BadInput, match="multiple of both"):
        train(tmp_path / "c", quiet, 3, options={"micro": 3})


def test_the_decay_of_a_range_is_shared_by_the_forwards_of_a_step(train: Any, tmp_path: Path) -> None:
    """Ranges that no input reaches: only their decay moves them, and two forwards give as much of it as one."""
    quiet = recipe(
        training={"noise": None, "range_decay": 0.5, "range_unclipped": 0.0},
        optimizer={
            "learning_rate": 1e-2,
            "range_rate": 1.0,
            "eps": 10.0,
            "gradient_norm": False,
            "warmup": 0.0,
        },
    )  # Adam with an eps above every gradient follows the gradient's size, not its sign alone
    found = []
    for micro in (4, 2, 1):
        train(tmp_path / str(micro), quiet, 3, options={"micro": micro})
        ranges = json.loads((tmp_path / str(micro) / "analog.json").read_text())["ranges"]
        found.append(np.concatenate([ranges[name] for name in sorted(ranges)]))
    begun = Recipe.load(
        {"base": "range-only", "sequences": 4, "length": 16, "training": {"range_forwards": 2}}
    )
    train(tmp_path / "begun", begun, 1)
    ranges = json.loads((tmp_path / "begun" / "analog.json").read_text())["ranges"]
    start = np.concatenate([ranges[name] for name in sorted(ranges)])
    moved = [start - after for after in found]
    assert (np.abs(moved[0]) > 1e-4 * start).mean() > 0.9, "the decay is seen"
    assert np.allclose(moved[0], moved[1], rtol=0.05)
    assert np.allclose(moved[0], moved[2], rtol=0.05)


def test_the_folder_of_a_quantised_model_holds_what_was_trained(
    train: Any, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """llm-qat: weights on their 15 steps, the embedding as it is, a chip without ADC."""
    from aimc_sim.hardware import Hardware

    qat = Recipe.load({"base": "llm-qat", "sequences": 4, "length": 16, "training": {"range_forwards": 2}})
    train(tmp_path, qat, 2)
    after = tensors(tmp_path)
    weight = after["model.layers.0.mlp.down_proj.weight"]
    codes = weight / weight.abs().amax(dim=1, keepdim=True) * 7
    assert (codes - codes.round()).abs().max() < 1e-4
    assert len(codes.round().unique()) > 7
    assert len(after["model.embed_tokens.weight"].unique()) > 1000
    chip = Hardware.load(tmp_path / "hardware.toml")
    assert chip.adc is None
    assert chip.dac is not None


def test_ranges_begin_row_by_row_under_noise_of_their_own(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aimc_sim.torch_bridge.training import steps as training_steps

    seen: list[tuple[int, int]] = []
    real = training_steps.set_step

    def spy(model: Any, step: int, *, seed: int | None = None) -> None:
        seen.append((step, 0))
        real(model, step, seed=seed)

    for caller in ("student", "trainer"):
        monkeypatch.setattr(f"aimc_sim.finetuning.{caller}.set_step", spy)
    said: list[tuple[str, int, int]] = []
    train(tmp_path, recipe(training={"range_forwards": 3}), 2, progress=lambda *words: said.append(words))
    steps = [step for step, _ in seen]
    assert steps[:3] == [2**32 - 1, 2**32 - 2, 2**32 - 3]
    assert steps[3:] == [1, 5]
    assert [words for words in said if words[0] == "ranges"] == [("ranges", i, 3) for i in (1, 2, 3)]


def test_a_cached_teacher_answers_a_shard_that_has_grown(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from aimc_sim.finetuning.models import load_plain, open_for_training
    from aimc_sim.finetuning.rows import TokenRows
    from aimc_sim.finetuning.sampler import plan_for
    from aimc_sim.finetuning.shards import sample_rows_to
    from aimc_sim.finetuning.teacher import CachedTeacher

    model = load_plain(open_for_training(tiny_checkpoint)).eval()
    plan = plan_for(model, length=16, sequences=8, batch=4)
    for rows in (4, 8):
        sample_rows_to(model, tmp_path / "tokens", plan, rows)
        cached = CachedTeacher.of(model, TokenRows(tmp_path / "tokens"), tmp_path / "teacher", 5, 1.0)
        values, _ = cached.take([rows - 1], 16)
        assert values.shape == (1, 16, 6)
    before = cached.take([5], 16)[1]
    other = plan_for(model, length=16, sequences=8, batch=4, seed=1)
    shutil.rmtree(tmp_path / "tokens")
    sample_rows_to(model, tmp_path / "tokens", other, 8)
    changed = TokenRows(tmp_path / "tokens")
    changed.plan = plan.model_dump(mode="json")  # as of an index beside shards that are another's
    found = CachedTeacher.of(model, changed, tmp_path / "teacher", 5, 1.0).take([5], 16)[1]
    assert not torch.equal(found, before), "as many rows, and other tokens"


def test_a_cached_teacher_teaches_the_same(train: Any, tmp_path: Path) -> None:
    quiet = {"training": {"noise": None}}
    asked = train(tmp_path / "a", recipe(**quiet), 3).losses
    cached = train(tmp_path / "b", recipe(loss={"top_k": 257}, **quiet), 3).losses
    assert cached[0] == pytest.approx(asked[0], rel=5e-3), "stored in half precision"
    assert np.allclose(asked, cached, rtol=0.2)
    assert (tmp_path / "b" / "teacher" / "teacher-000001.safetensors").is_file()


def test_only_the_ranges(train: Any, tmp_path: Path, tiny_checkpoint: Path) -> None:
    ranged = Recipe.load(
        {"base": "range-only", "sequences": 4, "length": 16, "training": {"range_forwards": 3}}
    )
    outcome = train(tmp_path, ranged, 2)
    assert outcome.losses == []
    assert isinstance(outcome.last, NoisyLoss)
    ranges = json.loads((tmp_path / "analog.json").read_text())["ranges"]
    assert len(ranges) == 15
    assert all(value > 0 for values in ranges.values() for value in values)
    from safetensors.torch import load_file

    before = load_file(tiny_checkpoint / "model.safetensors")
    assert all(torch.equal(value, tensors(tmp_path)[name]) for name, value in before.items())


def test_the_saved_average_is_the_one_that_was_scored(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An average of clipped weights is clipped once more, at its own deviation, in the folder and on the chips."""
    from aimc_sim.finetuning import trainer

    scored: dict[str, torch.Tensor] = {}

    def keep(model: Any, *_: Any, **__: Any) -> NoisyLoss:
        scored.update({key: value.clone() for key, value in model.state_dict().items()})
        return NoisyLoss(0.0, (0.0,))

    monkeypatch.setattr(trainer, "noisy_loss", keep)
    train(tmp_path, recipe(average=0.9, training={"clip_sigma": 1.5}), 3)
    for name, value in tensors(tmp_path).items():
        assert torch.equal(value, scored[name]), name
