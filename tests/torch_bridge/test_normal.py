"""Words and normals in plain torch are the bits of the NumPy reference, the ends of both uniforms included."""

from __future__ import annotations

import numpy as np
import torch

from aimc_sim.kernels.elementary import log_uniform_reference, sincos_turn_reference
from aimc_sim.kernels.normal import normals
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.randomness import key_of
from aimc_sim.testing import assert_bits
from aimc_sim.torch_bridge import normal as torch_normal

COUNTER = np.arange(4 * 50_000, dtype=np.uint32).reshape(-1, 4) * np.uint32(2_654_435_761)


def test_words_and_normals() -> None:
    key, counter = key_of(2**63 + 12345), torch.from_numpy(COUNTER.astype(np.int64))
    assert_bits(torch_normal.philox4x32(counter, key).numpy(), philox4x32(COUNTER, key).astype(np.int64))
    assert_bits(torch_normal.normals(counter, key).numpy(), normals(COUNTER, key))


def test_both_ends_of_the_uniforms() -> None:
    edges = [base + d for base in (0, 2**29, 2**30, 2**31, 3 * 2**30, 2**32) for d in range(-40, 40)]
    word = np.array([w for w in edges if 0 <= w < 2**32], np.uint32)
    wide = torch.from_numpy(word.astype(np.int64))
    assert_bits(torch_normal._log_uniform(wide).numpy(), log_uniform_reference(word))
    for found, expected in zip(torch_normal._sincos_turn(wide), sincos_turn_reference(word), strict=True):
        assert_bits(found.numpy(), expected)
