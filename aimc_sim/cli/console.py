"""What commands write: results to stdout, progress and errors to stderr, JSON that is nothing but JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import BadInput
from aimc_sim.identity import finite_json

if TYPE_CHECKING:
    from rich.console import Console

    from aimc_sim.aliases import Progress  # it brings NumPy, which help needs not
    from aimc_sim.report.shown import Shown

LINE_EVERY_S = 15.0


def print_json(document: Any) -> None:
    """Print one JSON document on stdout. Numbers that JSON has no word for (NaN, infinity) become null."""
    sys.stdout.write(json.dumps(finite_json(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def error_line(error: Exception | str) -> None:
    """Print one clean message on stderr: what was wrong, then what to do."""
    if isinstance(error, BadInput) and error.do:
        text = str(error).removesuffix(f" Next: {error.do.rstrip('.')}.")
        sys.stderr.write(f"error: {text}\nnext: {error.do}\n")
    else:
        sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()


def print_account(account: Mapping[str, Any]) -> None:
    """Print on stderr, one line each, what share ran in tiles, in which arithmetic, and notes. Empty: the digital
    model.
    """
    lines = ["coverage: the digital model, nothing is analog"]
    if account:
        lines = [f"coverage: {account['coverage']['summary']}", f"arithmetic: {account['arithmetic']}"]
        lines += [f"note: {note}" for note in account["notes"]]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print a table on stdout; columns of numbers are set right."""
    from aimc_sim.report.shown import table_of

    stdout_console().print(table_of(columns, rows, title))


def print_shown(result: Shown, as_json: bool = False) -> None:
    """Print a result on stdout, as it shows itself or as JSON."""
    print_json(result.to_dict()) if as_json else result.print_on(stdout_console())


def stdout_console() -> Console:
    """Make a console on stdout; piped output does not wrap at the width of nobody's window."""
    from rich.console import Console

    from aimc_sim.report.shown import WIDTH

    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


@contextlib.contextmanager
def progress_bars(quiet: bool = False) -> Iterator[Progress]:
    """Draw bars on stderr, one a stage, each with the time left; in a pipe plain lines.

    Use: ``report("exporting", done, total)``.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not quiet and not console.is_terminal:
        with _progress_lines() as lines:
            yield lines
        return
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
    )
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            bars.start()  # with the first stage: what reports nothing leaves no line
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


@contextlib.contextmanager
def _progress_lines() -> Iterator[Progress]:
    """Print lines on stderr: one where a stage begins, and one every 15 s, so that a long run in a pipe is seen to
    work.
    """
    start = time.monotonic()
    lock, over = threading.Lock(), threading.Event()
    state: tuple[str, int, int] | None = None

    def say(stage: str, done: int, total: int) -> None:
        share = f" {100 * done // total}\u202f%" if total > 0 else ""
        sys.stderr.write(f"{stage}: {done:,}/{total:,}{share}, {time.monotonic() - start:.0f} s\n")
        sys.stderr.flush()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal state
        with lock:
            new = state is None or state[0] != stage
            state = (stage, done, total)
            if new:
                say(*state)

    def repeat() -> None:
        while not over.wait(LINE_EVERY_S):
            with lock:
                if state is not None:
                    say(*state)

    # A thread, because one step of a large model can take longer than a line may be missing.
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield report
    finally:
        over.set()
        thread.join()
