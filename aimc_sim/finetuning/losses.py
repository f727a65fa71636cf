"""Distillation: T²·KL(teacher ‖ student) with log-targets, from whole logits or from a teacher's cached best ones."""

from __future__ import annotations

import torch
from torch.nn import functional

from aimc_sim.errors import BadInput

Tensor = torch.Tensor


def distillation(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T²·KL(teacher ‖ student), a mean over tokens, nats.

    student, teacher: (..., vocabulary) logits of any float type, computed in float32. Both sides are log-probabilities:
    a soft target that underflows then adds nothing, where target·log(target) would be NaN (Büchel et al., 2025).
    """
    if student.shape != teacher.shape:
        raise BadInput(
            "logits",
            got=(tuple(student.shape), tuple(teacher.shape)),
            why="student and teacher are compared token by token",
            do="use a teacher with the student's vocabulary",
        )
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    return _mean_kl(log_student, log_teacher, temperature)


def distillation_top_k(student: Tensor, values: Tensor, indices: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the same against a teacher of which only the k best logits are kept.

    student: (..., vocabulary) logits. values, indices: (..., k) the teacher's logits and their token ids, int64. All
    other tokens form one class on both sides, so the result is a lower bound of the whole divergence and still zero
    only where the kept probabilities agree. The teacher's mass outside of the k is ``log_rest`` of `keep_top_k`,
    stored as the last value with index −1.
    """
    best_logs, log_rest = values[..., :-1].float(), values[..., -1:].float()
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    chosen = log_student.gather(-1, indices[..., :-1])
    rest = torch.log1p(-chosen.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-6))
    return _mean_kl(torch.cat([chosen, rest], -1), torch.cat([best_logs, log_rest], -1), temperature)


def keep_top_k(teacher: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of the teacher's k most likely tokens and of all others together.

    teacher: (..., vocabulary) logits → values (..., k + 1) float32, indices (..., k + 1) int64, the last of each row
    the rest and −1. Raises BadInput where k is not below the vocabulary.
    """
    if not 1 <= k < teacher.shape[-1]:
        raise BadInput(
            "top_k",
            got=k,
            why=f"the vocabulary has {teacher.shape[-1]} tokens",
            do=f"keep 1 to {teacher.shape[-1] - 1}, or do not cache the teacher",
        )
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    values, indices = torch.topk(log_teacher, k, dim=-1)
    rest = torch.log1p(-values.double().exp().sum(-1, keepdim=True).clamp(max=1 - 1e-12)).float()
    return torch.cat([values, rest], -1), torch.cat([indices, torch.full_like(indices[..., :1], -1)], -1)


def cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of each next token, nats. logits: (b, length, vocabulary); ids: (b,
    length).
    """
    return functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


def _mean_kl(log_student: Tensor, log_teacher: Tensor, temperature: float) -> Tensor:
    tokens = log_student.numel() // log_student.shape[-1]
    total = functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return total * (temperature**2 / tokens)
