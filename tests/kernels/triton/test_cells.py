"""Programming, drift, 1/f noise and the 16-bit grid of the Triton kernels: the readable formula's bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim import devices
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import panels
from aimc_sim.kernels.cells import READOUT_UNIT
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.testing import assert_bits


def pattern(cols: int, rows: int) -> np.ndarray:
    """Deterministic weights (cols, rows) of every size, with zeros, a zero column and an extreme."""
    counter = np.zeros((cols * rows, 4), np.uint32)
    counter[:, 0] = np.arange(cols * rows)
    w = (normals(counter, key_of(77))[:, 0] * np.float32(0.02)).reshape(cols, rows)
    w[0, : rows // 3] = 0
    w[0, -1] = 3
    w[-1] = 0
    return w


def matrix(device: object, w: np.ndarray, t_s: float, **tile: object) -> CellMatrix:
    hardware = Hardware.load({"device": device, "tile": tile, "compensation": {}})
    return CellMatrix(w, hardware, seed=2**40 + 3, t_s=t_s, ordinal=11, programming_cycle=2, session=4)


def check(kernels: Any, m: CellMatrix) -> None:
    reference = m.cells()
    effective, column_max, before, after, total = kernels.effective_weights(
        m.w, m.tile_map.row_bounds, m.arrays[0].tables, m.arrays[0].sites(), with_total=True
    )
    assert_bits(effective, reference.effective)
    assert_bits(column_max, reference.column_max)
    assert_bits(before, reference.readout_programmed)
    assert_bits(after, reference.readout_now)
    assert_bits(total, reference.total)


@pytest.mark.parametrize("device", devices.names())
def test_cells_of_every_device(kernels: Any, device: str) -> None:
    last = devices.get(device).t_max_s
    check(kernels, matrix(device, pattern(2, 100), 3e7 if last is None else min(last, 3e7), rows=70))


@pytest.mark.parametrize(
    ("cols", "rows", "tile"), [(3, 1, {}), (2, 700, {}), (1, 150, {"rows": 47, "split": "even"})]
)
def test_any_shape(kernels: Any, cols: int, rows: int, tile: dict[str, object]) -> None:
    check(kernels, matrix("pcm-hermes-2", pattern(cols, rows), 60.0, **tile))


def test_weights_on_a_borrowed_drift_law(kernels: Any) -> None:
    check(kernels, matrix({"base": "pcm-afm", "drift": "pcm-ibm2019"}, pattern(2, 90), 86_400.0, rows=64))


def test_a_measured_device_of_many_pieces(kernels: Any, tmp_path: Path) -> None:
    rows = ["conductance_us,mean_error_us,sigma_us,age_s"]
    for age in (10, 1000):
        rows += [f"{g},{0.02 * g},{0.3 + 0.01 * g + age / 5000},{age}" for g in range(1, 30, 2)]
    (tmp_path / "cells.csv").write_text("\n".join(rows))
    measured = devices.from_csv(tmp_path / "cells.csv").model_dump(mode="json")
    check(kernels, matrix(measured, pattern(2, 60), 100.0, rows=33))


def test_a_block_of_columns_is_those_columns_of_the_matrix(kernels: Any) -> None:
    m = matrix("pcm-ibm2019", pattern(4, 80), 3600.0)
    arguments = (m.tile_map.row_bounds, m.arrays[0].tables, m.arrays[0].sites())
    effective, _, before, after, total = kernels.effective_weights(
        m.w[1:3], *arguments, first=1, with_readout=False
    )
    assert_bits(effective, m.cells().effective[1:3])
    assert before is None
    assert after is None
    assert total is None


def test_swapped_streams_are_noticed(kernels: Any) -> None:
    m = matrix("pcm-hermes-2", pattern(2, 64), 3600.0)
    sites = m.arrays[0].sites()
    swapped = sites._replace(programming=sites.drift, drift=sites.programming)
    wrong = kernels.effective_weights(m.w, m.tile_map.row_bounds, m.arrays[0].tables, swapped)[0]
    with pytest.raises(AssertionError, match="values differ"):
        assert_bits(wrong, m.cells().effective)


def test_grid(kernels: Any) -> None:
    w, bounds = pattern(5, 700), np.array([0, 33, 700])
    w[2, 5] = -1.5
    high, low, peak = kernels.to_grid(w, bounds)
    for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        grid, expected = panels.grid_reference(np.ascontiguousarray(w[:, a:b]))
        found = [plane[5 * a : 5 * b].reshape(5, -1).astype(int) for plane in (high, low)]
        assert_bits(256 * found[0] + found[1] + 128, grid.astype(int))
        assert_bits(peak[t], expected)


def test_large_readouts_round_to_even_too(kernels: Any) -> None:
    """A weight far above full scale (a dead column beside an outlier) still has an exact integer readout."""
    assert READOUT_UNIT == 2**20
    device = {"base": "ideal", "g_max_us": 25.0}
    check(kernels, matrix(device, np.array([[3.0, 2.9999998, 1.0 / 3, 0]], np.float32), 0.0))


def test_wrong_input_is_refused(kernels: Any) -> None:
    m = matrix("ideal", pattern(2, 64), 0.0)
    with pytest.raises(ValueError, match="w must be"):
        kernels.effective_weights(m.w[0], m.tile_map.row_bounds, m.arrays[0].tables, m.arrays[0].sites())
    with pytest.raises(ValueError, match="must rise from 0 to 64"):
        kernels.effective_weights(m.w, np.array([0, 63]), m.arrays[0].tables, m.arrays[0].sites())
    with pytest.raises(ValueError, match="effective must be"):
        kernels.to_grid(m.w.astype(np.float64), m.tile_map.row_bounds)
