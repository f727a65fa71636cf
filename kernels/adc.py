"""The ADC of 32 columns for one token, in vector registers: from integer sums to what is added to the outputs.

Formulas: `converters.combine_reference`, `non_ideal_adc_reference`, `quantise_reference`, and
`read_noise.noisy_reference`.
In short, every operation rounded by itself: value = H·256 + L, signal = value·inverse [+ √(V·spread + floor)·z]
[+ offset, then + signal·(curve - bow·signal²)], code = clamp(rint(signal), lowest, n), y += (code·scale)·β. A SAR
searches the code bit by bit instead of rounding: `converters.sar_reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_LANES = 16
_INTS, _FLOATS = ir.VectorType(_I32, _LANES), ir.VectorType(_FLOAT, _LANES)
COLUMNS = 32


class _Row:
    """A row gives vectors of 16 columns at an address, and the arithmetic on them."""

    def __init__(self, builder: Any, at: int) -> None:
        self.builder, self.at = builder, at

    def _where(self, address: Any, kind: Any) -> Any:
        offset = ir.Constant(_I64, self.at * 4)
        return self.builder.inttoptr(self.builder.add(address, offset), kind.as_pointer())

    def load(self, address: Any, kind: Any = _FLOATS) -> Any:
        value = self.builder.load(self._where(address, kind))
        value.align = 4
        return value

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self._where(address, _FLOATS)).align = 4

    def floats(self, ints: Any) -> Any:
        return self.builder.sitofp(ints, _FLOATS)

    def call(self, name: str, value: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v16f32"), [value]
        )

    def clamp(self, value: Any, low: Any, high: Any) -> Any:
        b = self.builder
        value = b.select(b.fcmp_ordered(">", value, low), value, low)
        return b.select(b.fcmp_ordered("<", value, high), value, high)


def _spread(builder: Any, scalar: Any, kind: Any) -> Any:
    """Return a scalar in all 16 lanes."""
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_INTS, [0] * _LANES))


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [value] * _LANES)


def _search(b: Any, row: _Row, signal: Any, capacitors: Any, stride: Any, bits: Any, base: Any) -> Any:
    """Return the codes of a successive approximation: from the largest capacitor on, what still lies below the signal
    stays.

    A threshold that is met exactly is passed by every bit but the last, which rounds halves to even.
    """
    level, code = cgutils.alloca_once(b, _FLOATS), cgutils.alloca_once(b, _FLOATS)
    start = _spread(b, base, _FLOATS)
    b.store(start, level)
    b.store(b.fadd(start, _constant(0.5)), code)
    one, last = ir.Constant(_I64, 1), b.sub(bits, ir.Constant(_I64, 1))

    def compare(bit: Any, operator: str) -> None:
        level_so_far, bits_so_far = b.load(level), b.load(code)
        trial = b.fadd(level_so_far, row.load(b.add(capacitors, b.mul(bit, stride))))
        worth = _spread(b, b.sitofp(b.shl(one, bit), _FLOAT), _FLOATS)
        passed = b.fcmp_ordered(operator, signal, trial)
        b.store(b.select(passed, trial, level_so_far), level)
        b.store(b.select(passed, b.fadd(bits_so_far, worth), bits_so_far), code)

    with cgutils.for_range(b, last) as loop:
        compare(b.sub(last, loop.index), ">=")
    compare(ir.Constant(_I64, 0), ">")
    return b.load(code)


def _adc(noisy: bool, non_ideal: bool, searching: bool = False) -> Any:
    """Return the intrinsic (high, low, shift, gain, inverse, scale, lowest, max_code, y, vh, vl, spread, z, floor,
    offset, curve, bow, capacitors, stride, bits, base).

    Addresses of 32 values each, but shift int32 (128·Σq, by which the high bytes were stored too large), gain float32
    (β), lowest and max_code float32 (the codes' ends, -n or 0, and n; n = 0: no ADC, the signal itself) and floor
    float32 (variance of every conversion, in codes²). vh, vl, spread, z, floor are for read and thermal noise; offset,
    curve and bow for a non-ideal ADC; for a SAR the capacitors of ``bits`` bits, smallest first, ``stride`` bytes
    apart, and base float32, the threshold of its least code. Unused: 0.
    """
    address, f32 = types.int64, types.float32
    kinds = [
        address,
        address,
        types.int32,
        f32,
        address,
        address,
        f32,
        f32,
        address,
        *[address] * 4,
        f32,
        *[address] * 6,
        f32,
    ]

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        high, low, shift, gain, inverse, scale, lowest, max_code, y, vh, vl, spread, z, floor, *curved = args
        offset, curve, bow, capacitors, stride, bits, base = curved
        n, shift, gain = _spread(b, max_code, _FLOATS), _spread(b, shift, _INTS), _spread(b, gain, _FLOATS)
        least, floor = _spread(b, lowest, _FLOATS), _spread(b, floor, _FLOATS)
        converts = b.fcmp_ordered(">", max_code, ir.Constant(_FLOAT, 0.0))
        for at in range(0, COLUMNS, _LANES):
            row = _Row(b, at)
            h = row.floats(b.sub(row.load(high, _INTS), shift))
            value = b.fadd(b.fmul(h, _constant(256.0)), row.floats(row.load(low, _INTS)))
            signal = b.fmul(value, row.load(inverse))
            if noisy:
                total = b.fadd(
                    b.fmul(row.floats(row.load(vh, _INTS)), _constant(128.0)),
                    row.floats(row.load(vl, _INTS)),
                )
                sigma = row.call("sqrt", b.fadd(b.fmul(total, row.load(spread)), floor))
                signal = b.fadd(signal, b.fmul(sigma, row.load(z)))
            if non_ideal:
                signal = b.fadd(signal, row.load(offset))
                slope = b.fsub(row.load(curve), b.fmul(row.load(bow), b.fmul(signal, signal)))
                signal = b.fadd(signal, b.fmul(signal, slope))
            if searching:
                code = row.clamp(_search(b, row, signal, capacitors, stride, bits, base), least, n)
            else:
                code = b.select(converts, row.clamp(row.call("rint", signal), least, n), signal)
            row.store(b.fadd(row.load(y), b.fmul(b.fmul(code, row.load(scale)), gain)), y)
        return context.get_dummy_value()

    def typed(
        typingctx: Any, high: Any, low: Any, shift: Any, gain: Any, inverse: Any, scale: Any, lowest: Any,
        max_code: Any, y: Any, vh: Any, vl: Any, spread: Any, z: Any, floor: Any, offset: Any, curve: Any, bow: Any,
        capacitors: Any, stride: Any, bits: Any, base: Any,
    ) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
        return types.void(*kinds), generate

    return intrinsic(typed)


adc_row = _adc(noisy=False, non_ideal=False)
non_ideal_adc_row = _adc(noisy=False, non_ideal=True)
noisy_adc_row = _adc(noisy=True, non_ideal=False)
noisy_non_ideal_adc_row = _adc(noisy=True, non_ideal=True)
sar_adc_row = _adc(noisy=False, non_ideal=True, searching=True)
noisy_sar_adc_row = _adc(noisy=True, non_ideal=True, searching=True)
