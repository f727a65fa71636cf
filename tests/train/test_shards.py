"""Shards: the same bits whichever others exist, whole or not there, and one order of rows for each epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.train.shards import (
    SamplePlan,
    TokenRows,
    order_of,
    read_shard,
    sample_shards,
    shard_path,
    shards_for,
)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    from aimc_sim.train.models import load_plain, open_for_training

    return load_plain(open_for_training(tiny_checkpoint)).eval()


@pytest.fixture(scope="module")
def plan(model: Any) -> SamplePlan:
    from aimc_sim.train.sampler import plan_for

    return plan_for(model, length=12, sequences=6, batch=4, top_k=20, seed=3)


def test_a_shard_is_the_same_alone_and_among_others(model: Any, plan: SamplePlan, tmp_path: Path) -> None:
    together = sample_shards(model, tmp_path / "all", plan, 3)
    # The third alone, by a process that takes only that one.
    alone = sample_shards(model, tmp_path / "one", plan, 3, part=(2, 3))
    assert [path.name for path in alone] == ["tokens-000002.safetensors"]
    assert alone[0].read_bytes() == together[2].read_bytes()
    first, second = (read_shard(path) for path in together[:2])
    assert first.shape == (6, 12)
    assert (first[:, 0] == plan.bos_id).all()
    assert not np.array_equal(first, second)
    assert len({row.tobytes() for row in np.concatenate([first, second])}) == 12


def test_sampling_goes_on_and_mends_what_is_damaged(model: Any, plan: SamplePlan, tmp_path: Path) -> None:
    paths = sample_shards(model, tmp_path, plan, 2)
    wanted = [path.read_bytes() for path in paths]
    kept = paths[0].stat().st_mtime_ns
    paths[1].write_bytes(wanted[1][:-5])
    again = sample_shards(model, tmp_path, plan, 3)
    assert [path.read_bytes() for path in again[:2]] == wanted
    assert paths[0].stat().st_mtime_ns == kept, "a whole shard is not made again"
    assert len(TokenRows(tmp_path)) == 18
    assert not list(tmp_path.glob(".*")), "no drafts are left"


def test_every_token_follows_the_models_probabilities(model: Any, tmp_path: Path) -> None:
    """At a temperature near 0 sampling takes the most likely token, computed here without any cache."""
    import torch

    from aimc_sim.train.sampler import plan_for, sample_rows

    plan = plan_for(model, length=10, sequences=3, batch=2, temperature=1e-4, top_k=None, seed=1)
    tokens = sample_rows(model, plan, np.arange(3))
    with torch.no_grad():
        best = model(input_ids=torch.from_numpy(tokens.astype(np.int64))).logits.argmax(-1).numpy()
    assert np.array_equal(tokens[:, 1:], best[:, :-1])


def test_top_k_leaves_the_rest_out(model: Any) -> None:
    import torch

    from aimc_sim.sampling import pick, uniforms
    from aimc_sim.train.sampler import _pick

    logits = torch.from_numpy(np.cos(np.arange(7 * 258, dtype=np.float32) ** 1.5).reshape(7, 258))
    logits[:, 40:60] = 0.9990234375  # equals at the edge: the lower ids stay
    draws = uniforms(np.arange(7), 1, 5)
    for k in (1, 3, 30, None, 258):
        assert np.array_equal(_pick(logits, draws, 0.7, k), pick(logits.numpy(), draws, 0.7, k)), k


def test_another_plan_is_refused(model: Any, plan: SamplePlan, tmp_path: Path) -> None:
    sample_shards(model, tmp_path, plan, 1)
    other = plan.model_copy(update={"seed": 4})
    with pytest.raises(BadInput, match=r"seed = 3 there, 4 asked for"):
        sample_shards(model, tmp_path, other, 1)
    (tmp_path / "tokens.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="not valid JSON"):
        TokenRows(tmp_path)
    with pytest.raises(BadInput, match="aimc-sim sample"):
        TokenRows(tmp_path / "nothing")


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps({"format": "other", "plan": {}}), encoding="utf-8")
    with pytest.raises(BadInput, match="not an index"):
        TokenRows(tmp_path)


def test_rows_come_in_an_order_of_each_epoch(model: Any, plan: SamplePlan, tmp_path: Path) -> None:
    sample_shards(model, tmp_path, plan, 2)
    rows = TokenRows(tmp_path)
    epochs = [rows.indices(12 * epoch, 12, seed=0) for epoch in range(2)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert rows.indices(5, 14, seed=0) == (epochs[0] + epochs[1])[5:19], "cut anywhere, across epochs too"
    assert rows.indices(0, 12, seed=1) != epochs[0]
    assert set(rows.indices(0, 30, seed=0, among=3)) == {0, 1, 2}
    table = rows.take([7, 0], 5)
    assert table.shape == (2, 5)
    assert np.array_equal(table[0].numpy(), read_shard(shard_path(tmp_path, 1))[1, :5])


def test_orders_are_permutations_of_their_own() -> None:
    assert sorted(order_of(100, 2, 9)) == list(range(100))
    assert not np.array_equal(order_of(100, 2, 9), order_of(100, 3, 9))


def test_whole_shards_are_counted(plan: SamplePlan) -> None:
    assert [shards_for(tokens, plan) for tokens in (1, 72, 73)] == [1, 1, 2]
    with pytest.raises(BadInput, match="nothing to sample"):
        shards_for(0, plan)


def test_text_becomes_rows(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from aimc_sim.train.models import open_for_training
    from aimc_sim.train.texts import shards_of_text

    text = tmp_path / "text.txt"
    text.write_text("abcdefghij" * 9, encoding="utf-8")
    shards_of_text(
        open_for_training(tiny_checkpoint), str(text), tmp_path / "t", tokens=64, length=8, sequences=5
    )
    rows = TokenRows(tmp_path / "t")
    assert len(rows) == 8
    assert rows.length == 8
    flat = np.stack([rows[i] for i in range(len(rows))])
    assert flat.shape == (8, 8)
    with pytest.raises(BadInput, match="shorter length"):
        shards_of_text(open_for_training(tiny_checkpoint), str(text), tmp_path / "u", tokens=64, length=200)
