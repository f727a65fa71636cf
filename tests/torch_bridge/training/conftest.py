"""The module tests/torch_bridge/training/networks.py, which the tests of training share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def small() -> Any:
    spec = importlib.util.spec_from_file_location("networks", Path(__file__).with_name("networks.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
