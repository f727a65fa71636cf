"""Where a study keeps what it has measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aimc_sim.report.pages import prepare_folder


@contextmanager
def folder_for(output: str | Path | None) -> Iterator[Path]:
    """Give the output folder, where a study that was stopped goes on, or without one a folder for this study alone."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="aimc-sim-") as name:
            yield Path(name)
    else:
        prepare_folder(Path(output))
        yield Path(output)
