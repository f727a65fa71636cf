"""`sample` and `train` as Python calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

import aimc_sim as aimc
from aimc_sim.errors import BadInput
from aimc_sim.finetuning import run
from aimc_sim.finetuning.options import Options
from helpers.runs import CHIP, recipe


def test_text_is_sampled_and_trained_on(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = aimc.sample(tiny_checkpoint, tmp_path / "tokens", tokens="0.6k", length=16, sequences=40, batch=40)
    assert (text.tokens, text.length, len(text.shards)) == (608, 16, 1)
    assert str(text) == text.summary == f"{tmp_path / 'tokens'}: 1 shards, 608 tokens in rows of 16"
    options = Options(log_every=1, tensorboard=False)
    outcome = aimc.train(
        tiny_checkpoint, tmp_path / "out", recipe=recipe(), hardware=CHIP, data=text.folder, tokens="64", chips=1,
        options=options,
    )  # fmt: skip
    assert outcome.last is not None
    document = outcome.to_dict()
    assert document["losses"]["clean"] == outcome.last.clean
    assert document["losses_before"] == outcome.before
    assert "loss on 1 chips" in str(outcome)
    assert outcome.summary.startswith(
        f"{tmp_path / 'out'}: {document['recipe']} for {document['hardware']}; "
    )
    with pytest.warns(DeprecationWarning, match="called train"), pytest.raises(BadInput, match="precision"):
        run.run_training(tiny_checkpoint, tmp_path / "no", data=text.folder, tokens=64, precision="fp8")
    assert not (tmp_path / "no").exists()


def test_a_third_of_a_folder_counts_no_tokens(tiny_checkpoint: Path, tmp_path: Path) -> None:
    asked = {"tokens": 64, "length": 16, "sequences": 2, "batch": 2}
    part = aimc.sample(tiny_checkpoint, tmp_path, **asked, part="1/2")  # type: ignore[arg-type]
    assert part.tokens is None
    assert [path.name for path in part.shards] == ["tokens-000001.safetensors"]
