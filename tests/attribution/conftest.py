"""A hardware that has every effect, and one small study of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimc_sim.attribution.run import Result, run_study
from aimc_sim.attribution.study import make_study
from aimc_sim.hardware import Hardware
from aimc_sim.weightfile import WeightFile

EVERYTHING: dict[str, Any] = {
    "base": "hermes-256",
    "name": "everything",
    "tile": {"rows": 32, "cols": 32},
    "dac": {"errors": {"gain_sigma": 0.01, "offset_sigma_lsb": 0.3}},
    "adc": {"errors": {"gain_sigma": 0.01, "offset_sigma_lsb": 0.3, "inl_sigma_lsb": 0.5, "noise_lsb": 0.4}},
    "read_noise": {"sigma": 0.01},
    "wires": {"r_row_ohm": 2.0, "r_col_ohm": 2.0},
    "faults": {"stuck_low_rate": 0.002, "stuck_high_rate": 0.001, "dead_row_rate": 0.01, "dead_column_rate": 0.01},
    "variation": {"die_gain_sigma": 0.02, "adc_gain_sigma": 0.02, "nu_sigma": 0.01, "noise_scale_sigma": 0.1},
}  # fmt: skip


@pytest.fixture(scope="session")
def everything() -> Hardware:
    """A hardware with all eleven effects."""
    return Hardware.load(EVERYTHING)


@pytest.fixture(scope="session")
def explained(tiny_weights: Path, everything: Hardware) -> Result:
    """Two chips of it after an hour, on 48 tokens."""
    weights = WeightFile(tiny_weights)
    study = make_study(weights, everything, seeds=2, first_seed=4, time_s=3600.0, tokens=48)
    return run_study(study, weights)
