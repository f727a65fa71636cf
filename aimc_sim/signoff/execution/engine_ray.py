"""The Ray engine: workers are actors of a Ray cluster, one that is there or one that is started here.

Every machine must see the weight file under the same path. The journal stays with the process that drives, and the
text, converter ranges and plan travel with the actors: nothing else is read.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from aimc_sim.errors import AimcError, BadInput
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.bench import ModelBench, Outcome, Setup
from aimc_sim.studies.sources import code_version
from aimc_sim.studies.workers import Event

_LOST_WITH_WORKER = (
    "RayActorError",
    "ActorDiedError",
    "ActorUnavailableError",
    "NodeDiedError",
    "OutOfMemoryError",
)
START_S = 600.0  # a cluster that grows by itself takes minutes to find a machine


class TrialActor:
    """An actor runs in a worker of the cluster. Its errors travel as values, so that Ray does not wrap them."""

    def __init__(self, setup: Setup, code: str) -> None:
        self._setup, self._code = setup, code
        self._bench: ModelBench | None = None

    def pid(self) -> int:
        """Return the process id of the worker."""
        return os.getpid()

    def run(self, trial: Trial) -> Outcome | Exception:
        """Score one trial, or say why not."""
        try:
            if self._bench is None:
                mine = code_version(ModelBench.__module__)
                if mine != self._code:
                    raise BadInput(
                        "worker",
                        got=mine,
                        why=f"the study runs with {self._code}; scores of both must not be mixed",
                        do="give every machine the same versions, and processors of one kind",
                    )
                self._bench = ModelBench(self._setup)
            return self._bench.run(trial, lambda: None)
        except Exception as error:
            return error


class RayPool:
    """This is a pool of actors in a Ray cluster. workers: None for one a processor of the cluster. address: None
    starts a cluster here.

    An actor counts as a worker once it has answered: one that replaces the actor of a lost machine may wait for room,
    and a trial that was given to it with it.
    """

    def __init__(
        self,
        setup: Setup,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        self._ray = _ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            self._ray.init(
                address=address or "local", include_dashboard=False, log_to_driver=False, logging_level="error",
                configure_logging=False,
            )  # fmt: skip
        threads = setup.plan.threads
        # An actor that no machine has room for would wait, and its trial with it, for ever.
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        room = sum(int(resources.get("CPU", 0)) // threads for resources in alive)
        if room == 0:
            if self._own:
                self._ray.shutdown()
            raise BadInput(
                "--threads",
                got=threads,
                why="no machine of the cluster has so many processors",
                do="use fewer threads a worker",
            )
        workers = room if workers is None else min(workers, room)
        # A worker's threads decide how many actors a machine holds; max_restarts=0: the pool replaces them itself.
        self._actor = self._ray.remote(num_cpus=threads, max_restarts=0)(TrialActor)
        self._setup = setup
        self._code = code_version(ModelBench.__module__)
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}
        self._running: dict[Any, tuple[int, Trial]] = {}
        self._false_starts = 0
        self._alive = time.monotonic()  # when a worker was last heard of
        for number in range(workers):
            self._start(number)

    def idle(self) -> list[int]:
        """Return the workers that have answered and have no trial."""
        busy = {worker for worker, _ in self._running.values()} | set(self._starting.values())
        return [number for number in self._actors if number not in busy]

    def submit(self, worker: int, trial: Trial) -> None:
        """Let an actor run a trial."""
        self._running[self._actors[worker].run.remote(trial)] = (worker, trial)

    def wait(self, timeout_s: float) -> list[Event]:
        """Wait for trials that end; an actor that died is replaced, wherever the cluster has room."""
        ready, _ = self._ray.wait([*self._running, *self._starting], num_returns=1, timeout=timeout_s)
        if ready or self._running:
            self._alive = time.monotonic()
        elif time.monotonic() - self._alive > START_S:
            raise AimcError(f"no machine of the cluster has had room for a worker for {START_S:g} s")
        events = []
        for reference in ready:
            starts = reference in self._starting
            worker, trial = (self._starting.pop(reference), None) if starts else self._running.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                if type(error).__name__ not in _LOST_WITH_WORKER:
                    raise AimcError(f"the cluster failed: {error}") from None
                self._false_starts += starts
                if self._false_starts > 3 * len(self._actors):
                    raise AimcError(f"workers of the cluster end while they start: {error}") from None
                self._start(worker)
                if trial is not None:
                    events.append(Event(worker, trial))
                continue
            self._false_starts = 0
            if trial is None:
                continue
            if isinstance(outcome, Exception):
                events.append(Event(worker, trial, error=outcome))
            else:
                events.append(Event(worker, trial, outcome=outcome))
        return events

    def close(self) -> None:
        """End the actors; and the cluster, if it was started here."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors, self._running, self._starting = {}, {}, {}
        if self._own:
            self._ray.shutdown()

    def _start(self, worker: int) -> None:
        if worker in self._actors:  # one that does not answer may live and hold its processors
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(self._actors[worker])
        self._actors[worker] = self._actor.remote(self._setup, self._code)
        self._starting[self._actors[worker].pid.remote()] = worker


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
    except ModuleNotFoundError:
        raise BadInput(
            "--engine", got="ray", why="Ray is not installed", do="pip install 'aimc-sim[cluster]'"
        ) from None
    return ray
