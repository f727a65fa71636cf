"""Converter ranges of a model's matrices: what a chip is given, whoever found them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aimc_sim.aliases import F32
from aimc_sim.hardware import Hardware, StaticRange


@dataclass(frozen=True)
class MatrixRange:
    """A matrix range holds the converter ranges of one matrix; None where the hardware needs none.

    >>> from aimc_sim.chip import MatrixRange
    >>> MatrixRange().full_scale is None
    True
    """

    input_range: F32 | None = None  # (row tiles,) static β
    # (row tiles, column tiles), or (parts, …, …) where several columns hold a weight: ADC full scale, in full-scale
    # weights × inputs
    full_scale: F32 | None = None


Ranges = Mapping[str, MatrixRange]  # by the name of the matrix
NO_RANGES = MatrixRange()


def ranges_id(ranges: Ranges) -> str:
    """Compute 16 hex digits of what the ranges are, bit for bit; empty where there are none."""
    if not ranges:
        return ""
    digest = hashlib.sha256()
    for name in sorted(ranges):
        for kind in ("input_range", "full_scale"):
            value = getattr(ranges[name], kind)
            if value is not None:
                digest.update(f"{name} {kind} {value.shape} ".encode())
                digest.update(np.ascontiguousarray(value, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def needs_ranges(hardware: Hardware) -> bool:
    """Decide whether converter ranges must be calibrated on text."""
    static = hardware.dac is not None and isinstance(hardware.dac.range, StaticRange)
    fitted = hardware.adc is not None and hardware.adc.full_scale.calibrated
    return static or fitted
