"""Noise of products: against the chip itself, on inputs gathered another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim.evaluate.bench import Bench
from aimc_sim.evaluate.snr import decibels, probe, product_noise
from aimc_sim.evaluate.windows import from_sequences
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.torch_bridge import load_digital
from aimc_sim.weightfile import WeightFile

HERMES = Hardware.load("hermes-256")


def test_noise_is_that_of_a_chip(tiny_weights: Path) -> None:
    """Against the chip itself, on inputs gathered here."""
    weights = WeightFile(tiny_weights)
    coarse = Hardware.load({"base": "hermes-256", "adc": {"bits": 4}})
    found = product_noise(weights, {"fine": HERMES, "coarse": coarse}, seed=3, time="1d")
    name = "model.layers.1.mlp.down_proj"
    assert set(found["fine"]) == {matrix.name for matrix in weights.matrices}
    seen: list[Any] = []
    model = load_digital(weights)
    model.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    text = weights.calibration.token_ids
    with torch.no_grad():
        model(input_ids=torch.from_numpy(text.astype(np.int64)), use_cache=False)
    x = seen[0].reshape(text.size, -1).numpy()[np.unique(np.linspace(0, text.size - 1, 64).astype(int))]
    y = x @ weights.weight(name).T
    for label, hardware in (("fine", HERMES), ("coarse", coarse)):
        tiles = program(weights, 3, hardware).at(86400.0).tiles(name)
        error = tile_matmul(np.ascontiguousarray(x), tiles) - y
        expected = (np.square(error).sum(axis=1) / np.square(y).sum(axis=1)).mean()
        assert found[label][name] == pytest.approx(expected, rel=1e-4)
    assert all(found["coarse"][matrix] > found["fine"][matrix] for matrix in found["fine"])


def test_placement_and_exactness_show_in_the_noise(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    digital = Hardware.load({"base": "hermes-256", "placement": {"digital": ["*.mlp.*"]}})
    found = product_noise(weights, {"placed": digital, "exact": Hardware.load("ideal")})
    assert not any("mlp" in name for name in found["placed"])
    assert max(found["exact"].values()) < 1e-6
    assert decibels(0.01) == pytest.approx(20.0)


def test_a_probe_and_a_pass_over_the_text_agree(tiny_weights: Path) -> None:
    """With read noise too, so that both name the rows of the text alike; part of it is in further tiles."""
    noisy = {"base": "hermes-256", "read_noise": {"sigma": 0.02}, "weights": {"copies": 2}}
    bench, hardware = Bench(tiny_weights), Hardware.load(noisy)
    windows = from_sequences(bench.weight_file.calibration.token_ids)
    assert sum(map(len, windows.rows)) <= 512, "what a probe sees is the whole text"
    seen = probe(bench.load_digital(), bench.weight_file, hardware, windows)
    ratios = seen.noise(bench.mount(hardware, 3, "1d", session=1))
    found = product_noise(bench.weight_file, {"": hardware}, seed=3, time="1d", session=1)[""]
    assert list(found) == list(seen.names)
    assert list(found.values()) == pytest.approx(ratios.tolist(), rel=1e-4)
