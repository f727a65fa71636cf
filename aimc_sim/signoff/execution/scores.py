"""`TrialScores` hold what a `Runner` measures of one trial; token ids travel packed, to a journal and to workers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from aimc_sim.evaluate.windows import Tokens

Json = Any


@dataclass(frozen=True)
class TrialScores:
    """These are the scores of one trial: per name one (items,) float64 or int64 array, such as nll, kl and agree of a
    text.
    """

    values: dict[str, npt.NDArray[Any]]

    def to_json(self) -> Json:
        """Return plain lists; float64 values come back bit for bit."""
        return {name: array.tolist() for name, array in self.values.items()}

    @classmethod
    def from_json(cls, data: Json) -> TrialScores:
        """Read what `to_json` gave."""
        return cls({name: np.asarray(values) for name, values in data.items()})


class Runner(Protocol):
    """A runner scores a task in one process. It is built from the items that the plan's journal holds, so it has them
    everywhere.
    """

    @property
    def steps(self) -> int:
        """Calls of on_step that scoring one model makes."""

    def digital(self, on_step: Callable[[], None]) -> TrialScores:
        """Return the digital model's own scores."""

    def score(self, model: Any, on_step: Callable[[], None]) -> TrialScores:
        """Return scores of a mounted model on every item."""

    def example(self) -> npt.NDArray[np.int32]:
        """Return token ids (length,) of one item, for the coverage report."""

    def close(self) -> None:
        """Give back temporary files."""


def packed(sequences: Sequence[Sequence[int]]) -> Json:
    """Pack sequences: their lengths, and all token ids as base64 of little-endian int32."""
    ids = np.array([token for sequence in sequences for token in sequence], "<i4").tobytes()
    return {"lengths": [len(each) for each in sequences], "ids": base64.b64encode(ids).decode("ascii")}


def unpacked(data: Json) -> list[Tokens]:
    """Unpack what `packed` was given, as int32 arrays."""
    ids = np.frombuffer(base64.b64decode(data["ids"]), dtype="<i4").astype(np.int32)
    return np.split(ids, np.cumsum(data["lengths"])[:-1]) if data["lengths"] else []
