"""A bench without a model: scores that follow the crossed model exactly, so that figures can be checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from aimc_sim.evaluate.windows import Windows, from_sequences
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.plan import Plan, plan_of
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.bench import Outcome
from aimc_sim.signoff.execution.layers import Layers, MatrixNoise, tells_layers
from aimc_sim.signoff.execution.results import Result
from aimc_sim.signoff.execution.run import Study
from aimc_sim.signoff.execution.scores import TrialScores
from aimc_sim.signoff.execution.texts import windows_to_json
from aimc_sim.torch_bridge.coverage import ANALOG, ATTENTION, LOOKUP, Coverage, CoverageRow
from helpers.studies import run_trials

TOKENS = 20


class FakeBench:
    """Per token: KL = 0.1 for converters, and for chip s after t seconds 0.2 + 0.05·log10(t) + 0.01·s + 0.02·window."""

    ranges_id = "0123456789abcdef"

    def __init__(self, windows: int = 6) -> None:
        self.windows: Windows = from_sequences(np.tile(np.arange(TOKENS + 1, dtype=np.int32), (windows, 1)))
        self.asked: list[Trial] = []
        self.plan: Plan | None = None

    def items(self, plan: Plan) -> dict[str, Any]:
        self.plan = plan
        return {task.label: windows_to_json(self.windows) for task in plan.tasks}

    def run(self, trial: Trial, on_step: Callable[[], None]) -> Outcome:
        self.asked.append(trial)
        for _ in range(2):
            on_step()
        window = np.arange(len(self.windows))
        facts = {}
        if trial.kind == "digital":
            kl = 0.0 * window
        elif trial.kind == "converters":
            kl = 0.1 + 0.0 * window
            facts = {
                f"coverage/{trial.variant}": asdict(self.coverage()),
                f"ranges_id/{trial.variant}": self.ranges_id,
            }
        else:
            assert trial.seed is not None
            assert trial.time_s is not None
            kl = 0.2 + 0.05 * math.log10(trial.time_s + 1) + 0.01 * trial.seed + 0.02 * window
            facts = layers_of(trial, self.plan) if self.plan is not None else {}
        agree = np.round(TOKENS * np.exp(-kl)).astype(np.int64)
        scores = TrialScores({"nll": (3.0 + 0.5 * kl) * TOKENS, "kl": kl * TOKENS, "agree": agree})
        return Outcome(scores, facts, {"program_and_mount": 0.001, "score": 0.002})

    def coverage(self) -> Coverage:
        rows = (
            CoverageRow("model.embed_tokens", LOOKUP, "embedding", (258, 64), 0.0, 1),
            CoverageRow("model.layers.0.mlp.up_proj", ANALOG, "tiles", (64, 96), 6144.0, 1),
            CoverageRow("model.layers.1.mlp.up_proj", ANALOG, "tiles", (64, 96), 6144.0, 1),
            CoverageRow("model.layers.0.self_attn", ATTENTION, "bmm", (12, 64), 768.0, 2),
        )
        return Coverage(rows, 12)


def layers_of(trial: Trial, plan: Plan) -> dict[str, Any]:
    """The fact of a hardware's layers, from the trial that tells it."""
    if not tells_layers(trial, plan):
        return {}
    assert trial.seed is not None
    assert trial.time_s is not None
    rows = [
        MatrixNoise(f"model.layers.{layer}.mlp.{role}", layer, role, 24.0 + 2.0 * layer - at, 0.001 * at, 0.0)
        for layer in range(2)
        for at, role in enumerate(("up_proj", "down_proj"))
    ]
    rows.append(MatrixNoise("lm_head", None, "lm_head", 19.5, 0.0, 0.0))
    found = Layers(trial.seed, trial.time_s, 20, 20, tuple(rows))
    return {f"layers/{trial.variant}": found.to_dict()}


class Uneven(FakeBench):
    """Chips that lose 0.3 nats a token on the mean, and by the window from −0.7 to 1.3 of them, all alike."""

    def run(self, trial: Trial, on_step: Callable[[], None]) -> Outcome:
        outcome = super().run(trial, on_step)
        if trial.kind != "chip":
            return outcome
        assert trial.seed is not None
        loss = 0.3 + 0.4 * (np.arange(len(self.windows)) - (len(self.windows) - 1) / 2) + 0.001 * trial.seed
        nll = self._digital + loss * TOKENS
        return Outcome(TrialScores({**outcome.scores.values, "nll": nll}), outcome.facts, outcome.seconds)

    @property
    def _digital(self) -> Any:
        return 3.0 * TOKENS * np.ones(len(self.windows))


class FakeAnswers(FakeBench):
    """Questions: the digital model is right on two of three; chip s loses every (12 − s)-th of them once a day old, and
    wins the third question."""

    def __init__(self, questions: int = 60) -> None:
        super().__init__()
        self.questions = questions

    def items(self, plan: Plan) -> dict[str, Any]:
        self.plan = plan
        examples = [
            {
                "id": f"q{n}",
                "question": f"What is {n} + {n}?",
                "choices": [str(2 * n), str(n), "<b>"],
                "answer": 0,
            }
            for n in range(self.questions)
        ]
        return {
            task.label: {"kind": "text", "examples": examples, "context_of": [0] * 2} for task in plan.tasks
        }

    def run(self, trial: Trial, on_step: Callable[[], None]) -> Outcome:
        outcome = super().run(trial, on_step)
        number = np.arange(self.questions)
        choice = np.where(number % 3 == 2, 1, 0)
        if trial.kind == "chip":
            assert trial.seed is not None
            assert trial.time_s is not None
            if trial.time_s >= 86400:
                choice = np.where(number % (12 - trial.seed) == 0, 2, choice)
            choice[2] = 0
        acc = (choice == 0).astype(np.int64)
        scores = TrialScores({"acc": acc, "acc_norm": acc, "choice": choice})
        return Outcome(scores, outcome.facts, outcome.seconds)


def answers_plan(margin: float = 0.2, questions: int = 60, **changes: Any) -> Plan:
    """A plan for `FakeAnswers`."""
    base: dict[str, Any] = {
        "weights": "0" * 64,
        "hardware": (Hardware.load("hermes-256"),),
        "chips": 4,
        "times_s": (60.0, 86400.0),
    }
    task = {
        "kind": "harness", "label": "sums", "task": "sums", "questions_id": "0123456789abcdef", "questions": questions,
        "margin": margin,
    }  # fmt: skip
    return plan_of(tasks=(task,), **{**base, **changes})


def run_fake(plan: Plan, bench: FakeBench | None = None, progress: Any = None) -> Result:
    """The one result of a plan on the fake bench."""
    return run_fake_study(plan, bench, progress).only


def run_fake_study(plan: Plan, bench: FakeBench | None = None, progress: Any = None) -> Study:
    """A plan on the fake bench."""
    bench = FakeBench() if bench is None else bench
    return run_trials(plan, bench, bench.items(plan), progress)
