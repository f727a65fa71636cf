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
    assert converters.quantise_reference(value, 7)[0, 0] == code


@pytest.mark.parametrize(
    ("x", "code"),
    [(-900, 0), (-0.5, 0), (0.0, 0), (0.5, 0), (1.5, 2), (14.5, 14), (15.4, 15), (15.5, 15), (900, 15)],
)
def test_truth_table_of_a_4_bit_unsigned_converter(x: float, code: int) -> None:
    """Half to even, codes 0 … 15: what is negative is lost."""
    assert converters.quantise_reference(np.array([x], np.float32), 15, unsigned=True)[0] == code


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12, 16])
def test_a_sar_whose_capacitors_match_rounds_half_to_even(bits: int, unsigned: bool) -> None:
    """Every code, every half between two and a quarter beside it, and what lies beyond."""
    n = 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1
    quarters = np.arange(-4 * n - 20, 4 * n + 21) if bits <= 12 else np.arange(-4 * n - 20, 4 * n + 21, 2)
    signal = (quarters / 4).astype(np.float32)[:, None]
    matching = np.exp2(np.arange(bits)).astype(np.float32)[:, None]
    codes = converters.sar_reference(signal, matching, n, unsigned)
    assert_bits(codes + np.float32(0), converters.quantise_reference(signal, n, unsigned) + np.float32(0))
    assert codes.max() == n
    assert codes.min() == (0 if unsigned else -n)


def test_a_sar_finds_the_last_level_below_the_signal() -> None:
    """By trying every code, where the levels rise with the code; one capacitor too large swallows codes."""
    capacitors = np.array([[1.1, 2.0], [1.9, 2.1], [4.3, 3.7], [7.9, 9.5]], np.float32)
    signal = np.linspace(-1, 17, 2001, dtype=np.float32)[:, None].repeat(2, axis=1)
    codes = converters.sar_reference(signal, capacitors, 15, unsigned=True)
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    for column in range(2):
        levels = bits @ capacitors[:, column] - 0.5
        if column == 0:
            assert (np.diff(levels) > 0).all()
            expected = (signal[:, :1] >= levels[1:]).sum(axis=1)
            clear = np.abs(signal[:, :1] - levels).min(axis=1) > 1e-4
            assert (codes[clear, column] == expected[clear]).all()
        assert np.isin(codes[:, column], np.arange(16)).all()
    assert 7 in codes[:, 0]
    swallowed = converters.sar_reference(signal, capacitors * np.float32([[1], [1], [1], [0.7]]), 15, True)
    assert not {6.0, 7.0} & set(np.unique(swallowed[:, 0]).tolist()), (
        "the largest capacitor begins below them"
    )


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
