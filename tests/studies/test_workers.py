"""Worker processes end when they are told to, give back their files, and are killed only where they hang."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.signoff.design.trials import Trial
from aimc_sim.sizing.measurements import _Bench
from aimc_sim.studies import workers
from aimc_sim.studies.workers import Processes

pytestmark = pytest.mark.under_load
HANG_S = 300  # only a hang takes so long


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """obstinate.Bench, which workers find too: they start with our path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return import_module("obstinate").Bench


def trial(task: str) -> Trial:
    return Trial("chip", 0, 60.0, "v", task)


def test_workers_that_are_starting_leave_an_interrupt_to_their_parent() -> None:
    """Ctrl-C goes to the whole group, also while a worker still imports torch: here until both have answered."""
    program = (
        "import os, signal\n"
        "from aimc_sim.signoff.design.trials import Trial\n"
        "from aimc_sim.studies.workers import Processes\n"
        "seen, errors = [], []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "pool = Processes(dict, 2)\n"
        "assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), 'ours is as it was'\n"
        "processes = [worker.process for worker in pool._workers.values()]\n"
        "for worker in (0, 1):\n    pool.submit(worker, Trial('chip', worker, 60.0, 'v', 'text'))\n"
        "while len(errors) < 2:\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "    errors += [type(event.error).__name__ for event in pool.wait(0.05)]\n"
        "pool.close()\n"
        "print(bool(seen), *errors, *(process.exitcode for process in processes))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=HANG_S,
    )
    said = "True AttributeError AttributeError 0 0\n"
    assert (done.stdout, done.stderr) == (said, ""), "a dict runs no trial"


def test_closing_tells_workers_that_are_starting_to_end() -> None:
    """They would see that their pipe is closed only when torch is imported. By then SIGTERM is a way to end well."""
    pool = Processes(dict, 2)
    processes = [worker.process for worker in pool._workers.values()]
    pool.close()
    assert {process.exitcode for process in processes} <= {-signal.SIGTERM, 0}
    assert pool.idle() == []


@pytest.mark.parametrize("task", ["endless", "short"])
def test_a_worker_gives_back_its_files_whether_it_has_a_trial_or_not(
    task: str, bench: Any, tmp_path: Path
) -> None:
    """An interrupted study would otherwise leave the digital model's logits, gigabytes of them."""
    begun: list[Path] = []
    pool = Processes(partial(bench, tmp_path / "file"), 1, lambda: begun.extend(tmp_path.iterdir()))
    (process,) = (worker.process for worker in pool._workers.values())
    pool.submit(0, trial(task))
    ended: list[object] = []
    for _ in range(HANG_S):
        if begun and (ended or task == "endless"):
            break
        ended += pool.wait(1.0)
    assert begun == [tmp_path / "file"]
    assert len(ended) == (task == "short")
    pool.close()
    assert process.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_hangs_is_killed(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Processes(partial(bench, tmp_path / "file", hangs=True), 1)
    (process,) = (worker.process for worker in pool._workers.values())
    pool.submit(0, trial("short"))
    for _ in range(HANG_S):
        if pool.wait(1.0):
            break
    monkeypatch.setattr(workers, "END_S", 0.1)
    pool.close()
    assert process.exitcode == -signal.SIGKILL


def test_a_second_interrupt_waits_for_nobody(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Processes(partial(bench, tmp_path / "file", hangs=True), 1)
    (process,) = (worker.process for worker in pool._workers.values())
    pool.submit(0, trial("short"))
    for _ in range(HANG_S):
        if pool.wait(1.0):
            break
    join, asked = process.join, []

    def interrupted(timeout: float | None = None) -> None:
        asked.append(timeout)
        if len(asked) == 1:
            raise KeyboardInterrupt
        join(timeout)

    monkeypatch.setattr(process, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    assert process.exitcode == -signal.SIGKILL
    assert asked[0] == pytest.approx(workers.END_S, rel=0.5), "time for a machine that is busy"


def test_the_task_of_a_killed_worker_is_done_by_another(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is stopped first: it could be done before it is killed."""
    submit, given = Processes.submit, []

    def submit_and_kill(self: Processes, worker: int, task: Any) -> None:
        given.append(task)
        pid = self._workers[worker].process.pid
        if len(given) == 2:
            os.kill(pid, signal.SIGSTOP)
        submit(self, worker, task)
        if len(given) == 2:
            os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(Processes, "submit", submit_and_kill)
    tasks, ended = [trial(f"short {number}") for number in range(4)], []
    pool, waiting = Processes(partial(bench, tmp_path / "file"), 2), iter(tasks)
    workers.work_off(pool, lambda worker: next(waiting, None), lambda event: ended.append(event.task))
    pool.close()
    assert sorted(ended) == tasks
    assert len(given) == 5, "one was given twice"
    assert list(tmp_path.iterdir()) == []


def test_a_worker_ends_though_an_import_swallowed_the_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    make = partial(_Bench, partial(import_module("sleepers").make_deaf, tmp_path))
    pool = Processes(make, 1)
    process = pool._workers[0].process
    pool.submit(0, ["1"])
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    pool.close()
    assert process.exitcode == 0, "it was not killed"
    assert [path.name for path in tmp_path.iterdir()] == ["begun"], "it gave back its file"


SWEEP = """
import sys
import time
from functools import partial
from pathlib import Path
from aimc_sim.sizing.measurements import Measurements
from aimc_sim.spec import Spec
from sleepers import make
class Plan(Spec):
    a: int = 1
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    names = [str(number) for number in range(4)]
    with Measurements(folder / "s.sqlite", Plan(), partial(make, folder), 2, print) as measurements:
        measurements.measure("naps", names, lambda missing: [[name] for name in missing])
"""


def gone(group: int) -> bool:
    """Whether a process group ends: the tracker that Python starts beside workers ends after its parent."""
    for _ in range(10 * HANG_S):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_an_interrupted_sweep_ends_its_workers_and_leaves_whole_rows(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole group: workers leave it to their parent, which lets them give back their files."""
    program = tmp_path / "sweep.py"
    program.write_text(SWEEP)
    folder = tmp_path / "out"
    folder.mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    sweep = subprocess.Popen(
        [sys.executable, str(program), str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert sweep.stdout is not None
    assert sweep.stdout.readline() == "naps 0 4\n"
    assert sweep.stdout.readline() == "naps 1 4\n", "the first nap is short"
    os.killpg(sweep.pid, signal.SIGINT)
    _, said = sweep.communicate(timeout=HANG_S)
    assert sweep.returncode == -signal.SIGINT
    assert said.count("KeyboardInterrupt") == 1, said
    assert [path.name for path in folder.iterdir()] == ["s.sqlite"]
    assert gone(sweep.pid)
    with sqlite3.connect(folder / "s.sqlite") as raw:
        assert raw.execute("SELECT name, scores FROM cells").fetchall() == [("0", "0")]
        assert raw.execute("SELECT * FROM claims").fetchall() == []
    raw.close()
