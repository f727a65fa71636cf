"""A sign-off that is killed and run again ends with the bytes of one that never was (20 times in `benchmarks`)."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.signoff_resume import Tally, command, compared, finished, study

# Killed where its journal says its so-manieth word to SQLite, whenever that is; or says how many there were.
COUNTED = """
import os, signal, sys
from aimc_sim.studies import store
connect, said, last = store._connect, [], int(sys.argv[1])
def counted(path):
    connection = connect(path)
    def count(statement):
        said.append(statement)
        if len(said) == last:
            os.kill(os.getpid(), signal.SIGKILL)
    connection.set_trace_callback(count)
    return connection
store._connect = counted
from aimc_sim.cli.app import main
sys.argv = ["aimc-sim", *sys.argv[2:]]
try:
    main()
finally:
    print(len(said))
"""


def run(weights: Path, folder: Path, word: float) -> subprocess.CompletedProcess[str]:
    """The command, which ends at that word of its journal; at 0 it ends by itself."""
    line = [sys.executable, "-c", COUNTED, str(int(word)), *command(weights, folder)]
    return subprocess.run(line, capture_output=True, text=True)


def killed(weights: Path, folder: Path, word: float) -> bool:
    return run(weights, folder, word).returncode == -signal.SIGKILL


@pytest.mark.under_load
def test_a_sign_off_that_was_killed_ends_with_the_same_bytes(tiny_weights: Path, tmp_path: Path) -> None:
    """At a third, and at a third of the words once more: amid the trials both times."""
    done = run(tiny_weights, tmp_path / "whole", 0)
    assert done.returncode in (0, 1), done.stderr
    words, all_trials, tally = int(done.stdout.splitlines()[-1]), finished(tmp_path / "whole"), Tally()
    assert study(tiny_weights, tmp_path / "other", [words / 3] * 2, all_trials, tally, killed)
    assert compared(tmp_path / "other") == compared(tmp_path / "whole")
    assert tally == Tally(kills=2, while_scoring=2, studies=1)
