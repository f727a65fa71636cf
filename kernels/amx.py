"""Intel's matrix unit (AMX): 16 tokens × 64 rows × 16 columns of bytes in one instruction, exact in 32 bits.

Its eight registers must be configured in every thread. Other libraries keep their own configuration there, so ours
is put back by `restore` to what `configure` found.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from aimc_sim.kernels._jit import target_has
from aimc_sim.kernels.multiply_add import SUMS_PLANE, SUMS_ROW

HAS_AMX = target_has("amx-int8") and target_has("amx-tile")
TOKENS = 16  # of one register of codes
ROWS = 64  # of one register of codes
REGISTER_ROW = 64  # bytes
PALETTE_BYTES = 64
_REGISTERS = 8
_I8, _I64 = ir.IntType(8), ir.IntType(64)
_BYTES = _I8.as_pointer()
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18  # Linux: a process asks once for the registers' memory


@lru_cache(maxsize=1)
def permitted() -> bool:
    """Return whether this process may use the unit: the processor has it, and Linux grants its state."""
    if not HAS_AMX or not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0)
    except (OSError, AttributeError):
        return False


def configuration() -> npt.NDArray[np.uint8]:
    """Return (64,) palette 1, every register 16 rows of 64 bytes."""
    palette = np.zeros(PALETTE_BYTES, np.uint8)
    palette[0] = 1
    palette[16 : 16 + 2 * _REGISTERS].view(np.uint16)[:] = REGISTER_ROW
    palette[48 : 48 + _REGISTERS] = 16
    return palette


def _call(builder: Any, name: str, *args: Any) -> None:
    """Call an LLVM intrinsic of the unit; nothing on a processor that has none (such code never runs there)."""
    if HAS_AMX:
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)


@intrinsic
def configure(typingctx: Any, palette: Any, before: Any) -> Any:
    """Load the palette at one address, after storing the present one at another (64 bytes each)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "sttilecfg", builder.inttoptr(args[1], _BYTES))
        _call(builder, "ldtilecfg", builder.inttoptr(args[0], _BYTES))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def restore(typingctx: Any, palette: Any) -> Any:
    """Load the palette at an address; one of zeros releases the registers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "ldtilecfg", builder.inttoptr(args[0], _BYTES))
        return context.get_dummy_value()

    return types.void(types.int64), generate


def sums_of(blocks: int, offsets: Sequence[int], planes: int) -> Any:
    """Return an intrinsic (weights, codes, stride, steps, out) like `multiply_add`'s, for ``blocks`` × 16 tokens.

    steps: of 64 rows; a tile's last may reach beyond its end, where the codes are zero. offsets: the
    registers of a quad that are taken, in bytes.
    """
    quad = planes * 128
    accumulators, spare = blocks * len(offsets), _REGISTERS - blocks * len(offsets) - blocks

    def typed(
        typingctx: Any, weights: Any, codes: Any, stride: Any, steps: Any, out: Any
    ) -> tuple[Any, Callable[..., Any]]:
        return types.void(*[types.int64] * 5), generate

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w, q, stride, steps, out = args

        def whole(value: int) -> Any:
            return ir.Constant(_I64, value)

        def register(number: int) -> Any:
            return ir.Constant(_I8, number)

        def load(number: int, address: Any, stride: Any) -> None:
            _call(builder, "tileloadd64", register(number), builder.inttoptr(address, _BYTES), stride)

        for number in range(accumulators):
            _call(builder, "tilezero", register(number))
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_I64)
        codes_here = builder.add(q, builder.mul(step, whole(ROWS)))
        weights_here = builder.add(w, builder.mul(step, whole(ROWS // 4 * quad)))
        for a in range(blocks):
            skip = builder.mul(stride, whole(a * TOKENS))
            load(accumulators + a, builder.add(codes_here, skip), stride)
        for j, offset in enumerate(offsets):
            free_register = accumulators + blocks + j % spare
            load(free_register, builder.add(weights_here, whole(offset)), whole(quad))
            for a in range(blocks):
                _call(
                    builder,
                    "tdpbsud",
                    register(a * len(offsets) + j),
                    register(accumulators + a),
                    register(free_register),
                )
        following = builder.add(step, whole(1))
        step.add_incoming(whole(0), before)
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for a in range(blocks):
            for j, offset in enumerate(offsets):
                where = offset // 128 * SUMS_PLANE + a * TOKENS * SUMS_ROW + offset % 128
                pointer = builder.inttoptr(builder.add(out, whole(where)), _BYTES)
                _call(builder, "tilestored64", register(a * len(offsets) + j), pointer, whole(SUMS_ROW))
        return context.get_dummy_value()

    return intrinsic(typed)
