"""Tests of noise: exact laws with a stated error and power, a ledger that adds up the error, conformance of a device.

    assert_variance(z, sigma=1.0, alpha=ledger.spend("my device: variance"))
    assert_device_conforms("mine.toml", alpha=ledger.spend("my device: conformance"))

Every assertion returns a Record; a failure is a StatisticalFailure (an AssertionError) that carries it. Strategies for
Hypothesis are in `aimc_sim.testing.strategies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimc_sim.lazy import lazy_names
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
    from aimc_sim.testing.conformance import assert_device_conforms as assert_device_conforms
    from aimc_sim.testing.conformance import check_device as check_device
    from aimc_sim.testing.defects import planted_defects as planted_defects

# Conformance brings the simulator with it, which a test of anything else need not wait for.
__getattr__, __dir__, _late = lazy_names(__name__)
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
    "assert_distribution",
    "assert_mean_normal",
    "assert_uncorrelated",
    "assert_uncorrelated_at_all_lags",
    "assert_variance",
    "detectable_sigma",
    "must_reject",
    "sample_size_for_sigma",
]
__all__ += _late
