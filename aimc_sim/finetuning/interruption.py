"""Ctrl-C while a model is trained: the step that runs is finished and kept, and the next one is not begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held_interrupts(hold: bool = True) -> Iterator[Callable[[], bool]]:
    """Hold the first SIGINT, which only makes the callable true; a second one interrupts at once.

    hold: false leaves signals as they are, as threads other than the main one always do.
    """
    came = False
    if not hold or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None):  # somebody wants it so
        yield lambda: False
        return

    def note(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)
