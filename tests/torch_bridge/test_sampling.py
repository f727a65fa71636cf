"""Text from the model itself: the right law, the same for every batch split, and never stopped by EOS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import aimc_sim.torch_bridge.sampling
from aimc_sim.errors import BadInput
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import Stream, key_of
from aimc_sim.torch_bridge.sampling import first_token, pick, sample_tokens, uniforms
from helpers.tiny_models import VOCABULARY, tiny_model


def rows(*values: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_a_draw_belongs_to_seed_sequence_and_position() -> None:
    counter = np.array([[9, 0, 5, int(Stream.TEXT) << 26]], np.uint32)
    words = philox4x32(counter, key_of(3))[0]
    expected = ((int(words[0]) >> 5) * 2**26 + (int(words[1]) >> 6) + 0.5) / 2**53
    assert uniforms(np.array([5]), 9, 3)[0] == expected
    many = uniforms(np.arange(1000), 9, 3)
    assert many[5] == expected
    assert len({*many, *uniforms(np.arange(1000), 8, 3), *uniforms(np.arange(1000), 9, 4)}) == 3000
    assert 0 < many.min() < many.max() < 1


def test_inverse_cdf_in_the_order_of_ids() -> None:
    logits = np.log(rows([0.25, 0.5, 0.25])).repeat(7, axis=0)
    draws = np.array([1e-12, 0.2499, 0.2501, 0.5, 0.7499, 0.7501, 1 - 1e-12])
    assert pick(logits, draws, 1.0, None).tolist() == [0, 0, 1, 1, 1, 2, 2]
    # Half the temperature squares the odds: 1/6, 4/6, 1/6.
    assert pick(logits[:4], np.array([0.16, 0.17, 0.83, 0.84]), 0.5, None).tolist() == [0, 1, 1, 2]


def test_top_k_keeps_the_likeliest_and_among_equals_the_first() -> None:
    logits = np.log(rows([0.1, 0.3, 0.3, 0.3])).repeat(3, axis=0)
    assert pick(logits, np.array([1e-9, 0.49, 0.51]), 1.0, 2).tolist() == [1, 1, 2]
    assert pick(logits, np.array([1e-9, 0.5, 1 - 1e-9]), 1.0, 1).tolist() == [1, 1, 1]
    assert pick(logits, np.array([0.05, 0.2, 0.95]), 1.0, 99).tolist() == [0, 1, 3]


def test_tokens_of_probability_zero_are_never_drawn() -> None:
    logits = rows([-np.inf, 0.0, -1e5, 0.0, -np.inf]).repeat(4, axis=0)
    assert pick(logits, np.array([2**-54, 0.4, 0.6, 1 - 2**-53]), 1.0, None).tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_each_token_follows_from_the_logits_before_it(family: str) -> None:
    """The KV cache changes nothing: full forward passes over the sampled text pick the same tokens."""
    model = tiny_model(family)
    tokens = sample_tokens(model, sequences=3, length=20, seed=7)
    assert tokens.dtype == np.int32
    assert (tokens[:, 0] == 1).all()
    with torch.inference_mode():
        logits = model(torch.from_numpy(tokens.astype(np.int64))).logits.numpy()
    for position in range(1, 20):
        again = pick(logits[:, position - 1], uniforms(np.arange(3), position, 7), 1.0, None)
        np.testing.assert_array_equal(again, tokens[:, position])


def test_batches_seeds_and_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    calls: list[tuple[str, int, int]] = []
    whole = sample_tokens(model, sequences=5, length=12, seed=1, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("sample", 60, 60)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    monkeypatch.setattr(aimc_sim.torch_bridge.sampling, "BATCH", 2)
    np.testing.assert_array_equal(sample_tokens(model, sequences=5, length=12, seed=1), whole)
    np.testing.assert_array_equal(sample_tokens(model, sequences=2, length=8, seed=1), whole[:2, :8])
    assert (sample_tokens(model, sequences=5, length=12, seed=2) != whole).any()
    assert len({tuple(row) for row in whole.tolist()}) == 5


def test_text_goes_on_after_eos() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[2] *= 3.0  # EOS becomes likely or unlikely by far; some sequence draws it
    tokens = sample_tokens(model, sequences=8, length=40, seed=0)
    ends = [row.index(2) for row in tokens[:, 1:-1].tolist() if 2 in row]
    assert ends
    assert tokens.shape == (8, 40)


def test_what_text_starts_from() -> None:
    model = tiny_model("llama")
    assert first_token(model) == 1
    model.generation_config.bos_token_id = model.config.bos_token_id = None
    model.generation_config.eos_token_id = [5, 2]
    assert first_token(model) == 5
    model.generation_config.eos_token_id = None
    assert first_token(model) == 2
    model.config.eos_token_id = None
    assert first_token(model) == 0
    assert sample_tokens(model, sequences=1, length=2, seed=0, bos_id=9)[0, 0] == 9


@pytest.mark.parametrize(("change", "what"), [
    ({"sequences": 0}, "sequences"), ({"length": 0}, "length"), ({"length": 65}, "64 tokens"),
    ({"temperature": 0.0}, "temperature"), ({"temperature": float("nan")}, "temperature"), ({"top_k": 0}, "top_k"),
    ({"bos_id": VOCABULARY}, "bos_id"), ({"seed": -1}, "seed"),
])  # fmt: skip
def test_requests_that_make_no_sense(change: dict[str, Any], what: str) -> None:
    request = {"sequences": 2, "length": 4, "seed": 0} | change
    with pytest.raises(BadInput, match=what):
        sample_tokens(tiny_model("llama"), **request)


def test_a_model_that_overflows_is_named() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(3e38)
    with pytest.raises(BadInput, match="logits are not finite at position 0"):
        sample_tokens(model, sequences=1, length=4, seed=0)


def test_tokens_outside_the_vocabulary_start_nothing() -> None:
    model = tiny_model("gpt2")
    for config in (model.generation_config, model.config):
        config.bos_token_id = (
            50256  # GPT-2's default, kept by a configuration that only shrinks the vocabulary
        )
    assert first_token(model) == 2
    for config in (model.generation_config, model.config):
        config.eos_token_id = [50256, 7]
    assert first_token(model) == 7
    for config in (model.generation_config, model.config):
        config.eos_token_id = -1
    assert first_token(model) == 0
    assert sample_tokens(model, sequences=1, length=3, seed=0)[0, 0] == 0
