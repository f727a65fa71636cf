"""Mounting a model on other hardware than it was trained for: which learned ranges another tiling may take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aimc_sim.errors import BadInput
from aimc_sim.testing import assert_bits
from aimc_sim.torch_bridge import mounted, on_chip


def test_times_in_words_the_old_name_and_a_model_that_is_not_converted(small: Any) -> None:
    model, x = small.ready().eval(), small.values(4, 50)
    found = []
    for time in (86400.0, "1d", 0):
        with on_chip(model, 1, time):
            found.append(model(x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    with pytest.warns(DeprecationWarning, match="mounted is called on_chip"), mounted(model, 1, 86400.0):
        assert torch.equal(model(x), found[0])
    with pytest.warns(DeprecationWarning, match="time_s"), on_chip(model, 1, time_s="1d"):  # type: ignore[call-arg]
        assert torch.equal(model(x), found[0])
    with pytest.raises(BadInput, match="would run digitally"), on_chip(small.network(), 1):
        pass


CUTS = [({"rows": 12}, 5), ({"rows": 30}, 2), ({}, 1)]  # of 50 inputs, which train in 3 row tiles


@pytest.mark.parametrize(("tile", "tiles"), CUTS)
def test_ranges_that_differ_are_refused_by_another_tiling(small: Any, tile: Any, tiles: int) -> None:
    model = small.ready().eval()
    model[0].put_ranges(torch.tensor([1.0, 2.0, 3.0]))
    model[2].put_ranges(torch.tensor([2.0]))
    with (
        pytest.raises(BadInput, match=rf"3 ranges for {tiles} row tiles.*cuts the matrix differently"),
        on_chip(model, 1, hardware={**small.HARDWARE, "tile": tile}),
    ):
        raise AssertionError("it is not mounted")
    assert model[0].tiles is model[2].tiles is None, "nothing stays mounted"


@pytest.mark.parametrize(("tile", "tiles"), CUTS)
def test_one_range_for_all_is_taken_by_any_tiling(small: Any, tile: Any, tiles: int) -> None:
    model = small.ready().eval()
    for layer in (model[0], model[2]):
        layer.put_ranges(torch.tensor([2.5]))
    with on_chip(model, 1, hardware={**small.HARDWARE, "tile": tile}):
        assert_bits(model[0].tiles.input_range, np.full(tiles, 2.5, np.float32))
        assert torch.isfinite(model(small.values(4, 50))).all()


def test_ranges_that_differ_are_taken_as_they_are_by_the_same_tiling(small: Any) -> None:
    model = small.ready().eval()
    model[0].put_ranges(torch.tensor([1.0, 2.0, 3.0]))
    for hardware in (None, {**small.HARDWARE, "device": "ideal"}):
        with on_chip(model, 1, hardware=hardware):
            assert_bits(model[0].tiles.input_range, np.array([1, 2, 3], np.float32))
