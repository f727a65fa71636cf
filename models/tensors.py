"""Tensors of a checkpoint that is being read: what they are, before and after, and whether they are finite."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput

# Tables that old checkpoints store although the model computes them.
RECOMPUTED = re.compile(r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias)$")
_BLOCK = 1 << 22  # elements checked at a time
# Bits of the exponent: all set means infinity or NaN.
_EXPONENT = {
    "float32": (np.uint32, 0x7F800000),
    "float16": (np.uint16, 0x7C00),
    "bfloat16": (np.uint16, 0x7F80),
}


class TensorInfo(NamedTuple):
    """A tensor info holds shape and dtype ("float32", "float16" or "bfloat16") of a tensor that was not read yet."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Return the size of the tensor in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * (4 if self.dtype == "float32" else 2)


class SourceTensor(NamedTuple):
    """A source tensor is a parameter by its Hugging Face name. bits: float32, float16, or uint16 that hold bfloat16."""

    name: str
    bits: npt.NDArray[Any]
    dtype: str


def check_finite(name: str, bits: npt.NDArray[Any], dtype: str) -> None:
    """Raise BadInput with the first index at which a tensor is infinite or not a number."""
    unsigned, mask = _EXPONENT[dtype]
    flat = bits.reshape(-1).view(unsigned)
    for start in range(0, flat.size, _BLOCK):
        bad = (flat[start : start + _BLOCK] & mask) == mask
        if bad.any():
            index = np.unravel_index(start + int(bad.argmax()), bits.shape)
            raise BadInput(
                f"weights of {name}",
                got=f"not finite at index {tuple(int(i) for i in index)}",
                why="a conductance cannot be infinite or undefined",
                do="repair the checkpoint; training has probably diverged",
            )
