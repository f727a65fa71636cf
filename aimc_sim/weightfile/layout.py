"""Reads the structure of a weight file and trusts none of it: HDF5 in, a checked table of contents out.

h5py follows soft and external links, virtual and external storage and filters without being asked; so every
object is looked at through the low-level interface before it is opened, and raw data is never read through HDF5.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.weightfile.manifest import (
    FORMAT,
    NUMPY_DTYPE,
    SCHEMA,
    TENSOR_DTYPES,
    Entry,
    Manifest,
    MatrixInfo,
    check_adapters,
    parse_adapters,
)

ALIGNMENT = 64
MANIFEST_LIMIT = 256 << 20  # bytes; a million tensors need less
GROUPS = ("tensors", "documents", "tokenizer", "calibration", "calibration/moments", "ranges")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_AGAIN = "copy or export the file again"


class Layout(NamedTuple):
    """A layout is a checked manifest, and where each dataset's raw data begins in the file."""

    manifest: Manifest
    offsets: dict[str, int]
    seal_offset: int | None  # None while the file is being written

    def seal(self, data: npt.NDArray[np.uint8]) -> bytes:
        """Return sha256 over all bytes that no dataset owns: metadata, manifest, padding.
        data: the whole file, uint8.
        """
        spans = [(self.offsets[path], entry.nbytes) for path, entry in self.manifest.datasets.items()]
        if self.seal_offset is not None:
            spans.append((self.seal_offset, 32))
        digest, position = hashlib.sha256(), 0
        for start, size in sorted(spans):
            digest.update(data[position:start].data)
            position = start + size
        digest.update(data[position:].data)
        return digest.digest()

    def seal_matches(self, data: npt.NDArray[np.uint8]) -> bool:
        """Return whether the stored seal is the one that the bytes give."""
        if self.seal_offset is None:
            return True
        return data[self.seal_offset : self.seal_offset + 32].tobytes() == self.seal(data)


