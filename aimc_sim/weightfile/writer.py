"""Writes a weight file: to a temporary name beside the final one, synced, then renamed, or not at all.

HDF5 lays out the file; raw data goes to its place with plain writes, so a full disk is an ordinary error and
memory holds one tensor at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.files import FULL, replace
from aimc_sim.weightfile.layout import ALIGNMENT, GROUPS, Layout, check_matrices
from aimc_sim.weightfile.manifest import (
    FORMAT,
    NUMPY_DTYPE,
    SCHEMA,
    TENSOR_DTYPES,
    AdapterInfo,
    Bits,
    Calibration,
    Entry,
    Floats,
    Manifest,
    MatrixInfo,
    Moments,
)
from aimc_sim.weightfile.reader import WeightFile

_OVERHEAD = 32 << 20  # bytes that metadata, tokenizer and calibration may take beside the tensors
_CHUNK = 1 << 28  # bytes a write


class WeightFileWriter:
    """This context manager creates one weight file.

    Add tensors, documents, matrices and calibration in any order, then ``finish``. Leaving the block before
    ``finish`` (an exception, an interrupt) removes the temporary file; a killed process leaves it under a name
    that begins with a dot and ends with ``.partial``, never under the final name, until the next export to that name.

    path: the final name; an existing file there is replaced only at the end. expected_bytes: size of all tensors,
    compared with the free space before anything is written.
    """

    def __init__(self, path: str | os.PathLike[str], *, expected_bytes: int = 0) -> None:
        self.path = Path(path)
        self._needed = expected_bytes + _OVERHEAD
        self._entries: dict[str, Entry] = {}
        self._offsets: dict[str, int] = {}
        self._matrices: tuple[MatrixInfo, ...] = ()
        self._adapters: tuple[AdapterInfo, ...] = ()
        self._source: str | None = None
        self._finished = False
        parent = self.path.absolute().parent
        if not parent.is_dir():
            raise BadInput("output folder", got=str(parent), why="it does not exist", do="create it first")
        if self.path.is_dir():
            raise BadInput("output file", got=str(self.path), why="it is a folder", do="name a file")
        remove_leftovers(self.path)
        free = shutil.disk_usage(parent).free
        if free < self._needed:
            raise self._disk_full(free)
        try:
            self._fd, name = _claim(self.path)
        except OSError as error:
            raise BadInput(
                "output folder",
                got=str(parent),
                why=f"it cannot be written ({error.strerror})",
                do="choose another folder",
            ) from None
        self._temporary = Path(name)
        try:
            self._file = self._create()
        except BaseException:
            self._discard()
            raise

    def _create(self) -> Any:
        import h5py

        # 1.10 structures carry checksums on all metadata; threshold 0 aligns every allocation.
        file = h5py.File(
            self._temporary,
            "w",
            libver=("v110", "v110"),
            locking=False,
            alignment_threshold=0,
            alignment_interval=ALIGNMENT,
        )
        plist = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
        plist.set_obj_track_times(False)
        for group in GROUPS:
            h5py.h5g.create(file.id, group.encode(), None, plist)
        return file

    # -- content ----------------------------------------------------------------------------------------------

    def add_tensor(self, name: str, bits: Bits, dtype: str) -> None:
        """Store a parameter bit for bit. bits: float32, float16, or uint16 holding bfloat16; any shape."""
        if dtype not in TENSOR_DTYPES:
            raise BadInput(
                f"dtype of {name}",
                got=dtype,
                why="a weight file holds floating-point tensors losslessly",
                do=f"convert it to one of {', '.join(TENSOR_DTYPES)}",
            )
        self._add(f"tensors/{name}", bits, dtype)

    def add_document(self, name: str, content: dict[str, Any] | bytes) -> None:
        """Store config.json, generation_config.json, provenance.json (as dicts) or hardware.toml (as bytes)."""
        data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
        self._add(f"documents/{name}", np.frombuffer(data, np.uint8), "uint8")

    def add_tokenizer_file(self, name: str, data: bytes) -> None:
        """Store one file of the tokenizer under its own name; an empty file is left out."""
        if data:
            self._add(f"tokenizer/{name}", np.frombuffer(data, np.uint8), "uint8")

    def set_matrices(self, matrices: tuple[MatrixInfo, ...]) -> None:
        """Record the full list of candidates, in order of their ordinals."""
        self._matrices = matrices

    def set_adapters(self, adapters: tuple[AdapterInfo, ...]) -> None:
        """Record the low-rank adapters, in the order of their matrices; their tensors are added like any other."""
        self._adapters = adapters

    def add_calibration(self, calibration: Calibration) -> None:
        """Store the calibration text: token_ids (S, L) int32."""
        self._source = calibration.source
        self._add("calibration/token_ids", calibration.token_ids, "int32")

    def add_moments(self, name: str, moments: Moments) -> None:
        """Store the input statistics of one matrix, each (K,) float32."""
        table = np.stack([moments.max_abs, moments.mean, moments.second_moment])
        self._add(f"calibration/moments/{name}", table, "float32")

    def add_ranges(self, name: str, ranges: Floats) -> None:
        """Store the learned static input ranges of one matrix, (1,) or (tiles,) float32."""
        self._add(f"ranges/{name}", ranges, "float32")

    def preview(self) -> WeightFile:
        """Return the unfinished file, open for reading: what was added so far can be used while more is added."""
        return WeightFile(self._temporary, _layout=Layout(self._manifest(), dict(self._offsets), None))

    def finish(self) -> WeightFile:
        """Write manifest and seal, sync, rename, and open the result."""
        manifest = self._manifest()
        check_matrices(manifest)
        with self._reporting():
            self._add("manifest", np.frombuffer(manifest.to_json(), np.uint8), "uint8")
            self._add("seal", np.zeros(32, np.uint8), "uint8")
            for name, text in (("format", FORMAT), ("id", manifest.content_id())):
                self._file.attrs[name] = np.bytes_(text)
            self._file.attrs["schema"] = np.int64(SCHEMA)
            self._file.close()
            seal_offset = self._offsets.pop("seal")
            self._offsets.pop("manifest")
            whole = np.memmap(self._temporary, np.uint8, mode="r")
            self._write(Layout(manifest, self._offsets, seal_offset).seal(whole), seal_offset)
            del whole
            os.fsync(self._fd)
            os.fchmod(self._fd, 0o666 & ~_umask())  # mkstemp gives 0600; a weight file is an ordinary file
            replace(self._temporary, self.path)
        self._finished = True
        os.close(self._fd)
        return WeightFile(self.path)

    def _manifest(self) -> Manifest:
        return Manifest(self._matrices, self._source, dict(self._entries), self._adapters)

    # -- context ----------------------------------------------------------------------------------------------

    def __enter__(self) -> WeightFileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self._discard()

    def _discard(self) -> None:
        # Unlink before closing: HDF5 may fail again while it closes on a full disk.
        self._temporary.unlink(missing_ok=True)
        if hasattr(self, "_file"):
            with contextlib.suppress(Exception):
                self._file.close()
        with contextlib.suppress(OSError):
            os.close(self._fd)

    # -- raw data ---------------------------------------------------------------------------------------------

    def _add(self, path: str, array: Bits, dtype: str) -> None:
        group = next((group for group in reversed(GROUPS) if path.startswith(group + "/")), "")
        name = path[len(group) + 1 :] if group else path
        if not name or "/" in name or name in (".", "..") or path in self._entries:
            raise BadInput(
                "name of a dataset",
                got=path,
                why="it is empty, repeated or holds a slash",
                do="give every tensor and file its own plain name",
            )
        data = np.ascontiguousarray(array, dtype=NUMPY_DTYPE[dtype]).reshape(np.shape(array))
        if data.size == 0 or data.ndim == 0:
            raise BadInput(
                path,
                got=data.shape,
                why="an array without elements or axes cannot be stored",
                do="remove it from the checkpoint",
            )
        with self._reporting():
            offset = self._allocate(path, data, dtype)
            # reshape(-1) of a contiguous array is a view, and bytes of it need no copy either.
            view = data.reshape(-1).view(np.uint8).data
            self._write(view, offset)
        self._offsets[path] = offset
        if path not in ("manifest", "seal"):
            self._entries[path] = Entry(dtype, tuple(data.shape), hashlib.sha256(view).hexdigest())

    def _allocate(self, path: str, data: npt.NDArray[Any], dtype: str) -> int:
        import h5py
        from h5py import h5d, h5p, h5s, h5t

        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_layout(h5d.CONTIGUOUS)
        plist.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)
        kind = h5t.py_create(np.dtype(NUMPY_DTYPE[dtype]))
        dataset = h5d.create(self._file.id, path.encode(), kind, h5s.create_simple(data.shape), plist)
        if path.startswith("tensors/"):
            h5py.Dataset(dataset).attrs["dtype"] = np.bytes_(dtype)
        return int(dataset.get_offset())

    def _write(self, data: bytes | memoryview, offset: int) -> None:
        view = memoryview(data)
        while len(view):
            count = os.pwrite(self._fd, view[:_CHUNK], offset)
            view, offset = view[count:], offset + count

    # -- errors -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reporting(self) -> Any:
        try:
            yield
        except OSError as error:
            if error.errno in FULL or any(f"errno = {number}" in str(error) for number in FULL):
                raise self._disk_full(shutil.disk_usage(self.path.absolute().parent).free) from None
            raise BadInput(
                "weight file",
                got=str(self.path),
                why=f"writing it failed ({error})",
                do="check the disk and the folder's permissions",
            ) from None
        except RuntimeError as error:  # HDF5 without an errno
            if any(f"errno = {number}" in str(error) for number in FULL):
                raise self._disk_full(shutil.disk_usage(self.path.absolute().parent).free) from None
            raise

    def _disk_full(self, free: int) -> BadInput:
        return BadInput(
            "disk space",
            got=f"{free / 1e9:.2f} GB free",
            why=f"{self.path} needs {self._needed / 1e9:.2f} GB, and its folder cannot take that much",
            do="free some space or write to another disk",
        )


def remove_leftovers(path: Path) -> list[Path]:
    """Delete what killed exports to `path` left beside it; returns those files. A living export's file is locked."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.partial")  # mkstemp's names
    found = [entry for entry in os.scandir(path.absolute().parent) if ours.fullmatch(entry.name)]
    return [
        Path(entry.path)
        for entry in found
        if entry.is_file(follow_symlinks=False) and _remove_unlocked(entry.path)
    ]


def _remove_unlocked(name: str) -> bool:
    """Delete a temporary file unless it is locked, another user's or just gone."""
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _claim(path: Path) -> tuple[int, str]:
    """Return a new temporary file beside `path`, open and locked, so that ``remove_leftovers`` leaves it alone."""
    while True:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent)
        with contextlib.suppress(OSError):  # a file system without locks removes nothing either
            # Shared: readers of the finished file may share it, a cleaner cannot have it alone.
            fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink:  # not removed between its creation and the lock
            return fd, name
        os.close(fd)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
