"""What tiles hold and what they compute, bit for bit: SHA-256 of float32 arrays that version 0.1 gave.

On the integer path a product is whole numbers and single roundings in a fixed order, and what cells hold comes of
compiled kernels without fast-math: the same bits on any machine. Where a library adds up, or raises to a power, the
last bit is the processor's affair, and numbers are compared with a tolerance: `figures.CLOSE`. Of those, an ADC makes
steps: a sum that lies on an edge gives one code more or less, a step of full scale / 511 at most, here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden import figures, inputs

from aimc_sim import WeightFile


def test_keyed_numbers_and_wires_keep_their_bits(expected: dict[str, Any]) -> None:
    assert figures.numbers() == expected["numbers"]


@pytest.mark.parametrize("name", figures.EXACT)
def test_a_chip_keeps_its_bits(name: str, weights: WeightFile, expected: dict[str, Any]) -> None:
    assert figures.bits(weights, name) == expected["bits"][name]


def test_products_through_several_matrices_keep_their_bits(
    weights: WeightFile, expected: dict[str, Any]
) -> None:
    assert figures.stack(weights) == expected["stack"]


@pytest.mark.parametrize("name", figures.CLOSE)
def test_a_chip_off_the_integer_path_keeps_its_numbers(name: str, weights: WeightFile) -> None:
    with np.load(inputs.HERE / "products.npz", allow_pickle=False) as known:
        for what, value in figures.close(weights, name).items():
            old = known[what]
            error = np.abs(value - old).max(axis=-1) / np.abs(old).max(axis=-1).clip(1e-30)
            assert (error < 1e-5).mean() >= 0.8, f"{what}: all but a row or so"
            assert error.max() < 0.02, f"{what}: a row, by a code"
