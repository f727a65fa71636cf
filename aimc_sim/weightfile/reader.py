"""The weight file: one HDF5 file that holds a language model as it is, ready to be programmed (docs/format.md).

Opening checks structure, sizes and the content id, then maps the file into memory: nothing is copied until it
is used. ``verify`` reads everything once and compares checksums.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.files import reading
from aimc_sim.weightfile.checks import check_config, check_finite_table, check_token_ids, embedded_hardware
from aimc_sim.weightfile.layout import Layout, read_layout
from aimc_sim.weightfile.manifest import (
    NUMPY_DTYPE,
    SCHEMA,
    Adapter,
    Bits,
    Calibration,
    Floats,
    MatrixInfo,
    Moments,
    Tensor,
    to_float32,
)

if TYPE_CHECKING:
    from aimc_sim.hardware import Hardware


class WeightFile:
    """A weight file is open for reading. Arrays that it returns are views of the mapped file wherever that is possible.

    Raises BadInput when the file is missing, truncated, damaged, from a newer schema, or holds anything that
    docs/format.md does not allow (links, references, filters, external or virtual storage).

    >>> from aimc_sim import WeightFile
    >>> weights = WeightFile("model.h5")
    >>> weights.weight(weights.matrices[0].name).shape
    (64, 64)
    """

    @classmethod
    def of(cls, source: object) -> WeightFile:
        """Open a weight file by its path; one that is open stays so. Raises BadInput for what is neither."""
        if isinstance(source, WeightFile):
            return source
        if not isinstance(source, (str, os.PathLike)):
            do = "give the path of a weight file, or WeightFile(path)"
            raise BadInput("weight file", got=source, why="it is neither a path nor a weight file", do=do)
        return cls(source)

    def __init__(self, path: str | os.PathLike[str], *, _layout: Layout | None = None) -> None:
        self.path = Path(path)
        self._layout = read_layout(self.path) if _layout is None else _layout
        self._manifest = self._layout.manifest
        self.schema_version = SCHEMA
        self.id = self._manifest.content_id()
        self.matrices = self._manifest.matrices
        self._by_name = {matrix.name: matrix for matrix in self.matrices}
        self.adapters = self._manifest.adapters
        # Copy-on-write: torch wants writable memory, and nothing that it does may reach the file.
        with self.path.open("rb") as stream:
            self._private = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
            # What chips are programmed from. Nobody can write to it, so its pages can be given back at any time.
            self._fixed = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._map = np.frombuffer(self._private, np.uint8)

    def __reduce__(self) -> tuple[object, ...]:
        return (WeightFile, (self.path,))

    def __repr__(self) -> str:
        return f"WeightFile({str(self.path)!r}, id={self.id[:12]}, matrices={len(self.matrices)})"

    # -- the model's documents --------------------------------------------------------------------------------

    @cached_property
    def config(self) -> dict[str, Any]:
        """Return the model's configuration, as Hugging Face's config.json, with as many layers as the file has."""
        config = self._json("config.json")
        check_config(config, self.matrices)
        return config

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """Return the generation defaults, as generation_config.json; empty where the checkpoint has none."""
        return self._json("generation_config.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Return where the weights came from: source files with sizes and sha256,
        and the versions that exported them.
        """
        return self._json("provenance.json")

    @cached_property
    def hardware(self) -> Hardware:
        """Return the default hardware, from tables alone: a weight file cannot name a file to read."""
        return embedded_hardware(self._document("hardware.toml"))

    def tokenizer(self) -> dict[str, bytes]:
        """Return the tokenizer's files by name (tokenizer.json, tokenizer_config.json, ...);
        empty without a tokenizer.
        """
        prefix = "tokenizer/"
        return {
            path[len(prefix) :]: self._checked(path).tobytes()
            for path in self._manifest.datasets
            if path.startswith(prefix)
        }

    # -- weights ----------------------------------------------------------------------------------------------

    def matrix(self, name: str) -> MatrixInfo:
        """Return the matrix at a module path. Raises BadInput, offering the nearest name."""
        if name not in self._by_name:
            raise BadInput(
                "matrix",
                got=name,
                why=f"the file has no such matrix{_nearest(name, self._by_name)}",
                do="pick a name from WeightFile.matrices",
            )
        return self._by_name[name]

    def raw(self, name: str) -> Bits:
        """Return the stored bits of a matrix in its source layout, read-only; bfloat16 as uint16."""
        path = f"tensors/{self.matrix(name).tensor}"
        entry, start = self._manifest.datasets[path], self._layout.offsets[path]
        count = entry.nbytes // np.dtype(NUMPY_DTYPE[entry.dtype]).itemsize
        return np.frombuffer(self._fixed, NUMPY_DTYPE[entry.dtype], count, start).reshape(entry.shape)

    def weight(self, name: str, outputs: slice = slice(None)) -> Floats:
        """Return a matrix as (cols, rows) = (N, K) float32, C-contiguous, read-only; a view of the file where stored
        so.

        outputs: only these of its N.
        """
        info, stored = self.matrix(name), self.raw(name)
        values = to_float32((stored.T if info.layout == "in_out" else stored)[outputs], info.dtype)
        return _read_only(np.ascontiguousarray(values))

    def release(self, name: str) -> None:
        """Give the mapped pages of a matrix back to the system; arrays of `raw` and `weight` read them again."""
        self._give_back(self._fixed, f"tensors/{self.matrix(name).tensor}")

    def forget(self, name: str) -> None:
        """Give the pages of a tensor of `tensor` back to the system. What was written to them is lost."""
        self._give_back(self._private, f"tensors/{name}")

    @cached_property
    def tensor_names(self) -> tuple[str, ...]:
        """Return every stored tensor, by its Hugging Face parameter name;
        a tied head appears once, as the embedding.
        """
        prefix = "tensors/"
        return tuple(path[len(prefix) :] for path in self._manifest.datasets if path.startswith(prefix))

    @cached_property
    def digital_names(self) -> tuple[str, ...]:
        """Return tensors that never enter a crossbar: embeddings, norms, biases, adapters."""
        analog = {f"{matrix.name}.weight" for matrix in self.matrices}
        return tuple(name for name in self.tensor_names if name not in analog)

    def tensor(self, name: str) -> Tensor:
        """Return the bits and dtype of any stored tensor, in private memory, writable, as torch.from_numpy wants it."""
        path = f"tensors/{name}"
        if path not in self._manifest.datasets:
            raise BadInput(
                "tensor",
                got=name,
                why=f"the file has no such tensor{_nearest(name, self.tensor_names)}",
                do="pick a name from WeightFile.tensor_names",
            )
        return Tensor(self._view(path), self._manifest.datasets[path].dtype)

    @cached_property
    def adapter_ranks(self) -> dict[str, int]:
        """Return the rank of every low-rank adapter, by the name of its matrix; empty in a file without any."""
        return {item.matrix: self._manifest.datasets[f"tensors/{item.a}"].shape[0] for item in self.adapters}

    def adapter(self, name: str) -> Adapter | None:
        """Return the low-rank adapter beside a matrix, whole and finite; None where it has none."""
        matrix = self.matrix(name).name
        info = next((item for item in self.adapters if item.matrix == matrix), None)
        if info is None:
            return None
        for path in (f"tensors/{info.a}", f"tensors/{info.b}"):
            check_finite_table(path, to_float32(self._checked(path), self._manifest.datasets[path].dtype))
        return Adapter(self.tensor(info.a), self.tensor(info.b), info.scale)

    @property
    def tied(self) -> bool:
        """Return whether the head reads the embedding's tensor."""
        return any(matrix.tensor != f"{matrix.name}.weight" for matrix in self.matrices)

    # -- calibration ------------------------------------------------------------------------------------------

    @cached_property
    def calibration(self) -> Calibration:
        """Return what calibration saw. Raises BadInput where the export skipped it."""
        path = "calibration/token_ids"
        if path not in self._manifest.datasets:
            raise BadInput(
                "calibration",
                why=f"{self.path.name} was exported without calibration text",
                do="export it again with calibration_tokens above 0",
            )
        token_ids = self._checked(path)
        check_token_ids(token_ids, self.vocabulary)
        return Calibration(token_ids, self._manifest.calibration_source or "")

    def moments(self, name: str) -> Moments:
        """Return the input statistics of a matrix on the calibration text."""
        path = f"calibration/moments/{self.matrix(name).name}"
        if path not in self._manifest.datasets:
            raise BadInput(
                "calibration moments",
                got=name,
                why=f"{self.path.name} was exported without them",
                do="export it again with calibration_tokens above 0",
            )
        table = self._checked(path)
        check_finite_table(path, table)
        return Moments(table[0], table[1], table[2])

    def ranges(self, name: str) -> Floats | None:
        """Return the learned static input ranges of a matrix, (1,) or (row tiles,), all above 0;
        None where none were learned.
        """
        path = f"ranges/{self.matrix(name).name}"
        if path not in self._manifest.datasets:
            return None
        ranges = self._checked(path)
        check_finite_table(path, ranges, positive=True)
        return ranges

    @property
    def vocabulary(self) -> int | None:
        """Return the tokens that the model knows: the outputs of its head; None in a file without one."""
        return next((matrix.cols for matrix in self.matrices if matrix.role == "head"), None)

    # -- integrity --------------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Compare every byte with its checksum; one line for each damaged dataset, empty when all is well."""
        problems, bytes_ = [], np.frombuffer(self._fixed, np.uint8)
        for path, entry in self._manifest.datasets.items():
            start = self._layout.offsets[path]
            if hashlib.sha256(bytes_[start : start + entry.nbytes].data).hexdigest() != entry.sha256:
                problems.append(f"{path}: its bytes do not match the sha256 in the manifest")
            self._give_back(self._fixed, path)  # one dataset in memory at a time
        if not self._layout.seal_matches(bytes_):
            problems.append("seal: bytes between the datasets (HDF5 metadata or padding) have changed")
        return problems

    # -- access -----------------------------------------------------------------------------------------------

    def _bytes(self, path: str) -> npt.NDArray[np.uint8]:
        start = self._layout.offsets[path]
        return self._map[start : start + self._manifest.datasets[path].nbytes]

    def _give_back(self, mapping: mmap.mmap, path: str) -> None:
        start, nbytes = self._layout.offsets[path], self._manifest.datasets[path].nbytes
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        if hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED, first, start + nbytes - first)

    def _view(self, path: str) -> Bits:
        entry = self._manifest.datasets[path]
        return self._bytes(path).view(NUMPY_DTYPE[entry.dtype]).reshape(entry.shape)

    def _checked(self, path: str) -> Bits:
        """Return a small dataset, compared with its checksum because reading it costs nothing."""
        if hashlib.sha256(self._bytes(path).data).hexdigest() != self._manifest.datasets[path].sha256:
            raise BadInput(
                path,
                why=f"its bytes in {self.path} do not match the checksum, so the file is damaged",
                do="copy or export the file again",
            )
        return _read_only(self._view(path))

    def _document(self, name: str) -> bytes:
        path = f"documents/{name}"
        if path not in self._manifest.datasets:
            raise BadInput(path, why=f"{self.path} does not contain it", do="export the file again")
        return self._checked(path).tobytes()

    def _json(self, name: str) -> dict[str, Any]:
        return parse_json_object(self._document(name), f"documents/{name} of {self.path.name}")


def parse_json_object(data: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object from untrusted bytes; BadInput for anything else."""
    with reading(what, "weight file", mend="export the file again"):
        value = json.loads(data)
    if not isinstance(value, dict):
        raise BadInput(
            what, got=type(value).__name__, why="it must be a JSON object", do="export the file again"
        )
    return value


def _read_only(array: Bits) -> Bits:
    view = array.view()
    view.flags.writeable = False
    return view


def _nearest(name: str, names: Any) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=1)
    return f"; the nearest is {close[0]!r}" if close else ""
