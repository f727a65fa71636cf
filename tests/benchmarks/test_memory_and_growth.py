"""What the benchmarks of memory, growth and the grid compute, on models of a few thousand weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim import WeightFile
from aimc_sim.models import open_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a benchmark by name."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: import_module(f"benchmarks.{name}")


def test_fits_of_known_growth(bench: Any) -> None:
    scaling, sizes = bench("scaling"), (100, 200, 400, 800, 1600)
    line = scaling.fit("line", "weights", sizes, tuple(3e-3 * size for size in sizes))
    assert line.exponent == pytest.approx(1)
    assert line.slope == pytest.approx(3e-3)
    assert line.intercept == pytest.approx(0, abs=1e-9)
    assert line.r_squared == pytest.approx(1)
    assert line.exponent_error == pytest.approx(0, abs=1e-9)
    square = scaling.fit("square", "weights", sizes, tuple(1e-9 * size**2 for size in sizes))
    assert square.exponent == pytest.approx(2)
    assert square.r_squared < 0.99
    offset = scaling.fit("offset", "weights", sizes, tuple(5.0 + size for size in sizes))
    assert offset.intercept == pytest.approx(5)
    goals = [row.met for row in [*scaling.table(line), *scaling.table(square)] if row.goal is not None]
    assert goals == [True, False]
    for counts in (scaling.SIDES, scaling.TOKENS, scaling.CHIPS):
        assert len(counts) >= 4


SMALL = {"vocab_size": 130, "hidden_size": 32, "intermediate_size": 48, "head_dim": 8, "num_attention_heads": 4,
         "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip


@pytest.fixture
def billion(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = bench("billion")
    monkeypatch.setattr(module, "CONFIG", module.CONFIG | SMALL)
    return module


def test_the_checkpoint_is_whole_and_its_weights_are_keyed(
    billion: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = billion.build(tmp_path / "checkpoint", 5)
    opened = open_checkpoint(tmp_path / "checkpoint")
    assert len(list((tmp_path / "checkpoint").glob("*.safetensors"))) == 3
    assert sum(int(np.prod(info.shape)) for info in opened.infos.values()) == found["parameters"]
    assert opened.tied
    whole = np.concatenate(list(billion.chunks(3, (96, 64))))
    assert whole.std() == pytest.approx(1 / 8, rel=0.05)
    monkeypatch.setattr(billion, "CHUNK", 1024)
    np.testing.assert_array_equal(np.concatenate(list(billion.chunks(3, (96, 64)))), whole)
    assert (np.concatenate(list(billion.chunks(4, (96, 64)))) != whole).mean() > 0.99


def test_the_shapes_are_those_of_a_billion_parameters(bench: Any) -> None:
    module = bench("billion")
    shards = module.shapes(module.CONFIG["num_hidden_layers"])
    assert sum(int(np.prod(shape)) for shard in shards for shape in shard.values()) == 1_235_814_400


def test_every_step_runs(billion: Any, tmp_path: Path) -> None:
    found = [billion.step(name, tmp_path, 1, "hermes-256") for name in ("build", "export", "program", "run")]
    assert [item["step"] for item in found] == ["build", "export", "program", "run"]
    assert found[3]["tokens"] == billion.TOKENS
    assert found[2]["bytes_per_weight"] >= 2
    assert all(row.met is not None for row in billion.rows(found) if row.unit == "GB")
    assert list((tmp_path / "ranges").iterdir())


def test_three_billion_parameters_in_small(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streaming = bench("streaming")
    shapes = bench("billion").shapes(streaming.CONFIG["num_hidden_layers"], streaming.CONFIG)
    assert sum(int(np.prod(shape)) for shard in shapes for shape in shard.values()) == 3_212_749_824
    monkeypatch.setattr(streaming, "CONFIG", streaming.CONFIG | SMALL)
    found = [streaming.step(name, tmp_path, 1, 70, "hermes-256") for name in ("build", "export", "score")]
    assert not (tmp_path / "checkpoint").exists()
    assert found[2]["scored_tokens"] == 2 * streaming.WINDOW
    assert found[2]["kl"] > 0
    assert [row.goal for row in streaming.rows(found) if row.goal is not None] == [streaming.GOAL_GB]


def test_the_grid_is_as_fine_as_theory_says(bench: Any, tiny_weights: Path) -> None:
    grid = bench("grid")
    file = WeightFile(tiny_weights)
    found = grid.measure(file, file.hardware)
    assert [item["name"] for item in found] == [matrix.name for matrix in file.matrices]
    for item in found:
        assert item["weights_db"] == pytest.approx(item["theory_db"], abs=0.5)
        assert item["outputs_db"] > item["cells_db"] + 40
    grid.show(found)


def test_the_theory_of_a_uniform_error(bench: Any) -> None:
    held = np.ones((4, 12))  # every weight at the peak: 20·log10(32767) + 10·log10(12)
    assert bench("grid").theory_db(held, np.array([0, 6, 12])) == pytest.approx(101.10, abs=0.01)
