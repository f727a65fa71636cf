"""digital-lora: the base stays as it is on noisy cells, and only the adapter learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aimc_sim.train.recipe import Recipe
from aimc_sim.train.run import run_training
from aimc_sim.train.shards import sample_shards
from aimc_sim.train.trainer import Options

CHIP = {"name": "cells", "device": "pcm-afm"}


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft asks transformers for it
def test_the_base_is_frozen_and_the_adapter_learns(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from aimc_sim.train.models import load_plain, open_for_training
    from aimc_sim.train.sampler import plan_for

    model = load_plain(open_for_training(tiny_checkpoint)).eval()
    data = tmp_path / "data"
    sample_shards(model, data, plan_for(model, length=16, sequences=20, batch=20), 2)
    lora = Recipe.load({"base": "digital-lora", "sequences": 4, "length": 16, "adapter": {"rank": 4}})
    out = tmp_path / "lora"
    outcome = run_training(
        tiny_checkpoint, out, recipe=lora, hardware=CHIP, data=data, tokens=6 * 64, chips=1,
        options=Options(log_every=1, tensorboard=False),
    )  # fmt: skip
    assert len(outcome.losses) == 6
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_checkpoint, out))
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    adapter = load_file(out / "adapter" / "adapter_model.safetensors")
    learned = {name: value for name, value in adapter.items() if ".lora_B." in name}
    assert len(learned) == 15
    assert all(value.abs().max() > 0 for value in learned.values()), "B begins at 0"
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["r"] == 4

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from aimc_sim.errors import BadInput
    from aimc_sim.export import export

    with pytest.raises(BadInput, match="adapter"):
        export(out, tmp_path / "lora.h5", "afm-llama", calibration_tokens=0)
    assert not (tmp_path / "lora.h5").exists()
    export(out, tmp_path / "base.h5", "afm-llama", calibration_tokens=0, base_alone=True)

    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(out), out / "adapter")
    ids = torch.arange(5)[None]
    with torch.no_grad(), whole.disable_adapter():
        base = whole(input_ids=ids).logits
    with torch.no_grad():
        moved = whole(input_ids=ids).logits
    assert (moved - base).abs().max() > 1e-4, "the adapter is found under its names"
