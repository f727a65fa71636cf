"""The tests' model of a few thousand weights, which stands for SmolLM2 where a benchmark runs with --smoke."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile


def checkpoint(folder: Path) -> Path:
    """Write the tests' model (tests/tiny.py) as a Hugging Face folder below this one → where it is."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "tests" / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return Path(tiny.write_checkpoint(folder / "checkpoint"))


def weights(folder: Path) -> Path:
    """Export the tests' model for hermes-256 → its weight file."""
    from aimc_sim.exporting import export

    return export(checkpoint(folder), folder / "tiny.h5", "hermes-256", calibration_tokens=64).path


def language_model(smoke: bool, folder: Path) -> Path:
    """Find the checkpoint of SmolLM2; with --smoke make the tests' model in the folder instead."""
    from aimc_sim.models import smollm2_path

    return checkpoint(folder) if smoke else smollm2_path()


def exported(checkpoint: str | None, smoke: bool, folder: Path) -> WeightFile:
    """Export a checkpoint, by default that of `language_model`, to a weight file in the folder."""
    from aimc_sim.exporting import export

    tokens = {"calibration_tokens": 64} if smoke else {}
    return export(checkpoint or language_model(smoke, folder), folder / "model.h5", **tokens)


def weight_file(path: str | None, smoke: bool, folder: Path) -> WeightFile:
    """Open a weight file; without one, export SmolLM2, or with --smoke the tests' model."""
    from aimc_sim.weightfile import WeightFile

    return WeightFile(path) if path else exported(None, smoke, folder)
