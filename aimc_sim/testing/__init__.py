"""Statistical assertions for noise: exact laws, a stated error and power, and a ledger that adds up the error.

    assert_variance(z, sigma=1.0, alpha=ledger.spend("my device: variance"))

Every assertion returns a Record; a failure is a StatisticalFailure (an AssertionError) that carries it.
"""

from __future__ import annotations

from aimc_sim.testing.assertions import (
    assert_binomial,
    assert_bits,
    assert_distribution,
    assert_mean_normal,
    assert_uncorrelated,
    assert_variance,
)
from aimc_sim.testing.ledger import Alpha, AlphaLedger, LedgerError
from aimc_sim.testing.records import POWER, Record, StatisticalFailure, must_reject

__all__ = [
    "POWER",
    "Alpha",
    "AlphaLedger",
    "LedgerError",
    "Record",
    "StatisticalFailure",
    "assert_binomial",
    "assert_bits",
    "assert_distribution",
    "assert_mean_normal",
    "assert_uncorrelated",
    "assert_variance",
    "must_reject",
]
