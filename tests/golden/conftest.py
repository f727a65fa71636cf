"""The modules beside this file as the package `golden`, what was stored, and what a test is held against."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent

_package = ModuleType("golden")
_package.__path__ = [str(HERE)]
sys.modules["golden"] = _package


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    """What expected.json says."""
    found: dict[str, Any] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def demo() -> dict[str, Any]:
    """What demo.json says: the scores of `make demo`."""
    found: dict[str, Any] = json.loads((HERE / "demo.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def weights() -> Any:
    """The stored weight file, open."""
    from aimc_sim import WeightFile

    return WeightFile(HERE / "weights.h5")
