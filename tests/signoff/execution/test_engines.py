"""Engines: schedules, failures, processes that are killed, looks that stop, and the same bytes every time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aimc_sim.errors import AimcError, BadInput
from aimc_sim.evaluate.text import SelfText
from aimc_sim.hardware import Hardware
from aimc_sim.report.pages import to_json
from aimc_sim.signoff.design.trials import Trial, trials_of
from aimc_sim.signoff.execution.bench import Outcome
from aimc_sim.signoff.execution.engine import Schedule, drive
from aimc_sim.signoff.execution.journal import open_journal
from aimc_sim.signoff.execution.run import run_plan, workers_for
from aimc_sim.signoff.execution.texts import TextRunner
from aimc_sim.signoff.report.document import document_of
from aimc_sim.signoff.report.findings import findings_of
from aimc_sim.signoff.report.headline import lifetime_words
from aimc_sim.signoff.statistics.sequential import LOOKS
from aimc_sim.studies import memory
from aimc_sim.studies.workers import Event, InProcess, Processes
from aimc_sim.weightfile import WeightFile
from helpers.studies import run_trials


def trial(seed: int, time_s: float = 60.0, task: str = "text", variant: str = "v") -> Trial:
    return Trial("chip", seed, time_s, variant, task)


def test_a_worker_keeps_its_mount_and_a_free_one_takes_the_dearest() -> None:
    schedule = Schedule({"short": 1, "long": 9})
    schedule.add([trial(0, task="short"), trial(0, task="long"), trial(1, task="short")])
    schedule.add([trial(2, task="short"), trial(2, task="long")])
    assert schedule.take(0) == trial(0, task="short")
    assert schedule.take(1) == trial(2, task="short"), "two tasks left there, one at chip 1"
    assert schedule.take(0) == trial(0, task="long"), "stays with its mount"
    schedule.measured(trial(0, task="long"), {"program_and_mount": 1.0, "score": 9.0})
    assert schedule.take(0) == trial(1, task="short")
    assert schedule.take(0) == trial(2, task="long"), "nothing free is left: stolen from worker 1"
    assert schedule.take(1) is None


def test_measured_costs_decide_what_comes_first() -> None:
    schedule = Schedule({"text": 5})
    schedule.add([trial(0, variant="cheap"), trial(0, variant="dear")])
    schedule.measured(trial(9, variant="cheap"), {"program_and_mount": 1.0, "score": 1.0})
    schedule.measured(trial(9, variant="dear"), {"program_and_mount": 30.0, "score": 1.0})
    assert schedule.take(0) == trial(0, variant="dear")


class Failing:
    """A pool of one worker whose first attempts end as told."""

    def __init__(self, endings: list[Any]) -> None:
        self._endings, self._trial, self.attempts = list(endings), None, 0

    def idle(self) -> list[int]:
        return [] if self._trial else [0]

    def submit(self, worker: int, trial: Trial) -> None:
        self._trial, self.attempts = trial, self.attempts + 1

    def wait(self, timeout_s: float) -> list[Event]:
        trial, self._trial = self._trial, None
        assert trial is not None
        ending = self._endings.pop(0) if self._endings else None
        if ending is None:
            from aimc_sim.signoff.execution.scores import TrialScores

            return [Event(0, trial, Outcome(TrialScores({})))]
        return [Event(0, trial, error=ending if isinstance(ending, Exception) else None)]

    def close(self) -> None:
        pass


def test_a_failed_trial_is_tried_again_and_bad_input_is_not(plan_with: Any) -> None:
    pool, store = Failing(["died", OSError("disk")]), open_journal(None, plan_with())
    drive([trial(0)], Schedule({}), store, pool)
    assert (pool.attempts, store.finished()) == (3, {trial(0).name})
    with pytest.raises(AimcError, match="failed 3 times, the last time with MemoryError: out"):
        drive([trial(1)], Schedule({}), store, Failing(["died", "died", MemoryError("out")]))
    bad = Failing([BadInput("logits", why="not finite")])
    with pytest.raises(BadInput, match="not finite"):
        drive([trial(2)], Schedule({}), store, bad)
    assert bad.attempts == 1


def test_looks_stop_parts_one_by_one(plan_with: Any, fake: Any) -> None:
    """Chips of a part that has stopped are not computed, and its report is about those that it saw."""
    plan = plan_with(chips=20, looks=LOOKS, margin_nats=9.0)
    bench = fake.FakeBench(windows=40)
    study = run_trials(plan, bench, bench.items(plan))
    assert study.only.looks[-1].outcome == "pass"
    stopped = study.only.looks[-1].chips
    assert stopped < 20
    assert len([c for c in bench.asked if c.kind == "chip"]) == 2 * stopped
    assert study.only.part.seeds == tuple(range(stopped))
    assert study.only.part.alpha == dict(plan.look_alphas)[stopped]
    found = findings_of(study)[0]
    assert (found.passed, found.decision) == (True, "pass")
    assert found.to_dict()["looks"][-1]["outcome"] == "pass"
    beyond = plan_with(chips=20, looks=LOOKS, margin_nats=0.0)
    assert run_trials(beyond, bench, bench.items(beyond)).only.looks[-1].outcome == "fail"


def test_findings_have_yields_and_a_lifetime(plan_with: Any, fake: Any) -> None:
    plan = plan_with(margin_nats=0.5, times_s=(1.0, 100.0, 1e4, 1e6))
    bench = fake.FakeBench()
    found = findings_of(run_trials(plan, bench, bench.items(plan)))[0]
    assert (found.on_items.passes, found.on_items.chips, found.worst_seed) == (0, 4, 3)
    # mean = 0.2 + 0.05·log10(t) + 0.015 + 0.05 crosses 0.5 where log10 t = 4.7
    assert found.lifetime.crossed_s == pytest.approx(10**4.7, rel=0.02)
    crossed, shown = lifetime_words(found.to_dict()["lifetime"])
    assert (crossed, shown[:9]) == ("13.9 hours", "shown to ")
    assert not found.passed
    several = plan_with(margin_nats=0.7, hardware=[Hardware.load("hermes-256"), Hardware.load("pcm-512")])
    study = run_trials(several, bench, bench.items(several))
    assert [r.part.variant.label for r in study.results] == ["hermes-256", "pcm-512"]
    assert len(findings_of(study)) == 2
    with pytest.raises(BadInput, match="2 results"):
        _ = study.only


def text_of(study: Any, weights: WeightFile) -> str:
    document = document_of(study.only, weight_file=weights)
    del document["timings"]
    return to_json(document)


@pytest.mark.under_load
def test_processes_give_the_same_bytes_also_when_one_is_killed(
    plan_with: Any, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = WeightFile(tiny_weights)
    plan = plan_with(
        weights=weights.id, hardware=weights.hardware, chips=3, text=SelfText(sequences=3, length=10)
    )
    alone = text_of(run_plan(plan, weights), weights)
    submit: Callable[..., None] = Processes.submit
    given: list[Trial] = []

    def submit_and_kill(self: Processes, worker: int, trial: Trial) -> None:
        given.append(trial)
        if len(given) != 3:
            submit(self, worker, trial)
            return
        # Stopped first: it could be done with its trial before it is killed.
        pid = self._workers[worker].process.pid
        os.kill(pid, signal.SIGSTOP)
        submit(self, worker, trial)
        os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(Processes, "submit", submit_and_kill)
    journal = tmp_path / "journal.sqlite"
    shared = text_of(run_plan(plan, weights, workers=2, journal=journal), weights)
    assert shared == alone
    assert len(given) == len(trials_of(plan)) + 1, "one trial was given twice"
    monkeypatch.setattr(InProcess, "submit", submit_and_kill)
    given.clear()
    assert text_of(run_plan(plan, weights, journal=journal), weights) == alone
    assert given == [], "everything was in the journal"


def test_trials_run_with_the_threads_of_the_plan_and_give_them_back(
    plan_with: Any, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digital model's products have other last bits with other threads, so that these belong to the plan."""
    weights, seen = WeightFile(tiny_weights), []
    score: Any = TextRunner.score

    def counting(self: TextRunner, model: Any, on_step: Callable[[], None]) -> Any:
        seen.append(torch.get_num_threads())
        return score(self, model, on_step)

    monkeypatch.setattr(TextRunner, "score", counting)
    before = torch.get_num_threads()
    plan = plan_with(
        weights=weights.id, hardware=weights.hardware, chips=1, times_s=(60.0,), threads=3,
        text=SelfText(sequences=2, length=6),
    )  # fmt: skip
    run_plan(plan, weights)
    assert set(seen) == {3}
    assert torch.get_num_threads() == before


def test_small_work_stays_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers_for(10_000, 100, 50) == 1
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 40)
    assert workers_for(10**9, 10_000, 50) >= 1
    monkeypatch.setattr(memory, "free_bytes", lambda: 5 << 30)
    assert workers_for(10**9, 10_000, 50) == 1, "a second copy would not fit"
