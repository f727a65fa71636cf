"""Standard normals by Box–Muller on all 32 bits of both words: |z| up to 6.76, no rejection, the same bits everywhere.

z0 = r·cos φ, z1 = r·sin φ with r = √(-2 ln u₁), φ = 2π u₂, u = (w + ½)/2³²; words (0, 1) and (2, 3) make the pairs.
Every value lies within 2e-6 of the float64 formula (tested, the tails and u near 1 included).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import log_uniform, log_uniform_reference, sincos_turn, sincos_turn_reference
from aimc_sim.kernels.memory import whole_registers
from aimc_sim.kernels.philox import philox4x32, philox_words

MINUS_TWO = np.float32(-2.0)
__all__ = ["normals"]

CHUNK = 1024  # rows per pass of `fill_normals`: words and normals of a pass stay in the first-level cache
GROUPS = CHUNK // 4


def normals_of_words(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """Return the standard normals (n, 4) float32 of Philox words (n, 4) uint32: the readable reference."""
    z = np.empty(words.shape, np.float32)
    for pair in (0, 2):
        radius = np.sqrt(MINUS_TWO * log_uniform_reference(np.ascontiguousarray(words[:, pair])))
        sin, cos = sincos_turn_reference(np.ascontiguousarray(words[:, pair + 1]))
        z[:, pair], z[:, pair + 1] = radius * cos, radius * sin
    return z


def normals(counter: npt.NDArray[np.uint32], key: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """Draw standard normals (n, 4) float32 of counters (n, 4) uint32 and a key (2,) uint32, by Box and Muller's method.

    >>> import numpy as np
    >>> from aimc_sim.kernels.normal import normals
    >>> z = normals(np.uint32([[0, 0, 0, 0], [1, 0, 0, 0]]), np.uint32([7, 0]))
    >>> z.shape, z.dtype.name
    ((2, 4), 'float32')
    """
    return normals_of_words(philox4x32(counter, key))


@njit
def words_of_groups(first: Any, groups: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any, w: Any) -> None:
    """Words of consecutive counters, one contiguous row of ``w`` (4, groups) per lane."""
    whole_registers()
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    for i in range(groups):
        a, b, c, d = philox_words(np.uint32(first + np.uint32(i)), c1, c2, c3, k0, k1)
        w0[i] = a
        w1[i] = b
        w2[i] = c
        w3[i] = d


@njit
def normals_of_pair(u: Any, v: Any, cosine: Any, sine: Any, groups: Any) -> None:
    whole_registers()
    for i in range(groups):
        r = np.sqrt(MINUS_TWO * log_uniform(u[i]))
        s, c = sincos_turn(v[i])
        cosine[i] = r * c
        sine[i] = r * s


@njit
def fill_normals(
    out: Any, start: Any, count: Any, c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any, w: Any, z: Any
) -> None:  # fmt: skip
    """Normals of matrix rows start … start+count-1 (start a multiple of 64, count ≤ CHUNK) into ``out``.

    c0 … c3, k0, k1: uint32 counter words and key, the row's group counted on from c0; scratch
    w (4, GROUPS) uint32, z (4, GROUPS) float32.
    Row r sits in group (r >> 6) << 4 | (r & 15), lane (r >> 4) & 3 (aimc_sim.randomness).
    """
    blocks = (count + 63) >> 6
    groups = blocks << 4
    words_of_groups(np.uint32(c0 + np.uint32(start >> 2)), groups, c1, c2, c3, k0, k1, w)
    normals_of_pair(w[0], w[1], z[0], z[1], groups)
    normals_of_pair(w[2], w[3], z[2], z[3], groups)
    for block in range(blocks):
        for lane in range(4):
            row = (block << 6) + (lane << 4)
            group = block << 4
            for i in range(min(16, count - row)):
                out[row + i] = z[lane, group + i]
