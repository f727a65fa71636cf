"""Philox against the known-answer vectors of Random123, and the normals of the compiled kernels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim.kernels.normal import CHUNK, GROUPS, fill_normals, normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import Stream, cell_counters, key_of, site_word
from aimc_sim.testing import assert_bits

KNOWN = [  # counter, key, words: Random123, kat_vectors, philox4x32 with 10 rounds
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    assert_bits(philox4x32(words(counter)[None], words(key))[0], words(expected))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="counter"):
        philox4x32(np.zeros(4, np.uint32), np.zeros(2, np.uint32))


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 64), (64, 100), (1024, CHUNK), (4096, 77)])
def test_compiled_normals_are_the_reference_bit_for_bit(start: int, count: int) -> None:
    key, out = key_of(2**63 + 5), np.full(count, np.nan, np.float32)
    scratch = np.empty((4, GROUPS), np.uint32), np.empty((4, GROUPS), np.float32)
    word3 = np.uint32(site_word(Stream.DRIFT, 5, 1))
    fill_normals(out, start, count, np.uint32(0), np.uint32(7), np.uint32(3), word3, key[0], key[1], *scratch)
    counter, lane = cell_counters(np.arange(start, start + count), 7, Stream.DRIFT, 5, 1, event=3)
    assert_bits(out, normals(counter, key)[np.arange(count), lane])


def test_every_cell_has_its_own_counter_and_lane() -> None:
    seen = set()
    for stream in (Stream.PROGRAMMING, Stream.DRIFT):
        for ordinal in (0, 1, 2**20 - 1):
            for plane in (0, 1):
                for event in (0, 2**32 - 1):
                    for column in (0, 3):
                        counter, lane = cell_counters(np.arange(300), column, stream, ordinal, plane, event)
                        seen |= {(*map(int, c), int(ln)) for c, ln in zip(counter, lane, strict=True)}
    assert len(seen) == 2 * 3 * 2 * 2 * 2 * 300
