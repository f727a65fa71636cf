"""One design as a document, a sheet and a command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.report.words import si
from aimc_sim.sizing import Designs, Scenario, Workload, measure_activity, size
from aimc_sim.weightfile import WeightFile

RUN = CliRunner()


def invoke(*args: str | Path) -> Any:
    return RUN.invoke(app, ["size", *(str(arg) for arg in args)])


def document(*args: str | Path) -> dict[str, Any]:
    done = invoke(*args, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_json_has_every_figure_per_matrix_layer_and_in_total() -> None:
    found = document("Llama-3.2-1B", "--hardware", "pcm-512", "--no-head")
    total = found["total"]
    assert (total["tiles"], total["utilisation"]) == (3712, 1.0)
    keys = ("tiles", "conversions_per_token", "energy_per_token_j", "area_mm2")
    assert len(found["layers"]) == 16
    for key in (*keys, "latency_per_token_s"):
        assert total[key] > 0
        for layer in found["layers"]:
            if key != "tiles" and key != "conversions_per_token":
                assert layer[key] == pytest.approx(sum(part[key] for part in layer["components"].values()))
    for key in keys:
        shared = sum(total["components"][part].get(key, 0.0) for part in ("links", "static"))  # of no layer
        assert sum(layer[key] for layer in found["layers"]) == pytest.approx(total[key] - shared)
    first = found["layers"][0]
    assert sum(matrix["tiles"] for matrix in first["matrices"]) == first["tiles"]
    assert first["matrices"][0]["name"] == "model.layers.0.self_attn.q_proj"
    assert found["layers"][15]["matrices"][0]["name"] == "model.layers.15.self_attn.q_proj"
    assert found["operation"].startswith("2 operations a multiply-accumulate")
    assert all(constant["licence"] and constant["source"] for constant in found["constants"])


def test_smollm2_wastes_half_of_its_cells_and_is_told() -> None:
    found = document("SmolLM2-135M", "--hardware", "pcm-512", "--no-head")
    assert found["total"]["tiles"] == 900
    assert found["total"]["utilisation"] == pytest.approx(0.45)
    words = " ".join(found["warnings"])
    assert "only 45% of the cells hold weights (worst: k" in words
    assert "is a bound, not an estimate" in words


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("Llama-3.2-1B", "--hardware", "hermes-256"), "do not fit a reticle"),
        (("Llama-3.2-1B", "--hardware", "hermes-256"), "Gaussian weights and inputs"),
        (("Llama-3.2-1B", "--hardware", "hermes-256"), "tiles that wait are counted without power"),
        (("Llama-3.2-1B", "--profile", "isaac-32nm"), "no silicon has confirmed"),
        (("Llama-3.2-1B", "--hardware", "pcm-512", "--profile", "hermes-14nm"), "its constants are borrowed"),
        (("Llama-3.2-1B", "--rows", "512"), "is extrapolated"),
        (("Llama-3.2-1B", "--context", "65536"), "of the energy, nearly all for moving keys and values"),
        (("Llama-3.2-1B", "--profile", "sram-28nm"), "others are off"),
        (("Llama-3.2-1B", "--rate", "1e6"), "more streams, or faster steps"),
    ],
)
def test_warnings_are_loud(args: tuple[str, ...], words: str) -> None:
    done = invoke(*args)
    assert done.exit_code == 0, done.output
    shouted = [line for line in done.stdout.splitlines() if line.startswith("WARNING: ")]
    assert any(words in line for line in shouted), done.stdout


def test_a_full_estimate_of_a_well_shaped_model_does_not_cry_wolf() -> None:
    chip = Hardware.load({"base": "hermes-256", "read_noise": {"sigma": 0.0175}})
    found = size("SmolLM2-1.7B", chip, scenario=Scenario(context=16)).warnings
    assert not [
        line
        for line in found
        if "bound" in line or "only" in line or "attention" in line or "borrowed" in line
    ]


def test_the_sheet_shows_numbers_formulas_and_sources() -> None:
    done = invoke("Llama-3.2-1B", "--hardware", "hermes-256", "--explain")
    assert done.exit_code == 0, done.output
    for words in (
        "2 operations a multiply-accumulate, inputs of 8 bits",
        "ceil(2048/256)·ceil(8192/256) = 8·32 = 256 × 16 layers = 4,096",
        "reads·rounds·(t_read + t_adc)",
        "reading 127 + converting 3 + logic 0 = 130 ns",
        "The published chip at full load: 64.53 TOPS",
        "0.2 V · 20.7 µS · 256 = 1.06 mA",
        "Khaddam-Aljameh et al., JSSC 2022",
        "4. Where it goes",
        "adc.growth_per_bit",
        "6. Programming once",
        "over the bands of the constants",
    ):
        assert words in done.stdout, words


def test_noise_that_reading_faster_costs_is_on_the_sheet() -> None:
    chip = Hardware.load({"base": "hermes-256", "read_noise": {"sigma": 0.0175}})
    lines = size("SmolLM2-135M", chip, "adc-survey", t_read_ns=32).sheet
    assert "Read and thermal noise × 2: a read takes 32 ns instead of 128" in lines


def test_a_band_holds_its_value() -> None:
    for name in ("adc-survey", "hermes-14nm", "isaac-32nm", "neurram-130nm", "sram-28nm"):
        found = size("SmolLM2-135M", "hermes-256", name).to_dict()
        for key, ends in found["band"].items():
            assert ends["low"] <= found["total"][key] <= ends["high"], (name, key)
            assert ends["low"] < ends["high"] or key == "area_mm2"


def test_files_are_written(tmp_path: Path) -> None:
    done = invoke("SmolLM2-135M", "-o", tmp_path / "out", "--hardware", "hermes-256")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "layers.csv",
        "size.json",
        "size.txt",
    ]
    written = json.loads((tmp_path / "out" / "size.json").read_text(encoding="utf-8"))
    assert written["total"]["tiles"] == 2916
    with (tmp_path / "out" / "layers.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table[:2]] == ["layer 0", "layer 1"]
    assert sum(int(row["tiles"]) for row in table) == 2916
    assert "WARNING: " in (tmp_path / "out" / "size.txt").read_text(encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert invoke("SmolLM2-135M", "-o", tmp_path / "file").exit_code == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("Llama-4-1B",), "the catalogue has no model of that name"),
        (("nothing.h5",), "it is not there"),
        (("SmolLM2-135M", "--profile", "hermes"), "did you mean 'hermes-14nm'"),
        (("SmolLM2-135M", "--hardware", "afm-llama"), "untiled"),
        (("SmolLM2-135M", "--phase", "training"), "decode or prefill"),
        (("SmolLM2-135M", "--context", "0"), "context"),
        (("SmolLM2-135M", "--rate", "-1"), "rate"),
        (("SmolLM2-135M", "--experts", "all"), "packed or spread"),
        (("SmolLM2-135M", "--rows", "-3"), "rows"),
    ],
)
def test_bad_input_is_explained(args: tuple[str, ...], words: str) -> None:
    done = invoke(*args)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_a_configuration_is_a_model(tmp_path: Path, tiny_checkpoint: Path) -> None:
    found = document(tiny_checkpoint, "--rows", "32", "--cols", "32")
    assert found["model"]["source"].startswith("configuration ")
    assert found["total"]["tiles"] == 2 * (2 * 2 * 2 + 2 * 2 * 1 + 3 * 2 * 3) + 2 * 9


def test_a_weight_file_brings_its_hardware_its_weights_and_its_inputs(tiny_weights: Path) -> None:
    measured, assumed = document(tiny_weights), document(tiny_weights, "--assumed")
    assert measured["hardware"]["id"] == WeightFile(tiny_weights).hardware.id
    assert measured["activity"].startswith("measured: the weights")
    assert assumed["activity"].startswith("assumed")
    key = "energy_per_token_j"
    arrays = [found["total"]["components"]["array"][key] for found in (measured, assumed)]
    assert 0.3 < arrays[0] / arrays[1] < 3
    assert arrays[0] != arrays[1]
    layers = [layer["components"]["array"][key] for layer in measured["layers"][:2]]
    assert layers[0] != layers[1]  # alike in shape, not in weights
    assert not [line for line in measured["warnings"] if "Gaussian" in line]


def test_measured_activity_is_the_sum_over_cells(tiny_weights: Path) -> None:
    """By brute force for one matrix: every token, every row, every column, in tiles of 32 rows."""
    weights = WeightFile(tiny_weights)
    chip = Hardware.load({"base": "hermes-256", "tile": {"rows": 32, "cols": 32}})
    name = "model.layers.1.mlp.down_proj"
    seen: list[Any] = []
    from aimc_sim.torch_bridge.inputs import read_inputs
    from aimc_sim.torch_bridge.model import load_digital

    read_inputs(load_digital(weights), weights.calibration.token_ids, [name], lambda _, x: seen.append(x))
    (x,) = seen
    w = weights.weight(name).astype(np.float64)
    total = 0.0
    for start in range(0, w.shape[1], 32):
        part, piece = x[:, start : start + 32].astype(np.float64), np.abs(w[:, start : start + 32])
        codes = np.rint(part / np.abs(part).max(axis=1, keepdims=True) * 127)
        total += float(
            ((codes / 127) ** 2).mean(axis=0) @ (piece / piece.max(axis=1, keepdims=True)).sum(axis=0)
        )
    found = measure_activity(weights, Designs.of(chip), tokens=10**9)
    assert found.measured[name, 32, 8, 1] == pytest.approx(total / w.size, rel=1e-6)


def test_a_sweep_measures_all_of_its_points_at_once(tiny_weights: Path) -> None:
    from aimc_sim.sizing import evaluate

    weights = WeightFile(tiny_weights)
    design = Designs.of("hermes-256", rows=[32, 64, 32, 64], cols=32, dac_bits=[8, 8, 6, 6])
    work = Workload.of(weights)
    cost = evaluate(design, work, activity=measure_activity(weights, design))
    third = Designs.of("hermes-256", rows=32, cols=32, dac_bits=6)
    one = evaluate(third, work, activity=measure_activity(weights, third))
    assert float(one.energy_j["array"][0]) == pytest.approx(float(cost.energy_j["array"][2]), rel=1e-12)
    assert len(set(cost.energy_j["array"].tolist())) == 4


def test_matrices_that_are_digital_need_no_activity(tiny_weights: Path) -> None:
    """A placement of a weight file is sized with measured activity, too."""
    name = "model.layers.0.mlp.down_proj"
    chip = Hardware.load({"base": "hermes-256", "placement": {"digital": [name], "lm_head": "digital"}})
    found = size(tiny_weights, chip)
    assert found.activity.measured
    energies = {m["name"]: m for layer in found.to_dict()["layers"] for m in layer["matrices"]}
    assert energies[name]["placement"] == energies["lm_head"]["placement"] == "digital"


def test_a_weight_file_in_slices_falls_back_to_the_assumption(tiny_weights: Path) -> None:
    chip = Hardware.load({"base": "hermes-256", "weights": {"bits": 8, "cell_bits": 4}})
    assert not size(tiny_weights, chip).activity.measured
    with pytest.raises(BadInput, match="in one slice"):
        measure_activity(WeightFile(tiny_weights), Designs.of(chip))


def test_prefixes() -> None:
    assert [si(value, "J") for value in (1.24e-8, 0.5, 3.2e-15, 0.0, 7e3)] == [
        "12.4 nJ",
        "500 mJ",
        "3.2 fJ",
        "0 J",
        "7 kJ",
    ]


def test_a_sizing_is_of_one_point() -> None:
    with pytest.raises(BadInput, match="of one point"):
        size("SmolLM2-135M", rows=[128, 256])


def test_more_tiles_and_copies_from_the_command_line() -> None:
    one = document("Llama-3.2-1B", "--streams", "64")
    more = document("Llama-3.2-1B", "--streams", "64", "--tiles", str(3 * one["total"]["tiles"]))
    found = more["chips"]["replicated"]
    assert one["chips"]["replicated"] is None
    assert one["total"]["tiles"] <= found["tiles"] <= 3 * one["total"]["tiles"]
    assert found["pipeline_tokens_per_s"] >= one["total"]["pipeline_tokens_per_s"]
    units = document("Llama-3.2-1B", "--tiles", str(3 * one["total"]["tiles"]), "--attention-units", "64")
    assert units["chips"]["replicated"]["pipeline_tokens_per_s"] > found["pipeline_tokens_per_s"]
    assert units["chips"]["replicated"]["copies"]
    assert one["total"]["tiles"] < units["chips"]["replicated"]["tiles"] <= 3 * one["total"]["tiles"]
    shown = invoke("Llama-3.2-1B", "--tiles", "99999", "--explain").stdout
    assert "copies of slow steps" in shown
    assert "replicated" in shown
    for wrong in (
        ("--tiles", "3"),
        ("--tiles", "99999", "--attention-units", "0"),
        ("--tiles", "9", "--rows", "128:256"),
    ):
        assert invoke("Llama-3.2-1B", *wrong).exit_code == 2
    twice = document("Llama-3.2-1B", "--copies", "2")
    assert twice["total"]["tiles"] == 2 * one["total"]["tiles"]
    assert twice["total"]["utilisation"] == pytest.approx(one["total"]["utilisation"])
    assert twice["programming"]["devices"] == 2 * one["programming"]["devices"]
    assert twice["peak"]["tops"] == pytest.approx(one["peak"]["tops"] / 2)
    placed = Hardware.load(
        {"base": "hermes-256", "placement": {"special": {"matrices": ["lm_head"], "copies": 2}}}
    )
    lines = size("Llama-3.2-1B", placed).sheet
    assert "× 2 copies × 1 layer" in lines


def test_a_matrix_that_is_held_otherwise_takes_its_own_time_and_no_waste() -> None:
    """Per matrix, its converters' time is that of a hardware of that kind; copies are cells in use, not free ones."""

    def head(**tables: Any) -> dict[str, Any]:
        chip = Hardware.load({"base": "hermes-256", **tables})
        found = size("Llama-3.2-1B", chip, "neurram-130nm").to_dict()
        (matrix,) = next(layer for layer in found["layers"] if layer["name"] == "head")["matrices"]
        return dict(matrix["components"])

    placed = head(placement={"special": {"matrices": ["lm_head"], "adc_bits": 10}})
    whole, plain = head(adc={"bits": 10}), head()
    for part in ("array", "adc", "periphery"):
        assert placed[part]["latency_per_token_s"] == whole[part]["latency_per_token_s"]
    assert placed["adc"]["latency_per_token_s"] > plain["adc"]["latency_per_token_s"]

    special = {"matrices": ["*.down_proj"], "copies": 3}
    wide = {"base": "hermes-256", "tile": {"rows": 1500, "cols": 3000}}
    for chip in (wide, {**wide, "placement": {"special": special}}, {**wide, "weights": {"copies": 2}}):
        found = size("Llama-3.2-1B", Hardware.load(chip))
        (warning,) = (line for line in found.warnings if "of the cells hold weights" in line)
        assert "worst: k 0.12, v 0.12, q 0.47)" in warning
