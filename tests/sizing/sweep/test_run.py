"""A sweep: its axes, its front, its measurements, and that being killed costs nothing but time."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import BadInput
from aimc_sim.evaluate.bench import Bench
from aimc_sim.evaluate.metrics import score
from aimc_sim.evaluate.snr import product_noise
from aimc_sim.hardware import Hardware
from aimc_sim.sizing import Designs, Scenario, Workload, evaluate
from aimc_sim.sizing.accuracy import Text
from aimc_sim.sizing.sweep.pareto import crowding, front, nearest_to_front, ranks
from aimc_sim.sizing.sweep.plan import SweepPlan, axis, space_of
from aimc_sim.sizing.sweep.run import run_sweep
from aimc_sim.sizing.sweep.table import table
from aimc_sim.weightfile import WeightFile

HERMES = Hardware.load("hermes-256")
AXES = {"rows": (32.0, 64.0), "adc_bits": (4.0, 8.0), "adcs_per_tile": (8.0, 16.0)}


def plan_for(weights: Path | None, **changes: Any) -> SweepPlan:
    base: dict[str, Any] = {
        "model": "tiny" if weights is None else WeightFile(weights).id, "code": "test",
        "hardware": (HERMES,), "profiles": ("p",), "axes": AXES, "scenario": {"context": 64},
        "metric": "ppl", "chips": 2, "points": 1, "tokens": 64,
    }  # fmt: skip
    return SweepPlan(**{**base, **changes})


def test_an_axis_is_a_number_a_list_or_a_range() -> None:
    assert axis("rows", "128:1024") == (128, 256, 512, 1024)
    assert axis("adc-bits", "5:9") == (5, 6, 7, 8, 9)
    assert axis("cols", "64:320:128") == (64, 192, 320)
    assert axis("adcs-per-tile", "4,64:128") == (4, 64, 128)
    assert axis("t-read-ns", "62.5,125") == (62.5, 125.0)
    assert axis("rows", 256) == (256,)


@pytest.mark.parametrize(
    ("name", "text"),
    [("rows", text) for text in ("a", "512:128", "1.5", "0", "1:2:3:4", "", "inf")] + [("width", "3")],
)  # fmt: skip
def test_an_axis_that_is_none_of_these_is_refused(name: str, text: str) -> None:
    with pytest.raises(BadInput):
        axis(name, text)


def test_points_are_the_product_and_designs_are_what_the_simulator_tells_apart() -> None:
    space = space_of([HERMES], [None], AXES)
    assert len(space) == 8
    assert len(space.hardware) == 4, "converters a tile change nothing that is computed"
    assert {(h.tile.rows, h.tile.cols, h.adc.bits) for h in space.hardware.values() if h.adc} == {
        (32, 32, 4), (32, 32, 8), (64, 64, 4), (64, 64, 8),
    }  # fmt: skip
    for label, rows, bits in zip(
        space.accuracy_of, space.values("rows"), space.values("adc_bits"), strict=True
    ):
        chip = space.hardware[label]
        assert chip.adc is not None
        assert (chip.tile.rows, chip.adc.bits) == (rows, bits)


def test_devices_and_read_times_are_told_apart() -> None:
    noisy = Hardware.load({"base": "hermes-256", "read_noise": {"sigma": 0.01}})
    faster = {"t_read_ns": (noisy_time := Designs.of(noisy).t_read_ns[0], noisy_time / 4)}
    space = space_of([noisy], [None], faster)
    sigmas = sorted(h.read_noise.sigma for h in space.hardware.values() if h.read_noise)
    assert sigmas == pytest.approx([0.01, 0.02]), "a quarter of the time, twice the noise"


def test_what_cannot_be_is_left_out_and_said() -> None:
    space = space_of([HERMES], [None], {"rows": (32.0,), "adcs_per_tile": (32.0, 64.0)})
    assert len(space) == 1
    assert space.dropped == {"more converters than columns": 1}
    with pytest.raises(BadInput, match="no point is left"):
        space_of([HERMES], [None], {"rows": (32.0,), "adcs_per_tile": (64.0,)})
    with pytest.raises(BadInput, match="at most"):
        space_of(
            [HERMES],
            [None],
            {"rows": tuple(map(float, range(1, 600))), "cols": tuple(map(float, range(1, 600)))},
        )


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, ...]]) -> None:
    values = np.array(points, float)
    beaten = [any((other <= mine).all() and (other < mine).any() for other in values) for mine in values]
    assert front(values).tolist() == [not b for b in beaten]
    rank = ranks(values)
    assert ((rank == 0) == front(values)).all()
    for level in range(1, rank.max() + 1):
        here = values[rank == level]
        above = values[rank == level - 1]
        assert all(any((o <= mine).all() and (o < mine).any() for o in above) for mine in here)
    assert sorted(nearest_to_front(values, len(values)).tolist()) == list(range(len(values)))


def test_crowding_is_the_distance_between_neighbours() -> None:
    room = crowding(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]]))
    assert math.isinf(room[0])
    assert math.isinf(room[2])
    assert room[1] == pytest.approx(2.0)
    assert front([[1.0, math.nan], [2.0, 1.0], [3.0, 2.0]]).tolist() == [True, True, False]


def test_a_sweep_measures_what_it_says(tiny_weights: Path, tmp_path: Path) -> None:
    """Loss of the chip itself, cost of the formulas, one measurement for points that differ in cost alone."""
    space, work = space_of([HERMES], [None], AXES), Workload.of(tiny_weights)
    found = run_sweep(plan_for(tiny_weights), space, work, tmp_path, assumed=True, workers=1)
    assert len(found.noise) == 4
    shown = found.columns
    for design in set(shown["design"]):
        at = [i for i, label in enumerate(shown["design"]) if label == design]
        assert len({shown["sqnr_db"][i] for i in at}) == 1
        assert len({shown["energy_per_token_j"][i] for i in at}) == 2
    bits = np.array(shown["adc_bits"])
    assert np.mean(found.sqnr_db[bits == 8]) > np.mean(found.sqnr_db[bits == 4]) + 1
    cost = evaluate(space.variants[0], work, Scenario(context=64))
    np.testing.assert_allclose(found.cost("energy_per_token_j"), cost.energy_per_token_j)
    measured = {label for label, loss in found.losses.items() if len(loss.nll) == 2}
    assert len(measured) == 1, "one point is asked for, and the best half of one is one"
    label = measured.pop()
    bench = Bench(tiny_weights)
    windows = Text(64).windows(bench.weight_file)
    nll = np.stack([score(bench.mount(space.hardware[label], seed), windows).nll for seed in (0, 1)])
    np.testing.assert_array_equal(found.losses[label].nll, nll)
    above = (nll.mean(axis=0).sum() - score(bench.load_digital(), windows).nll.sum()) / 63
    assert found.loss_nats[space.accuracy_of.index(label)] == pytest.approx(above)
    rows = list(csv.DictReader(table(found).splitlines()))
    assert [float(row["energy_per_token_j"]) for row in rows] == pytest.approx(
        cost.energy_per_token_j, rel=1e-5
    )
    assert sum(row["loss_nats"] != "" for row in rows) == 2 * len(found.losses)


def test_halving_keeps_the_best(tiny_weights: Path, tmp_path: Path) -> None:
    """Fewer designs on more text: every rung's designs are among those of the rung before."""
    text = tmp_path / "text.txt"
    text.write_text("the chip keeps what it was told " * 30)
    weights = WeightFile(tiny_weights)
    if not weights.tokenizer():
        pytest.fail("the tiny model has a tokenizer")
    plan = plan_for(
        tiny_weights, points=2, chips=2, tokens=400, context=50, axes={**AXES, "adc_bits": (4.0, 6.0, 8.0)}
    )
    space = space_of([HERMES], [None], plan.axes)
    found = run_sweep(
        plan, space, Workload.of(tiny_weights), tmp_path, text=Text(400, text, 50), assumed=True, workers=1
    )
    assert found.tokens is not None
    windows = len(found.tokens)
    assert windows > 4
    sizes = sorted((loss.nll.shape[1], len(loss.nll)) for loss in found.losses.values())
    assert sizes == [(-(-windows // 4), 1)] * 2 + [(windows, 1), (windows, 2)]


KILLED = """
import os, signal, sys
from aimc_sim.sizing.measurements import Measurements
keep = Measurements.keep
def once(self, measured, worker):
    keep(self, measured, worker)
    os.kill(os.getpid(), signal.SIGKILL)
Measurements.keep = once
from aimc_sim.cli.app import main
sys.argv = ["aimc-sim", *sys.argv[1:]]
main()
"""


@pytest.mark.under_load
def test_a_killed_sweep_goes_on(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [
        "size",
        str(tiny_weights),
        "--rows",
        "32,64",
        "--adc-bits",
        "5:7",
        "--metric",
        "sqnr",
        "--assumed",
    ]
    options += ["--workers", "1"]
    (tmp_path / "run.py").write_text(KILLED)
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), *options, "-o", str(out)], capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "points.csv").exists()
    asked: list[str] = []

    def counted(weights: WeightFile, designs: dict[str, Hardware], **rest: Any) -> Any:
        asked.extend(designs)
        return product_noise(weights, designs, **rest)

    monkeypatch.setattr("aimc_sim.sizing.accuracy.product_noise", counted)
    runner = CliRunner()
    again = runner.invoke(app, [*options, "-o", str(out)])
    assert again.exit_code == 0, again.output
    assert len(asked) == 3, "three of six were there"
    fresh = runner.invoke(app, [*options, "-o", str(tmp_path / "fresh")])
    assert fresh.exit_code == 0, fresh.output
    assert (out / "points.csv").read_text() == (tmp_path / "fresh" / "points.csv").read_text()
    other = runner.invoke(app, [*options, "--seed", "1", "-o", str(out)])
    assert other.exit_code == 2
    assert "its seed differs" in other.output


@pytest.mark.under_load
def test_workers_give_the_same(tiny_weights: Path, tmp_path: Path) -> None:
    axes = {"adc_bits": (5.0, 8.0)}
    space, work = space_of([HERMES], [None], axes), Workload.of(tiny_weights)
    plan = plan_for(tiny_weights, axes=axes, metric="sqnr")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = run_sweep(plan, space, work, tmp_path / "one", assumed=True, workers=1)
    two = run_sweep(plan, space, work, tmp_path / "two", assumed=True, workers=2)
    assert {k: pytest.approx(v, rel=1e-5) for k, v in one.noise.items()} == two.noise


def test_the_command_sweeps_shapes_by_cost_alone(tmp_path: Path) -> None:
    options = ["size", "Llama-3.2-1B", "--rows", "256:512", "--adc-bits", "6:8", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*options, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["points"] == 6
    assert document["designs_with_noise"] == 0
    assert any("not measured" in note for note in document["notes"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["explorer.html", "points.csv"]
    for wrong, what in (
        (["--metric", "ppl"], "no weights to simulate"),
        (["--metric", "x"], "use sqnr"),
        (["--workers", "0"], "1 or more"),
    ):  # fmt: skip
        refused = CliRunner().invoke(app, [*options, *wrong])
        assert refused.exit_code == 2
        assert what in refused.output
    nowhere = CliRunner().invoke(app, options[:-2])
    assert nowhere.exit_code == 2
    assert "-o" in nowhere.output


def test_several_devices_are_several_hardwares(tmp_path: Path) -> None:
    options = ["size", "SmolLM2-135M", "--device", "pcm-hermes-2,reram-wan", "-o", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "points.csv").read_text().splitlines()))
    assert len({row["profile"] for row in rows}) == len({row["hardware"] for row in rows}) == 2
    one = CliRunner().invoke(app, ["size", "SmolLM2-135M", "--device", "reram-wan", "--json"])
    assert json.loads(one.stdout)["profile"]["name"] == rows[1]["profile"]


def test_a_design_that_cannot_be_simulated_leaves_nothing_behind(tiny_weights: Path, tmp_path: Path) -> None:
    options = ["size", str(tiny_weights), "--devices", "1,2", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 2
    assert "two devices a polarity already" in done.output
    assert not (tmp_path / "out").exists()
