"""Every device against an independent float64 copy of the published formulas, and the ways to add a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aimc_sim import devices
from aimc_sim.devices import Device
from aimc_sim.errors import BadInput

Formula = Callable[[np.ndarray], np.ndarray]
ln = np.log


def cmo(slope: float, intercept: float) -> Formula:
    return lambda g: slope * g + intercept


SIGMA_US: dict[str, Formula] = {  # g in µS
    "pcm-hermes-2": lambda g: (
        0.16603222 + 4.71806468 * (r := g / 20.7) - 8.48101252 * r**2 + 4.68961419 * r**3
    ),
    "pcm-hermes-1": lambda g: (
        0.15781817 + 2.32443916 * (r := g / 10.35) - 2.16310839 * r**2 + 0.68841818 * r**3
    ),
    "pcm-ibm2019": lambda g: 0.26348 + 1.9650 * (g / 25) - 1.1731 * (g / 25) ** 2,
    "pcm-joshi": lambda g: -0.00178767 * g**2 + 0.07585724 * g + 0.28638599,
    "reram-wan": lambda g: np.polyval([-16.815, 45.393, -43.853, 16.030, 0.348], g / 40),
    "reram-cmo": cmo(0.00106879, 0.00081107),
    "reram-cmo-2pct": cmo(0.01129027418, 0.0112185391),
    "ideal": lambda g: 0 * g,
}
HIGH = np.polynomial.Polynomial(
    [2.110295720240385, 0.2453487119885723, -3.054993405157235e-3, 1.2329755395573392e-5]
)
LOW = np.polynomial.Polynomial(
    [2.5797410660159494, 0.22419685954327148, -3.71581208142707e-3, 2.939751381126213e-5]
)


def nu_mean_hermes(r: np.ndarray) -> np.ndarray:
    return np.where(
        r < 0.0945, np.clip(-0.0387 * ln(r) - 0.0182, 0.0720, 0.13), -0.0436 * r**2 - 0.0126 * r + 0.0736
    )


NU: dict[str, tuple[Formula, Formula]] = {  # g_rel
    "pcm-ibm2019": (lambda r: np.clip(-0.0155 * ln(r) + 0.0244, 0.049, 0.1),
                    lambda r: np.clip(-0.0125 * ln(r) - 0.0059, 0.008, 0.045)),
    "pcm-hermes-2": (nu_mean_hermes, lambda r: np.where(
        r < 0.3055, np.clip(-0.0117 * ln(r) - 0.0057, 0.0091, 0.04), -0.0118 * r**2 + 0.0093 * r + 0.0073)),
    "pcm-hermes-1": (nu_mean_hermes, lambda r: np.where(
        r < 0.3039, np.clip(-0.0120 * ln(r) - 0.0023, 0.0124, 0.04), -0.0165 * r**2 + 0.0116 * r + 0.0104)),
}  # fmt: skip
FLICKER: dict[str, tuple[Formula, float, float]] = {  # Q(g_rel), t_read, t0
    "pcm-ibm2019": (lambda r: np.minimum(0.0088 / np.maximum(r**0.65, 1e-3), 0.2), 250e-9, 20),
    "pcm-hermes-2": (lambda r: np.where(r < 0.16, np.clip(-0.0117 * ln(r) - 0.0069, 0.015, 0.04),
                                        0.0069 * r**3 - 0.0280 * r**2 + 0.0211 * r + 0.0123), 512e-9, 300),
    "pcm-hermes-1": (lambda r: np.where(r < 0.1591, np.clip(-0.0078 * ln(r) + 0.0038, 0.0179, 0.04),
                                        0.0664 * r**3 - 0.1352 * r**2 + 0.0768 * r + 0.0088), 512e-9, 200),
}  # fmt: skip


def conductances(device: Device) -> np.ndarray:
    return np.linspace(max(device.g_min_us, 1e-5 * device.g_max_us), device.g_max_us, 1501).astype(np.float32)


@pytest.mark.parametrize("name", SIGMA_US)
def test_programming_sigma_follows_the_table(name: str) -> None:
    device = devices.get(name)
    g = conductances(device)
    np.testing.assert_allclose(
        device.programming_sigma_us(g), SIGMA_US[name](g.astype(float)), rtol=1e-5, atol=1e-5
    )


def test_sigma_on_the_signed_weight_follows_the_table() -> None:
    w = np.linspace(0.6, 180, 2001).astype(np.float32)
    np.testing.assert_allclose(
        devices.get("pcm-afm").programming_sigma(w), np.where(w <= 52.5, LOW(w), HIGH(w)), rtol=2e-6
    )
    np.testing.assert_allclose(devices.get("pcm-afm-td").programming_sigma(w), HIGH(w), rtol=2e-6)
    assert devices.get("pcm-afm").programming_sigma(0.59) == 0


def test_the_two_fits_of_one_chip_differ_twofold_at_full_scale() -> None:
    """Limiting values of the sources: 10.7 % against 5.3 % of g_max."""
    assert devices.get("pcm-afm").programming_sigma(180.0) / 180 == pytest.approx(0.107, abs=5e-4)
    assert devices.get("pcm-hermes-2").programming_sigma_us(20.7) / 20.7 == pytest.approx(0.053, abs=5e-4)


@pytest.mark.parametrize("name", NU)
def test_drift_exponents_follow_the_table(name: str) -> None:
    device = devices.get(name)
    g = conductances(device)
    ratio = g.astype(float) / device.g_max_us
    mean, std = device.drift_nu(g)
    for value, formula in ((mean, NU[name][0]), (std, NU[name][1])):
        away = np.abs(ratio - 0.0945) > 1e-6
        np.testing.assert_allclose(value[away], formula(ratio)[away], rtol=2e-5)
    assert device.drift_nu(0.0)[0] == pytest.approx(NU[name][0](np.array(1e-7)), rel=1e-5)


@pytest.mark.parametrize("name", FLICKER)
@pytest.mark.parametrize("t_s", [0.0, 3600.0, 3e7])
def test_flicker_follows_the_table(name: str, t_s: float) -> None:
    device, (q, t_read, t0) = devices.get(name), FLICKER[name]
    g = conductances(device)
    expected = g * q(g.astype(float) / device.g_max_us) * np.sqrt(np.log((t_s + t0 + t_read) / (2 * t_read)))
    np.testing.assert_allclose(device.flicker_sigma_us(g, t_s), expected, rtol=3e-5)


def test_flicker_of_cmo_is_absolute_and_absent_at_time_zero() -> None:
    device, g = devices.get("reram-cmo"), np.array([9.0, 30.0, 88.0])
    expected = 0.0277316483 * np.log10(g) * np.sqrt(np.log((100 + 1e-6) / 2e-6))
    np.testing.assert_allclose(device.flicker_sigma_us(g, 100.0), expected, rtol=1e-5)
    assert (device.flicker_sigma_us(g, 0.0) == 0).all()


def test_sigma_by_age_is_interpolated_in_log_time() -> None:
    device, g = devices.get("reram-wan"), np.linspace(0, 40, 9)
    day = np.polyval([-16.458, 47.095, -50.773, 22.086, 0.701], g / 40)
    two_days = np.polyval([-11.934, 37.062, -43.507, 20.274, 0.782], g / 40)
    np.testing.assert_allclose(device.programming_sigma_us(g, 86_400.0), day, rtol=1e-5)
    middle = device.programming_sigma_us(g, 86_400 * 2**0.5)
    np.testing.assert_allclose(middle, (day + two_days) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: devices.get("pcm-hermes"), "did you mean 'pcm-hermes-2'"),
        (lambda: devices.get("pcm-hermes-2").programming_sigma_us(21.0), "0 to 20.7"),
        (lambda: devices.get("reram-cmo").programming_sigma_us(1.0), "9 to 88.19"),
        (lambda: devices.get("pcm-hermes-2").programming_sigma_us(float("nan")), "nan"),
        (lambda: devices.get("pcm-hermes-2").programming_sigma(1.0), "call programming_sigma_us"),
        (lambda: devices.get("pcm-afm").programming_sigma_us(1.0), "call programming_sigma"),
        (lambda: devices.get("reram-wan").drift_nu(1.0), "not a power law"),
        (lambda: devices.get("reram-wan").tables(200_000.0), "its data end at 2d"),
        (lambda: devices.get("reram-wan").tables(0.5), "its data begin at 1s"),
        (lambda: devices.get("pcm-joshi").tables(1.0), "no law of drift"),
        (lambda: devices.get("pcm-hermes-2").tables(-1.0), "end of programming"),
        (lambda: devices.get("pcm-hermes-2").tables(float("inf")), "finite"),
    ],
)
def test_outside_the_data_is_an_error(call: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()


def test_a_device_from_functions() -> None:
    device = devices.from_functions(
        "mine", 30.0, sigma_us=lambda g: 0.1 + 0.02 * g, mean_error_us=lambda g: -0.01 * g
    )
    g = np.linspace(0, 30, 50)
    np.testing.assert_allclose(device.programming_sigma_us(g), 0.1 + 0.02 * g, rtol=1e-5)
    with pytest.raises(BadInput, match="not negative"):
        devices.from_functions("bad", 30.0, sigma_us=lambda g: 0.1 - g)


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["conductance_us,mean_error_us,sigma_us,age_s", *rows]))
    return path


def test_a_device_from_measurements(tmp_path: Path) -> None:
    path = write(
        tmp_path / "lab.csv", "1,0,0.1,60", "5,0.5,0.3,60", "9,1,0.2,60", "1,0,0.2,3600", "9,1,0.4,3600"
    )
    device = devices.from_csv(path)
    assert (device.name, device.g_min_us, device.g_max_us) == ("lab", 1.0, 9.0)
    np.testing.assert_allclose(
        device.programming_sigma_us([1, 3, 5, 7, 9], 60.0), [0.1, 0.2, 0.3, 0.25, 0.2], rtol=1e-5
    )
    np.testing.assert_allclose(device.programming_sigma_us([1, 5, 9], 3600.0), [0.2, 0.3, 0.4], rtol=1e-5)
    with pytest.raises(BadInput, match="begin at 1m"):
        device.tables(1.0)
    assert Device.parse(device.model_dump(mode="json"), "copy").id == device.id


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,0,0.1,0", "1,0,0.1,0"], r"line 3: conductance_us.*rise"),
        (["5,0,0.1,0", "4,0,0.1,0"], r"line 3: conductance_us.*rise"),
        (["1,0,-0.1,0", "2,0,0.1,0"], "line 2: sigma_us"),
        (["1,0,abc,0", "2,0,0.1,0"], "line 2: sigma_us.*finite number"),
        (["1,0,nan,0", "2,0,0.1,0"], "finite number"),
        (["1,0,0.1,0"], "at least two"),
        (["1,0,0.1,0", "9,-9.5,0.1,0"], "line 3: mean_error_us.*none is below 0"),
        (["1,0,0.1,1", "9,0,0.1,1", "1,0,0.1,2", "8,0,0.1,2"], "same range"),
    ],
)
def test_bad_measurements_are_named(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        devices.from_csv(write(tmp_path / "bad.csv", *rows))


def test_a_file_without_the_columns_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("g,s\n1,2\n")
    with pytest.raises(BadInput, match="'conductance_us' is missing"):
        devices.from_csv(tmp_path / "x.csv")
    with pytest.raises(BadInput, match="cannot be read"):
        devices.from_csv(tmp_path / "none.csv")


def test_cells_measured_at_one_age(tmp_path: Path) -> None:
    """That age and the first reading (time 0) are known; nothing else is."""
    device = devices.from_csv(write(tmp_path / "one.csv", "1,0,0.1,60", "9,0,0.2,60"))
    assert device.tables(60.0).drift == device.tables(0.0).drift
    for t_s in (1.0, 61.0):
        with pytest.raises(BadInput, match=r"begin at 1m|end at 1m"):
            device.tables(t_s)
