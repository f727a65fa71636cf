"""Parses the header of a GGUF file with every length checked against the file, before anything is allocated."""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aimc_sim.errors import BadInput

STRING, ARRAY, BOOL = 8, 9, 7
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
MAX_AXES = 4


class GgufTensor(NamedTuple):
    """shape: slowest axis first, as in numpy; kind: ggml type number; offset: absolute, in bytes."""

    shape: tuple[int, ...]
    kind: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class GgufHeader:
    """A GGUF header holds key-value metadata and the table of tensors."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_header(path: Path) -> GgufHeader:
    """Parse a GGUF file, version 2 or 3, little endian. Raises BadInput when it is truncated or malformed."""
    if path.stat().st_size < 24:
        raise BadInput("GGUF file", got=str(path), why="it is shorter than a header", do="download it again")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise BadInput(
                "checkpoint",
                got=str(path),
                why="a single file must be a GGUF, and this is not one",
                do="pass a .gguf file, or the folder that holds config.json and safetensors",
            )
        try:
            return _Cursor(data).header()
        except (ValueError, KeyError, struct.error) as error:
            raise BadInput(
                "GGUF file",
                got=str(path),
                why=f"it is truncated or malformed ({error})",
                do="download it again",
            ) from None


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 4

    def header(self) -> GgufHeader:
        version = self._scalar("I")
        if version not in (2, 3):
            raise ValueError(f"version {version} is not 2 or 3, or the file is big-endian")
        tensor_count, pair_count = self._scalar("Q"), self._scalar("Q")
        metadata: dict[str, Any] = {}
        for _ in range(self._bounded(pair_count, 13)):
            key = self._string()
            metadata[key] = self._value(self._scalar("I"))
        entries = [self._tensor() for _ in range(self._bounded(tensor_count, 24))]
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"alignment {alignment!r} is not a power of two")
        start = -(-self._at // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in entries:
            nbytes = _nbytes(name, shape, kind)
            if name in tensors:
                raise ValueError(f"tensor {name!r} appears twice")
            if start + offset + nbytes > len(self._data):
                raise ValueError(
                    f"tensor {name!r} ends at byte {start + offset + nbytes} of {len(self._data)}"
                )
            tensors[name] = GgufTensor(shape, kind, start + offset, nbytes)
        return GgufHeader(metadata, tensors)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        axes = self._scalar("I")
        if not 1 <= axes <= MAX_AXES:
            raise ValueError(f"tensor {name!r} has {axes} axes")
        shape = tuple(reversed([self._scalar("Q") for _ in range(axes)]))
        return name, shape, self._scalar("I"), self._scalar("Q")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            item, count = self._scalar("I"), self._scalar("Q")
            if item == STRING:
                return [self._string() for _ in range(self._bounded(count, 8))]
            code = SCALARS[item]
            size = struct.calcsize(code)
            return list(struct.unpack(f"<{self._bounded(count, size)}{code}", self._take(count * size)))
        return self._scalar(SCALARS[kind])

    def _string(self) -> str:
        return self._take(self._scalar("Q")).decode("utf-8")

    def _scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self._take(struct.calcsize(code)))[0]

    def _bounded(self, count: int, least: int) -> int:
        """Return a count of things of at least so many bytes each, which must fit in the rest of the file."""
        if count * least > len(self._data) - self._at:
            raise ValueError(f"{count} items announced at byte {self._at}, more than the file can hold")
        return count

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError(f"{size} bytes announced at byte {self._at} of {len(self._data)}")
        self._at += size
        return self._data[self._at - size : self._at]


def _nbytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if shape[-1] % block or 0 in shape:
        raise ValueError(f"tensor {name!r}: {shape[-1]} values a row are not whole blocks of {block}")
    return math.prod(shape) // block * size
