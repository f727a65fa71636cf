"""log, exp and sincos in float32, built of IEEE-exact operations in a fixed order: the same bits everywhere.

The ``*_reference`` functions are NumPy on arrays; their twins without the suffix are compiled scalars that LLVM
vectorises (no branch, no table). Coefficients: weighted minimax fits of our own, 1.3e-9 relative or better before
rounding to float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from aimc_sim.aliases import F32, I32, U32
from aimc_sim.kernels._jit import njit

f = np.float32

# log(1+t) = t - t²/2 + t³·P(t) for t in [√½-1, √2-1]
L0, L1, L2, L3 = f(0.333333283662796), f(-0.25001060962677), f(0.20001615583896637), f(-0.16616521775722504)
L4, L5, L6, L7 = (
    f(0.14190010726451874),
    f(-0.13207900524139404),
    f(0.1285490095615387),
    f(-0.07631149142980576),
)
# sin t = t + t³·S(t²), cos t = 1 - t²/2 + t⁴·C(t²) for |t| ≤ π/4
S0, S1, S2 = f(-0.16666655242443085), f(0.008332177996635437), f(-0.00019517297914717346)
C0, C1, C2 = f(0.04166664555668831), f(-0.001388736767694354), f(2.443845005473122e-05)
# exp t = 1 + t + t²·E(t) for |t| ≤ ln2 / 2
E0, E1, E2 = f(0.5), f(0.1666651964187622), f(0.04166620597243309)
E3, E4 = f(0.008368882350623608), f(0.0013950476422905922)
LN2_HI, LN2_LO = f(0.693359375), f(-2.12194440e-4)  # ln 2 in two pieces; the first has trailing zeros
LOG2_E = f(1.4426950408889634)
HALF, ONE, TWO, ZERO = f(0.5), f(1.0), f(2.0), f(0.0)
EXP_LOW, EXP_HIGH = f(-86.0), f(88.0)
SQRT_HALF_BITS = 0x3F3504F3
ONE_MINUS_SQRT_HALF = f(0.29289323)
TWO_M33 = f(2.0**-33)
TURN_M33 = f(2.0 * np.pi * 2.0**-33)


def _bits(x: F32) -> I32:
    return np.asarray(x, np.float32, order="C").view(np.int32)


def log_poly_reference(t: F32, k: F32) -> F32:
    """Return k·ln2 + log(1+t)."""
    p = np.full_like(t, L7)
    for c in (L6, L5, L4, L3, L2, L1, L0):
        p = p * t + c
    t2 = t * t
    result: F32 = (t + (p * (t * t2) - HALF * t2 + k * LN2_LO)) + k * LN2_HI
    return result


def log_reference(x: F32) -> F32:
    """Return the natural logarithm of positive normal float32."""
    shifted = _bits(x) + np.int32(0x3F800000 - SQRT_HALF_BITS)
    k = ((shifted >> 23) - np.int32(127)).astype(np.float32)
    mantissa = ((shifted & np.int32(0x7FFFFF)) + np.int32(SQRT_HALF_BITS)).view(np.float32)
    return log_poly_reference(mantissa - ONE, k)


def log_uniform_reference(word: U32) -> F32:
    """Return ln((w + ½)/2³²) of uint32 words, with log1p of the complement above ½, where u is near 1."""
    high = word >= np.uint32(1 << 31)
    m = np.where(high, ~word, word)
    v = (TWO * m.astype(np.float32) + ONE) * TWO_M33
    near = v < ONE_MINUS_SQRT_HALF
    t = np.where(near, -v, ONE - TWO * v)
    k = np.where(near, ZERO, -ONE)
    return np.where(high, log_poly_reference(t, k), log_reference(v))


def exp_reference(x: F32) -> F32:
    """Return e^x of float32, x clamped to [-86, 88] so that the result is a normal number."""
    x = np.minimum(np.maximum(x, EXP_LOW), EXP_HIGH)
    k = np.rint(x * LOG2_E)
    t = (x - k * LN2_HI) - k * LN2_LO
    p = np.full_like(t, E4)
    for c in (E3, E2, E1, E0):
        p = p * t + c
    power: F32 = ((k.astype(np.int32) + np.int32(127)) << 23).view(np.float32)
    return np.asarray((ONE + (t + (t * t) * p)) * power)


def sincos_turn_reference(word: U32) -> tuple[F32, F32]:
    """Return sin and cos of 2π(w + ½)/2³², quadrant by integer arithmetic."""
    quadrant = (word + np.uint32(1 << 29)) >> np.uint32(30)
    offset = (word - (quadrant << np.uint32(30))).view(np.int32)
    t = (TWO * offset.astype(np.float32) + ONE) * TURN_M33
    t2 = t * t
    sin = t + t * (t2 * ((S2 * t2 + S1) * t2 + S0))
    cos = ONE - (HALF * t2 - (t2 * t2) * ((C2 * t2 + C1) * t2 + C0))
    odd = (quadrant & np.uint32(1)) == 1
    s, c = np.where(odd, cos, sin), np.where(odd, sin, cos)
    s_negative = (quadrant & np.uint32(2)) != 0
    c_negative = ((quadrant + np.uint32(1)) & np.uint32(2)) != 0
    return np.where(s_negative, -s, s), np.where(c_negative, -c, c)


@intrinsic
def float_of_bits(typingctx: Any, value: Any) -> Any:
    """float32 with the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(typingctx: Any, value: Any) -> Any:
    """int32 with the bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def add32(typingctx: Any, a: Any, b: Any) -> Any:
    """a + b of int32, in 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.add(args[0], args[1])

    return types.int32(types.int32, types.int32), generate


