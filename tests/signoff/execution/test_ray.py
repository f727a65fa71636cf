"""The Ray engine on a real cluster of processes, in a process of its own: Ray leaves threads and files behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aimc_sim.errors import AimcError
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution import engine_ray
from aimc_sim.signoff.execution.bench import Outcome
from aimc_sim.signoff.execution.engine import Schedule, drive
from aimc_sim.signoff.execution.journal import open_journal
from aimc_sim.signoff.execution.scores import TrialScores

STUDY = """
import json, os, signal, sys, time
from types import SimpleNamespace
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.questions import load_questions
from aimc_sim.signoff.design.plan import plan_of
from aimc_sim.signoff.execution import engine_ray
from aimc_sim.signoff.execution.run import run_plan
from aimc_sim.signoff.report.document import document_of
from aimc_sim.weightfile import WeightFile

weights = WeightFile(sys.argv[1])
text = {"kind": "text", "text": {"kind": "self", "sequences": 3, "length": 12}, "context": 12, "batch": 8}
plan = plan_of(weights=weights.id, hardware=[weights.hardware], chips=3, times_s=(60.0, 86400.0),
               tasks=[{**text, "margin_nats": 5.0}])
submit, given, killed = engine_ray.RayPool.submit, [], []

def submit_and_kill(self, worker, trial):
    pid = self._ray.get(self._actors[worker].pid.remote()) if len(given) in (2, 5) else None
    given.append(trial.name)
    if pid is not None:
        os.kill(pid, signal.SIGSTOP)  # it could be done with its trial before it is killed
    submit(self, worker, trial)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

engine_ray.RayPool.submit = submit_and_kill

def text_of(**options):
    document = document_of(run_plan(plan, weights, **options).only, weight_file=weights)
    del document["timings"]
    return json.dumps(document)

shared = text_of(engine="ray", workers=2)
study_given = len(given)
try:
    engine_ray.RayPool(SimpleNamespace(plan=SimpleNamespace(threads=100_000)))
    refused = False
except BadInput as error:
    refused = "no machine of the cluster has so many processors" in str(error)

questions = {name: load_questions(name, folder=sys.argv[2], limit=3) for name in ("sounds", "sums")}
asked = plan_of(
    weights=weights.id, hardware=[weights.hardware], chips=1, times_s=(60.0,),
    tasks=[{"kind": "harness", "label": name, "task": name, "questions_id": each.id, "questions": len(each.items),
            "metric": each.metrics[0], "batch": 64, "margin": 0.3} for name, each in questions.items()],
)

def answers_of(**options):
    study = run_plan(asked, weights, questions=questions, **options)
    documents = [document_of(result, weight_file=weights) for result in study.results]
    return json.dumps([{**each, "timings": {}} for each in documents])

asked_alike = answers_of(engine="ray", workers=2) == answers_of()
found = {"given": study_given, "killed": len(killed), "refused": refused}
print(json.dumps({"asked": asked_alike, "same": shared == text_of(), **found}))
"""


class FakeRay:
    """Two machines, of which the second is lost: the actor that replaces its own never finds room."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self) -> None:
        self.done: dict[object, Any] = {}
        self.made = 0
        self.killed = 0

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 1.0}}] * 2

    def remote(self, **_: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=self.actor)

    def actor(self, *_: Any) -> Any:
        number, self.made = self.made, self.made + 1

        def call(trial: Trial | None = None) -> object:
            reference = object()
            if number == 1 and trial is not None:
                self.done[reference] = ActorDiedError("its machine is gone")
            elif number < 2:
                self.done[reference] = number if trial is None else Outcome(TrialScores({}), {}, {})
            return reference

        return SimpleNamespace(pid=SimpleNamespace(remote=call), run=SimpleNamespace(remote=call))

    def wait(self, references: list[object], **_: Any) -> tuple[list[object], list[object]]:
        return [each for each in references if each in self.done][-1:], []

    def get(self, reference: object) -> Any:
        found = self.done[reference]
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self, _: object) -> None:
        self.killed += 1


class ActorDiedError(RuntimeError):
    """Known to the engine by its name."""


def test_the_trial_of_a_lost_machine_goes_to_one_that_lives(
    plan_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, store = FakeRay(), open_journal(None, plan_with())
    monkeypatch.setattr(engine_ray, "_ray", lambda: ray)
    pool = engine_ray.RayPool(SimpleNamespace(plan=SimpleNamespace(threads=1)))  # type: ignore[arg-type]
    assert pool.idle() == [], "none has answered"
    trials = [Trial("chip", seed, 60.0, "v", "text") for seed in range(4)]
    drive(trials, Schedule({"text": 1}), store, pool)
    assert store.finished() == {trial.name for trial in trials}
    assert ray.made == 3
    assert pool.idle() == [0], "the third still waits for room"
    assert ray.killed == 1, "the lost one, should it live after all"
    monkeypatch.setattr(engine_ray, "START_S", -1.0)
    with pytest.raises(AimcError, match="room for a worker"):
        pool.wait(0.0)


@pytest.mark.under_load
def test_a_cluster_gives_the_same_bytes_also_when_workers_are_killed_twice(
    tiny_weights: Path, tmp_path: Path, local_tasks: Any
) -> None:
    """Of a text, and of questions with answers that are chosen and written."""
    local_tasks.write_text_task(local_tasks.write_choice_task(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", STUDY, str(tiny_weights), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "127.0.0.1:1"},  # no cluster is there
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "asked": True,
        "same": True,
        "given": 8 + 2,
        "killed": 2,
        "refused": True,
    }
