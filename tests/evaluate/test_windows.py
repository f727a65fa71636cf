"""Which tokens count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.windows import Windows, cut, default_batch, from_sequences


def test_without_bos_the_first_token_of_each_window_is_context() -> None:
    windows = cut(range(10), 4)
    assert [row.tolist() for row in windows.rows] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert windows.scored_tokens == 3 + 3 + 1


def test_with_bos_every_token_of_the_text_is_scored() -> None:
    windows = cut(range(10), 4, bos=99)
    assert [row.tolist() for row in windows.rows] == [[99, 0, 1, 2], [99, 3, 4, 5], [99, 6, 7, 8], [99, 9]]
    assert windows.scored_tokens == 10


def test_a_rest_without_a_scored_token_is_dropped() -> None:
    assert [row.tolist() for row in cut(range(9), 4).rows] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(st.integers(2, 200), st.integers(2, 40), st.booleans(), st.integers(1, 7))
def test_batches_cover_every_window_once_in_order_without_padding(
    n: int, context: int, bos: bool, batch: int
) -> None:
    windows = cut(range(n), context, bos=1000 if bos else None)
    seen: list[list[int]] = []
    for where, rows in windows.batches(batch):
        assert 1 <= len(rows) <= batch
        assert where == slice(len(seen), len(seen) + len(rows))
        seen += rows.tolist()
    assert seen == [row.tolist() for row in windows.rows]
    if bos:
        assert [token for row in seen for token in row[1:]] == list(range(n))


def test_the_id_sees_tokens_and_cuts() -> None:
    first = cut(range(12), 4)
    assert first.id == cut(np.arange(12, dtype=np.int64), 4).id
    assert len({first.id, cut(range(12), 6).id, cut(range(1, 13), 4).id}) == 3


def test_sequences_are_windows() -> None:
    assert from_sequences(np.arange(6).reshape(2, 3)).scored_tokens == 4
    with pytest.raises(BadInput, match="sequences"):
        from_sequences(np.zeros((3, 1), dtype=np.int32))


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(BadInput, match="context"):
        cut(range(10), 1)
    with pytest.raises(BadInput, match="no token to score"):
        cut([5], 8)
    assert len(Windows(())) == 0


def test_default_batches_hold_about_a_thousand_tokens() -> None:
    assert (default_batch(128), default_batch(1024), default_batch(4096)) == (8, 1, 1)