@njit
def peak_of(x: Any) -> Any:
    """max |x|, 0 for nothing: on the bits, because integers have the vector maximum that IEEE floats lack."""
    top = np.int32(0)
    for i in range(x.size):
        top = max(top, np.int32(bits_of_float(x[i]) & np.int32(0x7FFFFFFF)))
    return float_of_bits(top)


@njit(inline="always")
def log_poly(t: Any, k: Any) -> Any:
    p = ((((((L7 * t + L6) * t + L5) * t + L4) * t + L3) * t + L2) * t + L1) * t + L0
    t2 = t * t
    return (t + (p * (t * t2) - HALF * t2 + k * LN2_LO)) + k * LN2_HI


@njit(inline="always")
def log(x: Any) -> Any:
    shifted = np.int32(bits_of_float(x) + np.int32(0x3F800000 - SQRT_HALF_BITS))
    k = np.float32(np.int32(shifted >> np.int32(23)) - np.int32(127))
    mantissa = float_of_bits(np.int32((shifted & np.int32(0x7FFFFF)) + np.int32(SQRT_HALF_BITS)))
    return log_poly(mantissa - ONE, k)


@njit(inline="always")
def log_uniform(word: Any) -> Any:
    high = word >= np.uint32(0x80000000)
    m = np.uint32(word ^ np.uint32(0xFFFFFFFF)) if high else word
    # below 2³¹, so the signed conversion (the one every vector unit has) gives the same float
    v = (TWO * np.float32(np.int32(m)) + ONE) * TWO_M33
    near = v < ONE_MINUS_SQRT_HALF
    shifted = np.int32(bits_of_float(v) + np.int32(0x3F800000 - SQRT_HALF_BITS))
    k_low = np.float32(np.int32(shifted >> np.int32(23)) - np.int32(127))
    t_low = float_of_bits(np.int32((shifted & np.int32(0x7FFFFF)) + np.int32(SQRT_HALF_BITS))) - ONE
    t_high = -v if near else ONE - TWO * v
    k_high = ZERO if near else -ONE
    return log_poly(t_high if high else t_low, k_high if high else k_low)


@njit(inline="always")
def exp(x: Any) -> Any:
    x = max(x, EXP_LOW)
    x = min(x, EXP_HIGH)
    k = np.rint(x * LOG2_E)
    t = (x - k * LN2_HI) - k * LN2_LO
    p = (((E4 * t + E3) * t + E2) * t + E1) * t + E0
    scale = float_of_bits(np.int32((np.int32(k) + np.int32(127)) << np.int32(23)))
    return (ONE + (t + (t * t) * p)) * scale


@njit(inline="always")
def sincos_turn(word: Any) -> Any:
    quadrant = np.uint32(np.uint32(word + np.uint32(1 << 29)) >> np.uint32(30))
    offset = np.int32(np.uint32(word - np.uint32(quadrant << np.uint32(30))))
    t = (TWO * np.float32(offset) + ONE) * TURN_M33
    t2 = t * t
    sin = t + t * (t2 * ((S2 * t2 + S1) * t2 + S0))
    cos = ONE - (HALF * t2 - (t2 * t2) * ((C2 * t2 + C1) * t2 + C0))
    odd = (quadrant & np.uint32(1)) != np.uint32(0)
    s = cos if odd else sin
    c = sin if odd else cos
    s_sign = np.int32(np.uint32((quadrant & np.uint32(2)) << np.uint32(30)))
    c_sign = np.int32(np.uint32((np.uint32(quadrant + np.uint32(1)) & np.uint32(2)) << np.uint32(30)))
    return float_of_bits(bits_of_float(s) ^ s_sign), float_of_bits(bits_of_float(c) ^ c_sign)
