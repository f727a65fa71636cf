"""Recovery: the share of what noise costs that training wins back, with an interval over chips and text.

recovery = (noisy trained − noisy original) / (clean original − noisy original), in nats per token: 0 is the untrained
model on chips, 1 the untrained model without noise. Numerator and denominator are measured on the same chips (equal
seeds: equal draws, cell by cell) and the same windows, so what they share cancels in the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput
from aimc_sim.signoff.statistics import estimate

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recovery:
    """value and a 95 % interval; lost, regained: nats per token, denominator and numerator."""

    value: float
    interval: tuple[float, float]
    lost: float
    regained: float


def recovery(original: Floats, clean: Floats, trained: Floats, tokens: Floats) -> Recovery:
    """Recovery from nats per token: original and trained (chips, windows), clean (windows,), tokens (windows,).

    The interval is the delta method's for a ratio of means: that of the mean of ``won − value·lost`` over crossed chips
    and windows (`aimc_sim.signoff.statistics`), divided by the mean loss. Raises BadInput where noise costs nothing.
    """
    lost, won = original - clean[None, :], original - trained
    mean_lost = estimate(lost, tokens)
    if mean_lost.lower() <= 0:
        raise BadInput(
            "loss by noise",
            got=round(mean_lost.mean, 4),
            why="it is not clearly above 0, so no share of it can be won back",
            do="use more chips, more text or a noisier device",
        )
    value = estimate(won, tokens).mean / mean_lost.mean
    half = estimate(won - value * lost, tokens).half_width(0.025) / mean_lost.mean
    return Recovery(
        float(value), (float(value - half), float(value + half)), mean_lost.mean, value * mean_lost.mean
    )
