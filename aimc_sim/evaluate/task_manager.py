"""lm-evaluation-harness as a library: its tasks by name, without its logs."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from aimc_sim.errors import BadInput


@lru_cache(maxsize=8)
def _stock() -> Any:
    """List every task of the harness by name: reading the files takes ten seconds."""
    return harness_module().tasks.TaskManager()


def task_manager(folder: str | None, rows: str | None) -> Any:
    """Find tasks: those of a folder, with ``rows`` as their metadata, or every one of the harness."""
    if folder is None:
        return _stock()
    metadata = None if rows is None else {"rows": rows}
    return harness_module().tasks.TaskManager(include_path=folder, include_defaults=False, metadata=metadata)


def harness_module() -> Any:
    """Import lm-evaluation-harness. Raises BadInput where it is not installed."""
    try:
        import lm_eval
        import lm_eval.tasks
    except ModuleNotFoundError:
        raise BadInput(
            "tasks", why="lm-evaluation-harness is not installed", do="pip install 'aimc-sim[eval]'"
        ) from None
    return lm_eval


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness inside from logging and drawing progress bars: what goes wrong comes as an error."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        sys.stderr.flush()
