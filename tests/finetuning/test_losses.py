"""Distillation against a plain formula in float64, and what the naive form gets wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.finetuning.losses import cross_entropy, distillation, distillation_top_k, keep_top_k


def logits(shift: float, scale: float = 3.0) -> torch.Tensor:
    table = np.sin(np.arange(2 * 5 * 11, dtype=np.float64) * 1.7 + shift) * scale
    return torch.from_numpy(table.reshape(2, 5, 11).astype(np.float32))


def plain(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    s, t = (x.double().numpy() / temperature for x in (student, teacher))
    p, q = (np.exp(x - x.max(-1, keepdims=True)) for x in (t, s))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return float((p * np.log(p / q)).sum(-1).mean() * temperature**2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_it_is_the_divergence_of_the_student_from_the_teacher(temperature: float) -> None:
    student, teacher = logits(0.0), logits(0.4)
    value = float(distillation(student, teacher, temperature))
    assert value == pytest.approx(plain(student, teacher, temperature), rel=1e-5)
    swapped = float(distillation(teacher, student, temperature))
    assert abs(swapped - value) > 1e-4 * value, "which of the two is the teacher matters"


def test_the_gradient_is_the_difference_of_probabilities() -> None:
    student, teacher = logits(0.0).requires_grad_(True), logits(0.4)
    distillation(student, teacher, 2.0).backward()
    wanted = (torch.softmax(student / 2, -1) - torch.softmax(teacher / 2, -1)) * (2.0 / 10)
    assert student.grad is not None
    assert torch.allclose(student.grad, wanted, atol=1e-6)


def test_targets_that_underflow_add_nothing() -> None:
    teacher = torch.zeros(1, 1, 4)
    teacher[..., 3] = -400.0  # its probability is 0 in float32
    student = torch.zeros(1, 1, 4)
    value = distillation(student, teacher)
    assert torch.isfinite(value)
    assert float(value) == pytest.approx(np.log(4 / 3), rel=1e-5)


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(BadInput, match="vocabulary"):
        distillation(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))


def test_a_cached_teacher_of_nearly_all_tokens_says_the_same() -> None:
    student, teacher = logits(0.0), logits(0.4)
    values, indices = keep_top_k(teacher, 10, 2.0)
    assert values.shape == indices.shape == (2, 5, 11)
    assert torch.allclose(values.exp().sum(-1), torch.ones(2, 5), atol=1e-6)
    # Ten of eleven and "the rest": the same distribution.
    assert float(distillation_top_k(student, values, indices, 2.0)) == pytest.approx(
        float(distillation(student, teacher, 2.0)), rel=1e-4
    )


def test_fewer_kept_tokens_are_a_lower_bound() -> None:
    student, teacher = logits(0.0), logits(0.4)
    whole = float(distillation(student, teacher))
    bounds = [float(distillation_top_k(student, *keep_top_k(teacher, k))) for k in (1, 3, 6, 9)]
    assert all(0 < a <= b + 1e-7 for a, b in zip(bounds, [*bounds[1:], whole], strict=True))
    same = float(distillation_top_k(teacher, *keep_top_k(teacher, 3)))
    assert same == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(BadInput, match="top_k"):
        keep_top_k(teacher, 11)


def test_cross_entropy_scores_the_next_token() -> None:
    table = torch.full((1, 3, 4), -30.0)
    table[0, 0, 2] = table[0, 1, 1] = 30.0
    assert float(cross_entropy(table, torch.tensor([[0, 2, 1]]))) == pytest.approx(0.0, abs=1e-6)
    assert float(cross_entropy(table, torch.tensor([[0, 1, 2]]))) == pytest.approx(60.0, rel=1e-3)
