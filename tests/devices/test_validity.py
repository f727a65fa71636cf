"""A device refuses what its source does not say: other g_max, negative σ, ages that cannot be interpolated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aimc_sim import BadInput, Hardware, devices
from aimc_sim.chip.blocks import Whole
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.devices import Device

SIGMA = {"pieces": [{"coefficients": [0.1]}]}


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ({"base": "pcm-joshi", "g_max_us": 100.0}, "measured at g_max = 25"),
        ({"base": "pcm-afm", "g_max_us": 25.0}, "measured at g_max = 180"),
        ({"base": "pcm-hermes-2", "g_max_us": 50.0}, "measured at g_max = 20.7"),
        ({"g_max_us": 5.0, "programming": {"sigma": {"pieces": [{"coefficients": [-5.0]}]}}}, "not negative"),
        ({"g_max_us": 5.0, "programming": {"sigma": {"pieces": [
            {"coefficients": [1.0], "minimum": 2.0, "maximum": 1.0}]}}}, "lies above maximum"),
        ({"g_max_us": 5.0, "drift": {"kind": "power", "t0_s": 1.0, "nu_mean": SIGMA, "nu_std": SIGMA}}, "t_max_s"),
        ({"g_max_us": 5.0, "t_max_s": 9.0, "programming": {"by_age": [
            {"age_s": 0.0, "sigma": SIGMA}, {"age_s": 9.0, "sigma": SIGMA}]}}, "above 0 s"),
        ({"g_max_us": 5.0, "t_max_s": 99.0, "programming": {"by_age": [
            {"age_s": 1.0, "sigma": SIGMA}, {"age_s": 9.0, "sigma": SIGMA}]}}, "beyond the last measured age"),
        ({"g_max_us": 5.0, "t_max_s": 9.0, "programming": {"by_age": [
            {"age_s": 1.0, "sigma": SIGMA},
            {"age_s": 9.0, "sigma": {"pieces": [{"coefficients": [0.1], "up_to": 0.5}, {"coefficients": [0.2]}]}}]}},
         "same pieces"),
        ({"g_max_us": 5.0, "programming": {"sigma": {"pieces": [{"coefficients": [0.1], "up_to": 1.0, "below": 1.0},
                                                               {"coefficients": [0.1]}]}}}, "not both"),
    ],
)  # fmt: skip
def test_refused(device: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Hardware.load({"device": device})


def test_a_device_whose_sigma_scales_takes_another_g_max() -> None:
    wide = Hardware.load({"device": {"base": "pcm-ibm2019", "g_max_us": 50.0}}).device
    np.testing.assert_allclose(
        wide.programming_sigma_us(50.0), 2 * devices.get("pcm-ibm2019").programming_sigma_us(25.0), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["pcm-hermes-1", "pcm-hermes-2"])
def test_the_border_of_two_pieces_belongs_to_the_second(name: str) -> None:
    """The source says g_rel < 0.0945 for the first."""
    device = devices.get(name)
    at = np.float32(0.0945) / device.drift.nu_mean.x_scale(device.g_max_us)  # type: ignore[union-attr]
    second = -0.0436 * 0.0945**2 - 0.0126 * 0.0945 + 0.0736
    assert float(device.drift_nu(at * np.float32(1.0000003))[0]) == pytest.approx(second, rel=1e-5)
    assert device.drift.nu_mean.pieces[0].last_x < np.float32(0.0945)  # type: ignore[union-attr]


def aged(tmp_path: Path) -> Device:
    (tmp_path / "aged.csv").write_text(
        "conductance_us,mean_error_us,sigma_us,age_s\n0,0,0,1\n20,0,0,1\n0,0,0,3600\n20,-4,0,3600\n"
    )
    return devices.from_csv(tmp_path / "aged.csv")


def test_what_ages_by_a_table_is_compensated_too(tmp_path: Path) -> None:
    """No noise, and after an hour every conductance reads 20 % low: the digital factor is 1.25."""
    table = aged(tmp_path).model_dump(mode="json")
    w = np.linspace(-1, 1, 400, dtype=np.float32).reshape(4, 100)
    for compensation, gain in (({}, 1.25), (False, 1.0)):
        m = CellMatrix(w, Hardware.load({"device": table, "compensation": compensation}), 0, t_s=3600.0)
        alpha = m.arrays[0].program_into(Whole(*m.w.shape, needs_total=False)).alpha
        np.testing.assert_allclose(alpha, gain, rtol=1e-5)
        np.testing.assert_allclose(
            m.effective_weights(), 0.8 * w / np.abs(w).max(1, keepdims=True), rtol=1e-5, atol=1e-7
        )
    programmed = m.cells().programmed
    assert programmed.max() == pytest.approx(20.0)


def test_conductances_that_cannot_be() -> None:
    for g in (float("nan"), -1.0):
        with pytest.raises(BadInput, match="finite and not negative"):
            devices.get("pcm-hermes-2").flicker_sigma_us(g, 1.0)
