"""Σ weights·codes of int8 in 32-bit integers, on the processor's 8-bit multiply-add where it has one.

AVX-512 VNNI multiplies unsigned by signed bytes, 64 at once: the weights are shifted by 128 on the way, and the sum of
the codes takes it back. Elsewhere LLVM vectorises a plain loop. Integers are exact, so both give the same.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.elementary import add_product

BLOCK = 64  # bytes of a vector register
HAS_VNNI = bool(llvmlite.binding.get_host_cpu_features().get("avx512vnni", False))
_I64 = ir.IntType(64)
_LANES = ir.VectorType(ir.IntType(32), 16)
_FLIP = ir.Constant(
    _LANES, [0x80808080 - (1 << 32)] * 16
)  # the top bit of every byte: signed + 128 as unsigned
_VPDPBUSD = "llvm.x86.avx512.vpdpbusd.512"
_REDUCE = "llvm.vector.reduce.add.v16i32"


@intrinsic
def _shifted_blocks(typingctx: Any, weights: Any, at: Any, codes: Any, start: Any, blocks: Any) -> Any:
    """Σ (weights + 128)·codes over ``blocks`` blocks of 64 bytes, int32; flat C-ordered int8 arrays."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def pointer(which: int) -> Any:
            data = context.make_array(signature.args[which])(context, builder, args[which]).data
            return builder.gep(data, [args[which + 1]])

        def lanes(base: Any, offset: Any) -> Any:
            value = builder.load(builder.bitcast(builder.gep(base, [offset]), _LANES.as_pointer()))
            value.align = 1
            return value

        w, q, count = pointer(0), pointer(2), args[4]
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_LANES, [_LANES] * 3), _VPDPBUSD
        )
        reduce = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), [_LANES]), _REDUCE
        )
        zero = ir.Constant(_LANES, None)
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.cbranch(builder.icmp_signed(">", count, ir.Constant(_I64, 0)), loop, after)
        builder.position_at_end(loop)
        step, total = builder.phi(_I64), builder.phi(_LANES)
        offset = builder.mul(step, ir.Constant(_I64, BLOCK))
        added = builder.call(multiply_add, [total, builder.xor(lanes(w, offset), _FLIP), lanes(q, offset)])
        following = builder.add(step, ir.Constant(_I64, 1))
        for phi, first, then in ((step, ir.Constant(_I64, 0), following), (total, zero, added)):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        result = builder.phi(_LANES)
        result.add_incoming(zero, before)
        result.add_incoming(added, loop)
        return builder.call(reduce, [result])

    return types.int32(weights, types.int64, codes, types.int64, types.int64), generate


@njit
def _plain(weights: Any, codes: Any) -> Any:
    total = np.int32(0)
    for i in range(codes.size):
        total = add_product(total, weights[i], np.int16(codes[i]))
    return total


@njit
def _dot_vnni(weights: Any, at: Any, codes: Any, start: Any, n: Any, code_sum: Any) -> Any:
    whole = n // BLOCK * BLOCK
    total = np.int64(_shifted_blocks(weights, at, codes, start, n // BLOCK)) - np.int64(128) * code_sum
    for i in range(whole, n):  # the rest, shifted like the blocks
        total += (np.int64(weights[at + i]) + np.int64(128)) * np.int64(codes[start + i])
    return np.int32(total)


@njit
def _dot_plain(weights: Any, at: Any, codes: Any, start: Any, n: Any, code_sum: Any) -> Any:
    return _plain(weights[at : at + n], codes[start : start + n])


# Σ weights[at:at+n]·codes[start:start+n], flat int8 arrays; code_sum: Σ codes of that part, int32 or int64.
dot = _dot_vnni if HAS_VNNI else _dot_plain
