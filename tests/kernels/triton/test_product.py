"""A product through tiles on the Triton kernels: codes and outputs are the bits of plain NumPy with 64-bit integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import converters, panels
from aimc_sim.testing import assert_bits
from aimc_sim.tiles.matrix import TiledMatrix
from helpers import gaussian

LAMBDA = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 6.0}}


def tiles_of(w: np.ndarray, ranges: MatrixRange | None = None, **tables: object) -> TiledMatrix:
    hardware = Hardware.load({"device": "pcm-hermes-2", **tables})
    return CellMatrix(w, hardware, seed=9, ranges=ranges or MatrixRange()).tiles()


def packed(high: np.ndarray, low: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Panels of a matrix given by its signed planes (N, K)."""
    grid = (256 * high.astype(np.int32) + low + 128).astype(np.int16)
    out = panels.empty_panels(len(grid), bounds, 2)
    panels.pack_grid(grid, bounds, panels.quad_starts(bounds), 0, out)
    return out


@pytest.mark.parametrize("levels", [1, 7, 127])
@pytest.mark.parametrize("per_tile", [True, False])
def test_dac(kernels: Any, levels: int, per_tile: bool) -> None:
    x, bounds = gaussian((4, 700), 1) * np.float32(3), np.array([0, 20, 33, 700])
    x[2], x[3, :20] = 0, 0
    codes, beta, sums = kernels.dac(x, bounds, levels, per_tile=per_tile)
    assert_bits(beta, converters.token_range_reference(x, bounds, per_tile))
    for t, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        expected = converters.dac_reference(x[:, a:b], beta[:, t : t + 1], levels)
        assert_bits(codes[4 * a : 4 * b].reshape(4, -1), expected.astype(np.int8))
        assert_bits(sums[:, t], expected.sum(1).astype(np.int32))


@pytest.mark.parametrize(("value", "code"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2),
                                             (6.9, 7), (7.5, 7), (9e9, 7), (-9e9, -7), (0.0, 0)])  # fmt: skip
def test_truth_table_of_a_4_bit_converter(kernels: Any, value: float, code: int) -> None:
    seven = np.array([7.0], np.float32)
    codes, _, sums = kernels.dac(np.array([[value]], np.float32), np.array([0, 1]), 7, seven)
    assert codes[0] == code == sums[0, 0]


