"""Counters of what clips, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.chip.saturation import saturation
from aimc_sim.tiles.matrix import TiledMatrix


def tiles(lambda_: float, beta: float | None = None, **dac: object) -> TiledMatrix:
    adc = {"full_scale": {"rule": "lambda", "lambda_": lambda_}}
    rule = {"range": "max"} if beta else {}
    hardware = Hardware.load({"device": "ideal", "tile": {"rows": 4}, "dac": {**rule, **dac}, "adc": adc})
    ranges = MatrixRange(input_range=np.full(2, beta, np.float32)) if beta else MatrixRange()
    return CellMatrix(np.ones((3, 8), np.float32), hardware, 0, ranges=ranges).tiles()


def test_inputs_beyond_a_static_range() -> None:
    x = np.array([[1, 2, -3, 0, 0.5, 0, 0, 0], [2, 2, 2, 2, -2.1, 9, 0, 0]], np.float32)
    found = saturation(x, tiles(100.0, beta=2.0))
    assert found.inputs.tolist() == [8, 8]
    assert found.inputs_clipped.tolist() == [1, 2]
    assert found.input_share == 3 / 16
    assert saturation(x, tiles(100.0)).inputs_clipped.sum() == 0


def test_conversions_beyond_full_scale() -> None:
    """Four ones under λ = 3 exceed it in all three columns, two do not."""
    x = np.array([[1, 1, 1, 1, 1, 1, 0, 0]], np.float32)
    found = saturation(x, tiles(3.0))
    assert found.conversions.tolist() == [[3], [3]]
    assert found.conversions_clipped.tolist() == [[3], [0]]
    assert found.conversion_share == 0.5
    serial = saturation(x, tiles(3.0, mode="bit_serial"))
    assert serial.conversions.tolist() == [[21], [21]]
    assert serial.conversions_clipped.tolist() == [[21], [0]], "code 127 has every bit set"


def test_tiles_of_columns_are_counted_apart() -> None:
    """Columns 0 and 1 carry four ones and exceed λ = 3, column 2 carries halves and does not."""
    hardware = Hardware.load({
        "device": "ideal", "tile": {"rows": 4, "cols": 2}, "dac": {},
        "adc": {"full_scale": {"rule": "lambda", "lambda_": 3.0}},
    })  # fmt: skip
    w = np.ones((3, 8), np.float32)
    w[2, [0, 1, 2, 4]] = 0.25
    found = saturation(
        np.array([[1, 1, 1, 1, 1, 0, 0, 0]], np.float32),
        CellMatrix(w, hardware, 0).tiles(),
        np.array([0, 2, 3]),
    )
    assert found.conversions.tolist() == [[2, 1], [2, 1]]
    assert found.conversions_clipped.tolist() == [[2, 0], [0, 0]]
    assert (found.worst_tile, found.worst_share) == ((0, 0), 1.0)
    twice = found + found
    assert twice.conversions.tolist() == [[4, 2], [4, 2]]
    assert twice.conversion_share == found.conversion_share == 1 / 3


@pytest.mark.parametrize("weights", [{"subtract": "digital"}, {"bits": 8, "cell_bits": 4}])
def test_every_column_of_a_weight_counts(weights: dict[str, object]) -> None:
    hardware = Hardware.load({
        "device": "ideal", "tile": {"rows": 4}, "dac": {}, "weights": weights,
        "adc": {"full_scale": {"rule": "lambda", "lambda_": 3.0}},
    })  # fmt: skip
    found = saturation(
        np.ones((1, 8), np.float32), CellMatrix(np.ones((3, 8), np.float32), hardware, 0).tiles()
    )
    assert found.conversions.tolist() == [[6], [6]]
    assert found.conversions_clipped.sum() in (6, 12), "four ones exceed 3 in each column that holds some"


def test_without_converters_there_is_nothing_to_count() -> None:
    plain = CellMatrix(np.ones((3, 8), np.float32), Hardware.load("ideal"), 0).tiles()
    with pytest.raises(BadInput, match="nothing clips"):
        saturation(np.ones((1, 8), np.float32), plain)
