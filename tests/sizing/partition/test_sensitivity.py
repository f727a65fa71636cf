"""Which matrices hurt: every set of analog matrices scores as a chip of that placement does, within a budget."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.metrics import Reference, score
from aimc_sim.hardware import Hardware
from aimc_sim.programming import program
from aimc_sim.sizing.accuracy import Text
from aimc_sim.sizing.partition.bench import PlacementBench
from aimc_sim.sizing.partition.sensitivity import (
    Estimate,
    MatrixLoss,
    Measuring,
    SensitivityPlan,
    _add_shares,
    candidates,
    interval,
    profile,
    split,
)
from aimc_sim.torch_bridge import build_model, load_digital, mount
from aimc_sim.weightfile import WeightFile

HERMES = Hardware.load("hermes-256")
DAY = 86400.0


def plan_for(weights: Path, **changes: Any) -> SensitivityPlan:
    base: dict[str, Any] = {
        "weights": WeightFile(weights).id, "code": "test", "hardware": HERMES, "chips": 2,
        "tokens": 64, "time_s": DAY, "forwards": 64,
    }  # fmt: skip
    return SensitivityPlan(**{**base, **changes})


def test_a_set_scores_as_a_chip_of_that_placement(tiny_weights: Path) -> None:
    """Bit for bit: cells are named by their matrix, so that what is digital elsewhere changes no cell."""
    weights = WeightFile(tiny_weights)
    windows = Text(64).windows(weights)
    bench = PlacementBench(weights, HERMES, windows, DAY)
    down = "model.layers.0.mlp.down_proj"
    others = tuple(name for name in bench.names if name != down)
    for analog, digital in (
        ((down,), list(others)),
        (others, [down]),
        (bench.names, []),
        ((), list(bench.names)),
    ):
        found = bench.score(1, analog)
        placed = Hardware.load({"base": "hermes-256", "placement": {"digital": digital}})
        model: Any = build_model(weights, placed)
        if analog:
            mount(model, program(weights, 1, placed).at(DAY))
        with Reference(load_digital(weights), windows, 16) as reference:
            expected = score(model, windows, 16, reference=reference)
        np.testing.assert_array_equal(found.nll, expected.nll)
        np.testing.assert_array_equal(found.kl, expected.kl)
        if not analog:
            np.testing.assert_array_equal(found.kl, 0.0)
    special = {"matrices": [down], "copies": 2}
    mixed = Hardware.load({"base": "hermes-256", "placement": {"special": special, "digital": [others[0]]}})
    copied = Hardware.load({"base": "hermes-256", "placement": {"special": {**special, "matrices": ["*"]}}})
    ways = PlacementBench(weights, HERMES, windows, DAY, {"2 copies": copied})
    ways.score(1, ways.names)
    found = ways.score(
        1, {name: "2 copies" if name == down else "" for name in ways.names if name != others[0]}
    )
    model = build_model(weights, mixed)
    mount(model, program(weights, 1, mixed).at(DAY))
    np.testing.assert_array_equal(found.nll, score(model, windows, 16).nll)
    assert (found.nll != bench.score(1, [name for name in bench.names if name != others[0]]).nll).any()
    ways.close()
    ideal = bench.score(1, bench.names, ideal=True)
    assert 0 < ideal.kl.sum() < bench.score(1, bench.names).kl.sum()
    bench.close()


def test_intervals_by_hand() -> None:
    tokens = np.array([10.0, 10.0])
    one = interval(np.array([[10.0, 30.0]]), tokens)
    assert one.mean == pytest.approx(2.0)
    # windows of 1 and 3 nats a token: their mean has a standard error of 1, with one degree of freedom
    assert one.high - one.mean == pytest.approx(float(t.ppf(0.975, 1)) * 1.0)
    chips = interval(np.array([[10.0], [30.0]]), tokens[:1])
    assert (chips.mean, chips.high) == pytest.approx((2.0, 2.0 + float(t.ppf(0.975, 1))))
    assert interval(np.array([[10.0]]), tokens[:1]) == Estimate(1.0, 1.0, 1.0)
    assert interval(np.array([[10.0, 10.0], [10.0, 10.0]]), tokens) == Estimate(1.0, 1.0, 1.0)


def test_a_profile_stays_in_its_budget_and_says_what_is_an_estimate(
    tiny_weights: Path, tmp_path: Path
) -> None:
    weights = WeightFile(tiny_weights)
    passes: list[str] = []
    plan = plan_for(tiny_weights, forwards=24)
    with Measuring(plan, weights, HERMES, tmp_path, text=Text(64), workers=1, progress=None) as measuring:
        found = profile(measuring, weights, HERMES)
        passes = [name for name in measuring.values if name.startswith("loss/")]
    assert len(passes) == found.forwards == 24
    assert sum(matrix.measured for matrix in found.matrices) == 14
    assert sum(matrix.won is not None for matrix in found.matrices) == 2
    assert len(found.matrices) == 15
    assert sum(matrix.share for matrix in found.matrices) == pytest.approx(found.all.mean)
    assert [m.share for m in found.matrices] == sorted((m.share for m in found.matrices), reverse=True)
    assert all(m.share > 0 for m in found.matrices if not m.measured)
    assert found.converters.mean < 0.2 * found.all.mean
    with Measuring(plan, weights, HERMES, tmp_path, text=Text(64), workers=1, progress=None) as measuring:
        assert profile(measuring, weights, HERMES) == found
        assert measuring._pool is None, "everything was in the folder"
    low = plan_for(tiny_weights, forwards=7)
    (tmp_path / "low").mkdir()
    with (
        Measuring(
            low, weights, HERMES, tmp_path / "low", text=Text(64), workers=1, progress=None
        ) as measuring,
        pytest.raises(BadInput, match="forwards"),
    ):
        profile(measuring, weights, HERMES)


def test_a_budget_is_spent_and_never_more() -> None:
    for forwards in range(5, 400):
        for chips in (1, 2, 3):
            if forwards < 2 + 3 * chips:
                with pytest.raises(BadInput, match="forwards"):
                    split(forwards, chips, 40)
                continue
            first, deep = split(forwards, chips, 40)
            spent = 2 + chips + first + deep * (2 * chips - 1)
            assert 1 <= deep <= first <= 40
            assert spent <= forwards
            assert spent > forwards - 2 * chips or deep == 40


def test_a_matrix_that_is_ruined_leads_the_profile(tiny_weights: Path, tmp_path: Path) -> None:
    """All but one matrix in nearly exact cells: that one is found, and takes nearly the whole loss."""
    weights = WeightFile(tiny_weights)
    bad = "model.layers.1.mlp.up_proj"
    noise = {matrix.name: 1e-6 for matrix in weights.matrices} | {bad: 1e-2}
    assert candidates(weights.matrices, noise, 3)[0] == bad
    roles = [weights.matrix(name).role for name in candidates(weights.matrices, noise, 15)]
    assert len(set(roles[:15])) == len({matrix.role for matrix in weights.matrices})
    rows = [
        MatrixLoss("a", "q", 1, 0.1, Estimate(0.3, 0, 1), Estimate(0.5, 0.4, 0.6), 0.0),
        MatrixLoss("b", "q", 1, 0.05, None, None, 0.0),
        MatrixLoss("c", "k", 1, 0.1, Estimate(-0.1, -1, 1), Estimate(9.0, -1, 20), 0.0),
        MatrixLoss("d", "v", 1, 0.1, None, None, 0.0),
    ]
    shares = {matrix.name: matrix.share for matrix in _add_shares(rows, 1.2)}
    assert shares == pytest.approx({"a": 0.8, "b": 0.4, "c": 0.0, "d": 0.0}), (
        "0.4 : 0.2 : 0 : the cheapest rate"
    )


def test_the_command(tiny_weights: Path, tmp_path: Path) -> None:
    options = ["sensitivity", str(tiny_weights), "--tokens", "64", "--forwards", "14", "--workers", "1"]
    done = CliRunner().invoke(app, [*options, "-o", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "sensitivity.json").read_text())
    rows = list(csv.DictReader((tmp_path / "sensitivity.csv").read_text().splitlines()))
    assert [row["matrix"] for row in rows] == [row["name"] for row in document["matrices"]]
    assert {row["measured"] for row in rows} == {"True", "False"}
    shown = CliRunner().invoke(app, [*options, "-o", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "nats per token" in shown.output
    assert "(estimate)" in shown.output
    refused = CliRunner().invoke(app, [*options, "--metric", "loss", "-o", str(tmp_path)])
    assert refused.exit_code == 2
    assert "its metric differs" in refused.output
