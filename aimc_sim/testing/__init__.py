"""Tests of noise: exact laws with a stated error and power, a ledger that adds up the error, conformance of a device.

    assert_variance(z, sigma=1.0, alpha=ledger.spend("my device: variance"))
    assert_device_conforms("mine.toml", alpha=ledger.spend("my device: conformance"))

Every assertion returns a Record; a failure is a StatisticalFailure (an AssertionError) that carries it. Strategies for
Hypothesis are in `aimc_sim.testing.strategies`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aimc_sim.testing.assertions import (
    assert_binomial,
    assert_bits,
    assert_distribution,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
    detectable_sigma,
    sample_size_for_sigma,
)
from aimc_sim.testing.lags import assert_uncorrelated_at_all_lags
from aimc_sim.testing.ledger import Alpha, AlphaLedger, LedgerError
from aimc_sim.testing.records import POWER, Record, StatisticalFailure, must_reject
from aimc_sim.testing.report import Finding, NonConformance, Report

if TYPE_CHECKING:
    from aimc_sim.testing.conformance import assert_device_conforms, check_device
    from aimc_sim.testing.defects import planted_defects

__all__ = [
    "POWER",
    "Alpha",
    "AlphaLedger",
    "Finding",
    "LedgerError",
    "NonConformance",
    "Record",
    "Report",
    "StatisticalFailure",
    "assert_binomial",
    "assert_bits",
    "assert_device_conforms",
    "assert_distribution",
    "assert_mean_normal",
    "assert_uncorrelated",
    "assert_uncorrelated_at_all_lags",
    "assert_variance",
    "check_device",
    "detectable_sigma",
    "must_reject",
    "planted_defects",
    "sample_size_for_sigma",
]

_LATER = {
    "assert_device_conforms": "conformance",
    "check_device": "conformance",
    "planted_defects": "defects",
}


def __getattr__(name: str) -> Any:
    """Conformance brings the simulator with it, which a test of anything else need not wait for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
