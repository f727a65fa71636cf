"""Question: does a sign-off that is killed with ``kill -9`` again and again end with the bytes of one that never was?

A small plan on the tests' model is run once to the end; then it is killed at random moments, while it prepares or while
its trials are scored, and run again with the same command until it ends, in a new folder after each end, until 20 kills
have hit. Goals: no report.json differs in anything but its timings, and no finished trial is lost.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from aimc_sim.signoff.execution.run import JOURNAL
from aimc_sim.torch_bridge.sampling import uniforms
from benchmarks.harness import Row, main, missed, process, start
from benchmarks.tiny_model import weights as tiny_weights

KILLS, SEED = 20, 6
PLAN = (
    "--sequences",
    "4",
    "--length",
    "24",
    "--chips",
    "4",
    "--times",
    "1m,1h,1d",
    "--margin",
    "5",
    "--workers",
    "1",
)
SMALLEST = {
    "KILLS": 1, "PLAN": ("--sequences", "2", "--length", "12", "--chips", "2", "--times", "1m", *PLAN[8:]),
}  # fmt: skip
TOGETHER = 4  # kills that one study shall meet, about
POLL_S = 0.02


@dataclass
class Tally:
    """What the kills did. while_scoring: kills between the first finished trial and the last; different: studies whose
    report is not that of the run without kills; lost: finished trials that a kill took away."""

    kills: int = 0
    while_scoring: int = 0
    studies: int = 0
    different: int = 0
    lost: int = 0


Starts = Callable[
    [str, Sequence[str], IO[str], Mapping[str, str]], Any
]  # `process`, or `start` of the harness


def command(weights: Path, folder: Path) -> list[str]:
    """List the words behind aimc-sim."""
    return ["signoff", str(weights), *PLAN, "-o", str(folder)]


def begin(starts: Starts, weights: Path, folder: Path) -> Any:
    """Start the command, in a process of its own unless it need not be killed and the size is the smallest."""
    with _log(folder).open("w", encoding="utf-8") as log:
        return starts("aimc_sim.cli.app", command(weights, folder), log, {})


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def ended(run: Any, folder: Path, codes: tuple[int, ...] = (0, 1)) -> None:
    """Wait for the end of a run: pass or fail, but no error."""
    if run.wait() not in codes:
        said = _log(folder).read_text("utf-8")[-2000:]
        raise RuntimeError(f"aimc-sim signoff ended with {run.returncode}: {said}")


def compared(folder: Path) -> bytes:
    """The part of report.json that is compared: all but the timings, which come last."""
    before, found, _ = (folder / "report.json").read_bytes().partition(b'\n "timings":')
    if not found:
        raise RuntimeError("report.json has no timings")
    return before


def finished(folder: Path) -> int:
    """Trials in the journal; SQLite rolls back what a kill has left half done."""
    path = folder / JOURNAL
    if not path.exists():
        return 0
    with sqlite3.connect(path, timeout=60) as journal:
        tables = journal.execute("SELECT count(*) FROM sqlite_master WHERE name = 'cells'").fetchone()[0]
        found = int(journal.execute("SELECT count(*) FROM cells").fetchone()[0]) if tables else 0
    journal.close()
    return found


def written(folder: Path) -> int:
    """When the journal was last written to; 0 before it is there."""
    path = folder / JOURNAL
    return path.stat().st_mtime_ns if path.exists() else 0


def begun(starts: Starts, weights: Path, folder: Path) -> Any:
    """Start the command and wait until it writes to its journal, before which there is nothing to lose, or ends."""
    before = written(folder)
    run = begin(starts, weights, folder)
    while written(folder) == before and run.poll() is None:
        time.sleep(POLL_S)
    return run


def whole(weights: Path, folder: Path) -> float:
    """Run without a kill → the seconds from its journal to its end; none where there was no process to watch."""
    run, since = begun(start, weights, folder), time.perf_counter()
    ended(run, folder)
    return time.perf_counter() - since


def killed(weights: Path, folder: Path, delay: float) -> bool:
    """Run until so many seconds after the first write to the journal, then kill. False where it had ended before."""
    run = begun(process, weights, folder)
    try:
        run.wait(timeout=delay)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
    ended(run, folder, (0, 1, -signal.SIGKILL))
    return bool(run.returncode == -signal.SIGKILL)


def study(
    weights: Path,
    folder: Path,
    moments: list[float],
    all_trials: int,
    tally: Tally,
    kill: Callable[[Path, Path, float], bool] = killed,
) -> bool:
    """One study, killed at each of the moments, and then left to end. False where one came too late.

    kill: runs it until a moment, which is a delay in seconds for `killed`, and says whether that came.
    """
    there = 0
    for moment in moments:
        if not kill(weights, folder, moment):
            tally.studies += 1
            return False
        trials = finished(folder)
        tally.kills += 1
        tally.while_scoring += 0 < trials < all_trials
        tally.lost += max(there - trials, 0)
        there = trials
    ended(begin(start, weights, folder), folder)
    tally.studies += 1
    return True


def kill_again_and_again(weights: Path, folder: Path, kills: int, seed: int = SEED) -> Tally:
    """Kill at `kills` random moments; the folder is for the studies."""
    seconds = whole(weights, folder / "whole")
    expected, all_trials, tally = compared(folder / "whole"), finished(folder / "whole"), Tally()
    for number in range(4 * kills):
        if tally.kills >= kills:
            break
        at_most = min(TOGETHER, kills - tally.kills)
        moments = uniforms(np.arange(at_most, dtype=np.int64), number, seed)
        out = folder / f"{number}"
        hit = study(weights, out, [float(moment) * seconds for moment in moments], all_trials, tally)
        # The machine may be faster by now, and a study that goes on has less left to do.
        seconds = seconds if hit else 0.6 * seconds
        tally.different += compared(out) != expected
    return tally


def rows_of(tally: Tally) -> list[Row]:
    """Figures with their goals."""
    return [
        Row("kills that hit", tally.kills, "kills", KILLS, at_least=True),
        Row("    of them while trials were being scored", tally.while_scoring, "kills"),
        Row("studies that ended", tally.studies, "studies"),
        Row("    with other bytes than without a kill", tally.different, "studies", 0),
        Row("finished cells that a kill took away", tally.lost, "cells", 0),
    ]


def measure() -> tuple[list[Row], Any]:
    """Twenty kills."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="aimc-resume-") as name:
        folder = Path(name)
        tally = kill_again_and_again(tiny_weights(folder), folder, KILLS)
    return rows_of(tally), asdict(tally)


if __name__ == "__main__":
    rows = main(__doc__.splitlines()[0], measure)
    sys.exit(1 if missed(rows) else 0)
