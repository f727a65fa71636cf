"""Σ weights·codes over panels in vector registers, 16 columns at once: exact 32-bit integers.

AVX-512 VNNI multiplies four unsigned bytes by four signed ones and adds them up in one instruction: that is a quad of a
panel and of the codes. Elsewhere the same loop is written with 16-bit multiply-adds that LLVM knows on every processor.
Both give the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from aimc_sim.kernels._jit import target_has

HAS_VNNI = target_has("avx512vnni")
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_LANES = ir.VectorType(_I32, 16)
_SHORTS = ir.VectorType(ir.IntType(16), 32)
_VPDPBUSD = "llvm.x86.avx512.vpdpbusd.512"
REGISTER = 64  # bytes
BLOCK = 32  # tokens whose sums are held at once
SUMS_ROW = 128  # bytes of one token's sums of one plane: 32 columns
SUMS_PLANE = BLOCK * SUMS_ROW


def _vnni(builder: Any, total: Any, weights: Any, codes: Any) -> Any:
    """total + four unsigned bytes · four signed bytes, in each of 16 lanes."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_LANES, [_LANES] * 3), _VPDPBUSD
    )
    return builder.call(function, [total, weights, codes])


def _plain(builder: Any, total: Any, weights: Any, codes: Any) -> Any:
    """Return the sum of `_vnni` in two steps: bytes 0 and 2 of each lane as pairs of 16-bit numbers,
    then bytes 1 and 3.
    """
    wide = ir.VectorType(_I32, 32)
    eight = ir.Constant(_SHORTS, [8] * 32)
    w, q = builder.bitcast(weights, _SHORTS), builder.bitcast(codes, _SHORTS)
    even = builder.lshr(builder.shl(w, eight), eight), builder.ashr(builder.shl(q, eight), eight)
    odd = builder.lshr(w, eight), builder.ashr(q, eight)
    for left, right in (even, odd):
        product = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
        first, second = (
            builder.shuffle_vector(product, product, ir.Constant(_LANES, list(range(start, 32, 2))))
            for start in (0, 1)
        )
        total = builder.add(total, builder.add(first, second))
    return total


def _sums(
    multiply_add: Callable[[Any, Any, Any, Any], Any], tokens: int, offsets: Sequence[int], quad: int
) -> Any:
    """Return an intrinsic (weights, codes, stride, quads, out): Σ over ``quads`` of the registers at ``offsets`` of a
    quad times the codes of ``tokens`` rows, ``stride`` bytes apart; out [plane][token of BLOCK][column of 32] int32.
    """

    def typed(
        typingctx: Any, weights: Any, codes: Any, stride: Any, quads: Any, out: Any
    ) -> tuple[Any, Callable[..., Any]]:
        return types.void(*[types.int64] * 5), generate

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w, q, stride, quads, out = args

        def whole(value: int) -> Any:
            return ir.Constant(_I64, value)

        def at(address: Any, kind: Any) -> Any:
            return builder.inttoptr(address, kind.as_pointer())

        rows = [builder.add(q, builder.mul(stride, whole(b))) for b in range(tokens)]
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_I64)
        totals = [builder.phi(_LANES) for _ in range(tokens * len(offsets))]
        quad_start = builder.add(w, builder.mul(step, whole(quad)))
        registers = []
        for offset in offsets:
            register = builder.load(at(builder.add(quad_start, whole(offset)), _LANES))
            register.align = 4
            registers.append(register)
        added = []
        for b, row in enumerate(rows):
            code = builder.load(at(builder.add(row, builder.mul(step, whole(4))), _I32))
            code.align = 4
            spread = builder.shuffle_vector(
                builder.insert_element(ir.Constant(_LANES, ir.Undefined), code, ir.Constant(_I32, 0)),
                ir.Constant(_LANES, ir.Undefined),
                ir.Constant(_LANES, [0] * 16),
            )
            for j, register in enumerate(registers):
                added.append(multiply_add(builder, totals[b * len(offsets) + j], register, spread))
        following = builder.add(step, whole(1))
        step.add_incoming(whole(0), before)
        step.add_incoming(following, loop)
        for phi, then in zip(totals, added, strict=True):
            phi.add_incoming(ir.Constant(_LANES, None), before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, quads), loop, after)
        builder.position_at_end(after)
        for b in range(tokens):
            for j in range(len(offsets)):
                where = builder.add(out, whole(j // 2 * SUMS_PLANE + b * SUMS_ROW + j % 2 * REGISTER))
                builder.store(added[b * len(offsets) + j], at(where, _LANES)).align = 4
        return context.get_dummy_value()

    return intrinsic(typed)


def sums_of(tokens: int, planes: int) -> tuple[Any, Any]:
    """Return (plain, VNNI) intrinsics for that many tokens and byte planes; without VNNI the second is the first."""
    offsets, quad = range(0, planes * 128, REGISTER), planes * 128
    plain = _sums(_plain, tokens, offsets, quad)
    return plain, _sums(_vnni, tokens, offsets, quad) if HAS_VNNI else plain
