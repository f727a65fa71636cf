"""One of two processes of test_distributed.py: trains a few steps with DDP or FSDP2 and writes what it got."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.torch_bridge import (
    Training,
    analog_layers,
    attach_clipping,
    convert,
    initialise_ranges,
    parameter_groups,
    set_step,
    shard,
)

HARDWARE = {
    "device": "ideal", "tile": {"rows": 40}, "dac": {"range": {"method": "std", "kappa": 1.5, "per": "tile"}},
    "adc": {"full_scale": {"rule": "lambda", "lambda_": 14.0}},
}  # fmt: skip
BATCH, STEPS = 6, 3


def values(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Standard normals of our own."""
    count = int(np.prod(shape))
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return torch.from_numpy(normals(counter, key_of(seed)).ravel()[:count].reshape(shape).copy())


class Blocks(nn.Module):
    """Two residual blocks, sharded one by one, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64)) for _ in range(2)]
        )
        self.head = nn.Linear(64, 6)
        with torch.no_grad():
            for seed, parameter in enumerate(self.parameters()):
                parameter.copy_(values(tuple(parameter.shape), seed + 20) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        found: torch.Tensor = self.head(x)
        return found


def prepared() -> Blocks:
    """The model of every process: the same weights, ranges and noise."""
    model = convert(Blocks(), HARDWARE, Training(gamma=0.05, range_decay=0.0))
    initialise_ranges(model, [values((BATCH, 64), 1)])
    return model


def learned(model: Any) -> dict[str, torch.Tensor]:
    """Weights and ranges, gathered."""
    found = {}
    for name, layer in analog_layers(model).items():
        for leaf, parameter in (("weight", layer.weight), ("range", layer.input_range.value)):
            whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            found[f"{name}.{leaf}"] = whole.detach().clone()
    return found


def train(
    model: Any, x: torch.Tensor, target: torch.Tensor
) -> tuple[list[float], list[dict[str, torch.Tensor]]]:
    """A few steps of plain descent with clipping: the losses, and what is learned after each."""
    optimizer = torch.optim.SGD(parameter_groups(model), lr=0.05)
    attach_clipping(model, optimizer)
    losses, found = [], []
    for step in range(STEPS):
        set_step(model, step)
        loss = (model(x) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        found.append(learned(model))
    return losses, found


def main(kind: str, folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    x, target = values((BATCH, 64), 2), values((BATCH, 6), 3)
    mine = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    model: Any = prepared()
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy

        policy = (
            MixedPrecisionPolicy(param_dtype=torch.bfloat16)
            if kind == "fsdp-half"
            else MixedPrecisionPolicy()
        )
        model = shard(model, model.blocks, mesh=init_device_mesh("cpu", (2,)), mp_policy=policy)
    losses, found = train(model, x[mine], target[mine])
    torch.save({"losses": losses, "found": found}, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
