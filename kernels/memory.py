"""What kernels need and Numba does not offer: arrays at an address, whole registers, counters that threads share."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """An untyped pointer to an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic
def fetch_add(typingctx: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at an address, atomically; returns what was there before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", where, args[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def copy_16(typingctx: Any, target: Any, source: Any) -> Any:
    """Copy 16 values of 4 bytes from one address to another that it does not overlap, in one piece."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(32), 8).as_pointer()
        for half in (0, 32):
            target, source = (builder.inttoptr(builder.add(a, ir.Constant(a.type, half)), kind) for a in args)
            value = builder.load(source)
            value.align = 4
            builder.store(value, target).align = 4
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def whole_registers(typingctx: Any) -> Any:
    """Say in a kernel's body that its loops may use 512-bit registers; compilers hesitate for fear of slower clocks."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate
