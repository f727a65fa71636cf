"""DAC, ADC and the 16-bit grid: truth table, and compiled passes against their references."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim.kernels import converters
from aimc_sim.kernels.dot import HAS_VNNI, _dot_plain, _dot_vnni
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
def test_compiled_dac(levels: int, per_tile: bool) -> None:
    x = np.sin(np.arange(6 * 50, dtype=np.float32) ** 1.7).reshape(6, 50) * np.float32(3)
    x[2] = 0
    bounds = np.array([0, 20, 33, 50])
    codes, sums = np.empty(300, np.int8), np.empty((6, 3), np.int32)
    beta = np.empty((6, 3), np.float32)
    converters.dac(x, bounds, levels, True, per_tile, 0, 6, codes, beta, sums)
    expected_beta = converters.token_range_reference(x, bounds, per_tile)
    assert_bits(beta, expected_beta)
    for t in range(3):
        a, b = bounds[t], bounds[t + 1]
        expected = converters.dac_reference(x[:, a:b], expected_beta[:, t : t + 1], levels)
        assert_bits(codes[6 * a : 6 * b].reshape(6, b - a), expected.astype(np.int8))
        assert_bits(sums[:, t], expected.sum(1).astype(np.int32))


def test_grid_of_16_bits() -> None:
    w = np.sin(np.arange(5 * 40, dtype=np.float32) ** 1.3).reshape(5, 40)
    w[1] = 0
    w[2, 0] = -1.5
    bounds = np.array([0, 40])
    high, low, peak = np.empty(200, np.int8), np.empty(200, np.int8), np.empty((1, 5), np.float32)
    converters.to_grid(w, bounds, high, low, 5 * bounds, 0, peak)
    reference = converters.grid_reference(w)
    assert_bits(high.reshape(5, 40), reference[0])
    assert_bits(low.reshape(5, 40), reference[1])
    assert_bits(peak[0], reference[2])
    back = converters.from_grid(reference[0], reference[1], reference[2])
    assert np.abs(back - w).max() <= np.abs(w).max() / 32767 * 0.501
    assert (back[1] == 0).all()
    integer = 256 * reference[0].astype(int) + reference[1] + 128
    assert integer[2, 0] == -32767


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


@pytest.mark.parametrize("n", [1, 63, 64, 65, 128, 300])
def test_both_forms_of_the_dot_product_are_exact(n: int) -> None:
    """Extremes included: 128·127 sums beyond 16 bits in every pair."""
    weights = (((np.arange(3 * n) * 7919) % 256) - 128).astype(np.int8)
    codes = (((np.arange(2 * n) * 104_729) % 255) - 127).astype(np.int8)
    weights[n : 2 * n], codes[n:] = -128, -127
    forms = [_dot_plain, _dot_vnni] if HAS_VNNI else [_dot_plain]
    for row in range(3):
        for token in range(2):
            q = codes[token * n : (token + 1) * n].astype(np.int64)
            expected = int(weights[row * n : (row + 1) * n].astype(np.int64) @ q)
            for form in forms:
                assert form(weights, row * n, codes, token * n, n, np.int32(q.sum())) == expected
