"""Threads for compiled kernels that release the GIL: blocks of columns, results independent of their number.

A plain Python pool is used rather than Numba's: it starts on the first use, never spins, and nothing breaks
when a process forks before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, Thread, local

_lock = Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_requested: int | None = None
_mine = local()


def num_threads() -> int:
    """Threads that kernels use: what `set_num_threads` asked for, else the processors this process may use."""
    if _requested is not None:
        return _requested
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def set_num_threads(threads: int) -> None:
    """Use this many threads from now on. Results do not depend on it."""
    global _requested
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a whole number of at least 1, not {threads!r}")
    _requested = threads


def run_blocks(work: Callable[[int, int], object], total: int, block: int) -> None:
    """Call work(start, stop) for consecutive blocks of ``total`` items, on all threads; the first error is raised."""
    threads = num_threads()
    bounds = [(start, min(start + block, total)) for start in range(0, total, block)]
    if threads == 1 or len(bounds) <= 1:
        for start, stop in bounds:
            work(start, stop)
        return
    for future in [_threads(threads).submit(work, start, stop) for start, stop in bounds]:
        future.result()


def _threads(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size != size:
            _pool = ThreadPoolExecutor(size, thread_name_prefix="aimc-kernel", initializer=_become_worker)
            _pool_size = size
        return _pool


def _become_worker() -> None:
    _mine.worker = True


def one_torch_thread() -> None:
    """In a thread of our pool: torch uses this thread alone, so that products neither oversubscribe nor wait at a
    barrier for a thread that is busy elsewhere. Anywhere else: nothing.
    """
    if not getattr(_mine, "worker", False) or getattr(_mine, "single", False):
        return
    import torch

    with _lock:
        before = torch.get_num_threads()  # also makes torch set this thread up, which it would otherwise do later
        torch.set_num_threads(1)
        # Torch keeps the number per thread, and the last one set as the default of threads to come: give that back.
        restore = Thread(target=torch.set_num_threads, args=(before,))
        restore.start()
        restore.join()
    _mine.single = True


def _forget_pool() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
