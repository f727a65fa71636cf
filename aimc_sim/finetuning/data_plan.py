"""What decides the bits of token shards: a plan to sample or to cut them, and a model's fingerprint."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from aimc_sim.spec import Spec

Tokens = npt.NDArray[np.int32]


class SamplePlan(Spec):
    """A plan of samples holds what decides the bits of every shard. model: content of the checkpoint, see
    ``fingerprint``.

    sequences: a shard's rows of ``length`` tokens. batch: rows generated together. temperature, top_k (None: all):
    of the sampling. bos_id: first token of every row.
    """

    model: str
    length: int = Field(default=512, ge=2)
    sequences: int = Field(default=256, ge=1)
    batch: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int | None = Field(default=50, ge=1)
    seed: int = Field(default=0, ge=0)
    bos_id: int = Field(ge=0)


class TextPlan(Spec):
    """A plan of a text describes rows cut from a text that exists: its name and content, the length of a row, and the
    token in front of each.
    """

    model: str
    text: str
    sha256: str
    length: int = Field(ge=2)
    sequences: int = Field(default=256, ge=1)
    bos_id: int | None = Field(default=None, ge=0)


def fingerprint(parts: Any) -> str:
    """Return 16 hex digits of (name, bytes) pairs: of a checkpoint's files, or of a model's parameters."""
    digest = hashlib.sha256()
    for name, data in parts:
        digest.update(f"{name}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:16]
