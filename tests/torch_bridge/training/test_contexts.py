"""What `training` and `on_chip` leave behind, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge import AnalogLinear, Training, convert
from aimc_sim.torch_bridge.training.loop import training
from aimc_sim.torch_bridge.training.mounted import on_chip


def steps(model: Any, optimizer: Any, x: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Train so many steps → the outputs before each."""
    outputs = []
    for _ in range(count):
        y = model(x)
        outputs.append(y.detach())
        y.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return outputs


def test_a_second_context_goes_on_where_the_first_ended(small: Any) -> None:
    model = small.ready(Training(clip_sigma=None))
    x, optimizer = small.values(4, 50), torch.optim.SGD(model.parameters(), lr=0.0)
    with training(model, optimizer) as run:
        (first, second) = steps(model, optimizer, x, 2)
    with training(model, optimizer) as run:
        (third,) = steps(model, optimizer, x, 1)
    assert run.step == 3
    assert not torch.equal(first, second)
    assert not torch.equal(first, third), "its noise is new"
    with training(model, optimizer, step=0):
        assert torch.equal(steps(model, optimizer, x, 1)[0], first)


def test_modes_are_as_before_afterwards(small: Any) -> None:
    model = nn.Sequential(small.ready(), nn.Dropout().eval())
    model.train()
    model[1].eval()
    with training(model, torch.optim.SGD(model.parameters(), lr=0.1)):
        assert model[1].training
    assert not model[1].training
    assert model[0].training


def test_an_optimizer_that_leaves_a_layer_behind_is_refused(small: Any) -> None:
    model = small.ready()
    with (
        pytest.raises(BadInput, match="it is to be trained"),
        training(model, torch.optim.SGD(model[0].parameters(), lr=0.1)),
    ):
        pass
    for parameter in model[2].parameters():
        parameter.requires_grad_(False)
    with training(model, torch.optim.SGD(model[0].parameters(), lr=0.1)):
        pass


def test_layers_that_would_draw_the_same_noise_are_refused() -> None:
    layers = [AnalogLinear.from_linear(nn.Linear(8, 8), Training()) for _ in range(2)]
    model = nn.Sequential(*layers)
    with (
        pytest.raises(BadInput, match="draw the same noise"),
        training(model, torch.optim.SGD(model.parameters(), lr=0.1)),
    ):
        pass


def test_a_chip_that_a_model_was_on_before_is_its_chip_again(small: Any) -> None:
    model, x = small.ready(), small.values(4, 50)
    with on_chip(model, seed=1):
        outer = model(x)
        with on_chip(model, seed=2):
            assert not torch.equal(model(x), outer)
        assert torch.equal(model(x), outer)
    fixed = convert(nn.Sequential(nn.Linear(50, 7)), {"device": "pcm-hermes-2"}, training=False)
    before = fixed(x)
    with on_chip(fixed, seed=2):
        assert not torch.equal(fixed(x), before)
    assert torch.equal(fixed(x), before)
