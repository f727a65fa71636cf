"""Input statistics of every candidate matrix over the calibration text, collected in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from aimc_sim.aliases import F32, I32, Progress
from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge.inputs import read_inputs
from aimc_sim.weightfile import Moments

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Sums:
    """These are running sums over tokens of one matrix's input, per channel;
    float64, so that their order hardly matters.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.max_abs = np.zeros(width, np.float32)
        self.total, self.squares = np.zeros(width), np.zeros(width)

    def add(self, x: torch.Tensor) -> None:
        low, high = torch.aminmax(x, dim=0)
        np.maximum(self.max_abs, torch.maximum(-low, high).numpy(), out=self.max_abs)
        wide = x.double()
        self.total += wide.sum(dim=0).numpy()
        self.squares += torch.einsum("tk,tk->k", wide, wide).numpy()
        self.count += len(x)

    def moments(self) -> Moments:
        return Moments(
            self.max_abs,
            (self.total / self.count).astype(np.float32),
            (self.squares / self.count).astype(np.float32),
        )


def collect_moments(
    model: PreTrainedModel,
    token_ids: I32,
    names: Sequence[str],
    *,
    batch: int = 2,
    progress: Progress | None = None,
) -> dict[str, Moments]:
    """Return the moments of the inputs of the named modules over all tokens: each (K,) float32.

    token_ids: (S, L) int32, run through the model ``batch`` sequences at a time without a cache.
    """
    sums: dict[str, _Sums] = {}

    def see(name: str, x: F32) -> None:
        if not np.isfinite(x).all():
            raise BadInput(
                f"input of {name}",
                why="it is not finite on the calibration text",
                do="check the checkpoint; a weight may be far too large",
            )
        sums.setdefault(name, _Sums(x.shape[1])).add(torch.from_numpy(x))

    for first in range(0, len(token_ids), batch):
        read_inputs(model, token_ids[first : first + batch], names, see)
        if progress is not None:
            progress("calibrate", min(first + batch, len(token_ids)), len(token_ids))
    missing = [name for name in names if name not in sums]
    if missing:
        raise BadInput(
            "calibration",
            got=missing[0],
            why="no token ever reached this module",
            do="check that the architecture is a plain decoder",
        )
    return {name: sum_.moments() for name, sum_ in sums.items()}
