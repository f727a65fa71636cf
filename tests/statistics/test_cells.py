"""Moments of programmed and drifted cells, and their independence, in the ledger."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim import devices
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.hardware import Hardware
from aimc_sim.testing import AlphaLedger, assert_mean_normal, assert_uncorrelated, assert_variance

COLS, ROWS = 500, 512
LEVEL = 0.6  # of full scale: far from the clamp at zero


def matrix(
    device: str, t_s: float, seed: int = 1, ordinal: int = 0, session: int = 0, **off: bool
) -> CellMatrix:
    w = np.full((COLS, ROWS), LEVEL, np.float32)
    w[:, 0] = 1  # the column's largest weight
    hardware = Hardware.load({"device": {"base": device, **off}})
    return CellMatrix(w, hardware, seed, t_s, ordinal, session=session)


def errors(m: CellMatrix) -> np.ndarray:
    """Programming error of the cells at LEVEL, in σ."""
    spec = m.hardware.device
    span = spec.g_max_us - spec.g_min_us
    target = np.float32(spec.g_min_us + LEVEL * span)
    sigma = (spec.programming_sigma if spec.domain == "weight" else spec.programming_sigma_us)(target, m.t_s)
    return (m.cells().programmed[0, :, 1:].astype(np.float64) - target) / float(sigma)


@pytest.mark.parametrize("device", sorted(set(devices.names()) - {"ideal"}))
def test_programming_error_has_the_declared_moments(device: str, ledger: AlphaLedger) -> None:
    z = errors(matrix(device, 0.0)).ravel()
    mean = assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("cells: mean of the programming error"))
    variance = assert_variance(
        z, sigma=1, mean=0, alpha=ledger.spend("cells: variance of the programming error")
    )
    assert mean.detectable < 0.02
    assert variance.detectable < 0.02


def test_drift_exponents_have_the_declared_moments(ledger: AlphaLedger) -> None:
    m = matrix("pcm-ibm2019", 1e6, flicker=False)
    cells = m.cells()
    nu = -np.log(cells.now[0, :, 1:].astype(float) / cells.programmed[0, :, 1:]) / np.log1p(1e6 / 20)
    mean, std = (float(v) for v in m.hardware.device.drift_nu(np.float32(LEVEL * 25)))
    z = ((nu - mean) / std).ravel()  # six σ from zero: the absolute value never acts
    assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("cells: mean of the drift exponent"))
    assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("cells: variance of the drift exponent"))


def test_flicker_has_the_declared_variance(ledger: AlphaLedger) -> None:
    m = matrix("pcm-hermes-2", 0.0, programming=False)
    cells = m.cells()
    g = cells.programmed[0, :, 1:]
    z = (cells.now[0, :, 1:].astype(float) - g) / m.hardware.device.flicker_sigma_us(g, 0.0)
    assert_mean_normal(z, mean=0, sigma=1, alpha=ledger.spend("cells: mean of the 1/f noise"))
    assert_variance(z, sigma=1, mean=0, alpha=ledger.spend("cells: variance of the 1/f noise"))


def test_chips_matrices_polarities_and_streams_are_independent(ledger: AlphaLedger) -> None:
    base = matrix("pcm-hermes-2", 1e6)
    one = errors(base)
    negative = CellMatrix(-base.w, base.hardware, base.seed, base.t_s)
    target = np.float32(LEVEL * 20.7)
    other_polarity = negative.cells().programmed[1, :, 1:] - target
    cells = base.cells()
    drift = np.log(np.maximum(cells.now[0, :, 1:], 1e-3) / np.maximum(cells.programmed[0, :, 1:], 1e-3))
    later = matrix("pcm-hermes-2", 1e6, session=1).cells().now[0, :, 1:]
    others = {
        "another chip": errors(matrix("pcm-hermes-2", 1e6, seed=2)),
        "another matrix": errors(matrix("pcm-hermes-2", 1e6, ordinal=1)),
        "the other polarity": other_polarity,
        "the next row": np.roll(one, 1, axis=1),
        "the next column": np.roll(one, 1, axis=0),
    }
    for other in others.values():
        assert_uncorrelated(
            one.ravel(), np.ravel(other), alpha=ledger.spend("cells: correlation of two draws")
        )
    scores = (drift - drift.mean()).ravel()
    assert abs(np.corrcoef(scores, one.ravel())[0, 1]) < 0.02  # not jointly normal, so no exact law
    session = (later - cells.now[0, :, 1:]).ravel()
    assert abs(np.corrcoef(session, one.ravel())[0, 1]) < 0.02
    assert np.abs(session).max() > 0
