"""Low-rank adapters in a weight file: A and B beside a matrix, digital, whose product is added to the matrix's output.

y = x·W + scale·B(A·x). A matrix without an adapter has no entry, and a file without adapters says nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from aimc_sim.weightfile import Manifest, Tensor

A, B = ".lora_A.weight", ".lora_B.weight"
_AGAIN = "copy or export the file again"


@dataclass(frozen=True)
class AdapterInfo:
    """The adapter beside one matrix. a, b: its stored tensors, (r, K) and (N, r); scale: a plain number."""

    matrix: str
    a: str
    b: str
    scale: float

    @classmethod
    def of(cls, matrix: str, scale: float) -> AdapterInfo:
        """With the names that its tensors have in every file."""
        return cls(matrix, matrix + A, matrix + B, float(scale))


class Adapter(NamedTuple):
    """Bits of A (r, K) and B (N, r), and the scale."""

    a: Tensor
    b: Tensor
    scale: float


def parse_adapters(document: Any) -> tuple[AdapterInfo, ...]:
    """The adapters of a parsed manifest; ValueError or TypeError where its entry is malformed."""
    if "adapters" not in document:
        return ()
    found = tuple(AdapterInfo(**item) for item in document["adapters"])
    if not found:
        raise ValueError("a file without adapters has no list of them")
    for item in found:
        if not all(isinstance(word, str) for word in (item.matrix, item.a, item.b)):
            raise TypeError(f"a name in the adapter of {item.matrix!r} is no text")
        if type(item.scale) is not float or not math.isfinite(item.scale):
            raise ValueError(f"the scale of the adapter of {item.matrix!r} is no finite number with a point")
    return found


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
            raise BadInput("adapters of the weight file", got=item.matrix, why=why, do=_AGAIN)
        if matrix.ordinal <= last:
            raise BadInput(
                "adapters of the weight file", got=item.matrix, why="they must stand in the order of the matrices, "
                "one beside each", do=_AGAIN,
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
                do=_AGAIN,
            )
    _check_none_left(manifest.datasets, manifest.adapters)


def _check_none_left(datasets: Any, adapters: Sequence[AdapterInfo]) -> None:
    named = {f"tensors/{name}" for item in adapters for name in (item.a, item.b)}
    for path in datasets:
        if path.startswith("tensors/") and path.endswith((A, B)) and path not in named:
            raise BadInput(path, why="no adapter of the file names this tensor", do=_AGAIN)
