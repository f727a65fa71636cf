"""Workers: the tasks of a study on processes of this machine, or in this one, and what happens where a task fails.

A pool has workers that run one task at a time. `work_off` hands tasks out and gives the task of a worker that died to
another. A worker is a process of its own, so that one that is killed takes nothing but its task with it: executors of
the standard library and of loky end every worker, with what each has mounted, where one of them dies.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from aimc_sim.errors import AimcError

MAX_ATTEMPTS = 3
POLL_S = 1.0
END_S = 300.0  # in which a worker that can end has ended, however busy the machine is


class Bench(Protocol):
    """A bench is what runs tasks; where it has a ``close``, that gives back its temporary files."""

    def run(self, task: Any, on_step: Callable[[], None]) -> Any:
        """Return what a task gives, not None; on_step is called as it gets on."""


@dataclass(frozen=True)
class Event:
    """An event is the end of a task on a worker: its outcome, the error that it ended with, or neither where the
    worker died.
    """

    worker: int
    task: Any
    outcome: Any = None
    error: Exception | None = None


class Pool(Protocol):
    """A pool runs tasks on workers. A worker that has died is replaced by the pool itself."""

    def idle(self) -> list[int]:
        """Return the workers that live and have no task; one that is still being started is not among them."""

    def submit(self, worker: int, task: Any) -> None:
        """Let an idle worker run a task."""

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what has ended, at the latest after the timeout; sooner where a worker has started."""

    def close(self) -> None:
        """Stop all workers, whatever they are doing."""


def work_off(pool: Pool, take: Callable[[int], Any], done: Callable[[Event], None]) -> None:
    """Keep workers busy until no idle one gets a task and none has one.

    take: the next task for a worker, None where there is none now. done: called with the end of a task that has an
    outcome. An AimcError ends the work; any other error of a task, and the death of its worker, is followed by another
    attempt, up to `MAX_ATTEMPTS`.
    """
    failures: Counter[int] = Counter()
    again: list[Any] = []
    running = 0
    while True:
        idle = pool.idle()
        for worker in idle:
            task = again.pop(0) if again else take(worker)
            if task is not None:
                pool.submit(worker, task)
                running += 1
        if idle and not running:
            return
        for event in pool.wait(POLL_S):
            running -= 1
            if event.outcome is not None:
                done(event)
                continue
            failures[id(event.task)] += 1
            _check_worth(event, failures[id(event.task)])
            again.append(event.task)


def _check_worth(event: Event, attempts: int) -> None:
    """Raise where another attempt at a task is of no use."""
    if isinstance(event.error, AimcError):
        raise event.error
    if attempts >= MAX_ATTEMPTS:
        how = (
            f"with {type(event.error).__name__}: {event.error}" if event.error else "with the worker's death"
        )
        raise AimcError(
            f"{getattr(event.task, 'name', 'a task')} failed {attempts} times, the last time {how}. Next: if memory "
            "ran out, use fewer workers or a smaller batch; what is finished is kept, and the same command goes on "
            "from there."
        ) from event.error


class InProcess:
    """This pool has one worker: this process. make_bench: called when the first task comes."""

    def __init__(self, make_bench: Callable[[], Bench], on_step: Callable[[], None] = lambda: None) -> None:
        self._make, self._on_step = make_bench, on_step
        self._bench: Bench | None = None
        self._task: Any = None

    def idle(self) -> list[int]:
        """Return this process, between two tasks."""
        return [0] if self._task is None else []

    def submit(self, worker: int, task: Any) -> None:
        """Keep the task for `wait`."""
        self._task = task

    def wait(self, timeout_s: float) -> list[Event]:
        """Run the task, however long it takes. Its errors are this process's."""
        task, self._task = self._task, None
        if task is None:
            return []
        self._bench = self._bench or self._make()
        return [Event(0, task, self._bench.run(task, self._on_step))]

    def close(self) -> None:
        """Let the bench give back its temporary files."""
        _close(self._bench)


