"""DAC and ADC: truth table, and compiled passes against their references; the int8 product of plain matrices."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim.kernels import converters
from aimc_sim.kernels.int8_product import _float32, _onednn, _passes, engine, int8_product
from aimc_sim.testing import assert_bits


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (0.0, 0),
        (0.5, 0),
        (1.5, 2),
        (2.5, 2),
        (-0.5, 0),
        (-1.5, -2),
        (3.49, 3),
        (6.9, 7),
        (7.0, 7),
        (900, 7),
        (-900, -7),
    ],
)
def test_truth_table_of_a_4_bit_converter(x: float, code: int) -> None:
    """Half to even, saturating, symmetric, exact zero: n = 7, step 1."""
    value, seven = np.array([[x]], np.float32), np.array([[7.0]], np.float32)
    assert converters.dac_reference(value, seven, 7)[0, 0] == code
    assert converters.adc_reference(value, np.float32(1), 7)[0, 0] == code


def test_a_silent_input_gives_code_zero() -> None:
    assert (
        converters.dac_reference(np.zeros((1, 4), np.float32), np.zeros((1, 1), np.float32), 127) == 0
    ).all()


@pytest.mark.parametrize("levels", [1, 7, 127])
@pytest.mark.parametrize("per_tile", [True, False])
@pytest.mark.parametrize("unit", [1, 16])
def test_compiled_dac(levels: int, per_tile: bool, unit: int) -> None:
    """Codes side by side, or each tile filled up with zeros to a multiple of ``unit`` in a longer array."""
    x = np.sin(np.arange(6 * 50, dtype=np.float32) ** 1.7).reshape(6, 50) * np.float32(3)
    x[2] = 0
    bounds, held = np.array([0, 20, 33, 50]), 8
    starts = np.concatenate([[0], np.cumsum(-(-np.diff(bounds) // unit) * unit)])
    codes, sums = np.full(held * starts[-1], 99, np.int8), np.empty((6, 3), np.int32)
    beta = np.empty((6, 3), np.float32)
    converters.dac(x, bounds, starts, levels, True, per_tile, 0, 6, codes, held, 1, beta, sums)
    expected_beta = converters.token_range_reference(x, bounds, per_tile)
    assert_bits(beta, expected_beta)
    for t in range(3):
        a, b = bounds[t], bounds[t + 1]
        expected = converters.dac_reference(x[:, a:b], expected_beta[:, t : t + 1], levels)
        found = codes[held * starts[t] : held * starts[t + 1]].reshape(held, -1)[:6]
        assert_bits(found[:, : b - a].copy(), expected.astype(np.int8))
        assert (found[:, b - a :] == 0).all()
        assert_bits(sums[:, t], expected.sum(1).astype(np.int32))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 16), (3, 1025, 5), (17, 2050, 33), (2, 32768, 3)])
def test_int8_product_is_exact_on_either_engine(shape: tuple[int, int, int]) -> None:
    b, k, n = shape
    codes = ((np.arange(b * k) * 7919) % 255 - 127).astype(np.int8).reshape(b, k)
    weights = ((np.arange(n * k) * 104_729) % 256 - 128).astype(np.int8).reshape(n, k)
    codes[0], weights[0] = 127, -128
    expected = (codes.astype(np.int64) @ weights.astype(np.int64).T).astype(np.int32)
    assert_bits(int8_product(codes, weights), expected)
    out = np.empty((b, n), np.int32)
    _float32(codes, weights, out)
    assert_bits(out, expected)


def test_the_engine_is_chosen_by_a_known_answer() -> None:
    def saturating(codes: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
        """Inputs shifted to unsigned, pairs added in 16 bits with saturation: what processors without VNNI do."""
        product = (codes.astype(np.int32)[:, None, :] + 128) * weights.astype(np.int32)[None]
        if product.shape[2] % 2:
            product = np.pad(product, ((0, 0), (0, 0), (0, 1)))
        pairs = np.clip(product[..., 0::2] + product[..., 1::2], -32768, 32767)
        out[:] = pairs.sum(-1) - 128 * weights.astype(np.int32).sum(1)

    assert not _passes(saturating)
    assert _passes(_float32)
    assert engine() == ("onednn" if _passes(_onednn) else "float32")
