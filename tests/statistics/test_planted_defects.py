"""Wrong implementations of a device, each found by the property that is there for it, at a stated power."""

from __future__ import annotations

import pytest

from aimc_sim import devices
from aimc_sim.testing import POWER, check_device, planted_defects
from aimc_sim.testing.defects import DEFECTS
from aimc_sim.testing.formula import FormulaSampler
from aimc_sim.testing.ledger import uncharged

ALPHA = 1e-9
FEW = (0.0, 0.2, 1.0)
FINE = (
    "sigma",
    "clipped tail",
    "truncated",
    "16-bit",
    "a common part",
)  # need the cells that show 2 % of sigma
NAMED = {  # what the project promises to find, and the defects that stand for it
    "wrong sigma by 2 %": "sigma 2 % too large",
    "shared stream": "shared stream",
    "reused key": "reused key",
    "clipped tail": "clipped tail",
    "truncated uniforms": "truncated uniforms",
    "drift sign": "drift sign",
    "t0 off": "t0 off by 2 %",
    "correlated columns": "correlated columns",
    "batch-dependent draw": "batch-dependent draw",
    "float16 accumulation": "float16 accumulation",
    "sigma from programmed instead of target conductance": "sigma from the programmed conductance",
    "negative conductance": "negative conductance",
}


def found(device_name: str, defect_name: str) -> None:
    """The report fails by the property that is there for the defect, and that property's power covers its size."""
    device, defect = devices.get(device_name), DEFECTS[defect_name]
    sampler = planted_defects(device)[defect_name]
    assert isinstance(sampler, FormulaSampler)
    sigma_error = 0.02 if defect_name.startswith(FINE) else 0.12
    with uncharged():
        report = check_device(device, sampler, alpha=ALPHA, seed=3, sigma_error=sigma_error, levels=FEW)
    caught = [finding for finding in report.failures if finding.name.startswith(defect.found_by)]
    assert caught, f"{defect_name} was not found by {defect.found_by!r}:\n{report}"
    if defect.effect is not None:
        records = [finding.record for finding in caught if finding.record is not None]
        assert min(record.detectable for record in records) <= defect.effect, (
            "power below 0.99 for this effect"
        )
    assert POWER == 0.99


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(defect: str) -> None:
    found("pcm-ibm2019", defect)


@pytest.mark.parametrize(
    ("device", "defect"),
    [
        ("pcm-afm", "sigma 2 % too small"),  # a signed weight
        ("reram-wan", "reused key"),  # statistics by age
        ("reram-cmo-2pct", "matrices alike"),  # drift by addition
    ],
)
def test_a_planted_defect_is_found_in_other_kinds_of_device(device: str, defect: str) -> None:
    found(device, defect)


def test_every_promise_has_its_defect() -> None:
    assert set(NAMED.values()) <= set(DEFECTS)
    assert set(planted_defects(devices.get("pcm-ibm2019"))) == set(DEFECTS)
