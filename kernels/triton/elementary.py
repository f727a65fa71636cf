"""log, exp, sincos and rounding to even in float32: the operations of `kernels.elementary`, in the same order."""

from __future__ import annotations

import triton
import triton.language as tl

from aimc_sim.kernels import elementary as e

L0, L1, L2, L3 = (tl.constexpr(float(c)) for c in (e.L0, e.L1, e.L2, e.L3))
L4, L5, L6, L7 = (tl.constexpr(float(c)) for c in (e.L4, e.L5, e.L6, e.L7))
S0, S1, S2 = (tl.constexpr(float(c)) for c in (e.S0, e.S1, e.S2))
C0, C1, C2 = (tl.constexpr(float(c)) for c in (e.C0, e.C1, e.C2))
E0, E1, E2, E3, E4 = (tl.constexpr(float(c)) for c in (e.E0, e.E1, e.E2, e.E3, e.E4))
LN2_HI, LN2_LO, LOG2_E = (tl.constexpr(float(c)) for c in (e.LN2_HI, e.LN2_LO, e.LOG2_E))
EXP_LOW, EXP_HIGH = tl.constexpr(float(e.EXP_LOW)), tl.constexpr(float(e.EXP_HIGH))
ONE_MINUS_SQRT_HALF = tl.constexpr(float(e.ONE_MINUS_SQRT_HALF))
TWO_M33, TURN_M33 = tl.constexpr(float(e.TWO_M33)), tl.constexpr(float(e.TURN_M33))
SQRT_HALF_BITS = tl.constexpr(e.SQRT_HALF_BITS)
ONE_OVER_SQRT_HALF_BITS = tl.constexpr(0x3F800000 - e.SQRT_HALF_BITS)
TWO_23 = tl.constexpr(2.0**23)
SIGN_BIT = tl.constexpr(-(2**31))


@triton.jit
def rint(x: tl.tensor) -> tl.tensor:
    """x rounded to the nearest integer, half to even, sign of zero kept: in [2²³, 2²⁴) floats are the integers."""
    size = tl.abs(x)
    rounded = tl.where(size < TWO_23, (size + TWO_23) - TWO_23, size)
    sign = x.to(tl.int32, bitcast=True) & SIGN_BIT
    return (rounded.to(tl.int32, bitcast=True) | sign).to(tl.float32, bitcast=True)


@triton.jit
def clamp(x: tl.tensor, low: tl.tensor, high: tl.tensor) -> tl.tensor:
    return tl.minimum(tl.maximum(x, low), high)


@triton.jit
def log_poly(t: tl.tensor, k: tl.tensor) -> tl.tensor:
    """k·ln2 + log(1+t)."""
    p = ((((((L7 * t + L6) * t + L5) * t + L4) * t + L3) * t + L2) * t + L1) * t + L0
    t2 = t * t
    return (t + (p * (t * t2) - 0.5 * t2 + k * LN2_LO)) + k * LN2_HI


@triton.jit
def _mantissa_exponent(x: tl.tensor) -> tl.tensor:
    """(m - 1, k) of x = m·2^k with m in [√½, √2), for positive normal x."""
    shifted = x.to(tl.int32, bitcast=True) + ONE_OVER_SQRT_HALF_BITS
    k = ((shifted >> 23) - 127).to(tl.float32)
    mantissa = ((shifted & 0x7FFFFF) + SQRT_HALF_BITS).to(tl.float32, bitcast=True)
    return mantissa - 1.0, k


@triton.jit
def log(x: tl.tensor) -> tl.tensor:
    """Natural logarithm of positive normal float32."""
    t, k = _mantissa_exponent(x)
    return log_poly(t, k)


@triton.jit
def log_uniform(word: tl.tensor) -> tl.tensor:
    """ln((w + ½)/2³²) of uint32 words, with log1p of the complement above ½, where u is near 1."""
    high = word.to(tl.int32, bitcast=True) < 0
    m = tl.where(high, ~word, word).to(tl.int32, bitcast=True)  # below 2³¹
    v = (2.0 * m.to(tl.float32) + 1.0) * TWO_M33
    near = v < ONE_MINUS_SQRT_HALF
    t_low, k_low = _mantissa_exponent(v)
    t_high = tl.where(near, -v, 1.0 - 2.0 * v)
    k_high = tl.where(near, 0.0, -1.0)
    return log_poly(tl.where(high, t_high, t_low), tl.where(high, k_high, k_low))


@triton.jit
def exp(x: tl.tensor) -> tl.tensor:
    """e^x, x clamped to [-86, 88] so that the result is a normal number."""
    x = clamp(x, EXP_LOW, EXP_HIGH)
    k = rint(x * LOG2_E)
    t = (x - k * LN2_HI) - k * LN2_LO
    p = (((E4 * t + E3) * t + E2) * t + E1) * t + E0
    power = ((k.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    return (1.0 + (t + (t * t) * p)) * power


@triton.jit
def sincos_turn(word: tl.tensor) -> tl.tensor:
    """sin and cos of 2π(w + ½)/2³² of uint32 words, quadrant by integer arithmetic."""
    quadrant = (word + (1 << 29)) >> 30
    offset = (word - (quadrant << 30)).to(tl.int32, bitcast=True)
    t = (2.0 * offset.to(tl.float32) + 1.0) * TURN_M33
    t2 = t * t
    sin = t + t * (t2 * ((S2 * t2 + S1) * t2 + S0))
    cos = 1.0 - (0.5 * t2 - (t2 * t2) * ((C2 * t2 + C1) * t2 + C0))
    odd = (quadrant & 1) != 0
    s, c = tl.where(odd, cos, sin), tl.where(odd, sin, cos)
    s_sign, c_sign = (quadrant & 2) << 30, ((quadrant + 1) & 2) << 30
    s_bits = s.to(tl.uint32, bitcast=True) ^ s_sign
    c_bits = c.to(tl.uint32, bitcast=True) ^ c_sign
    return s_bits.to(tl.float32, bitcast=True), c_bits.to(tl.float32, bitcast=True)
