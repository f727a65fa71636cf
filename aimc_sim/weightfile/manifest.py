"""What a weight file holds, as records: matrices, tensors, adapters, calibration, and the manifest that lists them.

A low-rank adapter stands beside a matrix, digital: y = x·W + scale·B(A·x). A matrix without an adapter has no entry,
and a file without adapters says nothing of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput

FORMAT = "aimc-sim weight file"
SCHEMA = 1
# Kept out of the id, so that the same model read from another folder is the same model.
NOT_IN_ID = frozenset({"documents/provenance.json"})
NUMPY_DTYPE = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int32": "<i4", "uint8": "|u1"}
TENSOR_DTYPES = ("float32", "float16", "bfloat16")
A, B = ".lora_A.weight", ".lora_B.weight"  # of an adapter's tensors
AGAIN = "copy or export the file again"

Bits = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MatrixInfo:
    """A matrix info names one matrix product with static weights: y (cols,) = x (rows,) @ W, as a crossbar sees it.

    >>> from aimc_sim import WeightFile
    >>> first = WeightFile("model.h5").matrices[0]
    >>> first.role, (first.rows, first.cols)
    ('q', (64, 64))
    """

    name: str  # module path, "model.layers.0.self_attn.q_proj"
    ordinal: int  # index in the full list of candidates, part of every random counter
    rows: int  # K, inputs
    cols: int  # N, outputs
    dtype: str  # "float32", "float16" or "bfloat16"
    layout: Literal["out_in", "in_out"]  # of the stored array: Linear (N, K) or Conv1D (K, N)
    has_bias: bool
    role: str  # "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "head"
    tensor: str  # the stored tensor; for a tied head the embedding


class Tensor(NamedTuple):
    """A tensor holds stored bits and what they mean: bfloat16 travels as uint16."""

    bits: Bits
    dtype: str


@dataclass(frozen=True)
class Calibration:
    """A calibration holds the text that calibration saw: token_ids (S, L) int32, and where it came from.

    >>> from aimc_sim import WeightFile
    >>> WeightFile("model.h5").calibration.token_ids.ndim
    2
    """

    token_ids: npt.NDArray[np.int32]
    source: str


@dataclass(frozen=True)
class Moments:
    """Moments are input statistics of one matrix over the calibration text, each (K,) float32, one value per input
    channel.

    >>> from aimc_sim import WeightFile
    >>> weights = WeightFile("model.h5")
    >>> weights.moments(weights.matrices[0].name).second_moment.shape
    (64,)
    """

    max_abs: Floats
    mean: Floats
    second_moment: Floats  # mean of x²


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter info describes the adapter beside one matrix.
    a, b: its stored tensors, (r, K) and (N, r); scale: a plain number.
    """

    matrix: str
    a: str
    b: str
    scale: float

    @classmethod
    def of(cls, matrix: str, scale: float) -> AdapterInfo:
        """With the names that its tensors have in every file."""
        return cls(matrix, matrix + A, matrix + B, float(scale))


class Adapter(NamedTuple):
    """An adapter holds the bits of A (r, K) and B (N, r), and the scale."""

    a: Tensor
    b: Tensor
    scale: float


