"""`size`, `sweep` and the choice of a partition as Python calls them: what the commands print, as objects."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import aimc_sim as aimc
from aimc_sim.cli.app import app
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.sizing import Designs, Scenario, Workload, choose_partition, evaluate, measure_sensitivity
from aimc_sim.weightfile import WeightFile


def printed(*args: str) -> str:
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_sizing_prints_what_the_command_prints() -> None:
    sheet = aimc.size("Llama-3.2-1B", "hermes-256", rate=100)
    assert f"{sheet}\n" == printed("size", "Llama-3.2-1B", "--hardware", "hermes-256", "--rate", "100")
    assert f"{sheet.sheet}\n" == printed(
        "size", "Llama-3.2-1B", "--hardware", "hermes-256", "--rate", "100", "--explain"
    )
    assert sheet.to_dict()["scenario"]["rate"] == 100
    tiles = sheet.to_dict()["total"]["tiles"]
    assert sheet.summary.startswith(f"Llama-3.2-1B on hermes-256: {tiles:,} tiles on ")
    assert "WARNING: " in sheet._repr_html_()


def test_fields_of_a_scenario_are_laid_over_it() -> None:
    whole = aimc.size("SmolLM2-135M", scenario=Scenario("prefill", 77, 3), context=9, head=False)
    assert whole.cost.scenario == Scenario("prefill", 9, 3, head=False)
    with pytest.raises(BadInput, match="decode or prefill"):
        aimc.size("SmolLM2-135M", phase="training")  # type: ignore[arg-type]
    reram = aimc.size("SmolLM2-135M", device="reram-wan")
    assert reram.cost.designs.hardware.device.name == "reram-wan"


def test_a_sweep_without_a_folder_leaves_nothing_behind(tiny_weights: Path, tmp_path: Path) -> None:
    asked = {"rows": [32, 64], "adc_bits": "4:5", "metric": "sqnr", "time": 0, "workers": 1, "assumed": True}
    kept = aimc.sweep(tiny_weights, **asked, output=tmp_path / "out")  # type: ignore[arg-type]
    gone = aimc.sweep(tiny_weights, **asked)  # type: ignore[arg-type]
    assert gone.columns == kept.columns
    assert gone.files == ()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "explorer.html", "matrices.csv", "points.csv", "sweep.sqlite",
    ]  # fmt: skip
    assert len(gone.noise) == len(gone.space) == 4
    assert {row["adc_bits"] for row in gone.front} <= {4, 5}
    energies = [row["energy_per_token_j"] for row in gone.front]
    assert energies == sorted(energies)
    assert gone.summary.startswith(f"4 points, {len(energies)} on the front. ")
    assert str(gone).startswith(gone.summary)
    assert kept.to_dict()["files"] == [str(path) for path in kept.files]
    assert kept.command == f"aimc-sim size {tiny_weights}"


def test_a_frame_is_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = aimc.sweep("SmolLM2-135M", "hermes-256", rows=[128, 256], adc_bits=[6, 7, 8], context=64)
    frame = swept.to_frame()
    assert list(frame.columns) == list(swept.columns)
    assert frame["adc_bits"].tolist() == swept.columns["adc_bits"] == [6, 7, 8, 6, 7, 8]
    cost = evaluate(
        Designs.of("hermes-256", rows=[128, 256], cols=[128, 256]),
        Workload.of("SmolLM2-135M"),
        Scenario(context=64),
    )
    assert swept.columns["area_mm2"][2] == pytest.approx(float(cost.area_total_mm2[0]), rel=1e-5)
    assert swept.command == "aimc-sim size SmolLM2-135M --hardware hermes-256"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BadInput, match="pip install pandas"):
        swept.to_frame()


def test_several_hardwares_are_devices_of_one() -> None:
    swept = aimc.sweep("SmolLM2-135M", device=["pcm-hermes-2", "reram-wan"])
    assert len(set(swept.columns["hardware"])) == len(swept.space) == 2


def test_a_partition_and_its_profile(tiny_weights: Path, tmp_path: Path) -> None:
    asked = {"tokens": 64, "workers": 1, "forwards": 14}
    profile = measure_sensitivity(tiny_weights, **asked, output=tmp_path)  # type: ignore[arg-type]
    assert profile.to_dict() == json.loads((tmp_path / "sensitivity.json").read_text())
    assert profile.summary in str(profile)
    found = choose_partition(
        WeightFile(tiny_weights),
        "60%",
        analog=0.5,
        unseen=1,
        assumed=True,
        output=tmp_path,
        **asked,  # type: ignore[arg-type]
    )
    assert found.sensitivity == profile
    assert found.file == tmp_path / "placement.toml"
    assert Hardware.load(found.file).placement == found.hardware.placement
    assert found.original == WeightFile(tiny_weights).hardware
    assert found.passed == found.to_dict()["met"]
    assert str(found).endswith(str(found.file))
    assert "file" not in json.loads((tmp_path / "placement.json").read_text())
    with pytest.raises(BadInput, match="budget"):
        choose_partition(tiny_weights, "x")


def test_the_old_name_of_a_floorplan_warns() -> None:
    cost = evaluate(Designs.of("hermes-256"), Workload.of("SmolLM2-135M"))
    with pytest.warns(DeprecationWarning, match="called floorplan"):
        assert aimc.sizing.place(cost) == aimc.sizing.floorplan(cost)
