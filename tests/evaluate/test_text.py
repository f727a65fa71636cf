"""Text in, windows out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.generate import stream_text, stream_tokens
from aimc_sim.evaluate.text import (
    SelfText,
    bos_of,
    file_text,
    load_tokenizer,
    read_text,
    tokenise,
    windows_of_file,
    windows_of_samples,
)
from aimc_sim.torch_bridge import load_digital
from aimc_sim.weightfile import WeightFile


@pytest.fixture(scope="module")
def weights(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


@pytest.fixture(scope="module")
def digital(weights: WeightFile) -> Any:
    return load_digital(weights)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text("Once upon a time there was a crossbar. " * 8, encoding="utf-8")
    return path


def opening_with_bos(tokenizer: Any) -> Any:
    """The same tokenizer with the template that puts BOS in front, as Llama's has."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def test_the_tokenizer_decides_about_bos(weights: WeightFile) -> None:
    tokenizer = load_tokenizer(weights)
    assert bos_of(tokenizer) is None
    assert bos_of(opening_with_bos(tokenizer)) == 256


def test_a_file_becomes_windows(weights: WeightFile, story: Path) -> None:
    ids = tokenise(load_tokenizer(weights), read_text(story))
    assert len(ids) == len(story.read_bytes())
    windows = windows_of_file(weights, story, 64)
    assert windows.scored_tokens == len(ids) - len(windows)
    assert windows_of_file(weights, story, 64, limit_tokens=65).scored_tokens == 63


def test_a_spec_is_about_content(story: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "story.txt").write_bytes(story.read_bytes())
    assert file_text(story).id == file_text(copy / "story.txt").id
    assert file_text(story).id != file_text(story, limit_tokens=9).id


def test_samples_repeat_and_begin_with_bos(digital: Any) -> None:
    spec = SelfText(sequences=3, length=12)
    first = windows_of_samples(digital, spec)
    assert first.id == windows_of_samples(digital, spec).id
    assert first.id != windows_of_samples(digital, SelfText(sequences=3, length=12, seed=2)).id
    assert first.scored_tokens == 3 * 11
    assert {int(row[0]) for row in first.rows} == {256}


def test_text_that_cannot_be_read_is_named(weights: WeightFile, story: Path, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(BadInput, match=r"not UTF-8 \(byte 3\)"):
        read_text(tmp_path / "latin")
    with pytest.raises(BadInput, match="nothing in it"):
        read_text(tmp_path / "empty")
    with pytest.raises(BadInput, match="cannot be read"):
        read_text(tmp_path / "missing")
    with pytest.raises(BadInput, match="positions end at 256"):
        windows_of_file(weights, story, 512)
    with pytest.raises(BadInput, match="limit-tokens"):
        file_text(story, 1)


def test_greedy_tokens_are_the_most_likely_ones(digital: Any) -> None:
    prompt = [256, 72, 101]
    tokens = list(stream_tokens(digital, prompt, 12))
    expected = digital.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert expected[0, 3:].tolist() == tokens


def test_sampled_tokens_repeat_with_their_seed_and_stop(digital: Any) -> None:
    def sample(seed: int, stop: tuple[int, ...] = ()) -> list[int]:
        return list(stream_tokens(digital, [256], 16, temperature=1.0, seed=seed, stop=stop))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert sample(1, stop=(sample(1)[5],)) == sample(1)[: sample(1).index(sample(1)[5])]


def test_streamed_text_holds_back_half_a_character(weights: WeightFile) -> None:
    tokenizer = load_tokenizer(weights)
    ids = tokenise(tokenizer, "aé→b")
    pieces = list(stream_text(tokenizer, iter(ids)))
    assert pieces == ["a", "é", "→", "b"]
    assert list(stream_text(tokenizer, iter(()))) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"prompt": []}, "prompt"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 0}, "max-new-tokens"),
    ],
)
def test_generation_refuses_what_it_cannot_do(digital: Any, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(BadInput, match=what):
        list(stream_tokens(digital, **{"prompt": [1], "max_new_tokens": 3, **changes}))
