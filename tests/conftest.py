"""What every test shares: the alpha ledger, no network, Hypothesis runs that repeat exactly, and a tiny model."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]


def _package(name: str, folder: Path) -> None:
    """Make a package importable without its parent on the path, where `kernels` and others would be found too."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


_package("benchmarks", ROOT / "benchmarks")
_package("helpers", ROOT / "tests" / "helpers")

pytest_plugins = ["aimc_sim.testing.pytest_plugin"]

settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("suite")


def _beside(name: str) -> ModuleType:
    """A module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def local_tasks() -> ModuleType:
    """The module tests/local_tasks.py."""
    return _beside("local_tasks")


@pytest.fixture(scope="session")
def adapted() -> ModuleType:
    """The module tests/adapted.py."""
    return _beside("adapted")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a two-layer Llama (tests/tiny.py)."""
    tiny = _beside("tiny")
    folder: Path = tiny.write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a weight file for hermes-256, calibrated on its own text. Do not write to it."""
    from aimc_sim.exporting import export

    path = tmp_path_factory.mktemp("weights") / "tiny.h5"
    export(tiny_checkpoint, path, "hermes-256", calibration_tokens=64)
    return path
