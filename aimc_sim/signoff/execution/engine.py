"""Which trial of a plan is computed when, and by whom. Whoever computes it, the same trial gives the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.scores import TrialScores
from aimc_sim.studies.store import Store
from aimc_sim.studies.workers import POLL_S, Event, Pool, work_off


class Schedule:
    """A schedule says which trial a worker takes next.

    Trials that need the same mount go to one worker, one after the other. A free worker takes the mount with the most
    expensive trials left, by the costs measured so far (longest first: Graham, SIAM J. Appl. Math. 17, 1969), and where
    every mount is taken it steals a trial from the one with the most left.
    """

    def __init__(self, steps: Mapping[str, int]) -> None:
        self._steps = dict(steps)  # batches of each task: the first guess of its cost
        self._waiting: dict[object, list[Trial]] = {}
        self._at: dict[int, object] = {}
        self._mount_s: dict[str, tuple[int, float]] = {}
        self._score_s: dict[str, tuple[int, float]] = {}

    def add(self, trials: Iterable[Trial]) -> None:
        """Add trials to be done, in the order of the plan."""
        for trial in trials:
            self._waiting.setdefault(trial.mount, []).append(trial)

    def take(self, worker: int) -> Trial | None:
        """Take the next trial for a worker; None where none waits."""
        mine = self._at.get(worker)
        if not self._waiting.get(mine):
            taken = {mount for other, mount in self._at.items() if other != worker}
            left = [mount for mount, trials in self._waiting.items() if trials]
            if not left:
                self._at.pop(worker, None)
                return None
            free = [mount for mount in left if mount not in taken] or left
            mine = max(free, key=self._cost)  # the first of equals: the order of the plan
            self._at[worker] = mine
        return self._waiting[mine].pop(0)

    def measured(self, trial: Trial, seconds: Mapping[str, float]) -> None:
        """Note what a finished trial cost, for the estimates of those that wait."""
        for table, key, stage in (
            (self._mount_s, trial.variant, "program_and_mount"),
            (self._score_s, trial.task, "score"),
        ):
            if trial.kind != "digital" and stage in seconds:
                n, mean = table.get(key, (0, 0.0))
                table[key] = (n + 1, mean + (seconds[stage] - mean) / (n + 1))

    def _cost(self, mount: object) -> float:
        """Estimate the seconds that the waiting trials of a mount take."""
        trials = self._waiting[mount]
        if trials[0].kind == "digital":
            return float("inf")  # first: every other trial needs what it computes
        mounting = self._mount_s.get(trials[0].variant, (0, 1.0))[1]
        scale = sum(mean for _, mean in self._score_s.values()) / max(
            sum(self._steps.get(task, 1) for task in self._score_s), 1
        )
        return mounting + sum(
            self._score_s.get(trial.task, (0, (scale or 1.0) * self._steps.get(trial.task, 1)))[1]
            for trial in trials
        )


def drive(
    trials: Iterable[Trial],
    schedule: Schedule,
    store: Store,
    pool: Pool,
    on_finished: Callable[[Trial], None] = lambda trial: None,
    mark: Callable[[Trial, TrialScores], TrialScores] = lambda trial, scores: scores,
) -> None:
    """Run trials until the store holds every one of them, whoever computed it. mark: a worker's answers → scores.

    Trials that another process has claimed are waited for, and taken over where their claim runs out. Failures are
    those of `work_off`.
    """
    elsewhere = list(trials)
    looked = 0.0

    def look() -> None:
        """Tell which trials are finished by now, and let the schedule have the others."""
        nonlocal looked
        finished, looked = store.finished(), time.monotonic()
        for trial in elsewhere:
            if trial.name in finished:
                on_finished(trial)
        schedule.add(trial for trial in elsewhere if trial.name not in finished)
        elsewhere.clear()

    def take(worker: int) -> Trial | None:
        if elsewhere and time.monotonic() - looked >= POLL_S:
            look()
        while (trial := schedule.take(worker)) is not None and not store.claim(trial.name):
            elsewhere.append(trial)
        return trial

    def done(event: Event) -> None:
        trial, outcome = event.task, event.outcome
        schedule.measured(trial, outcome.seconds)
        scores = mark(trial, outcome.scores).to_json()
        store.finish(trial.name, scores, outcome.facts, outcome.seconds, str(event.worker))
        on_finished(trial)

    look()
    work_off(pool, take, done)
    while elsewhere:
        time.sleep(POLL_S / 4)
        work_off(pool, take, done)
