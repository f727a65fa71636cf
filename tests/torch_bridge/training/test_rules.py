"""Clipping and steps that nobody can forget, and ranges: where they begin, how they stay."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from aimc_sim import training
from aimc_sim.errors import BadInput
from aimc_sim.torch_bridge import (
    Training,
    analog_layers,
    attach_clipping,
    clip_weights,
    convert,
    initialise_ranges,
    initialising_ranges,
    learned_ranges,
    parameter_groups,
    ranges_ready,
    set_step,
)
from aimc_sim.torch_bridge.training.plan import EVENT

# -- clipping and steps


def test_updates_clip_unless_clipping_was_ended(small: Any) -> None:
    model = small.ready(Training(clip_sigma=1.5))
    optimizer = torch.optim.SGD(parameter_groups(model, weight_decay=0.0), lr=0.0)
    before = [layer.weight.detach().clone() for layer in analog_layers(model).values()]
    clipping = attach_clipping(model, optimizer)
    clipping.remove()
    small.step(model, optimizer, 0)
    assert all(map(torch.equal, before, [layer.weight for layer in analog_layers(model).values()]))
    attach_clipping(model, optimizer)
    small.step(model, optimizer, 1)
    after = [layer.weight for layer in analog_layers(model).values()]
    assert not any(map(torch.equal, before, after))


def test_every_step_clips_columns_at_their_own_deviation(small: Any) -> None:
    model = small.ready(Training(clip_sigma=1.5, noise=None))
    before = {name: layer.weight.detach().clone() for name, layer in analog_layers(model).items()}
    optimizer = torch.optim.SGD(parameter_groups(model, weight_decay=0.0), lr=0.0)
    small.step(model, optimizer, 0)
    for name, layer in analog_layers(model).items():
        w = before[name].double().numpy()
        limit = 1.5 * w.std(axis=1, ddof=1, keepdims=True)
        np.testing.assert_allclose(layer.weight.detach().numpy(), np.clip(w, -limit, limit), rtol=1e-6)
        assert (np.abs(w) > limit).any()
    copy_of = small.ready(Training(clip_sigma=1.5, noise=None)).to(torch.bfloat16)
    clip_weights(copy_of)
    for name, layer in analog_layers(copy_of).items():
        assert (layer.weight.float() - analog_layers(model)[name].weight).abs().max() < 0.01


def events(model: Any) -> set[int]:
    """The names of the coming forward's noise."""
    return {int(layer.state[EVENT]) for layer in analog_layers(model).values()}


def test_a_step_of_the_optimizer_is_the_next_step_also_in_compiled_code(small: Any) -> None:
    """Its noise is the noise that `set_step` names, and nothing is compiled anew."""
    model, x = small.ready(Training(clip_sigma=None)), small.values(16, 50)
    optimizer = torch.optim.SGD(parameter_groups(model, weight_decay=0.0), lr=0.0)
    torch._dynamo.reset()
    counted = CompileCounterWithBackend("aot_eager")
    compiled: Any = torch.compile(model, fullgraph=True, backend=counted)
    found = []
    for _ in range(3):
        y = compiled(x)
        found.append(y.detach().clone())
        y.square().mean().backward()
        optimizer.step()
    assert counted.frame_count == 1
    for number, y in enumerate(found):
        set_step(model, number)
        assert torch.equal(model(x), y)
    assert not torch.equal(found[0], found[1])


def test_forwards_of_a_step_share_its_noise(small: Any) -> None:
    """Gradient accumulation, evaluation and forwards without an optimizer."""
    model, x = small.ready(Training(clip_sigma=None)), small.values(4, 50)
    optimizer = torch.optim.SGD(parameter_groups(model, weight_decay=0.0), lr=0.0)
    set_step(model, 0)
    first = model(x)
    assert torch.equal(model(x), first)
    quiet = model.eval()(x)
    assert torch.equal(model(x), quiet)
    assert not torch.equal(quiet, first)
    assert torch.equal(model.train()(x), first)
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1).step()  # which holds nothing of it
    assert torch.equal(model(x), first)
    first.sum().backward()
    optimizer.step()
    assert not torch.equal(model(x), first)


