"""Shards: the same bits whichever others exist, whole or not there, and one order of rows for each epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.finetuning.data_plan import SamplePlan
from aimc_sim.finetuning.rows import TokenRows, order_of
from aimc_sim.finetuning.shards import read_shard, rows_for, sample_rows_to, sample_shards, shard_path


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    from aimc_sim.finetuning.models import load_plain, open_for_training

    return load_plain(open_for_training(tiny_checkpoint)).eval()


@pytest.fixture(scope="module")
def plan(model: Any) -> SamplePlan:
    from aimc_sim.finetuning.sampler import plan_for

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

    from aimc_sim.finetuning.sampler import plan_for, sample_rows

    plan = plan_for(model, length=10, sequences=3, batch=2, temperature=1e-4, top_k=None, seed=1)
    tokens = sample_rows(model, plan, np.arange(3))
    with torch.no_grad():
        best = model(input_ids=torch.from_numpy(tokens.astype(np.int64))).logits.argmax(-1).numpy()
    assert np.array_equal(tokens[:, 1:], best[:, :-1])


def test_top_k_leaves_the_rest_out(model: Any) -> None:
    import torch

    from aimc_sim.finetuning.sampler import _pick
    from aimc_sim.torch_bridge.sampling import pick, uniforms

    logits = torch.from_numpy(np.cos(np.arange(7 * 258, dtype=np.float32) ** 1.5).reshape(7, 258))
    logits[:, 40:60] = 0.9990234375  # equals at the edge: the lower ids stay
    draws = uniforms(np.arange(7), 1, 5)
    for k in (1, 3, 30, None, 258):
        assert np.array_equal(_pick(logits, draws, 0.7, k), pick(logits.numpy(), draws, 0.7, k)), k


def test_another_plan_is_refused(model: Any, plan: SamplePlan, tmp_path: Path) -> None:
    sample_shards(model, tmp_path, plan, 1)
    other = plan.model_copy(update={"seed": 4})
    with pytest.raises(BadInput, match=r"seed was 3 and is 4"):
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


def test_as_many_rows_as_were_asked_for(model: Any, plan: SamplePlan, tmp_path: Path) -> None:
    """The last shard ends with the last row, and more rows go on from there: the bits of whole shards all the same."""
    assert [rows_for(tokens, 12) for tokens in (1, 12, 13)] == [1, 1, 2]
    with pytest.raises(BadInput, match="nothing to sample"):
        rows_for(0, 12)
    whole = [read_shard(path) for path in sample_shards(model, tmp_path / "whole", plan, 2)]
    seen: list[tuple[int, int]] = []
    for rows in (3, 5, 11, 4):
        paths = sample_rows_to(
            model, tmp_path / "some", plan, rows, progress=lambda _s, done, total: seen.append((done, total))
        )
        assert seen[-1] == (rows * 12, rows * 12)
        kept = max(rows, 11) if rows == 4 else rows  # what is there stays
        found = TokenRows(tmp_path / "some")
        assert len(found) == kept
        assert len(paths) == -(-rows // 6)
        for i in range(kept):
            assert np.array_equal(found[i], whole[i // 6][i % 6])
