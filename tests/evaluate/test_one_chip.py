"""What one chip makes of text: the figures of its parts put together by hand, and results that show themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.account import account_of
from aimc_sim.evaluate.generate import stream_tokens
from aimc_sim.evaluate.metrics import Reference, score
from aimc_sim.evaluate.one_chip import generate, perplexity
from aimc_sim.evaluate.text import load_tokenizer, windows_of_file
from aimc_sim.programming import load_model
from aimc_sim.torch_bridge import load_digital
from aimc_sim.weightfile import WeightFile

CHIP: dict[str, Any] = {"seed": 2, "time": "1h", "session": 1}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.txt"
    path.write_text("A page of text, and some more of it. " * 4, encoding="utf-8")
    return path


def test_perplexity_is_that_of_the_loaded_model(tiny_weights: Path, page: Path) -> None:
    weights = WeightFile(tiny_weights)
    windows, stages = windows_of_file(weights, page, 48), []
    found = perplexity(
        tiny_weights, page, **CHIP, context=48, compare=True, progress=lambda stage, *_: stages.append(stage)
    )
    with Reference(load_digital(weights), windows) as reference:
        expected = score(load_model(weights, **CHIP), windows, reference=reference)
        digital = reference.scores
    np.testing.assert_array_equal(found.scores.nll, expected.nll)
    np.testing.assert_array_equal(found.scores.kl, expected.kl)
    assert found.perplexity == expected.perplexity
    shown = [stage for stage in dict.fromkeys(stages) if not stage.startswith("calibrating")]
    assert shown == ["checking the file", "digital model", "chip"]
    told = found.to_dict()
    assert (told["hardware"], told["seed"], told["time_s"], told["session"]) == ("hermes-256", 2, 3600.0, 1)
    assert found.summary.startswith(
        f"perplexity {found.perplexity:.3f} over {told['tokens']} tokens, hermes-256, "
    )
    assert str(found).splitlines()[0] == "hermes-256, seed 2, 1h after programming"
    assert "nats per token from the digital model" in str(found)
    plain = perplexity(weights, page, digital=True, context=48)
    np.testing.assert_array_equal(plain.scores.nll, digital.nll)
    assert (plain.state, plain.account, plain.scores.kl) == (None, {}, None)
    assert str(plain).splitlines()[0] == "digital model"


def test_text_is_what_the_loaded_model_writes(tiny_weights: Path) -> None:
    weights, accounts, pieces = WeightFile(tiny_weights), [], []
    found = generate(
        tiny_weights, "Once upon", **CHIP, max_new_tokens=6, on_start=accounts.append, on_text=pieces.append
    )
    model = load_model(weights, **CHIP)
    prompt = load_tokenizer(weights)("Once upon")["input_ids"]
    assert found.prompt_tokens == len(prompt)
    assert found.state is not None
    assert accounts == [found.account] == [account_of(model, found.state, prompt)]
    assert "".join(pieces) == found.text == str(found)
    assert found.to_dict()["token_ids"] == list(found.token_ids)
    assert list(found.token_ids) == list(stream_tokens(model, prompt, 6))[: len(found.token_ids)]


def test_what_cannot_be_is_refused_before_a_model_is_built(
    tiny_weights: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimc_sim.evaluate.bench.build_model", lambda *_: pytest.fail("it was built"))
    monkeypatch.setattr("aimc_sim.evaluate.bench.load_digital", lambda *_: pytest.fail("it was loaded"))
    for changes, what in (
        ({"time": "-1d"}, "time"), ({"hardware": "ideal", "digital": True}, "hardware"), ({"time": "1000y"}, "time"),
        ({"context": 10_000}, "context"), ({"stream": "perhaps"}, "stream"), ({"limit_tokens": 1}, "limit-tokens"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=what):
            perplexity(tiny_weights, page, **changes)  # type: ignore[arg-type]
    for changes, what in (
        ({"prompt": ""}, "prompt"),
        ({"chat": True}, "chat template"),
        ({"text_seed": -1}, "seed"),
    ):
        with pytest.raises(BadInput, match=what):
            generate(tiny_weights, **{"prompt": "x", **changes})  # type: ignore[arg-type]
