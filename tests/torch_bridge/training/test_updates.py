"""The hook of all optimizers: there with the first layer that trains, never before, and once."""

from __future__ import annotations

import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.optim import optimizer as torchs

import aimc_sim.torch_bridge
from aimc_sim.torch_bridge import set_step

HOOKS = "len(__import__('sys').modules['torch.optim.optimizer']._global_optimizer_post_hooks)"
MODULES = sorted(
    found.name for found in pkgutil.walk_packages(aimc_sim.torch_bridge.__path__, "aimc_sim.torch_bridge.")
)


def elsewhere(program: str, folder: Path) -> list[int]:
    """The numbers that a program prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_only_making_a_layer_registers_the_hook(tmp_path: Path) -> None:
    assert "aimc_sim.torch_bridge.training.clipping" in MODULES
    program = f"""
import importlib, torch
for name in {MODULES}:
    importlib.import_module(name)
import aimc_sim.torch_bridge as bridge
for name in bridge.__all__:
    getattr(bridge, name)
print({HOOKS})
for _ in range(2):
    bridge.AnalogLinear.from_linear(torch.nn.Linear(4, 4), "afm-llama")
    print({HOOKS})
"""
    assert elsewhere(program, tmp_path) == [0, 1, 1]


def test_a_copy_that_no_constructor_made_registers_it_too(small: Any, tmp_path: Path) -> None:
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(small.ready()))
    program = f"""
import pickle
model = pickle.load(open("model.pickle", "rb"))
print({HOOKS})
"""
    assert elsewhere(program, tmp_path) == [1]


def test_many_layers_are_told_by_one_hook(small: Any) -> None:
    models = [small.ready() for _ in range(3)]
    ours = [hook for hook in torchs._global_optimizer_post_hooks.values() if "aimc_sim" in hook.__module__]
    assert len(ours) == 1
    optimizer = torch.optim.SGD([p for model in models[:2] for p in model.parameters()], lr=0.1)
    for model in models:
        set_step(model, 6)
    optimizer.step()
    assert [model[0].step for model in models] == [7, 7, 6], "it holds nothing of the last one"
