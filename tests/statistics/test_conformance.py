"""Every device that ships conforms to what it declares, and so do other ways to write one down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimc_sim import devices
from aimc_sim.devices import Device
from aimc_sim.testing import AlphaLedger, assert_device_conforms
from aimc_sim.testing.formula import Formula, FormulaSampler

FEW = (0.0, 0.2, 1.0)
CSV = """conductance_us,mean_error_us,sigma_us,age_s
0,0.02,0.20,1
10,0.01,0.70,1
25,-0.10,0.90,1
0,0.02,0.25,86400
10,-0.30,0.85,86400
25,-0.90,1.10,86400
"""


@pytest.mark.parametrize("name", devices.names())
def test_a_device_that_ships_conforms(name: str, ledger: AlphaLedger) -> None:
    report = assert_device_conforms(
        name, alpha=ledger.spend("conformance: a device that ships"), seed=2**33 + 5
    )
    sigma = [
        f.record.detectable for f in report.findings if f.record and f.name.startswith("programming: sigma")
    ]
    assert all(found <= 0.02 for found in sigma)
    assert sigma or name == "ideal"


def test_a_table_of_measurements_conforms(tmp_path: Path, ledger: AlphaLedger) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(CSV)
    alpha = ledger.spend("conformance: another device")
    report = assert_device_conforms(path, alpha=alpha, sigma_error=0.04, levels=(0.0, 0.2, 0.4, 1.0))
    assert {"drift to 86400 s: sigma at 10", "drift: one trajectory"} <= {f.name for f in report.findings}


@pytest.mark.parametrize(
    "table",
    [
        {"base": "pcm-afm", "drift": "pcm-ibm2019"},  # a signed weight that drifts
        {"base": "pcm-ibm2019", "programming": False},  # drift and 1/f noise alone
    ],
    ids=["weight", "exact cells"],
)
def test_a_changed_device_conforms(table: dict[str, Any], ledger: AlphaLedger) -> None:
    assert_device_conforms(
        table, alpha=ledger.spend("conformance: another device"), sigma_error=0.04, levels=FEW
    )


@pytest.mark.parametrize("name", ["pcm-ibm2019", "reram-cmo-2pct", "reram-wan", "pcm-afm"])
def test_the_plain_formula_conforms(name: str, ledger: AlphaLedger) -> None:
    """Another implementation, in float64 with another layout of its counters."""
    device: Device = devices.get(name)
    report = assert_device_conforms(
        device, FormulaSampler(Formula(device)), alpha=ledger.spend("conformance: the plain formula"),
        sigma_error=0.04, levels=FEW,
    )  # fmt: skip
    assert report["sums"].passed
