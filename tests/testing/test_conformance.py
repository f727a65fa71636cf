"""The conformance test as its users meet it: what it takes, what it says, and what it refuses."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, special, stats

from aimc_sim import devices
from aimc_sim.devices import AdditiveDrift, Device, PowerDrift
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.testing import (
    LedgerError,
    NonConformance,
    assert_device_conforms,
    check_device,
    detectable_sigma,
    sample_size_for_sigma,
)
from aimc_sim.testing.bench import Level
from aimc_sim.testing.conformance import device_of
from aimc_sim.testing.declared import Declared, folded_residual, law_value, normal_residual
from aimc_sim.testing.formula import Formula, FormulaSampler, Site
from aimc_sim.testing.ledger import uncharged

F64 = npt.NDArray[np.float64]
ROUGH: dict[str, Any] = {"sigma_error": 0.2, "levels": (0.0, 0.5, 1.0)}


class Bare:
    """The least that a sampler can be: programming alone, and one chip a seed."""

    def __init__(self, device: Device, spoil: float = 0.0) -> None:
        self.formula, self.spoil = Formula(device), spoil

    def program(self, targets: npt.NDArray[np.float32], *, seed: int) -> Bare.Cells:
        g = self.formula.program(targets.astype(np.float64), Site(seed, 0, 0, 0))
        g[-1, -1] += self.spoil
        return Bare.Cells(g)

    class Cells:
        def __init__(self, programmed: F64) -> None:
            self.programmed = programmed


def test_the_least_sampler_is_tested_as_far_as_it_goes_and_the_report_says_how_far() -> None:
    device = devices.get("pcm-hermes-2")
    with uncharged():
        report = check_device(device, Bare(device), **ROUGH)
    assert report.passed, report
    skipped = dict(report.not_tested)
    assert {"drift", "sums"} <= set(skipped)
    assert skipped["independence: matrices"] == "the sampler's program() takes no matrix"
    text = str(report)
    assert text.startswith(
        f"pcm-hermes-2 conforms ({len(report.findings)} properties, {report.cells} cells, seed 0"
    )
    assert "----  drift: not tested, the sampler has no drifted(t_s)" in text
    assert "finds a relative error of sigma of" in text


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_numbers_that_are_not_finite_end_the_report(spoil: float) -> None:
    device = devices.get("pcm-hermes-2")
    with uncharged(), pytest.raises(NonConformance, match=r"finite: programmed.*'programmed': 1") as caught:
        assert_device_conforms(device, Bare(device, spoil), **ROUGH)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.report == caught.value.report
    assert not again.report.passed


def test_a_report_is_a_pure_function_of_its_arguments() -> None:
    with uncharged():
        one, two = (check_device("pcm-joshi", seed=9, **ROUGH) for _ in range(2))
    assert one == two
    with pytest.raises(KeyError):
        one["no such property"]


def test_the_error_comes_from_the_ledger() -> None:
    with pytest.raises(LedgerError, match="not from the ledger"):
        check_device("pcm-joshi", alpha=1e-9, **ROUGH)


def test_a_device_can_be_given_in_any_form(tmp_path: Path) -> None:
    expected = devices.get("pcm-joshi")
    toml, csv = tmp_path / "mine.toml", tmp_path / "cells.csv"
    toml.write_text('device = "pcm-joshi"\n')
    csv.write_text("conductance_us,mean_error_us,sigma_us\n0,0,0.1\n25,0,0.2\n")
    for source in (expected, "pcm-joshi", {"base": "pcm-joshi"}, str(toml), toml, Hardware.load(toml)):
        assert device_of(source) == expected
    assert device_of(csv).g_max_us == 25.0


class Wrong:
    def program(self, targets: npt.NDArray[np.float32], *, seed: int) -> Bare.Cells:
        return Bare.Cells(np.zeros(targets.shape[::-1][:1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pcm-hermes",), "did you mean"),
        (("pcm-joshi", Wrong()), "sampler's programmed.*every cell has one number"),
        (("pcm-joshi", 3), "sampler: got 'int'.*no method program"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with uncharged(), pytest.raises(BadInput, match=message):
        check_device(*arguments, **ROUGH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ()}, "levels"),
        ({"levels": (0.5, 1.5)}, "from g_min to g_max"),
        ({"sigma_error": 1e-4}, "more than 16777216 cells"),
        ({"seed": -1}, "unsigned 64-bit"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with uncharged(), pytest.raises(BadInput, match=message):
        check_device("pcm-joshi", **options)


@pytest.mark.parametrize("name", devices.names())
def test_the_declaration_in_float64_is_the_kernels_to_rounding(name: str) -> None:
    device = devices.get(name)
    g = np.linspace(device.g_min_us, device.g_max_us, 97)[1:-1].astype(np.float32)
    mean, sigma = Declared(device).programming(g.astype(np.float64))
    evaluate = device.programming_sigma if device.domain == "weight" else device.programming_sigma_us
    sigma = np.where(Declared(device).dead(g.astype(np.float64)), 0, sigma)
    np.testing.assert_allclose(evaluate(g), sigma, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(mean, g)
    if isinstance(device.drift, PowerDrift):
        for found, expected in zip(
            Declared(device).nu(g.astype(np.float64)), device.drift_nu(g), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=2e-5)
    if device.flicker:
        expected = device.flicker_sigma_us(g, 3600.0)
        np.testing.assert_allclose(
            Declared(device).flicker(g.astype(np.float64), g.astype(np.float64), 3600.0), expected, rtol=3e-5
        )
    if isinstance(device.drift, AdditiveDrift):
        assert Declared(device).additive(np.e)[0] == pytest.approx(device.drift.mean_slope_us)
    assert law_value(devices.Law.polynomial(1.0, 2.0), 5.0, 10.0) == pytest.approx(2.0)


def test_residuals_are_normal_also_where_the_law_has_lumps() -> None:
    """Quantiles of the clipped and the folded law come back as the quantiles of the normal."""
    u = (np.arange(2001) + 0.5) / 2001
    z = special.ndtri(u)
    clipped = np.clip(0.3 + z, 0.0, 1.0)  # mean 0.3, sigma 1, clamped on both sides
    back = normal_residual(clipped, np.full_like(z, 0.3), np.ones_like(z), u, low=0.0, high=1.0)
    inside = (clipped > 0) & (clipped < 1)
    np.testing.assert_allclose(back[inside], z[inside], atol=1e-12)
    assert (back[clipped == 0] < -0.3).all()
    assert (back[clipped == 1] > 0.7).all()
    folded = stats.foldnorm.ppf(u, 2.0, scale=0.5)  # |1 + z/2|
    ones, half = np.ones_like(u), np.full_like(u, 0.5)
    np.testing.assert_allclose(folded_residual(folded, ones, half, u, 1e-9), z, atol=1e-6)
    coarse = folded_residual(np.where(folded < 0.1, 0.0, folded), ones, half, u, 0.1)
    edge = special.ndtri(stats.foldnorm.cdf(0.1, 2.0, scale=0.5))
    assert (coarse[folded < 0.1] < edge).all()
    np.testing.assert_allclose(coarse[folded > 0.1], z[folded > 0.1], atol=1e-6)


@pytest.mark.parametrize("clip", [-3.0, -1.66, 0.0, 0.5])
def test_what_clipping_costs_is_what_integration_says(clip: float) -> None:
    """Mean and mean square of the residuals of cells whose mean, or σ, is off by a little."""
    step = 1e-4
    below, density = float(special.ndtr(clip)), stats.norm.pdf

    def moment(power: int, shift: float, scale: float) -> float:
        hidden = integrate.quad(lambda x: x**power * density(x), -12, clip)[0] / below
        lump = float(special.ndtr((clip - shift) / scale)) * hidden
        return lump + integrate.quad(lambda x: x**power * density((x - shift) / scale) / scale, clip, 12)[0]

    shift, spread = Level(0.0, -clip, 1.0, clip, "normal").sharpness
    assert (moment(1, step, 1.0) - moment(1, -step, 1.0)) / (2 * step) == pytest.approx(shift, abs=1e-4)
    assert (moment(2, 0.0, 1 + step) - moment(2, 0.0, 1 - step)) / (4 * step) == pytest.approx(
        spread, abs=1e-4
    )


def test_the_sample_size_is_the_smallest_that_shows_the_error() -> None:
    n = sample_size_for_sigma(0.02, alpha=1e-9)
    assert n == 90_201
    assert detectable_sigma(n, 1e-9) <= 0.02 < detectable_sigma(n - 1, 1e-9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        sample_size_for_sigma(0.0, alpha=1e-9)


def test_the_formula_knows_ages_and_addition() -> None:
    """The plain formula at another age, against the laws themselves."""
    device = devices.get("reram-wan")
    sampler = FormulaSampler(Formula(device))
    cells = sampler.program(np.full((64, 4), 20.0), seed=1)
    early, late = cells.programmed.astype(float) - 20, cells.drifted(86_400.0).astype(float) - 20
    ratio = device.programming_sigma_us(20.0, 86_400.0) / device.programming_sigma_us(20.0)
    np.testing.assert_allclose(late, early * float(ratio), atol=1e-4)
    np.testing.assert_allclose(cells.column_sums(0.0), cells.programmed.sum(axis=0), rtol=1e-5)
