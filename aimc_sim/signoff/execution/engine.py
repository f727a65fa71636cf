"""Engines: how the trials of a plan get computed. Whatever the engine, the same trials give the same bits.

A pool has workers that run one trial at a time. `drive` hands trials out in the order of a `Schedule`, writes what
comes back into the journal, and gives the trial of a worker that died to another.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aimc_sim.errors import AimcError
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.bench import Bench, Outcome
from aimc_sim.signoff.execution.journal import Store
from aimc_sim.signoff.execution.scores import TrialScores

MAX_ATTEMPTS = 3
POLL_S = 1.0


@dataclass(frozen=True)
class Event:
    """The end of a trial on a worker: its outcome, the error that it ended with, or neither where the worker died."""

    worker: int
    trial: Trial
    outcome: Outcome | None = None
    error: Exception | None = None


class Pool(Protocol):
    """Workers. A worker that has died is replaced by the pool itself."""

    def idle(self) -> list[int]:
        """Workers that live and have no trial; one that is still being started is not among them."""

    def submit(self, worker: int, trial: Trial) -> None:
        """Let an idle worker run a trial."""

    def wait(self, timeout_s: float) -> list[Event]:
        """What has ended, at the latest after the timeout; sooner where a worker has started."""

    def close(self) -> None:
        """Stop all workers, whatever they are doing."""


class InProcess:
    """One worker: this process."""

    def __init__(self, bench: Bench, on_step: Callable[[], None] = lambda: None) -> None:
        self._bench, self._on_step = bench, on_step
        self._trial: Trial | None = None

    def idle(self) -> list[int]:
        """This process, between two trials."""
        return [] if self._trial else [0]

    def submit(self, worker: int, trial: Trial) -> None:
        """Keep the trial for `wait`."""
        self._trial = trial

    def wait(self, timeout_s: float) -> list[Event]:
        """Run the trial, however long it takes. Its errors are this process's."""
        trial, self._trial = self._trial, None
        return [] if trial is None else [Event(0, trial, self._bench.run(trial, self._on_step))]

    def close(self) -> None:
        """Let the bench give back its temporary files."""
        close = getattr(self._bench, "close", None)
        if close is not None:
            close()


class Schedule:
    """Which trial a worker takes next.

    Cells that need the same mount go to one worker, one after the other. A free worker takes the mount with the most
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
        """More trials to be done, in the order of the plan."""
        for trial in trials:
            self._waiting.setdefault(trial.mount, []).append(trial)

    @property
    def waits(self) -> bool:
        """Whether a trial is still to be taken."""
        return any(self._waiting.values())

    def take(self, worker: int) -> Trial | None:
        """The next trial for a worker; None where none waits."""
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
        """What a finished trial cost, for the estimates of those that wait."""
        for table, key, stage in (
            (self._mount_s, trial.variant, "program_and_mount"),
            (self._score_s, trial.task, "score"),
        ):
            if trial.kind != "digital" and stage in seconds:
                n, mean = table.get(key, (0, 0.0))
                table[key] = (n + 1, mean + (seconds[stage] - mean) / (n + 1))

    def _cost(self, mount: object) -> float:
        """Estimated seconds that the waiting trials of a mount take."""
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

    Cells that another process has claimed are waited for, and taken over where their claim runs out. Bad input ends the
    run; any other error of a trial, and the death of its worker, is followed by another attempt, up to `MAX_ATTEMPTS`.
    """
    there = store.finished()
    wanted = list(trials)
    for trial in wanted:
        if trial.name in there:
            on_finished(trial)
    schedule.add(trial for trial in wanted if trial.name not in there)
    failures: Counter[str] = Counter()
    elsewhere: list[Trial] = []
    running, looked = 0, time.monotonic()
    while True:
        if elsewhere and time.monotonic() - looked >= POLL_S:
            there, looked = store.finished(), time.monotonic()
            for trial in elsewhere:
                if trial.name in there:
                    on_finished(trial)
            schedule.add(trial for trial in elsewhere if trial.name not in there)
            elsewhere = []
        for worker in pool.idle():
            taken = schedule.take(worker)
            while taken is not None and not store.claim(taken.name):
                elsewhere.append(taken)
                taken = schedule.take(worker)
            if taken is not None:
                pool.submit(worker, taken)
                running += 1
        if not running and not elsewhere and not schedule.waits:
            return
        if not running and not schedule.waits:
            time.sleep(POLL_S / 4)
            continue
        for event in pool.wait(POLL_S):
            running -= 1
            if event.outcome is None:
                _again(event, failures)
                schedule.add([event.trial])
                continue
            outcome = event.outcome
            schedule.measured(event.trial, outcome.seconds)
            scores = mark(event.trial, outcome.scores).to_json()
            store.finish(event.trial.name, scores, outcome.facts, outcome.seconds, str(event.worker))
            on_finished(event.trial)


def _again(event: Event, failures: Counter[str]) -> None:
    """Count a failure; raise where another attempt is of no use."""
    if isinstance(event.error, AimcError):
        raise event.error
    failures[event.trial.name] += 1
    if failures[event.trial.name] >= MAX_ATTEMPTS:
        how = (
            f"with {type(event.error).__name__}: {event.error}" if event.error else "with the worker's death"
        )
        raise AimcError(
            f"trial {event.trial.name} failed {MAX_ATTEMPTS} times, the last time {how}. Next: if memory ran out, use "
            "fewer workers or a smaller batch; finished trials are kept, and the same command goes on from there."
        ) from event.error
