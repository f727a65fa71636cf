"""A whole model on a chip, and steps of training for one: as numbers, for digital float32 sums have a part in them.

Attention, norms and gradients are sums of torch, whose order is the processor's: they differ by about 1e-7, relatively.
Where such an input lies on the edge of a DAC code or a sum on that of an ADC code, that makes a code of a difference,
and the tokens after it in its sequence differ too. So most rows of logits agree to 1e-4 of the largest logit, and none
is off by more than a few codes, 5e-2 of it: another draw of the same chip is off by far more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden import figures, inputs

from aimc_sim import WeightFile


@pytest.mark.parametrize("what", figures.LOGITS)
def test_logits_stay(what: str, weights: WeightFile) -> None:
    with np.load(inputs.HERE / "logits.npz", allow_pickle=False) as known:
        old = known[what]
    error = np.abs(figures.logits(weights, *figures.LOGITS[what]) - old).max(axis=1) / np.abs(old).max()
    assert (error < 1e-4).mean() >= 0.5, error
    assert error.max() < 5e-2, error


@pytest.mark.parametrize("what", figures.TRAINING)
def test_losses_of_training_stay(what: str, expected: dict[str, Any]) -> None:
    """To 1e-5, and not exactly: gradients are sums of torch, and updated weights come of them."""
    assert figures.losses(*figures.TRAINING[what]) == pytest.approx(expected["losses"][what], rel=1e-5)
