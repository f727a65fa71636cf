"""Worker processes of a sweep: tasks in, results out, in whatever order they end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.util import Finalize
from typing import Any

from aimc_sim.errors import AimcError
from aimc_sim.workers import that_fit

Work = Callable[[Any], Any]
_work: Work | None = None  # of this worker process


class Pool:
    """Processes that work on tasks. make: picklable; called once in each, gives the function that does the work, and
    closes it at the end where it has a ``close``.

    One worker is this process, with its threads as they are; several have one thread each.
    """

    def __init__(self, make: Callable[[], Work], workers: int) -> None:
        self._make = make
        self._work: Work | None = None
        # Not fork: a process with threads, as torch's, must not be forked.
        self._pool = (
            ProcessPoolExecutor(workers, get_context("spawn"), _start, (make,)) if workers > 1 else None
        )

    def run(self, tasks: Iterable[Any], done: Callable[[Any, Any], None]) -> None:
        """done(task, result) for every task, as they end. Raises what a task raised, AimcError where a worker died."""
        waiting = list(tasks)
        if self._pool is None:
            for task in waiting:
                self._work = self._work or self._make()
                done(task, self._work(task))
            return
        try:
            futures = {self._pool.submit(_run, task): task for task in waiting}
            for future in as_completed(futures):
                done(futures[future], future.result())
        except BrokenProcessPool:
            raise AimcError(
                "a worker process ended, perhaps for want of memory. Next: run the same command again, which goes on "
                "where it stopped, with --workers 1."
            ) from None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        _close(self._work)


def default_workers(parameters: int, tasks: int) -> int:
    """One a processor, as far as memory and tasks go. parameters: of the model."""
    # The file is mapped and shared; a worker holds two bytes a weight, and twice that while a matrix is programmed.
    return max(1, min(that_fit(6 * parameters), tasks))


def _start(make: Callable[[], Work]) -> None:
    global _work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    _work = make()
    Finalize(None, _close, (_work,), exitpriority=10)  # multiprocessing ends its processes without atexit


def _close(work: Work | None) -> None:
    """Let the work give back its temporary files."""
    close = getattr(work, "close", None)
    if close is not None:
        close()


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers to go."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(task: Any) -> Any:
    assert _work is not None
    return _work(task)