@pytest.mark.parametrize("tokens", [0, 1, 9, 70])
@pytest.mark.parametrize(
    ("rows", "adc", "per"), [(None, LAMBDA, "tile"), (64, LAMBDA, "matrix"), (100, False, "tile")]
)
def test_product_equals_plain_numpy(
    kernels: Any, tokens: int, rows: int | None, adc: object, per: str
) -> None:
    tile = {} if rows is None else {"rows": rows}
    dac = {"range": {"method": "per_token", "per": per}}
    tiles = tiles_of(gaussian((37, 200), 1), tile=tile, dac=dac, adc=adc)
    x = gaussian((tokens, 200), 2)
    x[tokens // 2 : tokens // 2 + 1] = 0
    assert_bits(kernels.tile_matmul(x, tiles), tile_matmul_reference(x, tiles))


@pytest.mark.parametrize("shape", [(1, 1, 1), (300, 17, 130), (2, 1100, 65)])
def test_any_shape_with_static_ranges(kernels: Any, shape: tuple[int, int, int]) -> None:
    tokens, k, n = shape
    count = -(-k // 512)
    ranges = MatrixRange(np.full(count, 2.0, np.float32))
    tiles = tiles_of(gaussian((n, k), 3), ranges, tile={"rows": 512}, dac={"range": "max"}, adc=LAMBDA)
    x = gaussian((tokens, k), 4)
    assert_bits(kernels.tile_matmul(x, tiles), tile_matmul_reference(x, tiles))


@pytest.mark.parametrize("bits", [4, 8, 14])
def test_extreme_planes_and_codes(kernels: Any, bits: int) -> None:
    """Sums of the largest size, ADC inputs far beyond full scale and exactly between two codes."""
    k, n = 1024, 4
    high, low = np.full((n, k), 127, np.int8), np.full((n, k), 127, np.int8)
    high[1], low[1] = -128, -127
    high[2], low[2] = 0, -128
    high[3], low[3] = 0, -127
    inverse = np.array([[1e-3, 1e-9, 1.0, 0.5]], np.float32)
    ones, beta = np.ones((1, n), np.float32), np.full(1, 127, np.float32)
    bounds = np.array([0, k])
    tiles = TiledMatrix(bounds, inverse, ones, packed(high, low, bounds), dac_max_code=127,
                        adc_max_code=2 ** (bits - 1) - 1, input_range=beta)  # fmt: skip
    x = np.zeros((4, k), np.float32)
    x[0], x[1], x[2, 0], x[3, :3] = 127, -127, 1, 1
    assert_bits(kernels.tile_matmul(x, tiles), tile_matmul_reference(x, tiles))


@pytest.mark.parametrize(("tokens", "cols", "adc"), [(3, 70, LAMBDA), (20, 5, False)])
def test_read_noise(kernels: Any, tokens: int, cols: int, adc: object) -> None:
    tiles = tiles_of(gaussian((cols, 90), 9), tile={"rows": 64}, dac={}, adc=adc, read_noise={})
    x = gaussian((tokens, 90), 10)
    row_ids = np.arange(tokens, dtype=np.int64) * -(2**40) + 2**31
    got = kernels.tile_matmul(x, tiles, row_ids)
    assert_bits(got, tile_matmul_reference(x, tiles, row_ids))
    assert_bits(kernels.tile_matmul(x[1:2], tiles, row_ids[1:2]), got[1:2])
    with pytest.raises(ValueError, match="give row_ids"):
        kernels.tile_matmul(x, tiles)
    with pytest.raises(AssertionError, match="values differ"):
        assert_bits(kernels.tile_matmul(x, tiles, row_ids + 1), got)


def test_a_layer_of_a_model(kernels: Any) -> None:
    """`TileLinear` copies its tiles to the device once and computes there what the processor computes."""
    tiles, x = tiles_of(gaussian((40, 90), 9), tile={"rows": 64}, dac={}, adc=LAMBDA), gaussian((5, 90), 10)
    for y in kernels.analog_linear(x, tiles):
        assert_bits(y, tile_matmul(x, tiles))
    floats = tiles_of(gaussian((40, 90), 9), dac={}, tile={"weight_grid": "float32"})
    with pytest.raises(ValueError, match="only the integer path"):
        kernels.analog_linear(x, floats)


def test_cells_to_outputs_without_the_host(kernels: Any) -> None:
    """Cells, grid and product on the device make what `CellMatrix.tiles` and NumPy make."""
    hardware = Hardware.load({"device": "pcm-hermes-2", "tile": {"rows": 64}, "dac": {}, "adc": LAMBDA})
    m, x = CellMatrix(gaussian((6, 100), 5), hardware, seed=3, t_s=60.0), gaussian((3, 100), 6)
    bounds = m.tile_map.row_bounds
    effective = kernels.effective_weights(m.w, bounds, m.arrays[0].tables, m.arrays[0].sites())[0]
    high, low, _ = kernels.to_grid(effective, bounds)
    expected = m.tiles()
    for kind, flat in enumerate((high, low)):
        assert_bits(flat, np.concatenate([planes[kind].ravel() for planes in expected.planes()]))
    assert_bits(kernels.tile_matmul(x, expected), tile_matmul_reference(x, expected))


def test_a_wrong_weight_is_noticed(kernels: Any) -> None:
    tiles, x = tiles_of(gaussian((5, 64), 7), dac={}, adc=None), gaussian((2, 64), 8)
    wrong = tiles.panels.copy()
    wrong[5] ^= 1
    with pytest.raises(AssertionError, match="values differ"):
        assert_bits(kernels.tile_matmul(x, replace(tiles, panels=wrong)), tile_matmul_reference(x, tiles))


def test_wrong_input_is_refused(kernels: Any) -> None:
    tiles = tiles_of(gaussian((5, 64), 7), dac={}, adc=LAMBDA)
    with pytest.raises(ValueError, match="x must be"):
        kernels.tile_matmul(np.ones((2, 63), np.float32), tiles)
    with pytest.raises(ValueError, match="inverse must be"):
        kernels.tile_matmul(np.ones((2, 64), np.float32), replace(tiles, inverse=tiles.inverse[:, 1:]))
    with pytest.raises(ValueError, match="largest code"):
        kernels.dac(np.ones((2, 64), np.float32), np.array([0, 64]), 128)
