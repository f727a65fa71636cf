"""Training kernels against their readable formulas: noise bit for bit, quantisers code for code, gradients at edges."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim.kernels import training as kernel
from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import Stream, cell_counters, key_of, site_word
from aimc_sim.testing import assert_bits

KEY, EVENT, ORDINAL = key_of(0xFEDC_BA98_7654_3210), 2**32 - 7, 12
SITE = site_word(Stream.TRAINING, ORDINAL)


def values(*shape: int, seed: int = 1) -> np.ndarray:
    """Standard normals of our own, float32."""
    count = int(np.prod(shape))
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    return normals(counter, key_of(seed)).ravel()[:count].reshape(shape).copy()


@pytest.mark.parametrize("cuts", [[0, 70], [0, 33, 161, 200], [0, 1], [0, 64, 1100], [0, 1024, 2100]])
def test_noise_is_the_formula_of_the_cells(cuts: list[int]) -> None:
    """fl(w + fl(fl(γ·max|column|)·z)), z by the counter of the cell, as `tests/kernels/triton` asks of Triton."""
    w, bounds = values(5, cuts[-1]), np.array(cuts)
    w[-1] = 0
    expected = np.empty_like(w)
    for j in range(5):
        counter, lane = cell_counters(np.arange(cuts[-1]), j, Stream.TRAINING, ORDINAL, event=EVENT)
        z = normals(counter, KEY)[np.arange(cuts[-1]), lane]
        for a, b in zip(cuts, cuts[1:], strict=False):
            expected[j, a:b] = w[j, a:b] + (np.float32(0.06) * np.abs(w[j, a:b]).max()) * z[a:b]
    assert_bits(kernel.noisy_weights_reference(w, bounds, 0.06, EVENT, SITE, KEY), expected)
    peaks = np.empty((len(cuts) - 1, 5), np.float32)
    kernel.column_peaks(w, bounds, 0, 5, peaks)
    words = np.uint32(EVENT), np.uint32(SITE), KEY[0], KEY[1]
    for t, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False)):
        out = np.full((3, b - a + 5), np.float32(9))
        kernel.add_noise(w, 0, 0, a, b, 1, 4, np.float32(0.06) * peaks[t], *words, out, 2)
        assert_bits(out[:, 2:-3], expected[1:4, a:b])
        assert (out[:, :2] == 9).all()
        assert (out[:, -3:] == 9).all()
        part = w[1:4, a:b].copy()  # in place, from a part of the matrix, in two pieces of rows
        middle = (a + b) // 2
        for low, high in ((a, middle), (middle, b)):
            kernel.add_noise(part, 1, a, low, high, 1, 4, np.float32(0.06) * peaks[t], *words, part, low - a)
        assert_bits(part, expected[1:4, a:b])


def test_weights_on_their_steps() -> None:
    """Codes ±7 with scale max/7, half to even, and nothing from nothing."""
    w = values(6, 50)
    w[2] = 0
    w[3] = np.arange(50, dtype=np.float32) - 25  # scale 25/7
    w[4, :8] = [7, 0.5, 1.5, 2.5, -0.5, -1.5, 3.49, 3.51]
    w[4, 8:] = 0
    found = kernel.fake_quantise_reference(w, 7)
    assert found[4, :8].tolist() == [7, 0, 2, 2, 0, -2, 3, 4]
    assert (found[2] == 0).all()
    codes = found / (np.abs(w).max(axis=1, keepdims=True) / 7 + (np.abs(w).max(axis=1, keepdims=True) == 0))
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-5)
    assert np.abs(codes).max() == pytest.approx(7)
    out = np.empty((3, 20), np.float32)
    kernel.fake_quantise(w, 0, 0, 10, 30, 2, 5, np.abs(w).max(axis=1), 7, out)
    np.testing.assert_array_equal(out, found[2:5, 10:30])


def test_codes_of_inputs() -> None:
    """clamp(rint(x·n/β), ±n), values code·β/n; no range, no code; NaN stays."""
    x = values(7, 40) * 3
    x[1, :6] = [2.0, -2.0, 2.1, -9.0, 2.0 / 127 * 0.5, 2.0 / 127 * 1.5]
    x[2, 3] = np.nan
    beta = np.array([2, 2, 2, 0.5, 0, 1e-31, np.nan], np.float32)
    for as_values in (False, True):
        out = np.empty((7, 32), np.float32)
        kernel.dac(x, 5, 35, beta, 127, as_values, 0, 7, out, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(beta > 1e-30, np.float32(127) / beta, np.where(np.isnan(beta), beta, 0)).astype(
                np.float32
            )
        expected = np.clip(np.rint(x[:, 5:35] * scale[:, None]), -127, 127)
        expected = expected * (beta / np.float32(127))[:, None] if as_values else expected
        np.testing.assert_array_equal(out[:, 1:31], expected.astype(np.float32))
    codes = np.empty((7, 6), np.float32)
    kernel.dac(x, 0, 6, beta, 127, False, 0, 7, codes, 0)
    assert codes[1].tolist() == [127, -127, 127, -127, 0, 2]  # half to even
    assert np.isnan(codes[2, 3])


def test_ranges_of_tokens() -> None:
    x, bounds = values(4, 50), np.array([0, 20, 50])
    beta = np.empty((2, 4), np.float32)
    kernel.token_ranges(x, bounds, True, 0, 4, beta)
    assert_bits(beta, np.stack([np.abs(x[:, :20]).max(axis=1), np.abs(x[:, 20:]).max(axis=1)]))
    kernel.token_ranges(x, bounds, False, 0, 4, beta)
    assert_bits(beta, np.stack([np.abs(x).max(axis=1)] * 2))


def test_outputs_and_what_saturated() -> None:
    """Codes, saturation only beyond the last code, bits in order, in place and added."""
    sums = np.array([[126.4, 127.5, 127.6, -127.5, -300, 0.5, 1.5, np.nan, 3, 500]], np.float32)
    n = sums.size
    inverse, scale = np.ones(n, np.float32), np.full(n, 2, np.float32)
    y, bits = np.full((1, n + 16), np.float32(1)), np.zeros((1, 4), np.uint8)
    count = kernel.adc(sums, inverse, scale, np.array([3], np.float32), 127, 0, 1, 16, True, y, bits)
    codes = np.array([126, 127, 127, -127, -127, 0, 2, np.nan, 3, 127], np.float32)
    np.testing.assert_array_equal(y[0, 16:], 1 + codes * 2 * 3)
    assert (y[0, :16] == 1).all()
    hit = np.unpackbits(bits, axis=1, bitorder="little")[0]
    assert np.flatnonzero(hit).tolist() == [16 + 1, 16 + 2, 16 + 3, 16 + 4, 16 + 9]  # 127.5 rounds to 128
    assert count == 5
    none = np.zeros((1, 0), np.uint8)
    assert kernel.adc(sums, inverse, scale, np.array([3], np.float32), 127, 0, 1, 0, False, sums, none) == 5
    np.testing.assert_array_equal(sums[0], codes * 6)
    kernel.adc(sums, inverse, scale, np.array([1], np.float32), 0, 0, 1, 0, False, y, none)
    np.testing.assert_array_equal(y[0, :n], codes * 12)


@pytest.mark.parametrize("dtype", [np.int32, np.int16])
def test_gradients_of_what_saturated_are_lifted_and_put_back(dtype: type) -> None:
    """Bits of numbers, every pattern: what stays, and what comes back."""
    wide = 21
    g = (np.arange(1, 4 * wide + 1) * 7919).reshape(4, wide).astype(dtype)
    hit = np.zeros((4, 24), bool)
    hit[[0, 0, 1, 3, 3, 3], [0, 20, 8, 7, 15, 16]] = True
    bits, held, was = np.packbits(hit, axis=1, bitorder="little"), np.zeros(6, dtype), g.copy()
    kernel.swap_saturated(g, bits, held)
    assert_bits(g, np.where(hit[:, :wide], dtype(0), was))
    assert_bits(held, was[hit[:, :wide]])
    kernel.swap_saturated(g, bits, held)
    assert_bits(g, was)


def test_gradient_at_the_edges_of_a_range() -> None:
    """Written by hand: what lies on the bound moves the range and passes; what lies beyond does not pass."""
    x = np.array([[2.0, -2.0, 2.5, -2.5, 1.0, 2.0, -2.0, 3.0]], np.float32)
    g = np.array([[-1.0, 4.0, -8.0, 16.0, 32.0, 64.0, -128.0, 256.0]], np.float32)
    # x ≥ β: min(g, 0) = -1, -8, 0, 0; x ≤ -β: max(g, 0) = 4, 16, 0. β·((-9) - 20) = -58; 1 of 8 inside, no decay
    slope, to_range = kernel.range_gradient_reference(
        g.astype(np.float64)[0], x.astype(np.float64)[0], 2.0, 0.01, 0.95
    )
    assert to_range == -58
    assert slope.tolist() == [-1, 4, 0, 0, 32, 64, -128, 0]
    pull, clipped = np.empty((1, 1)), np.empty((1, 1), np.int32)
    kernel.input_gradient(x, np.array([0, 8]), np.array([2], np.float32), 0, 1, g, pull, clipped)
    assert g[0].tolist() == slope.tolist()
    assert 2 * pull[0, 0] == to_range
    assert clipped[0, 0] == 7


@pytest.mark.parametrize(("inside", "decays"), [(95, False), (96, True)])
def test_a_range_decays_where_little_is_clipped(inside: int, decays: bool) -> None:
    """More than 95 %, not 95 % itself."""
    x = np.zeros(100)
    x[inside:] = 5.0
    _, slope = kernel.range_gradient_reference(np.zeros(100), x, 2.0, 0.01, 0.95)
    assert slope == (0.02 if decays else 0.0)
