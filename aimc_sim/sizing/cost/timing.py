"""How reading and converting follow each other in one product: an object for each ``timing.law`` of a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64

if TYPE_CHECKING:
    from aimc_sim.sizing.cost.designs import Designs

Parts = tuple[
    F64, F64, F64
]  # (reading, converting, logic), (P,) ns of one product: what each adds to the others
NEURRAM_PULSE_US, NEURRAM_BIT_US = 0.27, 0.3


class Sequential:
    """This law reads, then converts."""

    formula = "reads·(t_read + t_logic + rounds·t_adc)"
    fixed = False  # whether the law's own figures are those of a chip, whatever the reading time
    converts_while_reading = False

    def parts(self, d: Designs, conversion_ns: F64) -> Parts:
        """Return the times of one product whose converters take ``conversion_ns`` (P,) for a column."""
        conversions = np.ones_like(d.reads) if d.analog_sum else d.reads
        logic = np.full(len(d), d.profile.periphery.of("delay_per_read")) * d.reads
        return self._read(d), d.rounds * conversion_ns * conversions, logic

    def _read(self, d: Designs) -> F64:
        return np.asarray(d.reads * d.t_read_ns)


class Overlapped(Sequential):
    """This law converts while the next read runs: the last conversion hides behind the next product's first read."""

    formula = "max(reads·t_read, conversions·rounds·t_adc)"

    def parts(self, d: Designs, conversion_ns: F64) -> Parts:
        """Return what `Sequential.parts` does."""
        reading, converting, logic = super().parts(d, conversion_ns)
        return reading, np.maximum(converting - reading, 0), logic


class Integrating(Sequential):
    """By this law a converter works through the whole read, so every round reads anew."""

    formula = "reads·rounds·(t_read + t_adc)"
    converts_while_reading = True

    def _read(self, d: Designs) -> F64:
        return super()._read(d) * d.rounds


class Neurram(Sequential):
    """This law is NeuRRAM's closed form: Wan et al., Nature 2022, figures digitised by others."""

    formula = "0.27 µs·Σ(2^p - 1) + 0.3 µs·(Σ bits + phases)"
    fixed = True

    def parts(self, d: Designs, conversion_ns: F64) -> Parts:
        """Return what `Sequential.parts` does; the chip's own times, not ``conversion_ns``."""
        pulses, bits, phases = neurram_counts(d.dac_bits, d.adc_bits, d.phases >= 2)
        whole = (NEURRAM_PULSE_US * pulses + NEURRAM_BIT_US * (bits + phases)) * 1e3 * d.rounds
        reading = d.profile.array.of("delay_read") * pulses * d.rounds
        return reading, whole - reading, np.zeros(len(d))


TIMINGS: dict[str, Sequential] = {
    "sequential": Sequential(), "overlapped": Overlapped(), "integrating": Integrating(), "neurram": Neurram(),
}  # fmt: skip


def neurram_counts(
    input_bits: npt.ArrayLike, output_bits: npt.ArrayLike, two_phase: npt.ArrayLike = False
) -> tuple[F64, F64, F64]:
    """Count (integration pulses, converted bits, phases) of one product: Σ(2^p - 1), Σ max(out - bits before, 0).

    Inputs have e = max(1, input_bits - 1) bits of magnitude, read in one phase, or ⌈e/2⌉ and then ⌊e/2⌋ of them where
    two phases are asked for and e exceeds 3.

    >>> [count.item() for count in neurram_counts(6, 8, two_phase=True)]
    [10.0, 13.0, 2.0]
    """
    e, out = np.maximum(1.0, np.asarray(input_bits, np.float64) - 1), np.asarray(output_bits, np.float64)
    two = np.asarray(two_phase, bool) & (e > 3)
    first, second = np.where(two, np.ceil(e / 2), e), np.where(two, np.floor(e / 2), 0.0)
    pulses = 2**first - 1 + np.where(two, 2**second - 1, 0.0)
    bits = np.maximum(out, 0) + np.where(two, np.maximum(out - first, 0), 0.0)
    return np.asarray(pulses), np.asarray(bits), np.where(two, 2.0, 1.0)
