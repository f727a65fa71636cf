"""Read noise through wires: the simulated σ against exact sensitivities, and against networks solved anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimc_sim import Hardware
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul
from aimc_sim.testing import assert_mean_normal, assert_variance
from aimc_sim.wires import (
    effective_conductance,
    fluctuating_conductance,
    pair_columns,
    split_columns,
)
from benchmarks.wires_noise import (
    G_MAX_US,
    SIGMA,
    cells,
    fluctuating,
    inputs,
    sensitivity,
    sigma_first_order,
    sigma_simulated,
)

SPREAD = ("all on", "every other", "signs")


@pytest.mark.parametrize(("rows", "cols"), [(12, 12), (10, 24), (24, 10)])
@pytest.mark.parametrize("ratio", [1e-5, 1e-4, 1e-3, 5e-3])
def test_the_stated_bound_holds(rows: int, cols: int, ratio: float) -> None:
    """Never too small, too large by at most 1/(1 - the column's loss); for a lone row up to a loss of a quarter."""
    g, ohm = cells(rows, cols), ratio * 1e6 / G_MAX_US
    loss = 1 - effective_conductance(g, ohm, ohm).sum(axis=0) / g.sum(axis=0)
    slopes = sensitivity(g, ohm)
    for name, volts in inputs(rows).items():
        if name not in SPREAD and loss.max() > 0.25:
            continue
        ratios = sigma_simulated(g, ohm, volts) / sigma_first_order(slopes, g, volts)
        assert (ratios >= 1 - 1e-6).all(), name
        assert (ratios <= 1 / (1 - loss)).all(), name
    if (
        ratio == 1e-3
    ):  # and the bound would catch a variance in proportion to G_eff, without the second factor
        plain = SIGMA * np.sqrt(effective_conductance(g, ohm, ohm).sum(axis=0) * G_MAX_US)
        assert (plain / sigma_first_order(slopes, g, np.ones(rows)) > 1 / (1 - loss)).any()


def test_first_order_is_what_fluctuating_cells_do(ledger: Any) -> None:
    """3,000 networks solved anew: the mean is G_eff's, the variance that of the first order."""
    g, ohm = cells(10, 14), 2e-3 * 1e6 / G_MAX_US
    drawn, slopes = fluctuating(g, ohm, 3000, seed=11), sensitivity(g, ohm)
    for name, column in (("all on", 6), ("signs", 13)):
        volts = inputs(10)[name]
        sigma = float(sigma_first_order(slopes, g, volts)[column])
        currents = np.einsum("k,nk->n", volts, drawn[:, :, column])
        mean = float(volts @ effective_conductance(g, ohm, ohm)[:, column])
        assert_mean_normal(
            currents, mean=mean, sigma=sigma, alpha=ledger.spend("read noise under wires: mean")
        )
        assert_variance(currents, sigma=sigma, alpha=ledger.spend("read noise under wires: variance"))


@pytest.mark.parametrize("model", ["exact", "fast"])
def test_a_chip_draws_that_noise(model: str, ledger: Any) -> None:
    """What `tile_matmul` adds is the σ that `fluctuating_conductance` says, of the pairs of columns in one array."""
    hardware = Hardware.load({
        "device": {"base": "ideal", "g_max_us": 20.0}, "tile": {"rows": 16}, "dac": {},
        "read_noise": {"sigma": 0.02}, "wires": {"r_row_ohm": 150.0, "r_col_ohm": 150.0, "model": model},
    })  # fmt: skip
    w = np.cos(1.0 + np.arange(96)).reshape(6, 16).astype(np.float32)
    w /= np.abs(w).max(axis=1, keepdims=True)
    tiles = CellMatrix(w, hardware, 3).tiles()
    rows = 4000
    x = np.repeat(np.where(np.arange(16) % 3, 1.0, -0.5)[None].astype(np.float32), rows, axis=0)
    y = tile_matmul(x, tiles, np.arange(rows, dtype=np.int64))
    pair = pair_columns(20.0 * np.maximum(w.T, 0), 20.0 * np.maximum(-w.T, 0), "interleaved").astype(
        np.float64
    )
    noisy = fluctuating_conductance(pair, effective_conductance(pair, 150.0, 150.0))
    volts = np.rint(x[0] * 127) / 127
    sigma = 0.02 * np.sqrt(volts**2 @ sum(split_columns(noisy, "interleaved")) / 20.0)
    plain = 0.02 * np.sqrt(volts**2 @ np.abs(w.T))
    assert (sigma < 0.96 * plain).any(), "these wires must matter"
    for column in (0, 5):
        alpha = ledger.spend("read noise under wires: of a chip")
        assert_variance(y[:, column].astype(np.float64), sigma=float(sigma[column]), alpha=alpha)