def test_a_frozen_base_goes_on_with_what_learns_beside_it(small: Any) -> None:
    """As under an adapter: no optimizer holds the base's weights, and its noise is still another in each step."""
    base = small.ready(Training(clip_sigma=None)).requires_grad_(False)
    beside = nn.Linear(50, 50)
    optimizer = torch.optim.SGD(beside.parameters(), lr=0.0)
    x = small.values(4, 50)
    set_step(base, 0)
    first = base(beside(x))
    first.sum().backward()
    optimizer.step()
    assert not torch.equal(base(beside(x)), first)
    assert events(base) == {1}
    base.eval()
    optimizer.step()
    assert events(base) == {1}, "what only judges is in no training step"


def test_names_of_steps_come_round(small: Any) -> None:
    model = small.ready(Training(clip_sigma=None))
    optimizer = torch.optim.SGD(parameter_groups(model), lr=0.0)
    small.step(model, optimizer, 2**32 - 1)
    assert events(model) == {0}


def test_clipping_goes_with_wrapped_optimizers_and_refuses_what_does_nothing(small: Any) -> None:
    from accelerate import Accelerator

    model = small.ready()
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-2)
    wrapped, prepared = Accelerator(cpu=True).prepare(model, optimizer)
    attach_clipping(wrapped, prepared)
    for number in range(2):
        small.step(wrapped, prepared, number)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(BadInput, match="none of the model's analog weights"):
        attach_clipping(model, other)
    with pytest.raises(BadInput, match="none of its layers is clipped"):
        attach_clipping(small.ready(Training(clip_sigma=None)), optimizer)
    with pytest.raises(BadInput, match="its updates are not seen"):
        attach_clipping(model, object())


def test_without_clipping_nothing_is_asked_for(small: Any) -> None:
    model = small.ready(Training(clip_sigma=None, noise=None))
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-2)
    small.step(model, optimizer, 0)
    model(small.values(4, 50))


def test_steps_name_the_noise(small: Any) -> None:
    model, x = small.ready(), small.values(4, 50)
    found = []
    for number, seed in ((0, None), (1, None), (0, None), (0, 9), (2**32 - 1, 2**64 - 1)):
        set_step(model, number, seed=seed)
        found.append(model(x))
    assert torch.equal(found[0], found[2])
    assert len({tuple(y.flatten().tolist()) for y in found}) == 4
    for wrong in (-1, 2**32, 1.5):
        with pytest.raises(BadInput, match="training step"):
            set_step(model, wrong)  # type: ignore[arg-type]


def test_a_fresh_model_begins_with_step_0(small: Any) -> None:
    model, x = convert(small.network(), {**small.HARDWARE, "dac": {}}, Training()), small.values(4, 50)
    y = model(x)
    set_step(model, 0)
    assert torch.equal(model(x), y)


# -- ranges


def test_ranges_begin_as_the_mean_deviation_of_the_first_forwards(small: Any) -> None:
    model = convert(small.network(), small.HARDWARE, Training(range_forwards=3, noise=None)).train()
    layer = analog_layers(model)["0"]
    assert not ranges_ready(model)
    with pytest.raises(BadInput, match="initialise_ranges"):
        model.eval()(small.values(4, 50))
    model.train()
    batches = [small.values(8, 50, seed=seed) * seed for seed in range(1, 6)]
    with initialising_ranges(model):
        for x in batches:
            model(x)
    expected = [np.mean([4.0 * x.numpy()[:, a:b].std(ddof=1) for x in batches[:3]])
                for _, a, b in layer.plan.row_tiles]  # fmt: skip
    assert layer.input_range is not None
    np.testing.assert_allclose(layer.input_range.value.detach().numpy(), expected, rtol=1e-5)
    assert layer.input_range.forwards.tolist() == [3, 3, 3]
    assert ranges_ready(model)
    with pytest.raises(BadInput, match="no batch reached"):
        initialise_ranges(convert(small.network(), small.HARDWARE, Training()), [])


