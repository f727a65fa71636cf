"""Every import from a place that no document names. A module that moves is followed here, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimc_sim.calibrate.cache import cache_folder, fits, name_of, read
from aimc_sim.chip.ranges import ranges_id
from aimc_sim.signoff.execution import run
from aimc_sim.signoff.execution.bench import ModelBench
from aimc_sim.signoff.execution.texts import windows_from_json
from aimc_sim.signoff.report.files import write
from aimc_sim.sizing import accuracy
from aimc_sim.studies import sources
from aimc_sim.studies.sources import code_version

__all__ = ["cache_folder", "fits", "name_of", "ranges_id", "read", "windows_from_json", "write"]
USERS_OF_CODE_VERSION = (
    sources,
    run,
)  # loaded before they are patched: one takes the function from the other
STORE = "aimc_sim.studies.store.Store"
CACHE_FOLDER = "aimc_sim.calibrate.cache.cache_folder"  # where `program` looks for ranges


def as_code(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Let commands take the code for that of ``line``, the version in a journal or a sweep."""
    for module in USERS_OF_CODE_VERSION:
        monkeypatch.setattr(module, "code_version", lambda *modules: line)


def with_ranges_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let `program` keep ranges in a folder of the test."""
    monkeypatch.setattr(CACHE_FOLDER, lambda: folder)


def without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a sweep keeps a measurement: all of them are there already."""

    def finish(self: Any, name: str, *_: Any) -> None:
        raise AssertionError(f"measured again: {name}")

    monkeypatch.setattr(f"{STORE}.finish", finish)


def running_code(*, sweep: bool = False) -> str:
    """The version of the code that scores, or that measures a sweep, as it runs."""
    return code_version(accuracy.__name__ if sweep else ModelBench.__module__)
