"""Philox words and standard normals in plain torch operations: for any device that torch knows, with the same bits.

Every operation is one of torch's own, rounded by itself. Slower than the compiled kernels, which is what they are for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from aimc_sim.kernels import elementary as e
from aimc_sim.kernels.philox import M0, M1, ROUNDS, W0, W1

MASK = 0xFFFFFFFF
Tensor = torch.Tensor


def philox4x32(counter: Tensor, key: npt.NDArray[np.uint32]) -> Tensor:
    """Words (n, 4) int64 in [0, 2³²) of counters (n, 4) int64 in that range and the key (2,) uint32."""
    c0, c1, c2, c3 = counter.unbind(1)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(ROUNDS):
        p0, p1 = c0 * M0, c2 * M1  # products wrap around, their bits are right
        c0, c1, c2, c3 = (
            ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK,
        )  # fmt: skip
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return torch.stack([c0, c1, c2, c3], dim=1)


def normals(counter: Tensor, key: npt.NDArray[np.uint32]) -> Tensor:
    """Standard normals (n, 4) float32, as `kernels.normal.normals` draws them."""
    words = philox4x32(counter, key)
    parts = []
    for pair in (0, 2):
        square = _log_uniform(words[:, pair]) * -2.0
        radius = torch.sqrt(
            square.double()
        ).float()  # rounded rightly, which torch's float32 root is not everywhere
        sin, cos = _sincos_turn(words[:, pair + 1])
        parts += [radius * cos, radius * sin]
    return torch.stack(parts, dim=1)


def _float(value: np.float32) -> float:
    return float(value)  # exact: every constant is a float32


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32)


def _log_poly(t: Tensor, k: Tensor) -> Tensor:
    p = torch.full_like(t, _float(e.L7))
    for c in (e.L6, e.L5, e.L4, e.L3, e.L2, e.L1, e.L0):
        p = p * t + _float(c)
    t2 = t * t
    return (t + (p * (t * t2) - t2 * 0.5 + k * _float(e.LN2_LO))) + k * _float(e.LN2_HI)


def _log_uniform(word: Tensor) -> Tensor:
    """ln((w + ½)/2³²), with log1p of the complement above ½."""
    high = word >= 1 << 31
    m = torch.where(high, word ^ MASK, word)
    v = (m.to(torch.float32) * 2.0 + 1.0) * _float(e.TWO_M33)
    near = v < _float(e.ONE_MINUS_SQRT_HALF)
    t_high = torch.where(near, -v, 1.0 - v * 2.0)
    k_high = torch.where(near, 0.0, -1.0)
    shifted = _bits(v) + (0x3F800000 - e.SQRT_HALF_BITS)
    k_low = ((shifted >> 23) - 127).to(torch.float32)
    mantissa = ((shifted & 0x7FFFFF) + e.SQRT_HALF_BITS).view(torch.float32)
    return torch.where(high, _log_poly(t_high, k_high), _log_poly(mantissa - 1.0, k_low))


def _sincos_turn(word: Tensor) -> tuple[Tensor, Tensor]:
    """sin and cos of 2π(w + ½)/2³²."""
    quadrant = ((word + (1 << 29)) & MASK) >> 30
    offset = (word - (quadrant << 30)) & MASK
    signed = torch.where(offset >= 1 << 31, offset - (1 << 32), offset)
    t = (signed.to(torch.float32) * 2.0 + 1.0) * _float(e.TURN_M33)
    t2 = t * t
    sin = t + t * (t2 * ((t2 * _float(e.S2) + _float(e.S1)) * t2 + _float(e.S0)))
    cos = 1.0 - (t2 * 0.5 - (t2 * t2) * ((t2 * _float(e.C2) + _float(e.C1)) * t2 + _float(e.C0)))
    odd = (quadrant & 1) == 1
    s, c = torch.where(odd, cos, sin), torch.where(odd, sin, cos)
    return torch.where((quadrant & 2) != 0, -s, s), torch.where(((quadrant + 1) & 2) != 0, -c, c)
