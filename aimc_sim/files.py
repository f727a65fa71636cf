"""Files: read with errors that say what to do, and written whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from aimc_sim.errors import BadInput

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk without room answers
CONTENT = (ValueError, RecursionError, csv.Error)  # what readers of JSON, TOML and CSV raise


@contextmanager
def reading(
    path: str | Path,
    what: str,
    *,
    do: str = "check the path and its permissions",
    kind: str = "valid JSON",
    mend: str = "mend it",
    errors: tuple[type[Exception], ...] = CONTENT,
) -> Iterator[None]:
    """Turn the errors of reading a file into BadInput.

    what: the file is, such as "fault map"; do: the next step where it cannot be read. kind: what it should hold; mend:
    the next step where it does not; errors: how that shows.

    >>> with reading("missing.json", "report"):
    ...     open("missing.json")
    Traceback (most recent call last):
    aimc_sim.errors.BadInput: report: got 'missing.json'. it cannot be read (No such file or directory). Next: check ...
    """
    try:
        yield
    except BadInput:
        raise
    except UnicodeDecodeError as error:
        why, do = f"it is not UTF-8 (byte {error.start})", "convert it, for example with iconv -t UTF-8"
    except errors as error:
        why, do = f"it is not {kind} ({error})", mend
    except OSError as error:
        why = f"it cannot be read ({error.strerror or error})"
    else:
        return
    raise BadInput(what, got=str(path), why=why, do=do)


def reading_tensors(path: Path, what: str, do: str) -> AbstractContextManager[None]:
    """Return `reading` for safetensors and what lies beside them. do: the next step where they are damaged."""
    from safetensors import SafetensorError

    errors = (ValueError, KeyError, TypeError, SafetensorError)
    return reading(path, what, do=do, kind="whole", mend=do, errors=errors)


def read_json(path: Path, what: str, **words: Any) -> Any:
    """Return the value in a JSON file. words: those of `reading`, which says what is wrong with it."""
    with reading(path, what, **words):
        return json.loads(path.read_text(encoding="utf-8"))


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all; text as UTF-8. Raises BadInput where the disk is full."""
    write_together({path: data})


def write_together(pages: Mapping[Path, bytes | str]) -> None:
    """Write files: all complete under other names in their folders first, and synced, then all renamed.

    Raises BadInput where the disk is full.
    """
    written: dict[Path, Path] = {}
    try:
        for path, data in pages.items():
            written[path] = _write_beside(path, data.encode() if isinstance(data, str) else data)
        for path, partial in written.items():
            replace(partial, path)
    finally:
        for partial in written.values():
            partial.unlink(missing_ok=True)


def replace(old: Path, new: Path) -> None:
    """Give a file or folder its final name, at once and for good: a file that has it is replaced."""
    os.replace(old, new)
    with suppress(OSError):  # some systems sync no folders
        folder = os.open(new.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_beside(path: Path, data: bytes) -> Path:
    """Write a new file in the same folder, synced, and return its path."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        return Path(name)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise BadInput(
                path.name, got=str(path.parent), why="the disk is full", do="free some space"
            ) from None
        raise
