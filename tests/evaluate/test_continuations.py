"""Likelihoods with shared contexts equal those one by one; texts that step together equal those that step alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.evaluate import continuations
from aimc_sim.evaluate.completions import completions, together
from aimc_sim.evaluate.continuations import forwards, likelihoods, trees_of
from aimc_sim.evaluate.generate import stream_tokens
from aimc_sim.hardware import Hardware
from aimc_sim.torch_bridge import load_digital, load_model
from aimc_sim.weightfile import WeightFile

# Contexts of several lengths, each followed by continuations of one to five tokens.
REQUESTS = [
    (list(range(40 + 7 * n, 52 + 9 * n)), list(range(100 + 11 * n + k, 101 + 11 * n + 2 * k)))
    for n in range(4)
    for k in range(1 + n)
] + [([7], [8, 9])]


@pytest.fixture(scope="module")
def weights(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


@pytest.fixture(scope="module")
def noisy(weights: WeightFile) -> Any:
    """A chip that draws fresh noise in every product."""
    tables = Hardware.load("hermes-256").model_dump(mode="json")
    return load_model(weights, seed=1, time=60.0, hardware={**tables, "read_noise": {"sigma": 0.05}})


def one_by_one(model: Any, requests: Any) -> tuple[np.ndarray, list[bool]]:
    log, greedy = [], []
    for context, continuation in requests:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*context, *continuation]])).logits[0].log_softmax(-1)
        rows = logits[len(context) - 1 : -1]
        log.append(float(rows.gather(-1, torch.tensor(continuation)[:, None]).sum()))
        greedy.append(rows.argmax(-1).tolist() == continuation)
    return np.array(log), greedy


def test_a_shared_context_changes_no_likelihood(weights: WeightFile) -> None:
    model = load_digital(weights)
    best = likely(model, [3, 4, 5], 3)
    requests = [*REQUESTS, ([3, 4, 5], best), ([3, 4, 5], [best[0], best[0] ^ 1])]
    log, greedy = one_by_one(model, requests)
    for tokens in (1024, 24, 1):
        found = likelihoods(model, requests, tokens)
        assert np.allclose(found.log, log, atol=1e-4)
        assert found.greedy.astype(bool).tolist() == greedy
    assert greedy[-2:] == [True, False]


def likely(model: Any, context: list[int], count: int) -> list[int]:
    return list(stream_tokens(model, context, count))


def test_each_context_is_read_once_and_the_head_sees_only_what_predicts(weights: WeightFile) -> None:
    model, read, headed = load_digital(weights), [], []
    model.model.layers[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[:2].numel()))
    model.lm_head.register_forward_hook(lambda _, args, out: headed.append(out.shape[:2].numel()))
    context = list(range(30))
    likelihoods(model, [(context, [n, n + 1, n + 2]) for n in range(4)])
    assert read == [30 + 4 * 2]
    assert headed == [1 + 4 * 2]
    read.clear()
    likelihoods(model, [(context, [n]) for n in range(26)])
    assert read == [30], "letters are all in one row of logits"


def test_rows_are_grouped_by_length_and_split_where_they_get_too_wide() -> None:
    trees = trees_of(REQUESTS)
    groups = list(forwards(trees, 40))
    assert sorted(place for group in groups for tree in group for place in tree.places) == list(
        range(len(REQUESTS))
    )
    widths = [[tree.width for tree in group] for group in groups]
    assert all(len(group) == 1 or len(group) * group[0] <= 40 for group in widths)
    assert [width for group in widths for width in group] == sorted(
        (width for group in widths for width in group), reverse=True
    )
    wide = trees_of([([1, 2, 3], list(range(9))) for _ in range(5)], tokens=20)
    assert [len(tree.continuations) for tree in wide] == [2, 2, 1]


def test_a_context_loses_its_first_tokens_where_positions_end() -> None:
    (tree,) = trees_of([(list(range(20)), [1, 2, 3])], longest=10)
    assert tree.context == tuple(range(12, 20))
    assert tree.width == 10
    for requests, longest in (([([], [1])], None), ([([1], [])], None), ([([1], [1, 2, 3])], 2)):
        with pytest.raises(BadInput, match="request 0"):
            trees_of(requests, longest=longest)
    with pytest.raises(BadInput, match="batch"):
        list(forwards(trees_of(REQUESTS), 0))


def test_fresh_noise_goes_by_what_is_read(noisy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = likelihoods(noisy, REQUESTS).log
    # Not to the last bit: DAC codes of activations that float sums moved by an ulp may differ by one.
    assert np.abs(likelihoods(noisy, REQUESTS, tokens=1).log - alone).max() < 0.05
    fewer = likelihoods(noisy, REQUESTS[3:5]).log
    assert np.abs(fewer - alone[3:5]).max() < 0.05
    monkeypatch.setattr(continuations, "name_of", lambda tokens: 17 + len(tokens))
    assert np.abs(likelihoods(noisy, REQUESTS).log - alone).max() > 0.1, "other names draw other noise"


def test_windows_that_slide_hide_what_is_far_away(weights: WeightFile) -> None:
    model = load_digital(weights)
    sees = np.tril(np.ones((1, 6, 6), bool))
    positions = np.arange(6)[None]
    assert continuations._mask(model, sees, positions)[0, 0, 5, 0] == 0
    model.config.sliding_window = 3
    assert continuations._mask(model, sees, positions)[0, 0, 5, 2] < 0
    assert continuations._mask(model, sees, positions)[0, 0, 5, 3] == 0
    model.config.layer_types = ["full_attention", "sliding_attention"]
    both = continuations._mask(model, sees, positions)
    assert both["full_attention"][0, 0, 5, 0] == 0
    assert both["sliding_attention"][0, 0, 5, 0] < 0


def test_texts_that_step_together_are_those_that_step_alone(weights: WeightFile) -> None:
    prompts = [[1, 2, 3], list(range(60, 90)), [9]]
    for model in (load_digital(weights), load_model(weights, hardware="hermes-256", time=60.0)):
        alone = [list(stream_tokens(model, prompt, 7)) for prompt in prompts]
        for tokens in (1024, 128):
            done: list[int] = []
            assert completions(model, prompts, 7, tokens=tokens, on_prompt=lambda: done.append(1)) == alone  # noqa: B023
            assert len(done) == 3
    assert [len(group) for group in together(prompts, 256)] == [2, 1]


def test_a_text_ends_before_a_stop_or_after_what_ends_it(weights: WeightFile) -> None:
    model = load_digital(weights)
    whole = completions(model, [[5, 6]], 6)[0]
    second = whole[1]
    assert completions(model, [[5, 6]], 6, stop={second})[0] == whole[: whole.index(second)]
    assert completions(model, [[5, 6]], 6, ends=lambda tokens: len(tokens) == 4)[0] == whole[:4]
    with pytest.raises(BadInput, match="max-new-tokens"):
        completions(model, [[5] * 250], 20)
