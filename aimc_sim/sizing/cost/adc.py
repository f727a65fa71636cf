"""What a converter costs, in closed forms: the survey's bound, and a flash converter beside an SRAM array at 28 nm."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.hardware.converters import AdcErrors

MIN_ENOB, MAX_ENOB = 4.0, 20.0
_LOW, _HIGH = 128.3068287398817, 192.71705895943293  # figure of merit at 0 and at 20 bits, slow converters
# Of (x - x³)·3√3/2 on [0, 1], what the best straight line leaves: a gain is not a loss of effective bits.
_BOW_VARIANCE = 6.75 * (1 / 3 - 2 / 5 + 1 / 7 - 0.4**2 / 3)


def _check(
    what: str, value: npt.ArrayLike, low: float, high: float, unit: str, open_low: bool = False
) -> F64:
    array = np.asarray(value, np.float64)
    bad = ~np.isfinite(array) | (array > high) | ((array <= low) if open_low else (array < low))
    if bad.any():
        raise BadInput(
            what, got=float(array[bad].flat[0]), why=f"the model holds from {low:g} to {high:g} {unit}".rstrip(),
            do="stay inside, or use another profile",
        )  # fmt: skip
    return array


def adc_survey(
    enob: npt.ArrayLike, node_nm: npt.ArrayLike, samples_per_s: npt.ArrayLike, n_adcs: npt.ArrayLike = 1
) -> tuple[F64, F64]:
    """Bound the energy of a conversion (pJ) and the area of all converters (µm²) by the best of published converters.

    enob: effective bits, 4 to 20; node_nm: technology; samples_per_s: conversions a second of all ``n_adcs`` together.
    All broadcast. Real converters use 0.34 to 20 times the energy (p10 to p90, median 2.7) and 0.85 to 38 times the
    area (median 5.1). Raises BadInput outside the range of the fit.
    Source: Andrulis et al., arXiv 2404.06553 (MIT licence), fitted to Murmann's ADC survey (BSD-3).

    >>> from aimc_sim.sizing import adc_survey
    >>> energy_pj, area_um2 = adc_survey(enob=8, node_nm=22, samples_per_s=1e9)
    >>> float(energy_pj) > 0, float(area_um2) > 0
    (True, True)
    """
    bits = _check("enob", enob, MIN_ENOB, MAX_ENOB, "bits")
    nm = _check("node_nm", node_nm, 0, 1e5, "nm", open_low=True)
    count = _check("n_adcs", n_adcs, 0, 1e12, "", open_low=True)
    rate = _check("samples_per_s", samples_per_s, 0, 1e15, "per second", open_low=True) / count
    sndr = 20 * math.log10(2) * bits + 10 * math.log10(1.5)
    slow = _LOW + (_HIGH - _LOW) / 20 * np.clip(np.ceil(bits), 0, 20)
    log_rate, log_nm = np.log(rate), np.log(nm)
    merit = np.minimum(213.7806687348118 - 2.8719030399529957 * log_rate, slow)
    technology = np.exp(
        26.0496215686518
        + 1.8800369206815004 * log_nm
        - 2.8291256050594527 * np.log(bits)
        - 1.4702022133784405
    )
    energy = 0.5 * 10 ** (-(merit - sndr) / 10) * technology
    area = np.exp(
        1.3461916439910742
        + 0.9932794744745022 * log_nm
        + 0.18071538424508238 * log_rate
        + 0.29912426192653485 * np.log(energy)
    )
    return energy, area * count


def zigzag_adc(bits: npt.ArrayLike, rows: npt.ArrayLike) -> tuple[F64, F64, F64]:
    """Compute the energy of a conversion (pJ), area (mm²) and delay (ns) of a converter below an SRAM array of so many
    rows.

    28 nm at 0.9 V. Source: ZigZag-IMC (MIT licence), its model of published SRAM macros.

    >>> from aimc_sim.sizing import zigzag_adc
    >>> energy_pj, area_mm2, delay_ns = zigzag_adc(8, 256)
    >>> round(float(delay_ns), 3)  # 8·(0.00653·256 + 0.640)
    18.493
    """
    b, r = _check("bits", bits, 1, 16, "bits"), _check("rows", rows, 1, 1e6, "rows")
    energy = (100 * b + 0.001 * 4**b) * 0.9**2 / 1000
    area = 10 ** (1.206 - 0.0369 * b) * 2**b * 1e-6
    return energy + 0 * r, area + 0 * r, b * (0.00653 * r + 0.640)


def lost_bits(errors: AdcErrors, bits: npt.ArrayLike, noise_factor: npt.ArrayLike = 1.0) -> F64:
    """Compute the bits that noise and nonlinearity cost: ½·log2(1 + 12·error variance in lsb²), rounding having 1/12
    lsb².

    bits: resolution, which decides what the capacitors of a SAR do: their curve has a variance of unit_cap_sigma²·
    c·(1 - c/2^bits) at code c, 2^bits/6 of it on average. Gain and offset of a column are no distortion, so they do not
    count, and of the S-shaped curve only what a gain leaves does. noise_factor: multiplies thermal noise.
    """
    curve = _BOW_VARIANCE * errors.inl_sigma_lsb**2
    capacitors = errors.unit_cap_sigma**2 * 2 ** np.asarray(bits, np.float64) / 6
    noise = np.square(errors.noise_lsb * np.asarray(noise_factor, np.float64))
    return np.asarray(0.5 * np.log2(1 + 12 * (curve + capacitors + noise)))