class _Found(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    label: str | None  # the dataset's "dtype" attribute


def read_layout(path: Path) -> Layout:
    """Open, check and close a weight file. Raises BadInput, and nothing else, for a file that is not sound."""
    import h5py

    if not path.is_file():
        raise BadInput(
            "weight file",
            got=str(path),
            why="it is a folder" if path.is_dir() else "there is no such file",
            do="create one with `aimc-sim export CHECKPOINT -o FILE`",
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if stream.read(8) != SIGNATURE:
                raise BadInput(
                    "weight file",
                    got=str(path),
                    why="it does not begin with the HDF5 signature",
                    do="pass a file written by `aimc-sim export`",
                )
        with h5py.File(path, "r", locking="best-effort") as file:
            return _Reader(h5py, file.id, path, size).layout()
    except BadInput:
        raise
    # h5py turns HDF5's error stack into whichever of these it finds nearest.
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadInput(
            "weight file",
            got=str(path),
            do=_AGAIN,
            why=f"HDF5 cannot read it, so it is truncated or damaged ({error})",
        ) from None


class _Reader:
    def __init__(self, h5py: Any, file: Any, path: Path, size: int) -> None:
        self._h5, self._path, self._size = h5py, path, size
        self._root = h5py.h5g.open(file, b"/")

    def layout(self) -> Layout:
        self._check_header()
        datasets = self._walk()
        self._check_spans(datasets)
        if "manifest" not in datasets or "seal" not in datasets:
            raise self._bad("manifest", "the file has no manifest or no seal, so its export never finished")
        manifest = self._read_manifest(datasets.pop("manifest"))
        seal = datasets.pop("seal")
        if (seal.dtype, seal.shape) != ("uint8", (32,)):
            raise self._bad("seal", f"it must be 32 uint8 values, not {seal.shape} {seal.dtype}")
        self._compare(manifest, datasets)
        check_matrices(manifest)
        if manifest.content_id() != self._attribute(self._root, b"id"):
            raise self._bad("id", "it does not match the manifest")
        return Layout(manifest, {name: item.offset for name, item in datasets.items()}, seal.offset)

    def _bad(self, what: str, why: str) -> BadInput:
        return BadInput(f"{what} in {self._path}", why=why, do=_AGAIN)

    def _check_header(self) -> None:
        names = self._attribute_names(self._root)
        if b"format" not in names or self._attribute(self._root, b"format") != FORMAT:
            raise BadInput(
                "weight file",
                got=str(self._path),
                why="it is an HDF5 file of another kind",
                do="pass a file written by `aimc-sim export`",
            )
        schema = self._attribute(self._root, b"schema")
        if not isinstance(schema, int) or schema < 1:
            raise self._bad("schema", f"{schema!r} is not a version")
        if schema > SCHEMA:
            raise BadInput(
                "schema of the weight file",
                got=schema,
                why=f"{self._path} was written by a newer aimc-sim; this one reads up to {SCHEMA}",
                do="upgrade aimc-sim, or export the file again with this version",
            )
        if names != {b"format", b"schema", b"id"}:
            raise self._bad(
                "root attributes", f"expected format, schema and id, found {sorted(map(_text, names))}"
            )

    # -- objects ----------------------------------------------------------------------------------------------

    def _walk(self) -> dict[str, _Found]:
        datasets: dict[str, _Found] = {}
        pending = [("", self._root)]
        while pending:
            prefix, group = pending.pop()
            for raw in list(group):
                name = _text(raw)
                full = prefix + name
                if group.links.get_info(raw).type != self._h5.h5l.TYPE_HARD:
                    raise self._bad(
                        full, "it is a soft or external link, which a weight file must not contain"
                    )
                thing = self._h5.h5o.open(group, raw)
                if isinstance(thing, self._h5.h5g.GroupID):
                    # The fixed list of groups also ends cycles of hard links.
                    if full not in GROUPS:
                        raise self._bad(full, "format version 1 has no such group")
                    if self._attribute_names(thing):
                        raise self._bad(full, "groups carry no attributes")
                    pending.append((full + "/", thing))
                elif isinstance(thing, self._h5.h5d.DatasetID):
                    datasets[full] = self._inspect(full, thing)
                else:
                    raise self._bad(full, "it is neither a group nor a dataset")
        return datasets

    def _inspect(self, name: str, dataset: Any) -> _Found:
        h5d, h5s, h5t = self._h5.h5d, self._h5.h5s, self._h5.h5t
        plist = dataset.get_create_plist()
        if plist.get_layout() != h5d.CONTIGUOUS or plist.get_nfilters() or plist.get_external_count():
            raise self._bad(
                name, "its storage is chunked, filtered, virtual or external; only contiguous is allowed"
            )
        kind = dataset.get_type()
        dtype = next(
            (
                key
                for key, code in NUMPY_DTYPE.items()
                if key != "bfloat16" and kind.equal(h5t.py_create(np.dtype(code)))
            ),
            None,
        )
        if dtype is None and kind.equal(h5t.py_create(np.dtype("<u2"))):
            dtype = "bfloat16"
        if dtype is None:
            raise self._bad(
                name,
                "its data type is not one of float32, float16, uint16, int32 and uint8"
                " (references and variable-length types are refused)",
            )
        space = dataset.get_space()
        if space.get_simple_extent_type() != h5s.SIMPLE:
            raise self._bad(name, "it is not an array")
        shape = tuple(int(extent) for extent in space.get_simple_extent_dims())
        nbytes = Entry(dtype, shape, "").nbytes
        offset = dataset.get_offset()
        if offset is None or nbytes == 0 or dataset.get_storage_size() != nbytes:
            raise self._bad(
                name, f"shape {shape} needs {nbytes} bytes, {dataset.get_storage_size()} are stored"
            )
        names = self._attribute_names(dataset)
        if names != ({b"dtype"} if name.startswith("tensors/") else set()):
            raise self._bad(name, f"unexpected attributes {sorted(map(_text, names))}")
        label = self._attribute(dataset, b"dtype") if names else None
        return _Found(dtype, shape, int(offset), nbytes, cast("str | None", label))

    def _attribute_names(self, thing: Any) -> set[bytes]:
        h5a = self._h5.h5a
        return {h5a.open(thing, index=index).name for index in range(h5a.get_num_attrs(thing))}

    def _attribute(self, thing: Any, name: bytes) -> str | int:
        """Return a scalar integer or short fixed-length string; no other kind is ever read."""
        h5t = self._h5.h5t
        if not self._h5.h5a.exists(thing, name):
            raise self._bad(_text(name), "the attribute is missing")
        attribute = self._h5.h5a.open(thing, name)
        kind, space = attribute.get_type(), attribute.get_space()
        is_text = kind.get_class() == h5t.STRING and not kind.is_variable_str()
        if (
            not (is_text or kind.get_class() == h5t.INTEGER)
            or space.get_simple_extent_ndims() != 0
            or kind.get_size() > 256
        ):
            raise self._bad(_text(name), "the attribute must be one integer or one short fixed-length string")
        value = np.empty((), dtype=kind.dtype)
        attribute.read(value)
        return value.item().decode("ascii", "replace") if is_text else int(value)

    # -- sizes and contents -----------------------------------------------------------------------------------

    def _check_spans(self, found: dict[str, _Found]) -> None:
        end = 0
        for name, item in sorted(found.items(), key=lambda pair: pair[1].offset):
            if item.offset % ALIGNMENT:
                raise self._bad(
                    name, f"its data begins at byte {item.offset}, not at a multiple of {ALIGNMENT}"
                )
            if item.offset < end:
                raise self._bad(name, "its data overlaps another dataset")
            end = item.offset + item.nbytes
            if end > self._size:
                raise self._bad(name, f"its data ends at byte {end}, beyond the file's {self._size} bytes")

    def _read_manifest(self, item: _Found) -> Manifest:
        if item.dtype != "uint8" or len(item.shape) != 1 or item.nbytes > MANIFEST_LIMIT:
            raise self._bad("manifest", f"it must be at most {MANIFEST_LIMIT} bytes of JSON")
        with self._path.open("rb") as stream:
            stream.seek(item.offset)
            data = stream.read(item.nbytes)
        try:
            return parse_manifest(json.loads(data))
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
            raise self._bad("manifest", f"it is not a valid table of contents ({error})") from None

    def _compare(self, manifest: Manifest, stored: dict[str, _Found]) -> None:
        extra, missing = stored.keys() - manifest.datasets.keys(), manifest.datasets.keys() - stored.keys()
        if extra or missing:
            word = "is not in the manifest" if extra else "is in the manifest but not in the file"
            raise self._bad(sorted(extra or missing)[0], word)
        for name, entry in manifest.datasets.items():
            item = stored[name]
            if (entry.dtype, entry.shape) != (item.dtype, item.shape):
                raise self._bad(
                    name,
                    f"the manifest says {entry.dtype} {entry.shape}, "
                    f"the file stores {item.dtype} {item.shape}",
                )
            if name.startswith(("documents/", "tokenizer/")) and (
                item.dtype != "uint8" or len(item.shape) != 1
            ):
                raise self._bad(name, "a document must be one row of uint8")
            if name.startswith("tensors/") and (
                item.label != entry.dtype or entry.dtype not in TENSOR_DTYPES
            ):
                raise self._bad(
                    name, f"its dtype attribute is {item.label!r}, the manifest says {entry.dtype!r}"
                )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def parse_manifest(document: Any) -> Manifest:
    """Return a Manifest from parsed JSON; ValueError, TypeError or KeyError where it is not one."""
    if document["format"] != FORMAT or document["schema"] != SCHEMA:
        raise ValueError("format or schema differs from the file's attributes")
    matrices = tuple(MatrixInfo(**item) for item in document["matrices"])
    for matrix in matrices:
        words = (matrix.name, matrix.dtype, matrix.layout, matrix.role, matrix.tensor)
        numbers = (matrix.ordinal, matrix.rows, matrix.cols)
        if (
            not all(isinstance(word, str) for word in words)
            or not all(type(number) is int for number in numbers)
            or type(matrix.has_bias) is not bool
        ):
            raise TypeError(f"a field of matrix {matrix.name!r} has the wrong type")
    datasets = {}
    for name, item in document["datasets"].items():
        shape, sha256 = tuple(item["shape"]), item["sha256"]
        if (
            not all(type(extent) is int and extent > 0 for extent in shape)
            or not isinstance(sha256, str)
            or item["dtype"] not in NUMPY_DTYPE
        ):
            raise ValueError(f"the entry of {name!r} is malformed")
        datasets[name] = Entry(item["dtype"], shape, sha256)
    calibration = document["calibration"]
    source = None if calibration is None else calibration["source"]
    if not (source is None or isinstance(source, str)):
        raise TypeError("calibration.source is not text")
    return Manifest(matrices, source, datasets, parse_adapters(document))


def check_matrices(manifest: Manifest) -> None:
    """Every matrix has a tensor of its shape and stands at its ordinal; moments have its width, its adapter fits it."""
    shapes = manifest.datasets
    names = [matrix.name for matrix in manifest.matrices]
    if len(set(names)) != len(names):
        raise BadInput("matrices of the weight file", why="two share a name", do=_AGAIN)
    for place, matrix in enumerate(manifest.matrices):
        entry = shapes.get(f"tensors/{matrix.tensor}")
        expected = (matrix.cols, matrix.rows) if matrix.layout == "out_in" else (matrix.rows, matrix.cols)
        if (
            matrix.ordinal != place
            or matrix.layout not in ("out_in", "in_out")
            or entry is None
            or entry.shape != expected
            or entry.dtype != matrix.dtype
        ):
            raise BadInput(
                f"matrix {matrix.name}",
                got=None if entry is None else (entry.dtype, entry.shape),
                why=f"its record says {matrix.dtype} {expected} at place {matrix.ordinal}",
                do=_AGAIN,
            )
        moments = shapes.get(f"calibration/moments/{matrix.name}")
        if moments is not None and (moments.dtype, moments.shape) != ("float32", (3, matrix.rows)):
            raise BadInput(
                f"calibration/moments/{matrix.name}",
                got=moments.shape,
                why=f"a matrix with {matrix.rows} inputs needs (3, {matrix.rows}) float32",
                do=_AGAIN,
            )
        ranges = shapes.get(f"ranges/{matrix.name}")
        if ranges is not None and (ranges.dtype != "float32" or len(ranges.shape) != 1):
            raise BadInput(
                f"ranges/{matrix.name}", got=ranges.shape, why="it must be (tiles,) float32", do=_AGAIN
            )
    tokens = shapes.get("calibration/token_ids")
    if tokens is not None and (tokens.dtype != "int32" or len(tokens.shape) != 2):
        raise BadInput("calibration/token_ids", got=tokens.shape, why="it must be (S, L) int32", do=_AGAIN)
    check_adapters(manifest)
