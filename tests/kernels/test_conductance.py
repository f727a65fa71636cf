"""Programming, drift and 1/f noise: the fused kernel equals the readable formula bit for bit, with the noise on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimc_sim import devices
from aimc_sim.chip.blocks import Whole
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.hardware import Hardware
from aimc_sim.kernels.cells import READOUT_UNIT
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import Stream, cell_counters, key_of
from aimc_sim.testing import assert_bits

TIMES = {"ideal": (0.0, 1e6), "gaussian": (0.0,), "reram-wan": (0.0, 1.0, 3600.0, 100_000.0, 172_800.0)}


def pattern(cols: int, rows: int, salt: int = 0) -> np.ndarray:
    """Deterministic weights (cols, rows) of every size, with zeros, a zero column and an extreme."""
    counter = np.zeros((cols * rows, 4), np.uint32)
    counter[:, 0], counter[:, 1] = np.arange(cols * rows), salt
    w = (normals(counter, key_of(77))[:, 0] * np.float32(0.02)).reshape(cols, rows)
    w[0, : rows // 3] = 0
    w[-1] = 0
    w[0, -1] = 3
    return w


def matrix(device: str | dict[str, object], w: np.ndarray, t_s: float, **tile: object) -> CellMatrix:
    hardware = Hardware.load({"device": device, "tile": tile, "compensation": {}})
    return CellMatrix(w, hardware, seed=2**40 + 3, t_s=t_s, ordinal=11, programming_cycle=2, session=4)


@pytest.mark.parametrize("device", devices.names())
def test_fused_kernel_equals_the_formula(device: str) -> None:
    last = devices.get(device).t_max_s
    for t_s in TIMES.get(device, (0.0,) if last == 0 else (0.0, 20.0, 3e7)):
        for cols, rows, tile in (
            (5, 70, {"rows": 32}),
            (3, 1300, {"rows": 500, "split": "even"}),
            (2, 1, {}),
        ):
            m = matrix(device, pattern(cols, rows), t_s, **tile)
            cells = m.cells()
            assert_bits(m.effective_weights(), cells.effective)
            column_max, alpha = m.arrays[0].program_into(Whole(cols, rows, needs_total=False))
            assert_bits(column_max, cells.column_max)
            ratio = cells.readout_programmed.sum(1) / np.maximum(cells.readout_now.sum(1), 1)
            expected = np.where(cells.readout_now.sum(1) > 0, ratio, 1).astype(np.float32)
            assert_bits(alpha, np.repeat(expected[:, None], cols, axis=1))


def test_weights_on_a_borrowed_drift_law() -> None:
    device = {"base": "pcm-afm", "drift": "pcm-ibm2019"}
    m = matrix(device, pattern(4, 130), 86_400.0, rows=64)
    assert_bits(m.effective_weights(), m.cells().effective)
    assert (
        np.abs(m.effective_weights()).mean()
        < np.abs(matrix(device, pattern(4, 130), 0.0, rows=64).cells().effective).mean()
    )


def test_measured_and_scaled_devices(tmp_path: Path) -> None:
    rows = ["conductance_us,mean_error_us,sigma_us,age_s"]
    for age in (10, 1000):
        rows += [f"{g},{0.02 * g},{0.3 + 0.01 * g + age / 5000},{age}" for g in range(1, 30, 2)]
    (tmp_path / "cells.csv").write_text("\n".join(rows))
    measured = devices.from_csv(tmp_path / "cells.csv")
    for device in (measured, devices.get("pcm-hermes-2").with_noise_scale(2)):
        hardware = Hardware.load({"device": device.model_dump(mode="json"), "tile": {"rows": 33}})
        m = CellMatrix(pattern(3, 100), hardware, 5, t_s=100.0)
        assert_bits(m.effective_weights(), m.cells().effective)


@pytest.mark.parametrize("device", ["pcm-hermes-2", "pcm-ibm2019", "reram-wan", "pcm-joshi", "reram-cmo"])
def test_programmed_conductance_is_the_target_plus_sigma_z_to_the_bit(device: str) -> None:
    """G == fl(G_target + fl(σ(G_target)·z(key))) wherever nothing clips, from public functions alone."""
    spec, w = devices.get(device), pattern(6, 200)
    m = matrix(device, w, 0.0)
    programmed = m.cells().programmed
    span = np.float32(spec.g_max_us) - np.float32(spec.g_min_us)
    checked = 0
    for column in range(5):
        ratio = w[column] / np.abs(w[column]).max()
        for plane, sign in enumerate((1, -1)):
            on = ratio * sign > 0
            target = np.where(on, np.float32(spec.g_min_us) + np.abs(ratio) * span, np.float32(spec.g_min_us))
            counter, lane = cell_counters(np.arange(200), column, Stream.PROGRAMMING, 11, plane, event=2)
            z = normals(counter, key_of(2**40 + 3))[np.arange(200), lane]
            expected = target + spec.programming_sigma_us(target) * z
            free = expected > 0
            checked += int(free.sum())
            assert_bits(programmed[plane, column][free], expected[free])
            assert (programmed[plane, column][~free] == 0).all()
    assert checked > 1000


def test_without_noise_a_cell_is_its_target() -> None:
    w = pattern(4, 90)
    off = {"base": "pcm-hermes-2", "programming": False, "drift": False, "flicker": False}
    for device in ("ideal", off):
        m = matrix(device, w, 1000.0, rows=40)
        full = np.repeat(m.cells().column_max.T, [40, 40, 10], axis=1)
        target = np.divide(w, full, out=np.zeros_like(w), where=full > 0)
        assert_bits(
            np.abs(m.cells().programmed[0] - m.cells().programmed[1]),
            np.abs(target) * np.float32(m.hardware.device.g_max_us),
        )
        np.testing.assert_allclose(m.effective_weights(), target, rtol=2e-7)


@settings(max_examples=20)
@given(cols=st.integers(1, 6), rows=st.integers(1, 150), tile=st.integers(1, 160), even=st.booleans())
def test_devices_are_sites_of_the_matrix_not_of_the_tile(cols: int, rows: int, tile: int, even: bool) -> None:
    """Two tile shapes see the same devices: z of a cell does not depend on where the cuts fall."""
    w = np.ones((cols, rows), np.float32)  # every column maximum is 1, so every target is equal too
    cut = matrix("pcm-hermes-2", w, 0.0, rows=tile, split="even" if even else "filled")
    whole = matrix("pcm-hermes-2", w, 0.0)
    assert_bits(cut.effective_weights(), whole.effective_weights())


def test_the_dead_zone_makes_small_weights_exactly_zero() -> None:
    w = np.array([[180.0, 0.59, -0.59, 0.61, -0.61, 0.0]], np.float32)
    effective = matrix("pcm-afm", w, 0.0).effective_weights()[0]
    assert (effective[[1, 2, 5]] == 0).all()
    assert (effective[[3, 4]] != 0).all()


def test_additive_drift_stays_within_the_devices_range() -> None:
    m = matrix("reram-cmo", pattern(4, 300), 3e7)
    spec = m.hardware.device
    off = spec.model_copy(update={"flicker": None})
    still = CellMatrix(m.w, m.hardware.with_device(off), m.seed, m.t_s)
    now = still.cells().now
    assert now.min() >= np.float32(spec.g_min_us)
    assert now.max() <= np.float32(spec.g_max_us)


def test_readouts_are_integers_that_any_order_adds_up_to() -> None:
    m = matrix("pcm-hermes-2", pattern(8, 400), 3600.0, rows=128)
    cells = m.cells()
    assert cells.readout_now.dtype == np.int64
    units = np.rint(np.abs(cells.effective.astype(np.float64)) * 2**20)
    # 1/f noise comes after the readout, so the sums agree with the frozen weights only on average
    assert abs(units.sum() / cells.readout_now.sum() - 1) < 0.05
    assert cells.readout_now.sum() < cells.readout_programmed.sum()
    assert READOUT_UNIT == 2**20