@dataclass
class _Worker:
    """A worker is one process. used: a task was given to it, so that it may have a bench, which has files to give
    back.
    """

    process: Any
    pipe: Connection
    task: Any = None
    used: bool = False


class Processes:
    """This is a pool of worker processes. make_bench: picklable; called in each worker when its first task comes."""

    def __init__(
        self, make_bench: Callable[[], Bench], workers: int, on_step: Callable[[], None] = lambda: None
    ) -> None:
        # Not fork: a process with threads, as torch's, must not be forked.
        self._context = multiprocessing.get_context("spawn")
        self._make, self._on_step = make_bench, on_step
        self._workers = {number: self._start() for number in range(workers)}

    def idle(self) -> list[int]:
        """Return the workers without a task."""
        return [number for number, worker in self._workers.items() if worker.task is None]

    def submit(self, worker: int, task: Any) -> None:
        """Send a task to a worker. One that has died meanwhile is found by `wait`."""
        self._workers[worker].task, self._workers[worker].used = task, True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._workers[worker].pipe.send(task)

    def wait(self, timeout_s: float) -> list[Event]:
        """Return the tasks that have ended."""
        by_pipe = {worker.pipe: number for number, worker in self._workers.items() if worker.task is not None}
        ready = wait(list(by_pipe), timeout_s)
        events = [self._receive(by_pipe[pipe]) for pipe in ready]  # type: ignore[index]
        return [event for event in events if event is not None]

    def close(self) -> None:
        """Stop the workers: idle ones go by themselves, others are told to; a second interrupt kills what is left."""
        workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            # One that still imports torch would see the closed pipe only afterwards, and has nothing to give back.
            if worker.task is not None or not worker.used:
                worker.process.terminate()
            worker.pipe.close()
        _wait_for_end([worker.process for worker in workers])

    def _start(self) -> _Worker:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._make), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()  # so that our end sees the worker's death
        return _Worker(process, mine)

    def _receive(self, number: int) -> Event | None:
        worker = self._workers[number]
        task = worker.task
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.pipe.close()
            _wait_for_end([worker.process])
            self._workers[number] = self._start()
            return Event(number, task)
        if kind == "step":
            self._on_step()
            return None
        worker.task = None
        return Event(number, task, outcome=value) if kind == "done" else Event(number, task, error=value)


def _wait_for_end(processes: Sequence[Any]) -> None:
    """Wait for the end of processes that end by themselves; kill those that hang, at once where the wait is broken."""
    until = time.monotonic() + END_S
    try:
        for process in processes:
            process.join(max(until - time.monotonic(), 0.0))
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep SIGINT from a process that is started inside: it inherits the mask, before its first line. Ours waits."""
    # Started first, because it unblocks SIGINT behind itself.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, make_bench: Callable[[], Bench]) -> None:
    """A worker's life: tasks in, outcomes out, until the other end closes or SIGTERM comes."""
    told = False

    def leave(number: int, frame: Any) -> None:
        """End, so that the bench gives back its temporary files; a second signal ends at once."""
        nonlocal told
        told = True
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(0)

    def go_on() -> None:
        """Leave after all where the code that the signal met swallowed the exit, as imports of some packages do."""
        if told:
            raise SystemExit(0)

    def step() -> None:
        go_on()
        pipe.send(("step", None))

    # The mask is the main thread's; threads that libraries start must ignore an interrupt too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    bench: Bench | None = None
    try:
        while True:
            task = pipe.recv()
            try:
                bench = make_bench() if bench is None else bench
                go_on()
                pipe.send(("done", bench.run(task, step)))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                pipe.send(("failed", _portable(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        _close(bench)


def _close(bench: Bench | None) -> None:
    close = getattr(bench, "close", None)
    if close is not None:
        close()


def _portable(error: Exception) -> Exception:
    """Return the error, or its text where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
