"""What is held, computed: make.py stores it once, the tests compute it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from golden import internals
from golden.inputs import (
    F32,
    HERE,
    PLANS,
    command,
    counters,
    hardware,
    hardware_files,
    inside,
    key,
    sha256,
    token_ids,
    values,
)

from aimc_sim import Hardware, WeightFile, devices, program
from aimc_sim.execute import tile_matmul
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.wires import effective_conductance

MATRICES = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
STACK = (
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.mlp.up_proj",
    "model.layers.1.mlp.down_proj",
)
TIMES = (0.0, 86400.0)
SEED = 11
# Off the integer path, or with numbers that come out of a library's sums and powers: see test_bits.py.
CLOSE = ("floating", "warm", "worst-case", "plain")
EXACT = tuple(path.stem for path in hardware_files() if path.stem not in CLOSE)
CALIBRATED = ("calibrated", "floating", "trained", "worst-case")  # those whose ranges are derived, and stored


def ids() -> dict[str, dict[str, str]]:
    """Ids of the hardware that ships, of its devices, and of the golden hardware files."""
    presets = command("hardware", "list", "--json")
    names = [row["name"] for row in json.loads(presets.stdout)]
    return {
        "devices": {name: devices.get(name).id for name in devices.names()},
        "hardware": {path.stem: Hardware.load(path).id for path in hardware_files()},
        "presets": {name: Hardware.load(name).id for name in names},
    }


def plan_ids() -> dict[str, str]:
    """Ids of plans, as a dry run of the command says them."""
    found = {}
    with inside(HERE):
        for what, line in PLANS.items():
            done = command(*line, "-o", "nowhere", "--dry-run", "--json")
            assert done.exit_code == 0, done.output
            found[what] = json.loads(done.stdout)["plan_id"]
    return found


def ranges_of(name: str) -> Any:
    """The stored converter ranges of a golden hardware; none for one that needs none."""
    return internals.read(HERE / "ranges" / f"{name}.npz") if name in CALIBRATED else None


def chip_ids(weights: WeightFile) -> dict[str, str]:
    """Ids of chips: seeds, hardware, ranges and programming cycles."""
    found = {}
    for name in ("wired", "calibrated", "placed"):
        for seed in (0, 11, 2**64 - 1):
            found[f"{name}, seed {seed}"] = program(weights, seed, hardware(name), ranges=ranges_of(name)).id
    found["wired, seed 0, epoch 2"] = replace(program(weights, 0, hardware("wired")), epoch=2).id
    return found


def numbers() -> dict[str, str]:
    """Digests of keyed numbers and of an array between wires."""
    cells = np.abs(values(24, 16, seed=4)).astype(np.float64) * 10
    words = philox4x32(counters(5000, 3), np.array([0x12345678, 0x9ABCDEF0], np.uint32))
    return {
        "effective conductance": sha256(effective_conductance(cells, 2.0, 3.0, r_driver_ohm=50.0)),
        "effective conductance, both ends": sha256(
            effective_conductance(cells, 2.0, 3.0, drive="both", sense="both")
        ),
        "normals": sha256(normals(counters(5000, 3), key(9))),
        "philox": sha256(words),
    }


def inputs_of(rows: int) -> F32:
    """(6, rows) inputs of a matrix: normal, with an outlier, a row of zeros and a row of large numbers."""
    x = values(6, rows, seed=21)
    x[0, 3], x[1] = 30.0, 0.0
    x[2] *= 1000.0
    return x


ROW_IDS = np.array([0, 1 << 8, 2 << 8, 1 << 32, (1 << 32) + 256, (5 << 32) + 3], np.int64)


def held(weights: WeightFile, name: str, matrix: str, t_s: float) -> tuple[F32, F32]:
    """Effective weights (N, K) of a matrix on a golden hardware, and products (6, N) of its tiles."""
    state = program(weights, SEED, hardware(name), ranges=ranges_of(name)).at(t_s, session=2)
    info = weights.matrix(matrix)
    return state.matrix(matrix).effective_weights(), tile_matmul(
        inputs_of(info.rows), state.tiles(matrix), ROW_IDS
    )


def bits(weights: WeightFile, name: str) -> dict[str, dict[str, str]]:
    """Digests of what `held` gives, by matrix and time."""
    found = {}
    for matrix in MATRICES:
        for t_s in TIMES:
            w, y = held(weights, name, matrix, t_s)
            found[f"{matrix} at {t_s:g} s"] = {"weights": sha256(w), "products": sha256(y)}
    return found


def close(weights: WeightFile, name: str) -> dict[str, npt.NDArray[Any]]:
    """The same as numbers, of one matrix, where the last bits may differ."""
    found = {}
    for t_s in TIMES:
        w, y = held(weights, name, MATRICES[1], t_s)
        found |= {f"{name}/{t_s:g}/weights": w[:8], f"{name}/{t_s:g}/products": y}
    return found


def stack(weights: WeightFile) -> dict[str, str]:
    """Digest of products through three matrices and a rectifier between: noise, drift, wires and read noise."""
    found = {}
    for name in ("wired", "wired-exact", "faulty"):
        state = program(weights, SEED, hardware(name)).at("1h")
        x = values(6, weights.matrix(STACK[0]).rows, seed=22)
        for matrix in STACK:
            x = np.maximum(tile_matmul(x, state.tiles(matrix), ROW_IDS), 0)
        found[name] = sha256(x)
    return found


LOGITS: dict[str, tuple[str, float]] = {"wired, 1d": ("wired", 86400.0), "erring, 0s": ("erring", 0.0)}


def logits(weights: WeightFile, name: str, t_s: float) -> F32:
    """(24, vocabulary) logits of the model on a chip."""
    import torch

    from aimc_sim.torch_bridge import load_model

    model = load_model(weights, seed=SEED, time=t_s, hardware=hardware(name))
    with torch.no_grad():
        found = model(input_ids=torch.from_numpy(token_ids(2, 12))).logits
    return np.asarray(found.reshape(24, -1).numpy(), np.float32)


def losses(noise: Any, name: str) -> list[float]:
    """Losses of three steps of training a small network for a golden hardware."""
    import torch
    from torch import nn

    from aimc_sim.torch_bridge import Training, attach_clipping, convert, initialise_ranges, set_step

    network = nn.Sequential(nn.Linear(50, 32), nn.GELU(), nn.Linear(32, 10, bias=False))
    with torch.no_grad():
        for what, parameter in enumerate(network.parameters()):
            z = torch.from_numpy(values(*parameter.shape, seed=31, what=what))
            parameter.copy_(z / parameter.shape[-1] ** 0.5)
    model = convert(network, hardware(name), Training(noise=noise)).train()
    x = torch.from_numpy(values(16, 50, seed=32))
    if hardware(name).dac is not None:
        initialise_ranges(model, [x])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    attach_clipping(model, optimizer)
    found = []
    for number in range(3):
        set_step(model, number)
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


TRAINING: dict[str, tuple[str, str]] = {
    "gaussian noise, static ranges": ("gaussian", "trained"),
    "noise of the device": ("device", "trained"),
}


def weight_ids(weights: WeightFile, folder: Path) -> dict[str, Any]:
    """Ids of the stored weight file and of one without calibration, which no float32 sum has a part in."""
    from golden.inputs import write_checkpoint

    from aimc_sim import export

    checkpoint = write_checkpoint(folder / "checkpoint", weights.tokenizer())
    bare = export(checkpoint, folder / "bare.h5", hardware("wired"), calibration_tokens=0)
    return {"bare": bare.id, "stored": weights.id}
