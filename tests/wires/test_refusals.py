"""Cells that are not linear in their input are refused wherever linearity is what makes a result exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware, wires
from aimc_sim.attribution.effects import effects_of, variant
from aimc_sim.attribution.study import sets_of
from aimc_sim.chip.matrix import CellMatrix

WIRES = {"r_row_ohm": 1.0, "r_col_ohm": 1.0}
ONE_VOLTAGE: list[dict[str, Any]] = [
    {"mode": "pulse_width"}, {"mode": "multi_phase"}, {"mode": "bit_serial"},
    {"mode": "bit_serial", "coding": "offset"},
]  # fmt: skip


def chip(declared: dict[str, Any], **tables: Any) -> Hardware:
    return Hardware.load({"base": "hermes-256", "device": declared, **tables})


@pytest.mark.parametrize(
    ("declared", "named"), [({"iv": "nonlinear"}, "nonlinear I-V"), ({"gate": "input"}, "gated by its")]
)
def test_they_are_refused_where_linearity_is_claimed(declared: dict[str, Any], named: str) -> None:
    for dac in ONE_VOLTAGE:
        found = chip(declared, dac=dac)
        assert (found.device.iv == "nonlinear") or found.device.gate == "input"
        with pytest.raises(BadInput, match=f"{named}.*no one G_eff"):
            chip(declared, dac=dac, wires=WIRES)
    for dac in ({}, {"mode": "amplitude"}, {"mode": "bit_serial", "slice_bits": 2}):
        with pytest.raises(BadInput, match=f"{named}.*several voltages"):
            chip(declared, dac=dac)
    with pytest.raises(BadInput, match="several voltages"):
        chip(declared, dac=False, adc=False)


def test_a_fast_solution_beyond_its_bound_stops_a_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = Hardware.load({"base": "hermes-256", "adc": False, "wires": WIRES})
    w = np.linspace(-1, 1, 24 * 40, dtype=np.float32).reshape(24, 40)
    CellMatrix(w, hardware, 1).tiles()
    true = wires.differential_effective_conductance_fast

    def off(*arguments: Any, **options: Any) -> Any:
        plus, minus, bound = true(*arguments, **options)
        plus = plus.copy()
        plus[:, 3, 2] += np.float32(1e-3) * plus.max()
        return plus, minus, bound

    monkeypatch.setattr(wires, "differential_effective_conductance_fast", off)
    with pytest.raises(BadInput, match="more than its bound"):
        CellMatrix(w, hardware, 1).tiles()


def test_linear_cells_are_the_default() -> None:
    found = Hardware.load({"base": "hermes-256", "wires": WIRES})
    assert (found.device.iv, found.device.gate) == ("linear", "fixed")
    with pytest.raises(BadInput, match="iv"):
        chip({"iv": "quadratic"})


def test_their_loss_can_be_explained() -> None:
    hardware = chip({"iv": "nonlinear", "gate": "input"}, dac={"mode": "bit_serial"})
    effects = effects_of(hardware, 3600.0)
    for on in sets_of(effects):
        assert variant(hardware, effects, on).name
