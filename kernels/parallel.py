"""Threads for compiled kernels that release the GIL: blocks of columns, results independent of their number.

Where torch is loaded with GNU's OpenMP, blocks run in torch's own team of threads: those spin for milliseconds after
every operation, and a second pool beside them would fight them for the processors. Inside the team, a torch product
uses its own thread only, so a whole chain of DAC, product and ADC costs one fork and join. Elsewhere a plain Python
pool serves, started on first use. Numba's own pools are not used: a process that forks after one of them dies.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from itertools import count
from threading import Lock, local
from typing import Any

_lock = Lock()
_inside = local()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_forked = False
_requested: int | None = None
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def num_threads() -> int:
    """Return the threads that kernels use: what `set_num_threads` asked for, else torch's number,
    else the processors.
    """
    if _requested is not None:
        return _requested
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    return processors()


def processors() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def set_num_threads(threads: int | None) -> None:
    """Use this many threads from now on (None: torch's number). Results do not depend on it."""
    global _requested
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ValueError(f"threads must be a whole number of at least 1, not {threads!r}")
    _requested = threads


def _alone() -> bool:
    """Whether this thread has to do its work by itself: neither team nor pool survives a fork, and a worker of the pool
    that waited for the pool could wait for ever."""
    return _forked or getattr(_inside, "pool", False)


def run_blocks(work: Callable[[int, int], object], total: int, block: int) -> None:
    """Call work(start, stop) for consecutive blocks of ``total`` items, on all threads; the first error is raised."""
    bounds = [(start, min(start + block, total)) for start in range(0, total, block)]
    threads = min(num_threads(), len(bounds))
    if threads <= 1 or _alone():
        with _torch_on_one_thread() if _requested == 1 else nullcontext():
            for start, stop in bounds:
                work(start, stop)
        return
    openmp = _openmp(sys.modules.get("torch"))
    if openmp is not None:
        _run_in_team(openmp, work, bounds, threads)
        return
    _in_pool(threads, [partial(work, start, stop) for start, stop in bounds])


@contextmanager
def _torch_on_one_thread() -> Iterator[None]:
    """As inside a team: products that torch shares out among threads have other last bits."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else 1
    if torch is None or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_region(region: Any, address: int, threads: int) -> None:
    """Call a compiled region(address) on that many threads at once, which share its work out among themselves.

    region: what `_jit.cfunc` made. It must cope with any number of threads, as few as one.
    """
    if threads <= 1 or _alone():
        region.ctypes(address)
        return
    openmp = _openmp(sys.modules.get("torch"))
    if openmp is not None:
        openmp.GOMP_parallel(ctypes.cast(region.address, _REGION), address, threads, 0)
        return
    _in_pool(threads, [partial(region.ctypes, address)] * threads)


def _in_pool(threads: int, calls: list[partial[object]]) -> None:
    """Run all calls in the pool and wait for every one, whatever happens: they hold the caller's addresses."""

    def marked(call: partial[object]) -> object:
        _inside.pool = True
        return call()

    futures = [_threads(threads).submit(marked, call) for call in calls]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def team() -> str:
    """``openmp`` where blocks run in torch's team, else ``pool``."""
    return "pool" if _openmp(sys.modules.get("torch")) is None else "openmp"


def _run_in_team(
    openmp: Any, work: Callable[[int, int], object], bounds: list[tuple[int, int]], threads: int
) -> None:
    """Every thread of the team takes the next block until there is none."""
    tickets = count()
    errors: list[BaseException] = []

    def region(_: object) -> None:
        try:
            while (ticket := next(tickets)) < len(bounds) and not errors:
                work(*bounds[ticket])
        except BaseException as error:  # it must not cross the C frames of the team
            errors.append(error)

    callback = _REGION(region)
    openmp.GOMP_parallel(callback, None, threads, 0)
    if errors:
        raise errors[0]


@lru_cache(maxsize=2)
def _openmp(torch: Any) -> Any:
    """Return GNU's OpenMP as torch has loaded it, or None."""
    if torch is None or not sys.platform.startswith("linux"):
        return None
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            loaded = {line.split(maxsplit=5)[5].strip() for line in maps if "libgomp" in line}
        (path,) = {path for path in loaded if "torch" in path} or loaded
        library = ctypes.CDLL(path)
        library.GOMP_parallel.argtypes = [_REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.GOMP_parallel.restype = None
    except (OSError, ValueError, AttributeError, IndexError):
        return None
    return library


def _threads(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size != size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="aimc-kernel"), size
        return _pool


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and would wait for them for ever."""
    global _pool, _forked
    _pool, _forked = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
