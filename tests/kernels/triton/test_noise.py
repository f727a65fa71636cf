"""Words, normals and training noise of the Triton kernels: the bits of the NumPy references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimc_sim.kernels import elementary
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import Stream, cell_counters, key_of, site_word
from aimc_sim.testing import assert_bits

KEY = key_of(0xFEDC_BA98_7654_3210)


def counters(count: int) -> np.ndarray:
    """Counters whose words run through all their bits."""
    n = np.arange(count, dtype=np.uint64)
    return np.stack([n, n * 7919, ~n, n << np.uint64(28)], axis=1).astype(np.uint32)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers_of_random123(
    kernels: Any, counter: list[int], key: list[int], words: list[int]
) -> None:
    got = kernels.words(np.array([counter], np.uint32), np.array(key, np.uint32))
    assert_bits(got, np.array([words], np.uint32))


def test_the_kernels_run_here(kernels: Any) -> None:
    assert kernels.available()


@pytest.mark.parametrize("count", [0, 1, 257, 4099])
def test_words_and_normals(kernels: Any, count: int) -> None:
    assert_bits(kernels.words(counters(count), KEY), philox4x32(counters(count), KEY))
    assert_bits(kernels.normals(counters(count), KEY), normals(counters(count), KEY))


def test_elementary_functions_at_every_seam(kernels: Any) -> None:
    """Both ends of each interval, ties, signed zeros, clamps, and a sweep of all exponents."""
    seams = [k << 29 for k in range(8)] + [0x4AFB0CCC, 0xB504F333]
    steps = np.arange(-3, 4)
    words = (np.array(seams, np.int64)[:, None] + steps).ravel() % 2**32
    words = np.concatenate([words, np.arange(2000, dtype=np.int64) * 2_147_483 % 2**32]).astype(np.uint32)
    ties = np.arange(-6, 7, dtype=np.float32) / 2
    large = np.float32(2) ** np.arange(20, 26, dtype=np.float32)
    exponents = np.float32(2) ** np.arange(-125, 127, dtype=np.float32)
    around = np.concatenate([ties, large + np.float32(0.5), -large - np.float32(1), exponents, -exponents,
                             np.array([-0.0, 86, -86, 88, 89, 0.34657, -0.34657], np.float32)])  # fmt: skip
    x = np.resize(np.concatenate([around, np.nextafter(around, np.float32(9)), normals(counters(200), KEY).ravel()]),
                  words.size)  # fmt: skip
    got = kernels.polynomials(x, words)
    normal_number = np.abs(x) >= np.float32(2) ** -126
    assert_bits(got["exp"], elementary.exp_reference(x))
    assert_bits(got["log"][normal_number], elementary.log_reference(np.abs(x))[normal_number])
    assert_bits(got["rint"], np.rint(x))
    assert_bits(got["log_uniform"], elementary.log_uniform_reference(words))
    sin, cos = elementary.sincos_turn_reference(words)
    assert_bits(got["sin"], sin)
    assert_bits(got["cos"], cos)


def weights(cols: int, rows: int) -> np.ndarray:
    w = normals(counters((cols * rows + 3) // 4), key_of(5)).ravel()[: cols * rows].reshape(cols, rows)
    w[-1] = 0
    return w


@pytest.mark.parametrize(("rows", "cuts"), [(70, [0, 70]), (200, [0, 33, 161, 200]), (1, [0, 1])])
def test_training_noise(kernels: Any, rows: int, cuts: list[int]) -> None:
    """fl(w + fl(fl(γ·max|column|)·z)) with z of the cell, whatever the cuts."""
    w, gamma, first = weights(3, rows), np.float32(0.06), 4
    site = site_word(Stream.TRAINING, 12)
    expected = np.empty_like(w)
    for j in range(3):
        counter, lane = cell_counters(np.arange(rows), first + j, Stream.TRAINING, 12, event=2**32 - 7)
        z = normals(counter, KEY)[np.arange(rows), lane]
        for a, b in zip(cuts, cuts[1:], strict=False):
            expected[j, a:b] = w[j, a:b] + (gamma * np.abs(w[j, a:b]).max()) * z[a:b]
    got = kernels.noisy_weights(w, np.array(cuts), 0.06, 2**32 - 7, site, KEY, first=first)
    assert_bits(got, expected)


def test_wrong_input_is_refused(kernels: Any) -> None:
    w = np.ones((2, 8), np.float32)
    with pytest.raises(ValueError, match="counter must be"):
        kernels.words(np.zeros((3, 5), np.uint32), KEY)
    with pytest.raises(ValueError, match="w must be"):
        kernels.noisy_weights(w.astype(np.float64), np.array([0, 8]), 0.1, 0, 0, KEY)
    with pytest.raises(ValueError, match="must rise from 0 to 8"):
        kernels.noisy_weights(w, np.array([0, 5, 5, 8]), 0.1, 0, 0, KEY)
    with pytest.raises(ValueError, match="words of 32 bits"):
        kernels.noisy_weights(w, np.array([0, 8]), 0.1, 2**32, 0, KEY)