@pytest.mark.parametrize(("rule", "of"), [
    ({"method": "max"}, lambda x: np.abs(x).max()),
    ({"method": "percentile", "percentile": 90.0}, lambda x: np.sort(np.abs(x).ravel())[round(0.9 * x.size) - 1]),
    ({"method": "std", "kappa": 3.0}, lambda x: 3 * x.std(ddof=1)),
])  # fmt: skip
def test_ranges_by_the_rule_of_the_hardware(small: Any, rule: dict[str, Any], of: Any) -> None:
    model = convert(
        small.network(), {**small.HARDWARE, "dac": {"range": {**rule, "per": "matrix"}}}, Training()
    )
    x = small.values(8, 50)
    initialise_ranges(model, [x])
    np.testing.assert_allclose(learned_ranges(model)["0"].input_range, np.full(3, of(x.numpy())), rtol=1e-6)


def test_ranges_survive_saving_and_stay_float32(small: Any) -> None:
    model = small.ready().to(torch.bfloat16)
    layer = analog_layers(model)["0"]
    assert layer.weight.dtype == torch.bfloat16
    assert layer.input_range is not None
    assert layer.input_range.value.dtype == torch.float32
    assert set(model.state_dict()) == {
        "0.weight", "0.bias", "0.input_range.value", "0.input_range.forwards", "2.weight",
        "2.input_range.value", "2.input_range.forwards",
    }  # fmt: skip
    fresh = convert(small.network(), small.HARDWARE, Training()).to(torch.bfloat16)
    fresh.load_state_dict(model.state_dict())
    assert ranges_ready(fresh)
    for found in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        set_step(found, 3)
        set_step(model, 3)
        assert torch.equal(found(small.values(4, 50).bfloat16()), model(small.values(4, 50).bfloat16()))
    halved = {name: value.bfloat16() for name, value in model.state_dict().items() if "forwards" not in name}
    fresh.load_state_dict(model.state_dict() | halved, assign=True)
    kept = analog_layers(fresh)["0"].input_range
    assert kept is not None
    assert kept.value.dtype == torch.float32
    assert kept.value.requires_grad
    optimizer = torch.optim.SGD(copy.deepcopy(fresh).parameters(), lr=0.1)
    assert optimizer.param_groups


def test_a_copy_is_watched_like_its_original(small: Any) -> None:
    model = copy.deepcopy(small.ready())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    small.step(model, optimizer, 4)
    assert events(model) == {5}


def test_ranges_that_nobody_began_begin_with_the_first_training_forward(small: Any) -> None:
    begun, x = small.ready(Training(noise=None)), small.values(16, 50)
    model = convert(small.network(), small.HARDWARE, Training(noise=None)).train()
    assert torch.equal(model(x), begun(x))
    assert ranges_ready(model)
    for name, held in learned_ranges(model).items():
        np.testing.assert_array_equal(held.input_range, learned_ranges(begun)[name].input_range)
    fresh = convert(small.network(), small.HARDWARE, Training(noise=None)).train()
    with pytest.raises(BadInput, match="no first value yet"):
        fresh(torch.ones(4, 50))  # which spreads nowhere


# -- the context around a loop


def test_the_context_names_steps_by_seed_and_clips(small: Any) -> None:
    model, x = small.ready(Training(clip_sigma=1.5)).eval(), small.values(16, 50)
    optimizer = torch.optim.SGD(parameter_groups(model), lr=0.1)
    with training(model, optimizer, seed=5, step=10) as run:
        assert model.training
        for number in range(10, 13):
            assert (run.step, events(model)) == (number, {number})
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            w = model[0].weight.detach()
            clamped = (w.abs() == w.abs().amax(dim=1, keepdim=True)).sum(dim=1)
            assert (clamped > 1).all(), "the largest of every column lies at its bound"
    assert run.step == 13
    assert not model.training
    model.train()
    y = model(x)
    set_step(model, 13, seed=5)
    assert torch.equal(model(x), y)


