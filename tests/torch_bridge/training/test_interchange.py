"""Checkpoints to and from aihwkit-lightning, and our gradients beside those that it computed (lightning.json).

`benchmarks.lightning` asks aihwkit-lightning itself, and writes lightning.json anew with ``--record``.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aimc_sim import Hardware
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.errors import BadInput
from aimc_sim.models import open_checkpoint
from aimc_sim.models.families import skeleton
from aimc_sim.torch_bridge import (
    AnalogLinear,
    clip_weights,
    convert,
    initialising_ranges,
    on_chip,
    quantize_input,
    quantize_output,
    ranges_ready,
    restore,
    set_step,
)
from aimc_sim.torch_bridge.training.interchange import (
    export_lightning,
    lightning_settings,
    lightning_state,
    load_lightning_state,
)
from aimc_sim.torch_bridge.training.spec import Training

ROOT = Path(__file__).parents[3]
RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("lightning.json").read_text(encoding="utf-8"))
AGREES = 1e-6
QUIET = Training(noise=None, clip_sigma=None)


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks.lightning, which computes our side."""
    monkeypatch.syspath_prepend(str(ROOT))
    return import_module("benchmarks.lightning")


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks.lightning_cases."""
    monkeypatch.syspath_prepend(str(ROOT))
    return import_module("benchmarks.lightning_cases")


@pytest.mark.parametrize("name", RECORDED["cases"])
def test_training_layers_agree_with_aihwkit_lightning(name: str, lightning: Any, cases: Any) -> None:
    case = next(case for case in cases.RECORDED if case.name == name)
    ours, theirs = lightning.gradients(case), RECORDED["cases"][name]
    assert set(ours) == set(theirs)
    assert {"y", "x", "w"} <= set(theirs)
    for key, wanted in theirs.items():
        assert np.abs(wanted).max() > 0, key
        assert cases.largest_difference(ours[key], wanted) <= AGREES, key


def test_every_recorded_case_is_asked_for(cases: Any) -> None:
    assert [case.name for case in cases.RECORDED] == list(RECORDED["cases"])
    assert RECORDED["made by"]["torch"].startswith(
        "2.13."
    )  # its own pin; from 2.14 on its clamps lose gradients


def test_functions_agree_with_aihwkit_lightning(lightning: Any, cases: Any) -> None:
    ours, theirs = lightning.functions(), RECORDED["functions"]
    assert set(ours) == set(theirs)
    for name, wanted in theirs.items():
        for key, values in wanted.items() if isinstance(wanted, dict) else [("", wanted)]:
            found = ours[name][key] if key else ours[name]
            assert cases.largest_difference(found, values) <= AGREES, (name, key)


@pytest.mark.parametrize("name", ["DAC alone", "DAC and ADC, few clipped", "DAC and ADC"])
def test_the_input_quantiser_agrees_through_any_product(name: str, cases: Any) -> None:
    """quantize_input, then the weights of the case in plain torch: the same gradients reach x and the range."""
    case = next(case for case in cases.RECORDED if case.name == name)
    a = {key: torch.from_numpy(value) for key, value in case.arrays().items()}
    x, beta = a["x"].requires_grad_(), a["beta"].requires_grad_()
    y = quantize_input(x, beta, 8, decay=cases.DECAY, unclipped=cases.UNCLIPPED) @ a["w"].T
    if case.adc:
        y = quantize_output(y, case.lambda_ * beta.detach() * a["w"].abs().amax(dim=1), 8)
    ((y + a["bias"] if case.bias else y) * a["g"]).sum().backward()
    wanted = RECORDED["cases"][name]
    for key, found in (("x", x.grad), ("beta", beta.grad)):
        assert found is not None
        assert cases.largest_difference(found, wanted[key]) <= AGREES, key


# -- checkpoints -------------------------------------------------------------------------------------------------


def hardware(**changes: Any) -> Hardware:
    table = {"device": "ideal", "dac": {"range": {"method": "std", "kappa": 3.0}},
             "adc": {"full_scale": {"rule": "lambda", "lambda_": 12.0}}, **changes}  # fmt: skip
    return Hardware.load({"name": "test", **table})


def trained(tiny_checkpoint: Path, spec: Hardware, training: Training = QUIET) -> Any:
    """The tiny model, converted, with a range of its own for every tile of every matrix."""
    opened = open_checkpoint(tiny_checkpoint)
    model = skeleton(opened.config).to_empty(device="cpu")
    state = load_file(tiny_checkpoint / "model.safetensors")
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    betas = {item.name: 4 + index / 8 for index, item in enumerate(opened.candidates)}
    ranges = {name: MatrixRange(np.array([beta], np.float32)) for name, beta in betas.items()}
    return convert(model, spec, training, ranges=ranges)


NAMES = {"weight", "input_range", "input_range_update_idx", "x_min", "x_max"}


@pytest.mark.parametrize("rows", [None, 32])
def test_a_model_goes_there_and_comes_back(tiny_checkpoint: Path, tmp_path: Path, rows: int | None) -> None:
    model = trained(tiny_checkpoint, hardware(tile={"rows": rows}))
    export_lightning(model, tmp_path / "there")
    state = load_file(tmp_path / "there" / "model.safetensors")
    layer = "model.layers.1.mlp.down_proj"
    assert {key.removeprefix(layer + ".") for key in state if key.startswith(layer)} == NAMES
    assert state[f"{layer}.input_range"].shape == (1 if rows is None else 3,)
    assert (state[f"{layer}.input_range_update_idx"] == 500).all()
    assert "lm_head.weight" in state
    assert "model.embed_tokens.weight" in state
    document = json.loads((tmp_path / "there" / "rpu_config.json").read_text())
    assert document["exclude_modules"] == []
    assert document["rpu_config"] == lightning_settings(model_hardware(model), QUIET)
    other = trained(tiny_checkpoint, hardware(tile={"rows": rows}))
    for _, parameter in other.named_parameters():
        parameter.data.fill_(1.0)
    load_lightning_state(other, state)
    assert ranges_ready(other)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def model_hardware(model: Any) -> Hardware:
    return next(module for module in model.modules() if hasattr(module, "plan")).hardware


def test_an_analog_checkpoint_goes_on_training(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """As it is published: pytorch_model.bin in half precision → convert → forward, backward and an evaluation."""
    folder = tmp_path / "published"
    folder.mkdir()
    for path in tiny_checkpoint.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    model = trained(tiny_checkpoint, Hardware.load("afm-llama"))
    torch.save(
        {key: value.half() for key, value in lightning_state(model).items()}, folder / "pytorch_model.bin"
    )
    opened = open_checkpoint(folder)
    from aimc_sim.finetuning.models import load_plain

    again = convert(load_plain(opened), "afm-llama", Training(), ranges={
        name: MatrixRange(beta) for name, beta in opened.ranges.items()})  # fmt: skip
    assert ranges_ready(again)
    clip_weights(again)
    set_step(again, 0)
    ids = torch.arange(40).reshape(2, 20) * 5 % 250
    loss = again.train()(input_ids=ids, labels=ids).loss
    loss.backward()
    slopes = [p.grad for name, p in again.named_parameters() if name.endswith("input_range.value")]
    assert len(slopes) == len(opened.ranges)
    assert all(slope is not None and torch.isfinite(slope).all() for slope in slopes)
    with on_chip(again.eval(), 3), torch.no_grad():
        assert torch.isfinite(again(input_ids=ids, labels=ids).loss)
    for name, found in restore(again).items():
        np.testing.assert_array_equal(found.input_range, opened.ranges[name])


def test_what_has_no_counterpart_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for changes, training, what in (
        ({"adc": {"full_scale": {"rule": "least_squares"}}}, QUIET, "adc.full_scale"),
        (
            {"adc": {"full_scale": {"rule": "lambda", "lambda_": 1.0, "bound_from": "noisy"}}},
            QUIET,
            "adc.full_scale",
        ),
        ({"dac": None}, QUIET, "dac"),
        (
            {"dac": {"range": {"method": "per_token", "per": "matrix"}}, "tile": {"rows": 32}},
            QUIET,
            "dac.range.per",
        ),
        ({}, Training(noise="device"), "noise of the training"),
        ({}, Training(saturation="straight_through"), "saturation of the training"),
    ):
        with pytest.raises(BadInput, match=what):
            lightning_settings(hardware(**changes), training)
    uneven = AnalogLinear.from_linear(torch.nn.Linear(40, 3), hardware(tile={"rows": 32}), QUIET,
                                      ranges=MatrixRange(np.ones(2, np.float32)))  # fmt: skip
    with pytest.raises(BadInput, match=r"\[32, 8\].*\[20, 20\]"):
        lightning_state(uneven)
    with pytest.raises(BadInput, match="no analog layers"):
        lightning_state(torch.nn.Linear(3, 3))
    (tmp_path / "file").touch()
    model = trained(tiny_checkpoint, hardware())
    with pytest.raises(BadInput, match="holds something"):
        export_lightning(model, tmp_path)


def test_nothing_changes_where_a_state_dict_does_not_fit() -> None:
    one = MatrixRange(np.ones(1, np.float32))
    layer = AnalogLinear.from_linear(torch.nn.Linear(8, 3), hardware(), QUIET, ranges=one)
    state, before = lightning_state(layer), {key: value.clone() for key, value in layer.state_dict().items()}
    other = {key: value * 2 for key, value in state.items()}
    for spoiled, why in (
        ({**other, "more": torch.ones(1)}, "no such tensor"),
        ({key: value for key, value in other.items() if key != "bias"}, "lacks this tensor"),
        ({**other, "weight": torch.ones(3, 7)}, "shape"),
        ({**other, "input_range": torch.ones(2)}, "row tiles"),
        ({key: value for key, value in other.items() if key != "input_range"}, "only one side"),
        ({**other, "input_range": -torch.ones(1)}, "above 0"),
    ):
        with pytest.raises(BadInput, match=why):
            load_lightning_state(layer, spoiled)
        for key, value in before.items():
            assert torch.equal(layer.state_dict()[key], value)
    load_lightning_state(layer, other)
    assert torch.equal(layer.weight, 2 * before["weight"])


def test_a_layer_with_dynamic_ranges_has_weights_alone() -> None:
    spec = hardware(dac={"range": {"method": "per_token", "per": "tile"}}, tile={"rows": 4})
    state = lightning_state(AnalogLinear.from_linear(torch.nn.Linear(8, 3), spec, QUIET))
    assert set(state) == {"weight", "bias"}
    settings = lightning_settings(spec, Training(weight_bits=4, clip_sigma=2.0))
    assert settings["pre_post.input_range.dynamic"]
    assert (settings["modifier.res"], settings["mapping.max_input_size"], settings["clip.sigma"]) == (
        14.0,
        4,
        2.0,
    )


def test_an_analog_folder_begins_no_ranges_again(tiny_checkpoint: Path) -> None:
    """Inside `initialising_ranges`, a range that was learned stays as it is."""
    model = trained(tiny_checkpoint, hardware())
    before = {key: value.clone() for key, value in model.state_dict().items() if key.endswith("range.value")}
    with initialising_ranges(model), torch.no_grad():
        model.train()(input_ids=torch.arange(20)[None])
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value), key


# -- the comparison ----------------------------------------------------------------------------------------------


def test_ranges_that_were_never_begun_are_not_exported() -> None:
    with pytest.raises(BadInput, match="no first value"):
        lightning_state(AnalogLinear.from_linear(torch.nn.Linear(8, 3), hardware(), QUIET))


def test_without_the_peer_the_benchmark_says_why(
    lightning: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nothing = lightning.Environment(tmp_path / "python", reasons={"aihwkit-lightning": "no network"})
    monkeypatch.setattr(lightning, "environment", lambda folder, **options: nothing)
    assert lightning.main(["--venv", str(tmp_path)]) == 2
    assert "aihwkit-lightning. no network" in capsys.readouterr().err


def test_a_step_of_the_cost_is_a_training_step(
    lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightning, "SIZE", 64)
    x, w = np.arange(8 * 64).reshape(8, 64) % 7 - 3, np.arange(64 * 64).reshape(64, 64) % 11 - 5
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    np.save(tmp_path / "w.npy", w.astype(np.float32) / 8)
    ours = lightning.Ours()
    ours.prepare(str(tmp_path / "w.npy"), str(tmp_path / "x.npy"), 16)
    layer = ours.layer
    plan = layer.plan
    assert (plan.tiles, plan.noise, plan.dac_max_code, plan.adc_max_code) == (4, "gaussian", 127, 127)
    ours.step(layer)
    first = layer(ours.x).detach()
    ours.step(layer)
    assert layer.weight.grad is not None
    assert layer.input_range.value.grad is not None
    assert not torch.equal(layer(ours.x), first)  # every step draws its own noise
    ours.step(ours.linear)
    assert ours.linear.weight.grad is not None


def test_a_rival_that_fails_is_a_row(lightning: Any) -> None:
    class Peer:
        def __init__(self, **answers: Any) -> None:
            self.answers = answers

        def ask(self, do: str, **_: Any) -> dict[str, Any]:
            return dict(self.answers[do])

    good = Peer(prepare={}, round={"ratio": 1.25, "a_s": 1.0, "b_s": 0.8}, memory={"extra_mib": 2.0})
    bad = Peer(prepare={}, round={"failed": "it died"})
    rows = lightning._case(
        "128 tokens", {"aimc-sim": good, "aihwkit-lightning": bad}, ("w", "x"), 128, None, 2
    )
    assert [(row.value, row.met) for row in rows[:2]] == [(1.25, True), (2.0, True)]
    assert "it died" in rows[2].name
