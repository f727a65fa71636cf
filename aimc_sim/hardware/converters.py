"""Specs of the converters at a tile's edges: input ranges, DAC, full scales, ADC, and what trimming leaves of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.kernels.reads import slice_count
from aimc_sim.spec import Spec

Bits = Annotated[int, Field(ge=2, le=16)]
Codes = Annotated[float, Field(ge=0, le=65536)]  # a deviation; no converter has more codes


class StaticRange(Spec):
    """A static range says how an input range β is found where the checkpoint brings none: one pass over the calibration
    text.

    ``std`` takes one standard deviation over the whole text; AFM averages those of its first 500 training batches.
    ``least_squares`` minimises the square error of the inputs themselves, ``least_output_error`` that of the products.

    >>> from aimc_sim.hardware import StaticRange
    >>> StaticRange(method="percentile").percentile
    99.99
    """

    method: Literal["std", "max", "percentile", "least_squares", "least_output_error"] = "std"
    kappa: float = Field(default=15.0, gt=0, le=1e6)  # std: β = kappa·std(x)
    percentile: float = Field(default=99.99, gt=0, le=100)  # of |x|
    per: Literal["matrix", "tile"] = "matrix"  # one β for a matrix's input, or one a row tile


class PerTokenRange(Spec):
    """A range per token is β = max |x| of each token, over the whole input or over the rows of each tile.

    >>> from aimc_sim.hardware import Dac, PerTokenRange
    >>> Dac().range == PerTokenRange()
    True
    """

    method: Literal["per_token"] = "per_token"
    per: Literal["matrix", "tile"] = "tile"


class DacErrors(Spec):
    """DAC errors are what trimming leaves, drawn once a chip for every row of every tile: (1 + gain)·(q + offset +
    inl·s(q)).

    s is an S-shaped curve of the code, zero at 0 and at full scale, ±1 at its peaks, in steps of 1/127. Its term is a
    second product of whole numbers, so that it costs as much again and is as exact as the first.

    >>> from aimc_sim.hardware import Dac, DacErrors
    >>> Dac(errors=DacErrors(gain_sigma=0.01)).errors.gain_sigma
    0.01
    """

    gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    offset_sigma_lsb: Codes = 0.0
    inl_sigma_lsb: float = Field(default=0.0, ge=0, le=8)  # peak of the curve


OF_MODE = {"multi_phase": ("phases",), "bit_serial": ("slice_bits", "coding")}


class Dac(Spec):
    """A DAC makes q = round(clamp(x, ±β)·n/β), n = 2^(bits-1) - 1, half to even, and brings q to the rows.

    ``amplitude``: one read, a voltage for every code. ``pulse_width``: one read, a time for every code.
    ``multi_phase``: pulse widths, positive inputs and negative ones in a read each (``phases`` 2), and these for each
    column of a pair (4: columns that are subtracted digitally); 1 is ``pulse_width``. As on IBM's Hermes (Le Gallo et
    al., Nat. Electron. 2023, Extended Data Fig. 4). ``bit_serial``: slices of ``slice_bits`` bits, one read each, with
    a slice's largest value at full input. ``coding``: of the magnitude with the code's sign, or of q + 2^(bits-1),
    whose constant, 2^(bits-1)·Σw as the columns hold it, is taken off after conversion.
    ``accumulate = "digital"`` converts each read, then adds with sign and significance; ``"analog"`` converts that sum
    once. The modes differ in what the ADC sees and in read noise; with an ideal ADC and quiet cells they are equal.

    >>> from aimc_sim import Hardware
    >>> Hardware.load({"device": "ideal", "dac": {"bits": 6, "mode": "bit_serial"}}).dac.bits
    6
    """

    bits: Bits = 8
    mode: Literal["amplitude", "pulse_width", "multi_phase", "bit_serial"] = "amplitude"
    phases: Literal[1, 2, 4] = 2  # of multi_phase
    slice_bits: int = Field(default=1, ge=1, le=7)  # of bit_serial, and
    coding: Literal["signed", "offset"] = "signed"
    accumulate: Literal["digital", "analog"] = "digital"
    range: StaticRange | PerTokenRange = Field(default=PerTokenRange(), discriminator="method")
    errors: DacErrors | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for mode, names in OF_MODE.items():
            for name in names if self.mode != mode else ():
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name} = {getattr(self, name)!r} is of mode '{mode}', and the mode is '{self.mode}', where "
                        f"it would change nothing; set mode = '{mode}', or leave {name} out"
                    )
        if self.mode != "bit_serial":
            return self
        if self.coding == "offset" and self.accumulate == "analog":
            raise ValueError(
                "the constant of offset-coded slices is taken off after each conversion, and accumulate = 'analog' "
                "converts once; set accumulate = 'digital' or coding = 'signed'"
            )
        if self.errors is not None and self.errors.inl_sigma_lsb:
            raise ValueError(
                "inl_sigma_lsb is a curve over whole codes, and bit_serial drives slices of them; set it to 0, or "
                "choose mode 'amplitude', 'pulse_width' or 'multi_phase'"
            )
        return self

    @property
    def max_code(self) -> int:
        """Return n, the largest code."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def reads(self) -> int:
        """Return the reads of a product by one converter of a tile (four phases are two reads of each column of a
        pair).
        """
        if self.mode == "multi_phase":
            return min(self.phases, 2)
        if self.mode != "bit_serial":
            return 1
        return slice_count(self.max_code if self.coding == "signed" else 2**self.bits - 1, self.slice_bits)


