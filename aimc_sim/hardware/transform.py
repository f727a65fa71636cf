"""Outlier transforms as a hardware file asks for them: rescale, rotate, permute the input channels of some matrices.

What such a table comes to for one matrix is `aimc_sim.tiles.channel_transform.ChannelTransform`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.spec import Spec

Role = Literal["q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "head"]


class Transform(Spec):
    """A transform changes the input channels of some matrices before mapping. A step that is absent is not done.

    Where several tables name a matrix, the first one counts; a table without steps leaves its matrices as they are.
    A rotation depends on the number of inputs only, so matrices that share an input share its rotated form.

    >>> from aimc_sim.hardware import Transform
    >>> Transform(rotate="hadamard", roles=("down",)).rescale_lambda is None
    True
    """

    # L of s_k = (size of x_k)^L / (size of w_k)^(1-L); 0: weight channels alike, 1: input channels alike
    rescale_lambda: float | None = Field(default=None, ge=0, le=1)
    # size of a channel on the calibration text and over its weights: the largest magnitude (NORA), or root mean square
    size_from: Literal["max", "rms"] = "max"
    rotate: Literal["hadamard"] | None = None
    # channels that are mixed, a power of two; None: the largest that divides the inputs (if that is below 64, the
    # largest within them); what whole blocks leave over is rotated in ever smaller powers of two
    rotate_block: int | None = Field(default=None, ge=2)
    # key of the signs: a design choice, the same on every chip
    rotate_seed: int = Field(default=0, ge=0, lt=1 << 64)
    # group: few row tiles see a large input (the least sum over tiles of the largest squared); spread: equal power
    permute: Literal["group", "spread"] | None = None
    matrices: tuple[str, ...] = ("*",)  # patterns (``*`` and ``?``) of module names
    roles: tuple[Role, ...] | None = None  # only matrices of these roles; None: of any

    @model_validator(mode="after")
    def _block(self) -> Self:
        if self.rotate_block is not None and self.rotate is None:
            raise ValueError(
                "rotate_block says how rotate works, and there is no rotate; add rotate = 'hadamard'"
            )
        if self.rotate_block is not None and self.rotate_block & (self.rotate_block - 1):
            raise ValueError("a Hadamard block is a power of two")
        return self

    def applies(self, name: str, role: str) -> bool:
        """Return whether it names the matrix ``name`` of that role."""
        named = any(fnmatchcase(name, pattern) for pattern in self.matrices)
        return named and (self.roles is None or role in self.roles)


def choose_transform(transforms: Sequence[Transform], name: str, role: str) -> Transform | None:
    """Choose the first of ``transforms`` that names the matrix; None where none does or where that one has no steps."""
    first_named = next((transform for transform in transforms if transform.applies(name, role)), None)
    if first_named is None or (
        first_named.rescale_lambda is None and first_named.rotate is None and first_named.permute is None
    ):
        return None
    return first_named
