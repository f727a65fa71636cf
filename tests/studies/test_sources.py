"""The version of the code behind a measurement: what is in it, and what may change without refusing what was kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimc_sim.signoff.execution import bench as signoff_bench
from aimc_sim.sizing import accuracy
from aimc_sim.sizing.partition import bench as partition_bench
from aimc_sim.sizing.partition import moves, sensitivity
from aimc_sim.studies import sources

SCORES = set(sources.sources_of(signoff_bench.__name__))
SWEEP = set(sources.sources_of(accuracy.__name__))
PARTITION = set(sources.sources_of(partition_bench.__name__))
ROAD = {
    "aimc_sim.programming", "aimc_sim.chip.array", "aimc_sim.execute", "aimc_sim.kernels.conductance",
    "aimc_sim.calibrate.ranges", "aimc_sim.devices.catalogue", "aimc_sim.devices.catalogue/pcm.toml",
    "aimc_sim.torch_bridge.model",
}  # fmt: skip


def test_scores_depend_on_the_road_from_weight_file_to_scores() -> None:
    assert ROAD | {"aimc_sim.evaluate.sums", "aimc_sim.signoff.execution.bench"} <= SCORES


def test_noise_and_placement_studies_depend_on_the_code_that_measures_them() -> None:
    assert ROAD | {"aimc_sim.sizing.accuracy", "aimc_sim.evaluate.metrics"} <= SWEEP
    assert ROAD | {"aimc_sim.sizing.partition.bench", "aimc_sim.evaluate.metrics"} <= PARTITION


@pytest.mark.parametrize("kept", [SCORES, SWEEP, PARTITION])
def test_words_pictures_and_statistics_are_in_none(kept: set[str]) -> None:
    aside = ("report", "signoff.report", "signoff.statistics", "attribution", "cli", "finetuning", "testing")
    assert [name for name in kept if name.startswith(tuple(f"aimc_sim.{part}" for part in aside))] == []
    assert not [name for name in kept if "presets" in name or name.startswith("aimc_sim.sizing.cost")]


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ("aimc_sim.report.words", set()),
        ("aimc_sim.signoff.design.margins", set()),
        ("aimc_sim.signoff.statistics.crossed", set()),
        ("aimc_sim.sizing.cost.analog", set()),
        ("aimc_sim.sizing.accuracy", {"sweep", "partition"}),
        ("aimc_sim.sizing.partition.bench", {"partition"}),
        ("aimc_sim.sizing.partition.moves", {"partition"}),
        ("aimc_sim.sizing.partition.sensitivity", {"partition"}),
        ("aimc_sim.models.gguf", set()),
        ("aimc_sim.weightfile.writer", set()),
        ("aimc_sim.devices.measured", {"scores", "sweep", "partition"}),
        ("aimc_sim.signoff.execution.bench", {"scores"}),
        ("aimc_sim.chip.array", {"scores", "sweep", "partition"}),
        ("aimc_sim.kernels.conductance", {"scores", "sweep", "partition"}),
    ],
)
def test_a_changed_file_refuses_what_it_computed_and_nothing_else(
    changed: str, refused: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    studies = (accuracy, partition_bench, moves, sensitivity)
    measures = {
        "scores": (signoff_bench.__name__,),
        "sweep": (accuracy.__name__,),
        "partition": tuple(module.__name__ for module in studies),
    }
    before = {name: sources.code_version(*modules) for name, modules in measures.items()}
    real = sources._file_of

    def edited(module: str) -> Path | None:
        path = real(module)
        if module != changed or path is None:
            return path
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes() + b"# one more line\n")
        return copy

    monkeypatch.setattr(sources, "_file_of", edited)
    after = {name: sources.code_version.__wrapped__(*modules) for name, modules in measures.items()}
    assert {name for name in measures if after[name] != before[name]} == refused


def test_scores_depend_on_tasks_and_trials_and_on_nothing_that_judges_them() -> None:
    """A bound, a margin's check or a key of the plan file may change, and a journal of finished cells stays good."""
    design = {name.rpartition(".")[2] for name in SCORES if name.startswith("aimc_sim.signoff.design.")}
    assert design == {"trials", "tasks"}


def test_it_names_what_makes_token_ids_and_sums() -> None:
    said = sources.code_version(signoff_bench.__name__)
    for name in ("torch", "numpy", "numba", "scipy", "transformers", "tokenizers"):
        assert f", {name} " in said
