"""Blocks on threads: every block once, errors come back, a forked child does not hang."""

from __future__ import annotations

import subprocess
import sys
from threading import Lock

import pytest
import torch

from aimc_sim.kernels import parallel


@pytest.fixture(autouse=True)
def _restored() -> object:
    yield
    parallel.set_num_threads(None)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_block_runs_once(threads: int) -> None:
    assert torch.get_num_threads() >= 1
    parallel.set_num_threads(threads)
    seen, lock = [], Lock()

    def work(start: int, stop: int) -> None:
        with lock:
            seen.extend(range(start, stop))

    parallel.run_blocks(work, 103, 10)
    assert sorted(seen) == list(range(103))
    parallel.run_blocks(work, 0, 10)


def test_an_error_comes_back_and_the_team_lives_on() -> None:
    parallel.set_num_threads(3)

    def fail(start: int, stop: int) -> None:
        raise KeyError(start)

    for _ in range(3):
        with pytest.raises(KeyError):
            parallel.run_blocks(fail, 30, 10)


def test_threads_must_be_a_number() -> None:
    for bad in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="whole number"):
            parallel.set_num_threads(bad)  # type: ignore[arg-type]


@pytest.mark.under_load
def test_a_forked_child_works_alone() -> None:
    code = (
        "import os, torch\n"
        "from aimc_sim.kernels import parallel\n"
        "parallel.set_num_threads(2)\n"
        "parallel.run_blocks(lambda a, b: None, 4, 1)\n"
        "pid = os.fork()\n"
        "seen = []\n"
        "parallel.run_blocks(lambda a, b: seen.append(a), 4, 1)\n"
        "assert sorted(seen) == [0, 1, 2, 3]\n"
        "if pid: assert os.waitpid(pid, 0)[1] == 0\n"
        "else: os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
