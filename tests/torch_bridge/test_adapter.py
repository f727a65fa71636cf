"""A low-rank adapter runs wherever its matrix does: on a chip, digital, streamed, in every layout."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import aimc_sim
from aimc_sim.errors import BadInput
from aimc_sim.evaluate import streamed, sums
from aimc_sim.evaluate.account import coverage_of
from aimc_sim.evaluate.metrics import Reference, score
from aimc_sim.evaluate.snr import probe
from aimc_sim.evaluate.text import SelfText
from aimc_sim.evaluate.windows import Windows, cut
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.signoff.execution.run import run_plan
from aimc_sim.sizing.partition.bench import PlacementBench
from aimc_sim.torch_bridge import Training, convert, half, load_digital, load_model
from aimc_sim.torch_bridge.coverage import ANALOG, DIGITAL
from aimc_sim.torch_bridge.streaming import StreamedModel
from aimc_sim.weightfile import WeightFile
from helpers.plans import make_plan
from helpers.tiny_models import save_tiny

IDS = (torch.arange(2 * 20).reshape(2, 20) * 37 + 5) % 97
VOCABULARY, BATCH, DAY = 300, 3, 86_400.0


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("llama", "float32"),
        ("llama", "bfloat16"),
        ("gpt2", "float32"),
        ("phi3", "float16"),
        ("qwen2", "float32"),
    ],
)
def test_logits_are_those_of_peft(family: str, dtype: str, tmp_path: Path, adapted: ModuleType) -> None:
    """Every kind of layer: analog ones, in half precision, Linear, Conv1D, and a tied head."""
    save_tiny(tmp_path / "model", family, dtype)
    weights = aimc_sim.export(
        adapted.add(tmp_path / "model"), tmp_path / "w.h5", "ideal", calibration_tokens=0
    )
    assert len(weights.adapters) == len(weights.matrices)
    truth = adapted.by_peft(tmp_path / "model")
    expected = logits(truth)
    with truth.disable_adapter():
        base = logits(truth)
    assert far(base, expected) > 0.1, "the test would not see an adapter that is left out"
    assert far(logits(load_digital(weights)), expected) <= 1e-5
    assert far(logits(load_model(weights, hardware="ideal")), expected) <= 1e-4
    alone = aimc_sim.export(
        tmp_path / "model", tmp_path / "base.h5", "ideal", calibration_tokens=0, base_alone=True
    )
    assert far(logits(load_digital(alone)), base) <= 1e-5


@pytest.mark.parametrize("matrix", [0, 3, 6, -1])
def test_each_adapter_counts(matrix: int, tmp_path: Path, adapted: ModuleType) -> None:
    """Without any single one the logits move: none is shadowed."""
    save_tiny(tmp_path / "model", "llama")
    weights = aimc_sim.export(
        adapted.add(tmp_path / "model"), tmp_path / "w.h5", "ideal", calibration_tokens=0
    )
    model = load_digital(weights)
    whole = logits(model)
    layer: Any = model.get_submodule(weights.matrices[matrix].name)
    layer.adapter.scale = 0.0
    assert far(logits(model), whole) > 1e-3


# -- streamed, and measured -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("llama", "bfloat16"), ("gpt2", "float32")], ids=["llama", "gpt2"])
def weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, adapted: ModuleType
) -> WeightFile:
    family, dtype = request.param
    folder = tmp_path_factory.mktemp(family)
    save_tiny(folder / "model", family, dtype, vocab_size=VOCABULARY)
    return aimc_sim.export(
        adapted.add(folder / "model", rank=3), folder / "w.h5", chip(), calibration_tokens=64
    )


def chip(**changes: Any) -> Hardware:
    tables = Hardware.load("hermes-256").model_dump(mode="json")
    tables["tile"] |= {"rows": 16, "cols": 32}
    return Hardware.load(tables | changes)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    """With heads of 300 outputs cut into five pieces, and products of adapters into as many blocks."""
    monkeypatch.setattr(sums, "BLOCK", 64)
    monkeypatch.setattr(streamed, "BLOCK", 64)
    monkeypatch.setattr(half, "BLOCK_OUTPUTS", 64)
    return cut([(i * i + 3 * i) % VOCABULARY for i in range(150)], 24, bos=1)


@pytest.mark.parametrize(
    "changes", [{}, {"placement": {"lm_head": "digital", "digital": ["*.1.mlp.*"]}}], ids=["analog", "mixed"]
)
def test_streaming_changes_no_bit(changes: dict[str, Any], weights: WeightFile, windows: Windows) -> None:
    hardware = chip(**changes)
    state = program(weights, 3, hardware).at(DAY)
    with Reference(load_digital(weights), windows, BATCH) as reference:
        mounted = load_model(weights, seed=3, time=DAY, hardware=hardware)
        whole, digital = score(mounted, windows, BATCH, reference=reference), reference.scores
    assert len(StreamedModel(weights, state).pieces(64)) == 5
    with Reference(StreamedModel(weights), windows, BATCH) as reference:
        np.testing.assert_array_equal(reference.scores.nll, digital.nll)
        found = score(StreamedModel(weights, state), windows, BATCH, reference=reference)
    for name in ("nll", "kl", "agree"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_noise_of_products_is_that_of_the_tiles_alone(weights: WeightFile, windows: Windows) -> None:
    """An adapter adds to the layer's output, not to what tiles are compared with."""
    seen = probe(load_digital(weights), weights, Hardware.load("ideal"), windows)
    assert seen.noise(load_model(weights, hardware="ideal")).max() < 1e-8


def test_a_sign_off_has_the_same_numbers_streamed(weights: WeightFile) -> None:
    plan = make_plan(
        weights=weights.id, hardware=weights.hardware, chips=2, times_s=(DAY,), margin_nats=0.5,
        text=SelfText(sequences=4, length=20), batch=2,
    )  # fmt: skip
    one, other = (run_plan(plan, weights, stream=stream).only for stream in ("never", "always"))
    assert one.layers is not None
    assert (one.coverage, one.layers) == (other.coverage, other.layers)
    for cell, mine in one.scores.items():
        np.testing.assert_array_equal(mine.kl, other.scores[cell].kl)


def test_products_of_adapters_are_digital_by_choice(weights: WeightFile) -> None:
    hardware = chip(placement={"digital": ["*.1.mlp.*"]})
    found = coverage_of(load_model(weights, hardware=hardware), weights, hardware, list(range(3, 30)))
    macs = {row.name: row.macs for row in found.rows if row.kind == DIGITAL}
    for matrix in weights.matrices:
        assert macs[f"{matrix.name}.adapter"] == 3 * (matrix.rows + matrix.cols)
    analog = [matrix for matrix in weights.matrices if ".1.mlp." not in matrix.name]
    assert found.macs(ANALOG) == sum(matrix.rows * matrix.cols for matrix in analog)


def test_a_placement_bench_keeps_them_in_both_ways(weights: WeightFile, windows: Windows) -> None:
    bench = PlacementBench(weights, chip(), windows, 0.0)
    try:
        assert abs(bench.score(0, ()).kl).max() < 1e-4
    finally:
        bench.close()


def test_a_layer_with_an_adapter_is_not_converted(tmp_path: Path, adapted: ModuleType) -> None:
    save_tiny(tmp_path / "model", "qwen2")
    weights = aimc_sim.export(
        adapted.add(tmp_path / "model"), tmp_path / "w.h5", "ideal", calibration_tokens=0
    )
    model: nn.Module = load_digital(weights)
    with pytest.raises(BadInput, match="adapter would be left out"):
        convert(model, chip(placement={"lm_head": "digital"}), Training())
