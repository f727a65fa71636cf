"""The local engine: worker processes on this machine, each with its own bench."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.bench import Bench
from aimc_sim.signoff.execution.engine import Event
from aimc_sim.workers import that_fit

_SMALL_WORK = 1e12  # multiply-accumulates below which starting processes costs more than it saves
END_S = 300.0  # in which a worker that can end has ended, however busy the machine is


@dataclass
class _Worker:
    """used: a trial was given to it, so that it may have a bench, which has files to give back."""

    process: Any
    pipe: Connection
    trial: Trial | None = None
    used: bool = False


class Processes:
    """A pool of worker processes. make_bench: picklable; called in each worker when its first trial comes."""

    def __init__(
        self, make_bench: Callable[[], Bench], workers: int, on_step: Callable[[], None] = lambda: None
    ) -> None:
        # Not fork: a process with threads, as torch's, must not be forked.
        self._context = multiprocessing.get_context("spawn")
        self._make, self._on_step = make_bench, on_step
        self._workers = {number: self._start() for number in range(workers)}

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers.values()]

    def idle(self) -> list[int]:
        """Workers without a trial."""
        return [number for number, worker in self._workers.items() if worker.trial is None]

    def submit(self, worker: int, trial: Trial) -> None:
        """Send a trial to a worker. One that has died meanwhile is found by `wait`."""
        self._workers[worker].trial, self._workers[worker].used = trial, True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._workers[worker].pipe.send(trial)

    def wait(self, timeout_s: float) -> list[Event]:
        """Cells that have ended."""
        by_pipe = {
            worker.pipe: number for number, worker in self._workers.items() if worker.trial is not None
        }
        events = []
        for ready in wait(list(by_pipe), timeout_s):
            event = self._receive(by_pipe[ready])  # type: ignore[index]
            if event is not None:
                events.append(event)
        return events

    def close(self) -> None:
        """Stop the workers: idle ones go by themselves, others are told to; a second interrupt kills what is left."""
        workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            # One that still imports torch would see the closed pipe only afterwards, and has nothing to give back.
            if worker.trial is not None or not worker.used:
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
        trial = worker.trial
        assert trial is not None
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.pipe.close()
            _wait_for_end([worker.process])
            self._workers[number] = self._start()
            return Event(number, trial)
        if kind == "step":
            self._on_step()
            return None
        worker.trial = None
        return Event(number, trial, outcome=value) if kind == "done" else Event(number, trial, error=value)


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
    """A process that is started inside never gets SIGINT: it inherits the mask, before its first line. Ours waits."""
    # Started first, because it unblocks SIGINT behind itself.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, make_bench: Callable[[], Bench]) -> None:
    """A worker's life: trials in, outcomes out, until the other end closes or SIGTERM comes."""
    # The parent decides; masks are of threads, and this is of all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    bench: Bench | None = None
    try:
        while True:
            trial = pipe.recv()
            try:
                bench = make_bench() if bench is None else bench
                pipe.send(("done", bench.run(trial, lambda: pipe.send(("step", None)))))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                pipe.send(("failed", _portable(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        close = getattr(bench, "close", None)
        if close is not None:
            close()


def _leave(number: int, frame: Any) -> None:
    """End, so that the bench gives back its temporary files; a second signal ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(0)


def _portable(error: Exception) -> Exception:
    """The error, or its text where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def default_workers(parameters: int, tokens: int, trials: int, threads: int = 1) -> int:
    """How many worker processes: as many as there are processors for, and memory; 1, this one itself, for little work.

    parameters: of the model; tokens: scored by one trial; trials: of the plan; threads: of one worker.
    """
    if float(parameters) * (tokens + 500) * trials < _SMALL_WORK:
        return 1
    # Two bytes a weight in the tiles, and as much again while a matrix is programmed.
    return max(1, min(that_fit(4 * parameters, threads), trials))
