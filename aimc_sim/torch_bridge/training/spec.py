"""What training simulates of a chip, beside what the hardware says: a frozen spec, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.spec import Spec


class Training(Spec):
    """A training spec sets noise, clipping, ranges and gradients of training for a chip (Büchel et al., NeurIPS 2025,
    arXiv 2505.09663).

    Tiles, converters, λ, κ, placement and device are those of the hardware. The defaults are AFM's for Llama.

    >>> from aimc_sim.torch_bridge import Training
    >>> Training(gamma=0.05).clip_sigma
    2.5
    """

    # gaussian: γ·max|column|·z of the column in its tile, fresh every step; device: cells, programmed anew
    noise: Literal["gaussian", "device"] | None = "gaussian"
    gamma: float = Field(default=0.03, ge=0)
    age_s: float = Field(default=0.0, ge=0)  # device: seconds since programming
    # α: |W_:,j| ≤ α·std(W_:,j) after every update; None: never
    clip_sigma: float | None = Field(default=2.5, gt=0)
    range_forwards: int = Field(default=500, ge=1)  # forwards whose κ·std(x) make the first static ranges
    range_decay: float = Field(default=0.01, ge=0)  # the range shrinks by so much of itself while …
    range_unclipped: float = Field(default=0.95, ge=0, le=1)  # … more than this share of x is not clipped
    learn_ranges: bool = True
    backward: Literal["clean", "noisy"] = "clean"  # the weights that gradients to x go through
    saturation: Literal["masked", "straight_through"] = "masked"  # gradients through an ADC at its end
    # fake quantisation a channel, before the noise (LLM-QAT)
    weight_bits: int | None = Field(default=None, ge=2, le=8)
    # exact: the forward is the whole tile simulator, wires and faults and all; gradients go straight through it
    forward: Literal["fast", "exact"] = "fast"

    @model_validator(mode="after")
    def _exact(self) -> Self:
        if self.forward == "exact" and self.noise == "gaussian":
            raise ValueError(
                "the exact forward draws the hardware's own cells; use noise = 'device', or None for ideal ones"
            )
        if self.forward == "exact" and self.weight_bits is not None:
            raise ValueError("the exact forward programs weights as they are; leave weight_bits out")
        if self.forward == "exact" and self.saturation == "masked":
            raise ValueError(
                "the exact forward does not say which conversions saturated; use saturation = 'straight_through'"
            )
        return self
