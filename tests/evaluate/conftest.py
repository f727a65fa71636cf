"""Tests of tasks need lm-evaluation-harness: without it they are not collected."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

collect_ignore = [] if importlib.util.find_spec("lm_eval") else ["test_harness.py", "test_afm_tasks.py"]


@pytest.fixture(scope="session")
def local_tasks() -> Any:
    """The module tests/evaluate/local_tasks.py."""
    path = Path(__file__).with_name("local_tasks.py")
    spec = importlib.util.spec_from_file_location("local_tasks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
