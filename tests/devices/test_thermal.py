"""Data on temperature and on rounds of program-and-verify: what they say, and where they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware, devices
from aimc_sim.devices.laws import Law
from aimc_sim.devices.thermal import Thermal, Verify


def hardware(device: object, **tables: Any) -> Hardware:
    return Hardware.load({"device": device, **tables})


def test_sigma_shrinks_with_the_rounds_of_verifying_as_published() -> None:
    """Wan et al., Nature 2022: 29 % after three rounds. Between rounds a power law: 2 lies at ln 2/ln 3 of the way."""
    once = devices.get("reram-wan")
    g = np.linspace(0, 40, 9, dtype=np.float32)
    for iterations, ratio in ((1, 1.0), (2, math.exp(math.log(0.71) * math.log(2) / math.log(3))), (3, 0.71)):
        device = hardware({"base": "reram-wan", "programming": {"iterations": iterations}}).device
        for t_s in (0.0, 3600.0, 172_800.0):
            np.testing.assert_allclose(
                device.programming_sigma_us(g, t_s), ratio * once.programming_sigma_us(g, t_s), rtol=1e-6
            )
        for t_s in (0.0, 3600.0):  # and what the kernels draw with
            one, other = once.tables(t_s).y_scale, device.tables(t_s).y_scale
            np.testing.assert_allclose(other[[0, 3]] / one[[0, 3]], [ratio, ratio if t_s else 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ({"base": "reram-wan", "programming": {"iterations": 4}}, "outside the data"),
        ({"base": "pcm-hermes-2", "programming": {"iterations": 2}}, "no data say how σ shrinks"),
        ({"base": "pcm-hermes-2", "programming": {"iterations": 0}}, "at least 1"),
        ({"base": "pcm-hermes-2", "programming": {"verify": {"iterations": [1, 1], "sigma_ratio": [1, 1]}}}, "rise"),
        ({"base": "pcm-hermes-2", "programming": {"verify": {"iterations": [1, 2], "sigma_ratio": [1]}}}, "ratio"),
        ({"base": "pcm-hermes-2", "thermal": {"t_max_c": 10.0}}, "between t_min_c and t_max_c"),
        ({"base": "pcm-afm", "thermal": {"t_min_c": 0, "t_max_c": 50, "activation_ev": {"pieces": [
            {"coefficients": [0.1]}]}}}, "weight-domain"),
    ],
)  # fmt: skip
def test_what_data_do_not_cover_is_refused(device: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        hardware(device)


def test_a_users_own_law_of_verifying_is_taken() -> None:
    verify = {"iterations": [1, 4, 16], "sigma_ratio": [2.0, 1.0, 0.5], "source": "ours"}
    own = {"base": "pcm-hermes-2", "programming": {"verify": verify, "iterations": 8}}
    sigma = hardware(own).device.programming_sigma_us(np.float32(10))
    plain = devices.get("pcm-hermes-2").programming_sigma_us(np.float32(10))
    assert sigma / plain == pytest.approx(math.sqrt(0.5), rel=1e-6)


def test_data_that_nothing_asks_for_do_not_name_a_hardware() -> None:
    plain = hardware("pcm-hermes-2")
    bare = plain.device.model_copy(update={"thermal": None})
    assert plain.with_device(bare).id == plain.id
    asked = hardware("pcm-hermes-2", temperature={})
    assert asked.id != plain.id
    other = asked.device.thermal
    assert other is not None
    warmer = asked.device.model_copy(update={"thermal": other.model_copy(update={"attempt_time_s": 1e-12})})
    assert asked.with_device(warmer).id != asked.id
    assert plain.with_device(warmer).id == plain.id
    spread = {"die_temperature_sigma_c": 3.0}
    assert hardware("pcm-hermes-2", variation=spread).with_device(warmer).id != hardware(
        "pcm-hermes-2", variation=spread).id  # fmt: skip
    once, never = hardware("reram-wan"), devices.get("reram-wan").programming
    assert never is not None
    without = once.device.model_copy(update={"programming": never.model_copy(update={"verify": None})})
    assert once.with_device(without).id == once.id


def test_every_device_with_temperatures_names_its_source() -> None:
    found = [devices.get(name).thermal for name in devices.names()]
    assert [t is not None for t in found].count(True) == 3
    for thermal in found:
        assert thermal is None or len(thermal.source) > 40
    law = Law.polynomial(0.1)
    assert Thermal(t_min_c=0.0, t_max_c=30.0, activation_ev=law).attempt_time_s is None
    assert Verify(iterations=(2,), sigma_ratio=(0.9,)).ratio(2) == 0.9


def test_a_device_written_out_is_read_back() -> None:
    for name in devices.names():
        described = hardware(name)
        assert (
            Hardware.load({"device": described.device.model_dump(mode="json", exclude_none=True)}).device
            == described.device
        )
