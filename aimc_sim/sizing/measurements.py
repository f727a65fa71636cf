"""What a sweep or a placement study has measured: by name from its store, and the missing ones from workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import Self

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.identity import Difference
from aimc_sim.studies.store import Kind, Store
from aimc_sim.studies.workers import POLL_S, Event, InProcess, Pool, Processes, work_off

Work = Callable[
    [Any], dict[str, Any]
]  # a task → measurements by name; closed at the end where it has a ``close``


def _another(differences: Sequence[Difference]) -> str:
    fields = list(dict.fromkeys(difference.where.partition(".")[0] for difference in differences))
    return f"the folder holds another sweep: its {', '.join(fields)} {'differs' if len(fields) == 1 else 'differ'}"


SWEEP = Kind("sweep", "measurement", _another, "choose another folder with -o, or delete that file")


def check_workers(workers: int | None) -> None:
    """Raise BadInput for a count of workers below one; None stands for as many as pay off."""
    if workers is not None and workers < 1:
        raise BadInput("workers", got=workers, why="somebody has to do it", do="use 1 or more")


class Measurements:
    """Measurements keep the results of a plan by name: a context manager around its store and its workers.

    path, plan: of the store. make: picklable; called once in each worker, gives the function that measures. workers:
    one is this process, with its threads as they are; several have one thread each. tell(stage, done, total).
    """

    def __init__(self, path: Path, plan: Any, make: Callable[[], Work], workers: int, tell: Progress) -> None:
        self._store = Store(path, plan, SWEEP)
        self._make, self._workers, self.tell = make, workers, tell
        self._pool: Pool | None = None
        self.values = self._store.values()

    def measure(
        self,
        stage: str,
        names: Sequence[str],
        chunks: Callable[[list[str]], Iterable[list[str]]],
        task_of: Callable[[list[str]], Any] = lambda names: names,
        here: Work | None = None,
    ) -> None:
        """Measure what is missing of these names, or wait for whom measures it.

        chunks: missing names → those that one task measures; task_of: names → what the worker is given; here: done by
        this process, with this function.
        """
        self.tell(stage, sum(name in self.values for name in names), len(names))

        def done(event: Event) -> None:
            self.keep(event.outcome, str(event.worker))
            self.tell(stage, sum(name in self.values for name in names), len(names))

        while missing := [name for name in names if name not in self.values]:
            if here is None and self._pool is None:
                self._pool = self._start()
            pool = self._pool if here is None else InProcess(partial(_Bench, lambda: here))
            assert pool is not None
            waiting = iter(chunks(missing))

            def take(worker: int, waiting: Iterable[list[str]] = waiting) -> Any:
                for chunk in waiting:
                    mine = [name for name in chunk if self._store.claim(name)]
                    if mine:
                        return task_of(mine)
                return None

            work_off(pool, take, done)
            self.values = self._store.values()
            if any(name not in self.values for name in missing):
                time.sleep(POLL_S / 4)  # others have claimed them

    def keep(self, measured: dict[str, Any], worker: str = "") -> None:
        """Write measurements, each whole or not at all."""
        for name, value in measured.items():
            self._store.finish(name, value, {}, {}, worker)
        self.values |= measured

    def _start(self) -> Pool:
        if self._workers == 1:
            return InProcess(partial(_Bench, self._make))
        return Processes(partial(_Bench, self._make, threads=1), self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if self._pool is not None:
                self._pool.close()
        finally:
            self._store.__exit__(*error)


class _Bench:
    """A bench is a function of a task as workers run it. threads: of torch, None as they are."""

    def __init__(self, make: Callable[[], Work], threads: int | None = None) -> None:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        self._work = make()

    def run(self, task: Any, on_step: Callable[[], None]) -> dict[str, Any]:
        """Return the measurements of a task."""
        return self._work(task)

    def close(self) -> None:
        """Let the work give back its temporary files."""
        close = getattr(self._work, "close", None)
        if close is not None:
            close()
