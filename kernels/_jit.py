"""The one way a kernel is compiled: IEEE arithmetic in the order written, cached by what all kernels say.

Numba's own cache notices a changed file but not a changed callee in another file, and then serves stale code.
Here the cache folder is named by a hash of every kernel source, so any change compiles afresh.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

import llvmlite
import numba

try:
    import fcntl
except ImportError:  # not POSIX: the cache is then used without a lock
    fcntl = None  # type: ignore[assignment]

P = ParamSpec("P")
R = TypeVar("R")

KERNELS = Path(__file__).resolve().parent
PRUNE_AFTER_S = 30 * 86_400.0


@lru_cache(maxsize=1)
def _target() -> frozenset[str]:
    """Return LLVM features that Numba compiles for, whatever its settings say of the host's."""
    from numba.core.registry import cpu_target

    features: str = cpu_target.target_context.codegen().magic_tuple()[2]
    return frozenset(features.split(","))


def target_has(feature: str) -> bool:
    """Return whether Numba compiles for processors with this LLVM feature."""
    return f"+{feature}" in _target()


def cache_key(folder: Path = KERNELS) -> str:
    """Return the hex sha256 of every kernel source below folder (names and bytes) and of the compiler's versions."""
    digest = hashlib.sha256(f"numba {numba.__version__} llvmlite {llvmlite.__version__}".encode())
    for source in sorted(folder.rglob("*.py")):
        name, text = source.relative_to(folder).as_posix().encode(), source.read_bytes()
        digest.update(b"%d %s %d " % (len(name), name, len(text)))
        digest.update(text)
    return digest.hexdigest()


def cache_root() -> Path:
    """Return the folder that holds one cache folder per key: $XDG_CACHE_HOME or ~/.cache, then aimc-sim/numba.

    A relative XDG_CACHE_HOME is ignored, as its specification asks. Other caches lie beside this folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".cache"
    return home / "aimc-sim" / "numba"


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return this installation's cache folder, made on first use; None where it cannot be written."""
    root = cache_root()
    folder = root / cache_key()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            os.utime(folder)  # in use today: not to be pruned
    except OSError:
        return None
    prune(root, keep=folder)
    return folder


def prune(root: Path, keep: Path, older_than_s: float = PRUNE_AFTER_S) -> list[Path]:
    """Delete the cache folders below root that nobody has used for older_than_s seconds; returns them."""
    gone = []
    with contextlib.suppress(OSError):  # another process may be pruning too
        for folder in root.iterdir():
            if folder != keep and folder.is_dir() and time.time() - folder.stat().st_mtime > older_than_s:
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder)
    return gone


@overload
def njit(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def njit(*, parallel: bool = ..., **options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def njit(function: Callable[..., Any] | None = None, /, *, parallel: bool = False, **options: Any) -> Any:
    """Return numba.njit with error_model="numpy", nogil and our cache; never fast-math. Compiles on the first call.

    Results must not depend on the compiler's taste, so `fastmath` is refused, and so is `cache`, which is ours.
    """
    for name in ("fastmath", "cache", "error_model"):
        if name in options:
            raise TypeError(f"njit({name}=...) is not a kernel's choice: see kernels/_jit.py")
    options = {"nogil": True, "parallel": parallel, "error_model": "numpy", **options}

    def decorate(function: Callable[..., Any]) -> Any:
        with _numba_cache_at(cache_folder()) as folder:
            dispatcher = numba.njit(cache=folder is not None, **options)(function)
        cache = getattr(dispatcher, "_cache", None)  # absent under NUMBA_DISABLE_JIT
        if folder is not None and cache is not None:
            cache.load_overload = _mend_on_load(cache.load_overload, cache.flush, folder)
            cache.save_overload = _guard_saving(cache.save_overload, folder / "lock")
        return dispatcher

    return decorate if function is None else decorate(function)


def cfunc(signature: Any, function: Callable[..., Any]) -> Any:
    """Return numba.cfunc with the same choices: compiled (or read from our cache) at once,
    callable from C without the GIL.
    """
    options: dict[str, Any] = {"nopython": True, "error_model": "numpy"}
    folder = cache_folder()
    with _numba_cache_at(folder):
        if folder is not None:
            try:
                return numba.cfunc(signature, cache=True, **options)(function)
            except Exception:  # a damaged entry unpickles into almost any error: forget it and compile again
                with contextlib.suppress(OSError):
                    for entry in folder.rglob(f"*{function.__name__}-*.nb?"):
                        entry.unlink()
            with contextlib.suppress(Exception):  # or the folder cannot be written
                return numba.cfunc(signature, cache=True, **options)(function)
        return numba.cfunc(signature, **options)(function)


@contextlib.contextmanager
def _numba_cache_at(folder: Path | None) -> Iterator[Path | None]:
    """Numba picks a function's cache folder while decorating it: name ours, then give the setting back."""
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = "" if folder is None else str(folder)
    try:
        yield folder
    finally:
        settings.CACHE_DIR = before


def _mend_on_load(load: Callable[..., Any], flush: Callable[[], None], folder: Path) -> Callable[..., Any]:
    """A damaged entry (a power cut leaves empty files) is forgotten and compiled again."""

    def load_overload(*args: Any) -> Any:
        compiled = None
        try:
            compiled = load(*args)
        except Exception:  # junk unpickles into almost any error
            with contextlib.suppress(OSError):
                flush()
        if compiled is None:
            announce(folder)
        return compiled

    return load_overload


@lru_cache(maxsize=1)
def announce(folder: Path) -> None:
    """Say before the first kernel of an installation is compiled why nothing else is seen for a while."""
    if next(folder.rglob("*.nbi"), None) is None:
        logging.getLogger("aimc_sim").warning(
            "aimc-sim: compiling its kernels for this processor, once; they are kept in %s", folder
        )


def _guard_saving(save: Callable[..., None], lock: Path) -> Callable[..., None]:
    """Numba's index is read, changed and written without a lock: two processes could name one file twice.

    A cache that cannot be written (disk full, folder gone, a damaged index) costs a compilation, never a result.
    """

    def save_overload(*args: Any) -> None:
        with contextlib.suppress(Exception), open(lock, "a") as handle:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)  # released on close
            save(*args)

    return save_overload
