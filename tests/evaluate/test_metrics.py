"""Scores against their definitions, computed the long way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.evaluate import sums
from aimc_sim.evaluate.metrics import Reference, WindowScores, score
from aimc_sim.evaluate.windows import Windows, cut, from_sequences
from aimc_sim.torch_bridge import load_digital, load_model
from aimc_sim.weightfile import WeightFile


@pytest.fixture(scope="module")
def models(tiny_weights: Path) -> tuple[Any, Any]:
    """(digital, one chip after a day)."""
    weights = WeightFile(tiny_weights)
    return load_digital(weights), load_model(weights, seed=1, time=86400.0)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return cut([(i * i + 3 * i) % 256 for i in range(100)], 24, bos=256)


def log_probs(model: Any, row: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(
            model(torch.from_numpy(row).long()[None]).logits[0, :-1].double().log_softmax(-1)
        )


def test_scores_are_their_definitions(models: tuple[Any, Any], windows: Windows) -> None:
    digital, chip = models
    with Reference(digital, windows, 2) as reference:
        found = score(chip, windows, 2, reference=reference)
    nll, kl, agree = 0.0, 0.0, 0
    for index, row in enumerate(windows.rows):
        p, q = log_probs(digital, row), log_probs(chip, row)
        targets = torch.from_numpy(row[1:]).long()
        window_nll = -float(q.gather(-1, targets[:, None]).sum())
        assert found.nll[index] == pytest.approx(window_nll, rel=1e-5)
        nll += window_nll
        kl += float((p.exp() * (p - q)).sum())
        agree += int((p.argmax(-1) == q.argmax(-1)).sum())
    assert found.tokens.sum() == windows.scored_tokens == 100
    assert found.perplexity == pytest.approx(math.exp(nll / 100), rel=1e-5)
    assert found.kl_nats == pytest.approx(kl / 100, rel=1e-4)
    assert found.kl_nats is not None
    assert found.kl_nats > 0
    assert found.agreement == agree / 100


def test_the_digital_model_does_not_diverge_from_itself(models: tuple[Any, Any], windows: Windows) -> None:
    with Reference(models[0], windows, 3) as reference:
        found = score(models[0], windows, 3, reference=reference)
        assert found.kl_nats == 0.0
        assert found.agreement == 1.0
        assert np.array_equal(found.nll, reference.scores.nll)
        assert reference.own_scores.kl_nats == 0.0


def same(a: WindowScores, b: WindowScores) -> bool:
    return all(np.array_equal(x, y) for x, y in ((a.nll, b.nll), (a.kl, b.kl), (a.agree, b.agree)))


def test_scores_repeat_bit_for_bit_spooled_or_recomputed(models: tuple[Any, Any], windows: Windows) -> None:
    digital, chip = models
    found = []
    for spool in (1 << 30, 1 << 30, 0):
        with Reference(digital, windows, 2, spool_bytes=spool) as reference:
            found.append(score(chip, windows, 2, reference=reference))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_blocks_change_nothing_but_rounding(
    models: tuple[Any, Any], windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by a block of positions and vocabulary; where the blocks end must not matter."""

    def run() -> WindowScores:
        with Reference(models[0], windows, 2) as reference:
            return score(models[1], windows, 2, reference=reference)

    whole = run()
    monkeypatch.setattr(sums, "_VALUES", 300)
    parts = run()
    assert parts.nll == pytest.approx(whole.nll, rel=1e-12)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-9)
    assert np.array_equal(parts.agree, whole.agree)
    monkeypatch.setattr(sums, "BLOCK", 64)  # other maxima on the way: other last bits of float32 terms
    parts = run()
    assert parts.nll == pytest.approx(whole.nll, rel=1e-8)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-6)
    assert np.array_equal(parts.agree, whole.agree)


def test_temporary_files_go(
    models: tuple[Any, Any], windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Reference(models[0], windows, 2):
        assert any(tmp_path.iterdir())
    assert not any(tmp_path.iterdir())

    class Broken:
        config = models[0].config

        def __call__(self, **_: Any) -> Any:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Reference(Broken(), windows, 2)
    assert not any(tmp_path.iterdir())


def test_progress_counts_batches(models: tuple[Any, Any]) -> None:
    seen: list[tuple[int, int]] = []
    score(models[0], from_sequences(np.arange(40).reshape(5, 8)), 2, on_batch=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_wrong_references_and_broken_models_are_named(models: tuple[Any, Any], windows: Windows) -> None:
    with Reference(models[0], windows, 2) as reference:
        with pytest.raises(BadInput, match="reference"):
            score(models[1], windows, 3, reference=reference)
        with pytest.raises(BadInput, match="reference"):
            score(models[1], cut(range(50), 10), 2, reference=reference)
    with pytest.raises(BadInput, match="batch"):
        score(models[0], windows, 0)

    class NotFinite:
        def __call__(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return type("Out", (), {"logits": torch.full((*input_ids.shape, 258), math.nan)})

    with pytest.raises(BadInput, match="not finite"):
        score(NotFinite(), windows, 2)


def test_a_perplexity_beyond_float_is_infinite() -> None:
    assert WindowScores(np.array([1e6]), np.array([1])).perplexity == math.inf
