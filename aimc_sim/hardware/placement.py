"""Which matrices are digital, and which lie in tiles in another way than the rest of the hardware says."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.errors import BadInput
from aimc_sim.hardware.cells import MAX_COPIES
from aimc_sim.hardware.converters import Bits
from aimc_sim.spec import Spec


class Special(Spec):
    """A special table says that some matrices lie in tiles in another way. ``matrices``: patterns (``*`` and ``?``) of
    module names.

    copies, devices: of ``[weights]``; adc_bits: of ``[adc]``. None: as the rest of the hardware.

    >>> from aimc_sim.hardware import Special
    >>> Special(matrices=("lm_head",), copies=4).copies
    4
    """

    matrices: tuple[str, ...] = Field(min_length=1)
    copies: Annotated[int, Field(ge=1, le=MAX_COPIES)] | None = None
    devices: Literal[1, 2] | None = None
    adc_bits: Bits | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.copies is None and self.devices is None and self.adc_bits is None:
            raise ValueError("it changes nothing; give copies, devices or adc_bits, or leave the table out")
        return self

    def names(self, name: str) -> bool:
        """Return whether a matrix is one of these."""
        return any(fnmatchcase(name, pattern) for pattern in self.matrices)


class Placement(Spec):
    """A placement says which matrix products are digital by choice. ``digital``: patterns (``*`` and ``?``) of module
    names.

    ``special``: matrices in tiles that are held otherwise; the first table that names a matrix counts.

    >>> from aimc_sim.hardware import Placement
    >>> Placement(digital=("*.v_proj",)).lm_head
    'analog'
    """

    lm_head: Literal["analog", "digital"] = "analog"
    digital: tuple[str, ...] = ()
    special: tuple[Special, ...] | None = None

    def is_analog(self, name: str, role: str) -> bool:
        """Return whether a matrix lies in tiles."""
        if role == "head" and self.lm_head == "digital":
            return False
        return not any(fnmatchcase(name, pattern) for pattern in self.digital)

    def special_of(self, name: str) -> Special | None:
        """Return how a matrix is held otherwise; None: as the hardware says."""
        return next((item for item in self.special or () if item.names(name)), None)

    def check(self, matrices: Sequence[tuple[str, str]]) -> None:
        """Raise BadInput for a pattern that names none of a model's matrices, (name, role) each."""
        like = f"use names such as {matrices[0][0]!r}, with * and ?" if matrices else "leave it out"
        for pattern in self.digital:
            if not any(fnmatchcase(name, pattern) for name, _ in matrices):
                raise BadInput(
                    "placement.digital", got=pattern, why="it matches no matrix of this model", do=like
                )
        for pattern in (pattern for item in self.special or () for pattern in item.matrices):
            named = [(name, role) for name, role in matrices if fnmatchcase(name, pattern)]
            if not named:
                raise BadInput(
                    "placement.special", got=pattern, why="it matches no matrix of this model", do=like
                )
            if not any(self.is_analog(name, role) for name, role in named):
                raise BadInput(
                    "placement.special", got=pattern, why="what it names is digital by placement.digital or lm_head",
                    do="take it out of one of the two",
                )  # fmt: skip
