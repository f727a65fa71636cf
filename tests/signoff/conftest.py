"""A plan and its result on the fake bench."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.evaluate.text import SelfText
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.plan import Plan
from helpers.plans import make_plan

# Ray and the harness are not there for every Python version and system: without them their tests are not collected.
collect_ignore = [
    test for name, test in (("ray", "execution/test_ray.py"), ("lm_eval", "execution/test_answers.py"))
    if not importlib.util.find_spec(name)
]  # fmt: skip


@pytest.fixture(scope="session")
def fake() -> Any:
    """The module tests/signoff/fake.py."""
    spec = importlib.util.spec_from_file_location("fake_bench", Path(__file__).with_name("fake.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plan_with(**changes: Any) -> Plan:
    base: dict[str, Any] = {
        "weights": "0" * 64,
        "hardware": Hardware.load("hermes-256"),
        "chips": 4,
        "times_s": (60.0, 86400.0),
        "margin_nats": 0.6,
        "text": SelfText(sequences=6, length=21),
    }
    return make_plan(**{**base, **changes})


@pytest.fixture(name="plan_with")
def _plan_with() -> Any:
    """plan_with(**changes) → a small plan."""
    return plan_with
