"""Specs of the converters at a tile's edges: input ranges, DAC, full scales, ADC, and what trimming leaves of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aimc_sim.kernels.reads import slice_count
from aimc_sim.spec import Spec

Bits = Annotated[int, Field(ge=2, le=16)]


class StaticRange(Spec):
    """How a static input range β is found where the checkpoint brings none: one pass over the calibration text.

    ``std`` takes one standard deviation over the whole text; AFM averages those of its first 500 training batches.
    """

    method: Literal["std", "max", "percentile"] = "std"
    kappa: float = Field(default=15.0, gt=0)  # std: β = kappa·std(x)
    percentile: float = Field(default=99.99, gt=0, le=100)  # of |x|
    per: Literal["matrix", "tile"] = "matrix"  # one β for a matrix's input, or one a row tile


class PerTokenRange(Spec):
    """β = max |x| of each token, over the whole input or over the rows of each tile."""

    method: Literal["per_token"] = "per_token"
    per: Literal["matrix", "tile"] = "tile"


class DacErrors(Spec):
    """What trimming leaves of a DAC, drawn once a chip for every row of every tile: voltage (1 + gain)·q + offset."""

    gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    offset_sigma_lsb: float = Field(default=0.0, ge=0)


class Dac(Spec):
    """q = round(clamp(x, ±β)·n/β), n = 2^(bits-1) - 1, half to even, and how q reaches the rows.

    ``amplitude``: one read, a voltage for every code. ``pulse_width``: one read, a time for every code. ``bit_serial``:
    signed slices of ``slice_bits`` bits of the magnitude, one read each, with a slice's largest value at full input;
    ``accumulate = "digital"`` converts each read, then shifts and adds; ``"analog"`` converts their weighted sum once.
    The modes differ in what the ADC sees and in read noise; with an ideal ADC and quiet cells they are equal.
    """

    bits: Bits = 8
    mode: Literal["amplitude", "pulse_width", "bit_serial"] = "amplitude"
    slice_bits: int = Field(default=1, ge=1, le=7)
    accumulate: Literal["digital", "analog"] = "digital"
    range: StaticRange | PerTokenRange = Field(default=PerTokenRange(), discriminator="method")
    errors: DacErrors | None = None

    @property
    def levels(self) -> int:
        """n, the largest code."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def reads(self) -> int:
        """Reads of a product that a tile makes."""
        return slice_count(self.levels, self.slice_bits) if self.mode == "bit_serial" else 1


class LambdaRule(Spec):
    """Full scale = lambda_, in currents of one full-scale weight under one full-scale input (AFM: λ·β·max|W_:,j|)."""

    rule: Literal["lambda"]
    lambda_: float = Field(gt=0)
    # "noisy": of the programmed weights instead of the targets, column by column, as IBM's released code does
    bound_from: Literal["target", "noisy"] = "target"


class LeastSquares(Spec):
    """Full scale of each tile that minimises the square error of its outputs on the calibration text, ideal cells."""

    rule: Literal["least_squares"] = "least_squares"


class AdcErrors(Spec):
    """What trimming leaves of an ADC, drawn once a chip for every column of every tile, and its thermal noise.

    The signal s = I/lsb becomes (1 + gain)·s + offset, bent by an S-shaped curve that is zero at 0 and at full scale;
    its peak is the integral nonlinearity. ``noise_lsb`` is fresh in every conversion, before gain and curve act.
    """

    gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    offset_sigma_lsb: float = Field(default=0.0, ge=0)
    inl_sigma_lsb: float = Field(default=0.0, ge=0)
    noise_lsb: float = Field(default=0.0, ge=0)


class Adc(Spec):
    """code = clamp(round(I/lsb), ±n), lsb = full scale / n, n = 2^(bits-1) - 1, half to even. One full scale a tile."""

    bits: Bits = 8
    full_scale: LambdaRule | LeastSquares = Field(default=LeastSquares(), discriminator="rule")
    errors: AdcErrors | None = None

    @property
    def levels(self) -> int:
        """n, the largest code."""
        return int(2 ** (self.bits - 1) - 1)
