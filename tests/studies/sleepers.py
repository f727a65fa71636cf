"""Measurements that take their time, for sweeps that are interrupted: all but the first never end."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Sleeper:
    """Leaves a file in the folder for as long as it works."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"nap {os.getpid()}"
        self._file.touch()

    def __call__(self, names: list[str]) -> dict[str, int]:
        while names != ["0"]:
            time.sleep(0.1)
        return {"0": 0}

    def close(self) -> None:
        """Delete the file."""
        self._file.unlink()


def make(folder: Path) -> Sleeper:
    """The work of one worker."""
    return Sleeper(folder)


def make_deaf(folder: Path) -> Sleeper:
    """The same, of which nothing comes before the exit that the worker is told; that it swallows."""
    (folder / "begun").touch()
    try:
        while True:
            time.sleep(0.1)
    except SystemExit:
        return Sleeper(folder)
