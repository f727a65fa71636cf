"""Two processes train as one does: DDP and FSDP2, launched by torchrun, rows of a step shared out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aimc_sim.finetuning.logs import read_log

RECIPE = 'base = "afm-small"\nsequences = 4\nlength = 16\n[training]\nrange_forwards = 2\nnoise = false\n'
CHIP = """device = "pcm-afm"
[dac]
range = { method = "std", kappa = 8.0 }
[adc]
full_scale = { rule = "lambda", lambda_ = 4.0 }
"""


@pytest.fixture(scope="module")
def work(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aimc_sim.finetuning.models import load_plain, open_for_training
    from aimc_sim.finetuning.sampler import plan_for
    from aimc_sim.finetuning.shards import sample_shards

    folder = tmp_path_factory.mktemp("distributed")
    model = load_plain(open_for_training(tiny_checkpoint)).eval()
    sample_shards(model, folder / "tokens", plan_for(model, length=16, sequences=24, batch=24), 2)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "chip.toml").write_text(CHIP, encoding="utf-8")
    launch(folder, tiny_checkpoint, "one", 1)
    return folder


def launch(folder: Path, checkpoint: Path, output: str, processes: int, *more: str) -> None:
    words = [
        "train", str(checkpoint), "--recipe", "recipe.toml", "--hardware", "chip.toml", "--data", "tokens",
        "--tokens", "192", "--chips", "1", "--log-every", "1", "--no-tensorboard", "-o", output, *more,
    ]  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, *(torchrun if processes > 1 else ["-m"]), "aimc_sim.cli.app", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.under_load
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_two_processes_train_as_one(sharding: str, work: Path, tiny_checkpoint: Path) -> None:
    from safetensors.torch import load_file

    launch(work, tiny_checkpoint, sharding, 2, "--sharding", sharding)
    one, two = ([row["loss"] for row in read_log(work / name) if row["loss"]] for name in ("one", sharding))
    assert len(one) == 3
    assert [float(x) for x in two] == pytest.approx([float(x) for x in one], rel=1e-4)
    first, second = (load_file(work / name / "model.safetensors") for name in ("one", sharding))
    assert first.keys() == second.keys()
    # Adam divides tiny gradients by their own size, so sums in another order show in a few weights.
    assert all(torch.allclose(first[name], second[name], atol=2e-4) for name in first)
