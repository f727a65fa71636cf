"""The ledger over a whole run: in one process and summed over the workers of pytest-xdist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LEDGER = 'budget = 1e-6\n[assertions]\n"mine" = { alpha = 1e-9, times = TIMES }\n'
TESTS = """
import pytest
from aimc_sim.testing import assert_mean_normal

@pytest.mark.parametrize("case", range(4))
def test_mine(ledger, case):
    assert_mean_normal([0.0], mean=0, sigma=1, alpha=ledger.spend("mine"))
"""


def suite(folder: Path, *args: str, times: int, tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\nalpha_ledger = ledger.toml\n")
    (folder / "conftest.py").write_text('pytest_plugins = ["aimc_sim.testing.pytest_plugin"]\n')
    (folder / "ledger.toml").write_text(LEDGER.replace("TIMES", str(times)))
    (folder / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    "workers", [(), ("-n", "2", "--dist", "each"), ("-n", "2")], ids=["one", "each", "two"]
)
def test_as_many_assertions_as_registered_pass(tmp_path: Path, workers: tuple[str, ...]) -> None:
    done = suite(tmp_path, *workers, times=8 if "each" in workers else 4)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_more_than_registered_fails_though_no_worker_sees_it(tmp_path: Path) -> None:
    """Four assertions, two a worker, three registered: only the sum over the workers is wrong."""
    done = suite(tmp_path, "-n", "2", "--dist", "each", times=7)
    assert "8 passed" in done.stdout
    assert "alpha ledger: the assertion 'mine' is registered 7 times and was made 8 times" in done.stdout
    assert done.returncode == 1


def test_one_more_than_registered_fails_in_one_process(tmp_path: Path) -> None:
    done = suite(tmp_path, times=3)
    assert "1 failed, 3 passed" in done.stdout
    assert done.returncode == 1


def test_an_assertion_with_an_alpha_of_its_own_fails(tmp_path: Path) -> None:
    own = TESTS.replace('ledger.spend("mine")', "1e-9")
    done = suite(tmp_path, times=4, tests=own)
    assert "is not from the ledger" in done.stdout
    assert done.returncode == 1


def test_a_ledger_above_its_budget_stops_the_run(tmp_path: Path) -> None:
    done = suite(tmp_path, times=1001)
    assert done.returncode != 0
    assert "adds up to 1.001e-06" in done.stdout + done.stderr
