"""Vector instructions that Numba does not write by itself: 64 bytes at a time, fused multiply-add, fixed order.

Numba gives up on loops over many rows of one array, because they might overlap; these are five to eight times faster.
LLVM splits the vectors where the processor's are shorter. A fused multiply-add is an IEEE operation, one rounding,
so the results are the same bits on every processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BYTES = 64
TILE_ROWS = 8  # rows of `multiply_tile`: with two vectors a row, 16 sums stay in registers
TILE_VECTORS = 2
ROW_VECTORS = 4  # of `multiply_row`
LANES = 16  # numbers that `multiply_lanes` handles at once
_WORD = ir.IntType(64)


class _Vectors:
    """A vector view gives vectors of the numbers of one contiguous array."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any) -> None:
        self.builder = builder
        self.base = context.make_array(array_type)(context, builder, array).data
        self.size = array_type.dtype.bitwidth // 8
        self.width = VECTOR_BYTES // self.size
        self.type = ir.VectorType(context.get_value_type(array_type.dtype), self.width)
        name = f"llvm.fma.v{self.width}f{8 * self.size}"
        signature = ir.FunctionType(self.type, [self.type] * 3)
        self._fma = cgutils.get_or_insert_function(builder.module, signature, name)

    def _at(self, offset: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.base, [offset]), self.type.as_pointer())

    def load(self, offset: Any) -> Any:
        value = self.builder.load(self._at(offset))
        value.align = self.size
        return value

    def store(self, value: Any, offset: Any) -> None:
        self.builder.store(value, self._at(offset)).align = self.size

    def spread(self, offset: Any) -> Any:
        """Return one number in every place of a vector."""
        number = self.builder.load(self.builder.gep(self.base, [offset]))
        nothing = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(nothing, number, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, nothing, zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.call(self._fma, [a, b, c])


def _words(context: Any, builder: Any, args: Any, kinds: Any) -> list[Any]:
    return [context.cast(builder, arg, kind, types.intp) for arg, kind in zip(args, kinds, strict=True)]


def _multiply(rows: int, vectors: int) -> Callable[..., Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        f = _Vectors(context, builder, signature.args[0], args[0])
        pitch, i, j, first, last = _words(context, builder, args[1:], signature.args[1:])

        def place(row: Any, vector: int) -> Any:
            return builder.add(builder.mul(row, pitch), builder.add(j, _WORD(vector * f.width)))

        places = [[place(builder.add(i, _WORD(r)), v) for v in range(vectors)] for r in range(rows)]
        # plain variables: LLVM keeps them in registers throughout the loop
        sums = [[cgutils.alloca_once_value(builder, f.load(at)) for at in row] for row in places]
        with cgutils.for_range_slice(builder, first, last, _WORD(1), _WORD) as (t, _):
            right = [f.load(place(t, v)) for v in range(vectors)]
            start = builder.add(builder.mul(t, pitch), i)
            for r in range(rows):
                left = f.spread(builder.add(start, _WORD(r)))
                for v in range(vectors):
                    builder.store(f.multiply_add(left, right[v], builder.load(sums[r][v])), sums[r][v])
        for r in range(rows):
            for v in range(vectors):
                f.store(builder.load(sums[r][v]), places[r][v])
        return context.get_dummy_value()

    return codegen


@intrinsic
def multiply_tile(typing: Any, f: Any, pitch: Any, i: Any, j: Any, first: Any, last: Any) -> Any:
    """F[i:i+8, j:j+2V] += F[first:last, i:i+8]ᵀ · F[first:last, j:j+2V], V numbers a vector.

    f: the numbers of F in one row after the other, ``pitch`` apart; nothing may overlap.
    """
    return types.void(f, pitch, i, j, first, last), _multiply(TILE_ROWS, TILE_VECTORS)


@intrinsic
def multiply_row(typing: Any, f: Any, pitch: Any, i: Any, j: Any, first: Any, last: Any) -> Any:
    """F[i, j:j+4V] += F[first:last, i]ᵀ · F[first:last, j:j+4V]."""
    return types.void(f, pitch, i, j, first, last), _multiply(1, ROW_VECTORS)


@intrinsic
def sum_row(typing: Any, f: Any, first: Any, last: Any) -> Any:
    """Σ f[first:last]; reads whole vectors, so what follows up to the next one must be zeros."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = _Vectors(context, builder, signature.args[0], args[0])
        start, stop = _words(context, builder, args[1:], signature.args[1:])
        total = cgutils.alloca_once_value(builder, ir.Constant(v.type, [0.0] * v.width))
        with cgutils.for_range_slice(builder, start, stop, _WORD(v.width), _WORD) as (at, _):
            builder.store(builder.fadd(builder.load(total), v.load(at)), total)
        done = builder.load(total)
        parts = [builder.extract_element(done, ir.IntType(32)(k)) for k in range(v.width)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return f.dtype(f, first, last), codegen


@intrinsic
def multiply_lanes(typing: Any, c: Any, to: Any, one: Any, s: Any, other: Any) -> Any:
    """c[to, :] += c[one, :] * s[other, :], all of them (…, LANES)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = _Vectors(context, builder, signature.args[0], args[0])
        right = _Vectors(context, builder, signature.args[3], args[3])
        kinds = [signature.args[1], signature.args[2], signature.args[4]]
        rows = _words(context, builder, [args[1], args[2], args[4]], kinds)
        places = [builder.mul(row, _WORD(LANES)) for row in rows]
        for start in range(0, LANES, left.width):
            at, a, b = (builder.add(place, _WORD(start)) for place in places)
            left.store(left.multiply_add(left.load(a), right.load(b), left.load(at)), at)
        return context.get_dummy_value()

    return types.void(c, to, one, s, other), codegen