class LambdaRule(Spec):
    """The lambda rule makes full scale = lambda_, in currents of one full-scale weight under one full-scale input
    (AFM: λ·β·max|W_:,j|).

    λ belongs to the height of the tiles that it was tuned for (AFM: untiled). ``derive``: find it anew for the present
    tiles, one λ for the whole model or one a matrix, with the least error of the products on the calibration text, from
    lambda_/32 to 4·lambda_.

    >>> from aimc_sim.hardware import Adc, LambdaRule
    >>> Adc(full_scale=LambdaRule(rule="lambda", lambda_=14.0)).full_scale.lambda_
    14.0
    """

    rule: Literal["lambda"]
    lambda_: float = Field(ge=1e-6, le=1e6)
    # "noisy": of the programmed weights instead of the targets, column by column, as IBM's released code does
    bound_from: Literal["target", "noisy"] = "target"
    derive: Literal["model", "matrix"] | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.derive is not None and self.bound_from == "noisy":
            raise ValueError(
                "a λ that is derived is a full scale of the targets; leave bound_from at 'target'"
            )
        return self

    @property
    def calibrated(self) -> bool:
        """Return whether full scales are found by calibration."""
        return self.derive is not None


class FittedScale(Spec):
    """A fitted scale is found by calibration, one a tile or one for all tiles of a matrix; cells are exact
    meanwhile.
    """

    per: Literal["tile", "matrix"] = "tile"

    @property
    def calibrated(self) -> bool:
        """Return whether full scales are found by calibration."""
        return True


class LeastSquares(FittedScale):
    """This rule finds the full scale with the least square error of the conversions, in units of the output, on the
    calibration text.

    >>> from aimc_sim.hardware import Adc, LeastSquares
    >>> Adc().full_scale == LeastSquares()
    True
    """

    rule: Literal["least_squares"] = "least_squares"


class LeastOutputError(FittedScale):
    """This rule finds the full scale with the least square error of the matrix's products on the calibration text: what
    tiles lose together, row over row.
    """

    rule: Literal["least_output_error"] = "least_output_error"


class PercentileScale(FittedScale):
    """This rule takes a percentile of |current| on the calibration text as full scale."""

    rule: Literal["percentile"] = "percentile"
    percentile: float = Field(default=99.99, gt=0, le=100)


class WorstCase(FittedScale):
    """This rule takes the largest current that any input can cause in exact cells: the largest Σ|weight| of a column.
    It needs no text.

    Nothing clips with exact cells; programming noise can push a column that is near it beyond, by about its own size.
    """

    rule: Literal["worst_case"] = "worst_case"


FullScale = LambdaRule | LeastSquares | LeastOutputError | PercentileScale | WorstCase


class AdcErrors(Spec):
    """ADC errors are drawn once a chip for every column of every tile; thermal noise is fresh in every conversion.

    The signal s = I/lsb becomes (1 + gain)·s + offset, bent by an S-shaped curve that is zero at 0 and at full scale;
    its peak is the integral nonlinearity. ``noise_lsb`` is fresh in every conversion, before gain and curve act.

    Gain and offset are what trimming leaves, unless ``trim_bits`` says how fine it is: then they are what there is
    before, and e becomes e - step·clamp(round(e/step), -2^(bits-1), 2^(bits-1) - 1) with step = 8·sigma/2^bits, which
    spreads evenly over ±step/2 (σ = step/√12) but for one error in 16,000, beyond ±4·sigma.

    ``unit_cap_sigma``: relative deviation of the unit capacitor of a SAR. 2^k of them make capacitor k, which is off by
    unit_cap_sigma·√2^k units. At mid-scale the curve's σ is unit_cap_sigma·√2^bits/2 LSB, that of the step
    unit_cap_sigma·√(2^bits - 1) (M. Saberi et al., IEEE TCAS-I 58, 2011).

    >>> from aimc_sim.hardware import Adc, AdcErrors
    >>> Adc(kind="sar", errors=AdcErrors(unit_cap_sigma=0.005)).errors.unit_cap_sigma
    0.005
    """

    gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    offset_sigma_lsb: Codes = 0.0
    inl_sigma_lsb: Codes = 0.0
    noise_lsb: Codes = 0.0
    trim_bits: int | None = Field(default=None, ge=1, le=16)
    unit_cap_sigma: float = Field(default=0.0, ge=0, le=0.1)


class Adc(Spec):
    """An ADC makes code = clamp(round(I/lsb), ±n), lsb = full scale / n, n = 2^(bits-1) - 1, half to even. One full
    scale a tile.

    The kind is what errs: ``generic`` has a gain, an offset and a curve a column. ``ramp``: gain and curve belong to
    the ramp that the columns of a tile share, the offset to each column's comparator. ``sar``: gain and offset a
    column, and a search through capacitors that do not quite match. Without errors they are one and the same.

    >>> from aimc_sim.hardware import Adc
    >>> Adc(bits=6).kind
    'generic'
    """

    bits: Bits = 8
    kind: Literal["generic", "sar", "ramp"] = "generic"
    full_scale: FullScale = Field(default=LeastSquares(), discriminator="rule")
    errors: AdcErrors | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        errors = self.errors
        if errors is None:
            return self
        if self.kind == "sar" and errors.inl_sigma_lsb:
            raise ValueError(
                "the curve of a SAR comes from its capacitors: give errors.unit_cap_sigma instead of inl_sigma_lsb"
            )
        if self.kind != "sar" and errors.unit_cap_sigma:
            raise ValueError(
                f"errors.unit_cap_sigma belongs to capacitors, which an ADC of kind {self.kind!r} has not: set "
                "kind = 'sar', or give errors.inl_sigma_lsb"
            )
        return self

    @property
    def max_code(self) -> int:
        """Return n, the largest code."""
        return int(2 ** (self.bits - 1) - 1)
