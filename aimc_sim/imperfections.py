"""Specs of what differs from chip to chip beside the noise of its cells: faults, and dies and tiles as a whole."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.spec import Spec

Rate = Annotated[float, Field(ge=0, le=1)]


class Faults(Spec):
    """Defects of manufacture, drawn once a chip: they outlast reprogramming and do not drift.

    Stuck cells are single devices, a share of all devices of either polarity. A dead row of a tile passes no input, a
    dead column gives code 0.
    """

    stuck_low_rate: Rate = 0.0  # at g_min
    stuck_high_rate: Rate = 0.0  # at g_max
    dead_row_rate: Rate = 0.0
    dead_column_rate: Rate = 0.0

    @model_validator(mode="after")
    def _one_fate(self) -> Self:
        if self.stuck_low_rate + self.stuck_high_rate > 1:
            raise ValueError("a cell is stuck low or high, so both rates together are at most 1")
        return self


class Variation(Spec):
    """How dies, and tiles on a die, differ as a whole: standard deviations of one normal draw each.

    Gains multiply currents and are not calibrated out; ``nu_sigma`` shifts the mean drift exponent of every cell, and
    ``noise_scale_sigma`` scales the programming error (never below zero).
    """

    die_gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    tile_gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative
    adc_gain_sigma: float = Field(default=0.0, ge=0, le=0.5)  # relative, all ADCs of a die alike
    nu_sigma: float = Field(default=0.0, ge=0)
    noise_scale_sigma: float = Field(default=0.0, ge=0)  # relative
