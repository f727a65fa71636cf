"""digital-lora: the base stays as it is on noisy cells, and only the adapter learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.finetuning.options import Options
from aimc_sim.finetuning.recipe import Recipe
from aimc_sim.finetuning.run import train
from aimc_sim.finetuning.shards import sample_shards

CHIP = {"name": "cells", "device": "pcm-afm"}


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft asks transformers for it
def test_the_base_is_frozen_and_the_adapter_learns(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from aimc_sim.finetuning.models import load_plain, open_for_training
    from aimc_sim.finetuning.sampler import plan_for

    model = load_plain(open_for_training(tiny_checkpoint)).eval()
    data = tmp_path / "data"
    sample_shards(model, data, plan_for(model, length=16, sequences=20, batch=20), 2)
    lora = Recipe.load({"base": "digital-lora", "sequences": 4, "length": 16, "adapter": {"rank": 4}})
    out = tmp_path / "lora"
    outcome = train(
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

    from aimc_sim.exporting import export
    from aimc_sim.torch_bridge import load_digital, load_model

    both = export(out, tmp_path / "lora.h5", "ideal", calibration_tokens=0)
    alone = export(out, tmp_path / "base.h5", "ideal", calibration_tokens=0, base_alone=True)
    assert (len(both.adapters), len(alone.adapters)) == (15, 0)

    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(out), out / "adapter")
    ids = torch.arange(5)[None]
    with torch.no_grad(), whole.disable_adapter():
        base = whole(input_ids=ids).logits
    with torch.no_grad():
        moved = whole(input_ids=ids).logits
    assert (moved - base).abs().max() > 1e-4, "the adapter is found under its names"
    with torch.no_grad():
        for weights, expected in ((both, moved), (alone, base)):
            for model in (load_digital(weights), load_model(weights, hardware="ideal")):
                assert (model(input_ids=ids).logits - expected).abs().max() < 1e-5
        merged = whole.merge_and_unload()(input_ids=ids).logits
        assert (load_digital(both)(input_ids=ids).logits - merged).abs().max() < 1e-5


def test_an_adapter_goes_to_sign_off_from_the_command_line(
    tiny_checkpoint: Path, tmp_path: Path, adapted: ModuleType
) -> None:
    folder = adapted.add(Path(shutil.copytree(tiny_checkpoint, tmp_path / "model")), rank=4)
    file, text = tmp_path / "w.h5", tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 3, encoding="utf-8")
    size = (
        "--text",
        text,
        "--context",
        32,
        "--limit-tokens",
        96,
        "--times",
        "1d",
        "--hardware",
        "ideal",
        "--margin",
        0.5,
    )
    rows = {}

    def invoke(*args: object) -> str:
        done = CliRunner().invoke(app, [str(arg) for arg in args])
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    for name, more in (("whole", ()), ("base", ("--base-alone",))):
        written = json.loads(
            invoke("export", folder, "-o", file, "--calibration-tokens", 64, "--overwrite", "--json", *more)
        )
        seen = json.loads(invoke("inspect", file, "--json"))["adapters"]
        shown = invoke("inspect", file)
        invoke("signoff", file, "--chips", 2, "-o", tmp_path / name, *size)
        (report,) = (tmp_path / name).glob("*.json")
        rows[name] = json.loads(report.read_text())["rows"]
        assert written["adapters"] == len(seen) == (15 if name == "whole" else 0)
        assert ("rank 4, beside 15 of 15 matrices" in shown) == (name == "whole")
        assert all((item["rank"], item["scale"]) == (4, 1.5) for item in seen)
    losses = {name: found["digital"]["loss_nats"] for name, found in rows.items()}
    assert abs(losses["whole"] - losses["base"]) > 0.01, "digital model"
    for found in rows.values():
        assert abs(found["times"][0]["kl_nats"]["mean"]) < 1e-6, (
            "chips have the adapter where the digital model has"
        )