def test_a_run_that_goes_on_gives_what_it_would_have_given(small: Any) -> None:
    x = small.values(16, 50)

    def advance(model: Any, optimizer: Any, step: int) -> list[float]:
        with training(model, optimizer, seed=2, step=step):
            return [float(plain_step(model, optimizer, x)) for _ in range(2)]

    def plain_step(model: Any, optimizer: Any, x: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    model = small.ready()
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-2)
    losses = advance(model, optimizer, 0)
    kept = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    losses = advance(model, optimizer, 2)
    again = convert(small.network(), small.HARDWARE, Training())
    again.load_state_dict(kept[0])
    other = torch.optim.AdamW(parameter_groups(again), lr=1e-2)
    other.load_state_dict(kept[1])
    assert advance(again, other, 2) == losses


def test_micro_steps_have_noise_of_their_own(small: Any) -> None:
    model = small.ready()
    optimizer = torch.optim.SGD(parameter_groups(model), lr=0.1)
    with training(model, optimizer, step=3, micro_steps=4) as run:
        assert events(model) == {12}
        run.micro_step(2)
        assert (run.step, events(model)) == (3, {14})
        optimizer.step()
        assert (run.step, events(model)) == (4, {16})
        for wrong in (-1, 4):
            with pytest.raises(BadInput, match="a step has 4"):
                run.micro_step(wrong)


def test_processes_have_noise_of_their_own(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small.ready()
    optimizer = torch.optim.SGD(parameter_groups(model), lr=0.1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 8)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    with training(model, optimizer, step=1, micro_steps=2) as run:
        assert events(model) == {16 + 3}
        run.micro_step(1)
        assert events(model) == {16 + 8 + 3}
        optimizer.step()
        assert (run.step, events(model)) == (2, {32 + 3})


def test_the_context_begins_ranges_and_refuses_what_trains_nothing(small: Any) -> None:
    model = convert(small.network(), small.HARDWARE, Training(range_forwards=2))
    optimizer = torch.optim.SGD(parameter_groups(model), lr=0.1)
    with training(model, optimizer, batches=[small.values(16, 50), small.values(16, 50, seed=2)]):
        assert ranges_ready(model)
        assert events(model) == {0}
    with pytest.raises(BadInput, match="no analog layers"), training(small.network(), optimizer):
        pass
    other = torch.optim.SGD(small.network().parameters(), lr=0.1)
    with pytest.raises(BadInput, match="changes none"), training(model, other):
        pass
    with pytest.raises(BadInput, match="micro_steps"), training(model, optimizer, micro_steps=0):
        pass


def test_ranges_have_a_group_of_their_own(small: Any) -> None:
    model = small.ready()
    groups = parameter_groups(model, weight_decay=0.3)
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [tuple(p.shape) for p in groups[1]["params"]] == [(3,), (2,)]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    fixed = small.ready(Training(learn_ranges=False))
    assert len(parameter_groups(fixed)) == 1


def test_a_range_that_was_pushed_below_zero_comes_back(small: Any) -> None:
    """Of 0.02 and updates of 0.03: without the mirror the layer would give 0 for good."""
    model = small.ready(Training(noise=None, clip_sigma=None))
    layer = model[0]
    layer.put_ranges(torch.tensor([0.02]))
    optimizer = torch.optim.SGD([layer.input_range.value], lr=1.0)
    layer.input_range.value.grad = torch.full((layer.plan.tiles,), 0.03)
    optimizer.step()
    torch.testing.assert_close(layer.input_range.value.detach(), torch.full((layer.plan.tiles,), 0.01))
    assert bool(layer(small.values(4, 50)).any())
    with pytest.raises(BadInput, match="finite"):
        layer.put_ranges(torch.tensor([float("inf")]))


def test_no_forward_is_run_that_moves_no_range(small: Any) -> None:
    seen: list[int] = []

    def run(model: Any, batch: torch.Tensor) -> None:
        seen.append(len(batch))
        model(batch)

    model = convert(small.network(), small.HARDWARE, Training(range_forwards=2))
    initialise_ranges(model, [small.values(16, 50)] * 5, run=run)
    assert seen == [16, 16]
    initialise_ranges(model, [small.values(16, 50)], run=run)
    dynamic = {**small.HARDWARE, "dac": {"range": {"method": "per_token"}}}
    initialise_ranges(convert(small.network(), dynamic, Training()), [small.values(16, 50)], run=run)
    assert seen == [16, 16]
