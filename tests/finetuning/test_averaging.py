"""The average of the weights: its formula in numbers that float32 holds exactly, and what it leaves alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from aimc_sim.finetuning.averaging import Average


def layer(*values: float) -> nn.Linear:
    """A layer with these weights, and a bias that nobody trains."""
    model = nn.Linear(len(values), 1)
    model.bias.requires_grad_(False)
    put(model, *values)
    return model


def put(model: nn.Linear, *values: float) -> None:
    with torch.no_grad():
        model.weight.copy_(torch.tensor([values]))


@pytest.mark.parametrize(
    ("step", "keep"),
    [
        (2, Fraction(1, 4)), (6, Fraction(7, 16)), (8, Fraction(1, 2)), (26, Fraction(3, 4)),
        (62, Fraction(7, 8)), (63, Fraction(7, 8)), (10**6, Fraction(7, 8)),
    ],
)  # fmt: skip
def test_an_average_keeps_one_plus_step_over_ten_plus_step_until_its_decay(step: int, keep: Fraction) -> None:
    model = layer(16.0, -32.0)
    average = Average(model, 0.875)
    put(model, 48.0, 0.0)
    average.update(step)
    expected = [float(keep * a + (1 - keep) * b) for a, b in ((16, 48), (-32, 0))]
    assert average.tensors["weight"].tolist() == [expected]
    assert model.weight.tolist() == [[48.0, 0.0]], "the weights themselves go on"


def test_the_start_is_soon_forgotten() -> None:
    """Steps 1 to 30 of weights that stay at 0: of the start Π (1 + s)/(10 + s) is left, not the decay's power."""
    model = layer(1.0)
    average = Average(model, 0.999)
    put(model, 0.0)
    left = Fraction(1)
    for step in range(1, 31):
        average.update(step)
        left *= Fraction(1 + step, 10 + step)
    assert average.tensors["weight"].item() == pytest.approx(float(left), rel=1e-5)


def test_only_what_is_trained_is_averaged_and_without_decay_nothing() -> None:
    model = layer(1.0)
    assert list(Average(model, 0.5).tensors) == ["weight"]
    absent = Average(model, None)
    absent.update(1)
    with absent.mounted():
        assert model.weight.item() == 1.0
    assert absent.tensors == {}


def test_inside_the_model_is_the_average_and_outside_itself() -> None:
    model = layer(1.0)
    average = Average(model, 0.875)
    put(model, 3.0)
    average.update(8)
    with average.mounted():
        assert model.weight.item() == 2.0
    assert model.weight.item() == 3.0
    assert average.tensors["weight"].item() == 2.0