class Entry(NamedTuple):
    """An entry is what the manifest says about one dataset."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def nbytes(self) -> int:
        """Return the size of the raw data in bytes."""
        size = np.dtype(NUMPY_DTYPE[self.dtype]).itemsize
        for extent in self.shape:
            size *= extent
        return size


class Manifest(NamedTuple):
    """A manifest is the table of contents, stored as canonical JSON."""

    matrices: tuple[MatrixInfo, ...]
    calibration_source: str | None
    datasets: dict[str, Entry]
    adapters: tuple[AdapterInfo, ...] = ()

    def to_json(self) -> bytes:
        """Return canonical bytes: keys sorted, no spaces, ASCII."""
        return _canonical(self._document(frozenset()))

    def content_id(self) -> str:
        """Return the hex sha256 of everything that the file says about the model; free of times and paths."""
        return hashlib.sha256(_canonical(self._document(NOT_IN_ID))).hexdigest()

    def _document(self, without: frozenset[str]) -> dict[str, object]:
        # Without adapters there is no word of them: the ids of files that never had any stay.
        adapters = {"adapters": [asdict(adapter) for adapter in self.adapters]} if self.adapters else {}
        return {
            **adapters,
            "format": FORMAT,
            "schema": SCHEMA,
            "matrices": [asdict(matrix) for matrix in self.matrices],
            "calibration": None if self.calibration_source is None else {"source": self.calibration_source},
            "datasets": {
                path: {"dtype": e.dtype, "shape": list(e.shape), "sha256": e.sha256}
                for path, e in self.datasets.items()
                if path not in without
            },
        }


def _canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def to_float32(bits: Bits, dtype: str) -> Floats:
    """Return the stored bits as float32, exactly: no copy where they already are."""
    if dtype == "bfloat16":
        wide = bits.astype(np.uint32)
        wide <<= np.uint32(16)  # in place: a large head takes a gigabyte
        return wide.view(np.float32)
    return np.asarray(bits, dtype=np.float32)


def parse_adapters(document: Any) -> tuple[AdapterInfo, ...]:
    """Return the adapters of a parsed manifest; ValueError or TypeError where its entry is malformed."""
    if "adapters" not in document:
        return ()
    adapters = tuple(AdapterInfo(**item) for item in document["adapters"])
    if not adapters:
        raise ValueError("a file without adapters has no list of them")
    for item in adapters:
        if not all(isinstance(word, str) for word in (item.matrix, item.a, item.b)):
            raise TypeError(f"a name in the adapter of {item.matrix!r} is no text")
        if type(item.scale) is not float or not math.isfinite(item.scale):
            raise ValueError(f"the scale of the adapter of {item.matrix!r} is no finite number with a point")
    return adapters


def check_adapters(manifest: Manifest) -> None:
    """Each adapter lies beside a matrix of its shape, in the order of the matrices, and no tensor of one is left over.

    Raises BadInput with the first that does not.
    """
    place = {matrix.name: matrix for matrix in manifest.matrices}
    last = -1
    for item in manifest.adapters:
        matrix = place.get(item.matrix)
        if matrix is None or (item.a, item.b) != (item.matrix + A, item.matrix + B):
            why = (
                "the file has no such matrix"
                if matrix is None
                else f"its tensors are named {item.a}, {item.b}"
            )
            raise BadInput("adapters of the weight file", got=item.matrix, why=why, do=AGAIN)
        if matrix.ordinal <= last:
            raise BadInput(
                "adapters of the weight file", got=item.matrix, why="they must stand in the order of the matrices, "
                "one beside each", do=AGAIN,
            )  # fmt: skip
        last = matrix.ordinal
        a, b = (manifest.datasets.get(f"tensors/{name}") for name in (item.a, item.b))
        shapes = (None if a is None else a.shape, None if b is None else b.shape)
        rank = a.shape[0] if a is not None and a.shape else 0
        if shapes != ((rank, matrix.rows), (matrix.cols, rank)):
            raise BadInput(
                f"adapter of {item.matrix}",
                got=shapes,
                why=f"beside {matrix.rows} inputs and {matrix.cols} outputs it must be (r, {matrix.rows}) and "
                f"({matrix.cols}, r)",
                do=AGAIN,
            )
    _check_none_left(manifest.datasets, manifest.adapters)


def _check_none_left(datasets: Any, adapters: Sequence[AdapterInfo]) -> None:
    named = {f"tensors/{name}" for item in adapters for name in (item.a, item.b)}
    for path in datasets:
        if path.startswith("tensors/") and path.endswith((A, B)) and path not in named:
            raise BadInput(path, why="no adapter of the file names this tensor", do=AGAIN)
