"""A bench mounts what `load_model` loads, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.evaluate import bench as module
from aimc_sim.evaluate.bench import Bench
from aimc_sim.evaluate.metrics import Reference, score
from aimc_sim.evaluate.text import windows_of_calibration
from aimc_sim.hardware import Hardware
from aimc_sim.programming import load_model
from aimc_sim.weightfile import WeightFile

NOISY = {"base": "hermes-256", "read_noise": {"sigma": 0.01}}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a bench builds a model, and mounts a chip."""
    calls = {"build_model": 0, "mount": 0}

    def counting(name: str, own: Any) -> Any:
        def count(*args: Any) -> Any:
            calls[name] += 1
            return own(*args)

        return count

    for name in calls:
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    return calls


def test_a_bench_scores_what_load_model_loads(tiny_weights: Path, counted: dict[str, int]) -> None:
    bench, placed = Bench(tiny_weights), {"base": "hermes-256", "placement": {"lm_head": "digital"}}
    windows = windows_of_calibration(bench.weight_file, 40)
    chips: list[tuple[Any, int, Any, int]] = [
        (NOISY, 1, 0.0, 0), (NOISY, 2, "1d", 0), (NOISY, 2, "1d", 1), (placed, 2, "1d", 1), ("ideal", 2, 0.0, 0),
    ]  # fmt: skip
    for hardware, seed, time, session in chips:
        bench.mount(hardware, seed, time, session=session)
        model = load_model(tiny_weights, hardware=hardware, seed=seed, time=time, session=session)
        np.testing.assert_array_equal(bench.score(windows).nll, score(model, windows).nll)
        assert bench.state.chip.hardware == Hardware.load(hardware)
    assert counted == {"build_model": 3, "mount": 5}, "a model for each set of analog matrices"


def test_what_is_mounted_stays(tiny_weights: Path, counted: dict[str, int]) -> None:
    bench = Bench(WeightFile(tiny_weights))
    first = bench.mount(NOISY, 1, "1d")
    assert bench.mount(Hardware.load(NOISY), 1, 86400.0) is first
    assert counted == {"build_model": 1, "mount": 1}
    bench.load_digital()
    assert bench.mount(NOISY, 1, "1d") is first
    ranges = dict(bench.state.chip.ranges)
    assert ranges["lm_head"].full_scale is not None
    ranges["lm_head"] = replace(ranges["lm_head"], full_scale=2 * ranges["lm_head"].full_scale)
    bench.mount(NOISY, 1, "1d", ranges=ranges)
    assert counted["mount"] == 2, "other ranges make another chip"


def test_a_mount_that_failed_is_none(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tiny_weights)
    windows = windows_of_calibration(bench.weight_file, 20)
    with pytest.raises(BadInput, match="no chip is mounted"):
        bench.score(windows)
    bench.mount(NOISY, 1)
    wanted, whole = bench.score(windows).nll, module.mount

    def half(model: Any, state: Any) -> None:
        next(layer for layer in model.modules() if hasattr(layer, "mount")).unmount()
        raise BadInput("half")

    monkeypatch.setattr(module, "mount", half)
    with pytest.raises(BadInput, match="half"):
        bench.mount(NOISY, 2)
    with pytest.raises(BadInput, match="no chip is mounted"):
        bench.state  # noqa: B018
    monkeypatch.setattr(module, "mount", whole)
    bench.mount(NOISY, 1)
    np.testing.assert_array_equal(bench.score(windows).nll, wanted)


def test_streaming_changes_no_score(tiny_weights: Path) -> None:
    whole, streamed = Bench(tiny_weights), Bench(tiny_weights, streamed=True)
    windows = windows_of_calibration(whole.weight_file, 40)
    nll, kl = [], []
    for bench in (whole, streamed):
        with Reference(bench.load_digital(), windows) as reference:
            bench.mount(NOISY, 3, "1h")
            found = bench.score(windows, reference=reference)
        nll.append(found.nll)
        kl.append(found.kl)
    np.testing.assert_array_equal(*nll)
    np.testing.assert_array_equal(*kl)
    with (
        Reference(whole.load_digital(), windows) as reference,
        pytest.raises(BadInput, match="streamed alike"),
    ):
        streamed.score(windows, reference=reference)
