"""A study of a tiny model: the same chips for every set, losses and noise that can be found another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aimc_sim.attribution.effect_table import NONE
from aimc_sim.attribution.effects import variant
from aimc_sim.attribution.layers import by_role, ratios
from aimc_sim.attribution.report import document_of
from aimc_sim.attribution.run import Result, run_study
from aimc_sim.attribution.study import Study, differs_by_chip, make_study, sets_of, windows_of
from aimc_sim.attribution.waterfall import waterfall
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.metrics import Reference, score
from aimc_sim.evaluate.snr import decibels, layer_of, probe
from aimc_sim.evaluate.text import file_text
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.report.pages import to_json
from aimc_sim.torch_bridge import build_model, load_digital, mount
from aimc_sim.weightfile import WeightFile


def test_all_effects_are_the_chip_itself(tiny_weights: Path, everything: Hardware, explained: Result) -> None:
    weights = WeightFile(tiny_weights)
    chip = program(weights, 4, everything)
    assert chip.ranges_id == explained.study.ranges_id
    model = build_model(weights, everything)
    mount(model, chip.at(3600.0))
    windows, batch = explained.windows, explained.study.batch
    with Reference(load_digital(weights), windows, batch) as reference:
        scores = score(model, windows, batch, reference=reference)
    whole = frozenset(effect.key for effect in explained.effects)
    assert explained.kl(whole)[0] == scores.kl_nats
    assert explained.loss(whole)[0] == scores.loss - explained.digital.loss


def test_exact_tiles_are_the_digital_model(explained: Result) -> None:
    assert explained.kl(NONE) == pytest.approx(0, abs=1e-6)
    assert decibels(explained.noise(NONE)).min() > 60


def test_a_transform_stays_whatever_is_on(tiny_weights: Path) -> None:
    """It is exact, so exact tiles behind it are the digital model too."""
    weights = WeightFile(tiny_weights)
    rotated = Hardware.load({"base": "hermes-256", "transform": [{"rotate": "hadamard"}]})
    found = run_study(make_study(weights, rotated, seeds=1, tokens=16), weights)
    for on in found.trials:
        assert variant(rotated, found.effects, on).transform == rotated.transform
    assert found.kl(NONE) == pytest.approx(0, abs=1e-6)
    assert decibels(found.noise(NONE)).min() > 60


def test_every_set_is_scored_on_every_chip(explained: Result) -> None:
    assert set(explained.trials) == set(sets_of(explained.effects))
    for on in explained.trials:
        kl = explained.kl(on)
        assert kl.shape == (2,)
        assert (kl[0] != kl[1]) == differs_by_chip(explained.effects, on)


def test_the_waterfall_adds_up(explained: Result) -> None:
    for loss in (explained.kl, explained.loss):
        fall = waterfall(explained.effects, loss)
        assert fall.start.mean + sum(row.step.mean for row in fall.rows) == pytest.approx(fall.total.mean)
        rest = sum(row.alone.mean for row in fall.rows) + fall.interaction.mean
        assert fall.start.mean + rest == pytest.approx(fall.total.mean)


def test_the_same_study_gives_the_same_document(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    study = make_study(weights, weights.hardware, seeds=2, tokens=24)
    first, again = (document_of(run_study(study, weights), weights) for _ in range(2))
    for document in (first, again):
        del document["timings"]
    assert to_json(first) == to_json(again)


def test_noise_is_that_of_the_mounted_tiles(tiny_weights: Path) -> None:
    """Against products of the stored weights in float64, for a matrix with all digits known."""
    weights = WeightFile(tiny_weights)
    hardware = weights.hardware
    study = make_study(weights, hardware, tokens=40)
    windows = windows_of(study, weights)
    seen = probe(load_digital(weights), weights, hardware, windows)
    model = build_model(weights, hardware)
    state = program(weights, 1, hardware).at(60.0)
    mount(model, state)
    found = seen.noise(model)
    for index, name in enumerate(seen.names):
        x = seen.inputs[name].astype(np.float64)
        y = x @ weights.weight(name).astype(np.float64).T
        assert seen.products[name] == pytest.approx(y, abs=2e-5 * np.abs(y).max())
        error = tile_matmul(seen.inputs[name], state.tiles(name)) - y
        expected = ((error**2).sum(1) / (y**2).sum(1)).mean()
        assert found[index] == pytest.approx(expected, rel=1e-3)


def test_the_probe_sees_tokens_of_the_whole_text(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    study = make_study(weights, weights.hardware, tokens=30)
    windows = windows_of(study, weights)
    model = load_digital(weights)
    before = len(model.model.layers[0].self_attn.q_proj._forward_hooks)
    seen = probe(model, weights, weights.hardware, windows)
    assert len(model.model.layers[0].self_attn.q_proj._forward_hooks) == before
    with torch.no_grad():
        ids = torch.from_numpy(np.stack([windows.rows[0]]).astype(np.int64))
        logits = model(input_ids=ids).logits[0].numpy()
    assert seen.products["lm_head"][: len(logits)] == pytest.approx(logits, abs=1e-4)
    assert len(np.unique(seen.rows)) == len(seen.rows) == len(seen.products["lm_head"])


def test_layers_and_roles(explained: Result) -> None:
    found = ratios(explained)
    roles = by_role(explained.matrices, found)
    assert [role["role"] for role in roles][-1] == "head"
    assert sum(role["matrices"] for role in roles) == len(explained.matrices) == len(found.total)
    for role in roles:
        assert role["all"]["worst"] <= role["all"]["median"] < role["alone"]["programming"]["median"]
    assert layer_of("model.layers.17.mlp.up_proj") == 17
    assert layer_of("lm_head") is None


def test_the_calibration_text_is_cut_to_the_tokens_asked_for(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    stored = weights.calibration.token_ids
    for tokens in (2, 17, stored.size - 1, stored.size, 10 * stored.size):
        windows = windows_of(make_study(weights, weights.hardware, tokens=tokens), weights)
        assert sum(len(row) for row in windows.rows) in (tokens, tokens - 1, stored.size)
        assert all((a == b[: len(a)]).all() for a, b in zip(windows.rows, stored, strict=False))


def test_a_text_of_ones_own(tiny_weights: Path, tmp_path: Path) -> None:
    weights, path = WeightFile(tiny_weights), tmp_path / "page.txt"
    path.write_text("A page of text, and some more of it. " * 3, encoding="utf-8")
    study = make_study(weights, weights.hardware, text=file_text(path, 40), context_tokens=16)
    windows = windows_of(study, weights, path)
    assert windows.scored_tokens == 40 - 3, "the first token of each of three windows is context"
    path.write_text("Another page.", encoding="utf-8")
    with pytest.raises(BadInput, match="as it was"):
        windows_of(study, weights, path)


def test_studies_that_cannot_be_made(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    for hardware, options, what in (
        ("ideal", {}, "hardware"),
        ("hermes-256", {"seeds": 0}, "seeds"),
        ("hermes-256", {"tokens": 1}, "tokens"),
        ("hermes-256", {"time_s": 1e12}, "time"),
        ("hermes-256", {"first_seed": -1}, "study: seeds"),
    ):
        with pytest.raises(BadInput, match=what):
            make_study(weights, Hardware.load(hardware), **options)  # type: ignore[arg-type]


def test_ids_tell_studies_apart(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    base = make_study(weights, weights.hardware)
    assert Study.parse(base.model_dump(mode="json"), "again").id == base.id
    assert make_study(weights, weights.hardware, seeds=4).id != base.id
    assert base.effects() == make_study(weights, weights.hardware, tokens=9).effects()
    ideal = variant(weights.hardware, base.effects(), frozenset({"adc"}))
    assert make_study(weights, ideal).id != base.id
