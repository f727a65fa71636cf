"""Wrong implementations that the suite must catch. A test for noise that lets these through tests nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import Stream, cell_counters, key_of
from aimc_sim.testing import (
    AlphaLedger,
    assert_bits,
    assert_distribution,
    assert_uncorrelated,
    assert_variance,
    must_reject,
)

KEY = key_of(11)
ALPHA = 1e-9
SCALE = 2.0**24  # an integer or half-integer u * SCALE means 24 bits or fewer
SMALL = 2.0**-10  # below, float32 rounding of z moves u * SCALE by less than 0.02


def counters(n: int, stream: int = 0) -> npt.NDArray[np.uint32]:
    counter = np.zeros((n, 4), np.uint32)
    counter[:, 0], counter[:, 3] = np.arange(n, dtype=np.uint32), stream
    return counter


@pytest.mark.parametrize("error", [0.98, 1.02])
def test_a_sigma_off_by_two_percent_is_rejected(error: float) -> None:
    z = normals(counters(100_000), KEY) * np.float32(error)
    with must_reject():
        assert_variance(z, sigma=1, mean=0, alpha=ALPHA)
    z = normals(counters(1_000_000), KEY) * np.float32(error)
    with must_reject():
        assert_distribution(z, cdf=special.ndtr, alpha=ALPHA)


def fraction_of_small_uniforms(z: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Fractional part of u * 2^24 for the pairs of z (n, 4) with u below 2^-10; u = exp(-(z0² + z1²)/2).

    The tail is where float32 still resolves u. Uniform on [0, 1) to within 2^-9 for a 32-bit uniform,
    a point mass for 24 bits and fewer (shifted by a quarter, away from the wrap).
    """
    pairs = z.astype(np.float64).reshape(-1, 2)
    u = np.exp(-0.5 * (pairs**2).sum(axis=1))
    return np.asarray((u[u < SMALL] * SCALE + 0.25) % 1.0)


def few_bit_normals(words: npt.NDArray[np.uint32], bits: int) -> npt.NDArray[np.float32]:
    """Box–Muller on the high bits only, as many float32 generators do."""
    u = ((words >> np.uint32(32 - bits)).astype(np.float64) + 0.5) / 2**bits
    radius, angle = np.sqrt(-2 * np.log(u[:, 0::2])), 2 * np.pi * u[:, 1::2]
    z = np.empty(words.shape, np.float32)
    z[:, 0::2], z[:, 1::2] = radius * np.cos(angle), radius * np.sin(angle)
    return z


def test_a_23_bit_uniform_is_rejected_and_ours_is_not(ledger: AlphaLedger) -> None:
    counter = counters(2_000_000)

    def uniform(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return x

    words = philox4x32(counter, KEY)
    for bits in (23, 24):
        with must_reject():
            assert_distribution(
                fraction_of_small_uniforms(few_bit_normals(words, bits)), cdf=uniform, alpha=ALPHA
            )
    for key in (KEY, key_of(12)):
        ours = fraction_of_small_uniforms(normals(counter, key))
        assert_distribution(ours, cdf=uniform, alpha=ledger.spend("normals: lattice of the uniform"))


def test_a_reused_key_is_rejected() -> None:
    """Two chips that must be independent but were programmed with one key."""
    one, two = normals(counters(1000), KEY), normals(counters(1000), KEY)
    with must_reject():
        assert_uncorrelated(one, two, alpha=ALPHA)
    noisy = two + normals(counters(1000), key_of(12))  # half the variance reused
    with must_reject():
        assert_uncorrelated(one, noisy, alpha=ALPHA)


def test_two_swapped_streams_are_rejected() -> None:
    """Both streams are perfect noise, so no statistic tells them apart: the exact law does."""
    g_us = np.linspace(1, 20, 4096, dtype=np.float32)
    sigma_us = np.float32(0.05) * g_us

    def noise(stream: Stream) -> npt.NDArray[np.float32]:
        counter, lane = cell_counters(np.arange(g_us.size), column=0, stream=stream, ordinal=0)
        return normals(counter, KEY)[np.arange(g_us.size), lane]

    right, swapped = g_us + sigma_us * noise(Stream.PROGRAMMING), g_us + sigma_us * noise(Stream.DRIFT)
    assert_bits(right, g_us + sigma_us * noise(Stream.PROGRAMMING))
    with pytest.raises(AssertionError, match="4096 of 4096"):
        assert_bits(swapped, g_us + sigma_us * noise(Stream.PROGRAMMING))
