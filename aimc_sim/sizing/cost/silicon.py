"""Published chips in closed form: what an estimator is held to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.sizing.cost.adc import zigzag_adc

NEURRAM_PULSE_US, NEURRAM_BIT_US = 0.27, 0.3


def neurram_phases(input_bits: npt.ArrayLike, two_phase: npt.ArrayLike) -> tuple[F64, F64]:
    """Magnitude bits of the first and of the second phase of an input (0: there is none).

    e = max(1, input_bits - 1) bits in one phase, or ⌈e/2⌉ and ⌊e/2⌋ where two are asked for and e exceeds 3.
    """
    e = np.maximum(1.0, np.asarray(input_bits, np.float64) - 1)
    split = np.asarray(two_phase, bool) & (e > 3)
    return np.where(split, np.ceil(e / 2), e), np.where(split, np.floor(e / 2), 0.0)


def neurram_counts(
    input_bits: npt.ArrayLike, output_bits: npt.ArrayLike, two_phase: npt.ArrayLike = False
) -> tuple[F64, F64, F64]:
    """(integration pulses, converted bits, phases) of one product: Σ(2^p - 1), Σ max(out - bits before, 0), phases."""
    first, second = neurram_phases(input_bits, two_phase)
    out, two = np.asarray(output_bits, np.float64), second > 0
    pulses = 2**first - 1 + np.where(two, 2**second - 1, 0.0)
    bits = np.maximum(out, 0) + np.where(two, np.maximum(out - first, 0), 0.0)
    return np.asarray(pulses), np.asarray(bits), np.where(two, 2.0, 1.0)


def neurram_time_us(
    input_bits: npt.ArrayLike, output_bits: npt.ArrayLike, two_phase: npt.ArrayLike = False
) -> F64:
    """Time of one product on a NeuRRAM core (µs). Wan et al., Nature 2022, figures digitised by others."""
    pulses, bits, phases = neurram_counts(input_bits, output_bits, two_phase)
    return NEURRAM_PULSE_US * pulses + NEURRAM_BIT_US * (bits + phases)


def neurram_tops(
    input_bits: npt.ArrayLike, output_bits: npt.ArrayLike, two_phase: npt.ArrayLike = False
) -> F64:
    """Operations (2 a multiply-accumulate) of its 48 cores, 256 × 128 weights each, in 10¹² a second."""
    return np.asarray(48 * 2 * 256 * 128 / neurram_time_us(input_bits, output_bits, two_phase) * 1e-6)


class Macro(NamedTuple):
    """One SRAM macro for a cycle of one input bit: pJ, mm², ns, and operations of 8 × 8 bits a second."""

    energy_pj: F64
    area_mm2: F64
    cycle_ns: F64
    tops: F64
    tops_per_w: F64
    tops_per_mm2: F64


# ZigZag-IMC (MIT licence), 28 nm: a two-input NAND gate has 0.7 fF and 0.614 µm² and 47.8 ps.
NAND_PJ, NAND_UM2, LOGIC_NS, VDD = 0.7e-3, 0.614, 47.4 * 0.0478, 0.9


def zigzag_macro(rows: npt.ArrayLike, weight_cols: npt.ArrayLike, adc_bits: npt.ArrayLike) -> Macro:
    """An SRAM macro with 8-bit weights in 8 columns and 8-bit inputs, bit by bit, a converter a column.

    rows; weight_cols: weights side by side; adc_bits: all broadcast. Adders in gates: 6 gate loads a bit of a full
    adder, of which the tree that joins 8 columns has 7·bits + 20 and the accumulator bits + 16 with a register each.
    """
    r, w, b = (np.asarray(value, np.float64) for value in (rows, weight_cols, adc_bits))
    energy, area, delay = zigzag_adc(b, r)
    gate = NAND_PJ * VDD**2
    cells = r * w * 8 * gate * 0.5 * 2  # the multiplying gate and its share of the bit line
    adders = w * gate * (6 * (7 * b + 20) + 9 * (b + 16))
    total = cells + adders + 8 * w * energy
    logic = NAND_UM2 * w * (12 * r + 7.8 * (7 * b + 20) + 13.8 * (b + 16))
    size = logic * 1e-6 + 8 * w * area
    cycle = delay + LOGIC_NS
    tops = 2 * r * w / 8 / cycle * 1e-3
    return Macro(total, size, cycle, tops, 2 * r * w / 8 / total, tops / size)
