"""What the tests of training share: values of our own, a small chip, a small network that trains for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from aimc_sim.hardware import Hardware
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.torch_bridge import Training, convert, initialise_ranges, ranges_ready, set_step

LAMBDA = {"rule": "lambda", "lambda_": 14.0}
HARDWARE: dict[str, Any] = {
    "device": "pcm-ibm2019", "tile": {"rows": 24}, "dac": {"range": {"method": "std", "kappa": 4.0, "per": "tile"}},
    "adc": {"full_scale": LAMBDA},
}  # fmt: skip


def values(*shape: int, seed: int = 1) -> torch.Tensor:
    """Standard normals of our own."""
    count = int(np.prod(shape))
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return torch.from_numpy(normals(counter, key_of(seed)).ravel()[:count].reshape(shape).copy())


def chip(**changes: Any) -> Hardware:
    """A small chip with every converter; changes replace tables."""
    tables = {
        "device": "pcm-ibm2019",
        "dac": {"range": {"method": "std", "per": "tile"}},
        "adc": {"full_scale": LAMBDA},
    }
    return Hardware.load({**tables, **changes})


def filled(model: Any) -> Any:
    """Deterministic weights."""
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            z = values(*parameter.shape, seed=seed + 10)
            parameter.copy_(1 + 0.1 * z if parameter.ndim == 1 else z / parameter.shape[-1] ** 0.5)
    return model


def network() -> nn.Sequential:
    model: nn.Sequential = filled(nn.Sequential(nn.Linear(50, 32), nn.GELU(), nn.Linear(32, 10, bias=False)))
    return model


def ready(training: Training | None = None, **changes: Any) -> nn.Sequential:
    """The network, converted, its ranges known, before step 0."""
    model = convert(network(), {**HARDWARE, **changes}, training or Training())
    if not ranges_ready(model):
        initialise_ranges(model, [values(16, 50)])
    return model.train()


def step(model: Any, optimizer: Any, number: int, x: torch.Tensor | None = None) -> torch.Tensor:
    """One step of training; the loss."""
    set_step(model, number)
    loss: torch.Tensor = model(values(16, 50) if x is None else x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()
