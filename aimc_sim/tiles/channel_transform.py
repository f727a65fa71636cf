"""Outlier transforms: exact digital changes of a matrix's input channels before it is mapped to tiles.

With T invertible, x·wᵀ = (x·T)·(w·T⁻ᵀ)ᵀ: the weights are changed once, before mapping, the inputs in every product,
before the DAC. Three steps, in this order, each optional:

    rescale   x_k / s_k and w_k · s_k: an input channel's range moves into its weights
    rotate    x·D·H/√b and w·D·H/√b, signs D and a Hadamard matrix H: an outlier is shared out over its block
    permute   another channel at each row of the tiles: which channels share a DAC range

A permuted weight is another cell's: cells are named by the row they lie in, so it takes the draws of its new site.
`hardware.Transform` is what a hardware file says, `ChannelTransform` what that comes to for one matrix (`derive`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from typing_extensions import Self

from aimc_sim.aliases import F32, F64, I64
from aimc_sim.errors import BadInput
from aimc_sim.hardware.transform import Transform
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.transforms import transform_rows
from aimc_sim.randomness import Stream, key_of, site_word
from aimc_sim.spec import Spec

SMALLEST_BLOCK = 64  # of a rotation whose block nobody chose
FLOOR = 1e-6  # least channel, relative to the largest: one that the text never used keeps a finite scale
BLOCK_VALUES = 1 << 16  # values that a thread transforms at once


class ChannelSizes(Protocol):
    """Channel sizes are what calibration saw of a matrix's input channels, such as `aimc_sim.weightfile.Moments`."""

    @property
    def max_abs(self) -> F32: ...  # (K,) largest |x|
    @property
    def second_moment(self) -> F32: ...  # (K,) mean of x²


@dataclass(frozen=True, eq=False)  # eq=False: steps are compared by their fields, never by cached arrays
class _Plan:
    """A plan is what the kernel does to a row: gains, block bounds (empty: no rotation), order (empty: as it is)."""

    to_weight: F32
    to_input: F32
    blocks: I64
    order: I64


class _Step(Spec):
    """A step changes the input channels. Frozen; `model_dump` is its JSON and `id` its name."""

    @cached_property
    @abstractmethod
    def plan(self) -> _Plan:
        """Return what the kernel does to a row of weights, and to a row of inputs."""

    def apply_weight(self, w: F32) -> F32:
        """w (N, K) float32 → (N, K) float32, new memory; every output by itself. Raises BadInput for other shapes."""
        return _apply_plan(self.plan, self.plan.to_weight, w, "w")

    def apply_input(self, x: F32) -> F32:
        """x (B, K), any dtype that converts to float32 → (B, K) float32, new memory; B may be 0.

        Each row's result depends on that row alone, the same bits for any split of B and any number of threads.
        Raises BadInput for other shapes.
        """
        return _apply_plan(self.plan, self.plan.to_input, x, "x")


class Rescale(_Step):
    """Rescaling makes x_k / s_k and w_k · s_k, for ``scale`` = s (K,)."""

    scale: tuple[Annotated[float, Field(ge=1e-18, le=1e18)], ...] = Field(min_length=1)

    @cached_property
    def plan(self) -> _Plan:
        scale = np.array(self.scale)
        return _Plan(_f32(scale), _f32(1 / scale), _none(), _none())


class Rotate(_Step):
    """Random signs, then a Hadamard matrix of order b, over √b, on each block of b channels: orthonormal, so weights
    and inputs take the same. Blocks of ``block`` as far as they go, then of ever smaller powers of two.
    """

    inputs: int = Field(ge=1)
    block: int = Field(ge=1)
    seed: int = Field(default=0, ge=0, lt=1 << 64)

    @model_validator(mode="after")
    def _block(self) -> Self:
        if self.block & (self.block - 1):
            raise ValueError("a Hadamard block is a power of two")
        return self

    @cached_property
    def plan(self) -> _Plan:
        sizes, rest, size = [], self.inputs, self.block
        while rest:
            sizes += [size] * (rest // size)
            rest, size = rest % size, size // 2
        bounds = np.cumsum([0, *sizes])
        gain = _f32(signs(self.inputs, self.seed) / np.sqrt(np.repeat(sizes, sizes)))
        return _Plan(gain, gain, bounds.astype(np.int64), _none())


class Permute(_Step):
    """Channel order[i] of the model lies at row i of the tiles. ``order``: every number from 0 to K-1 once."""

    order: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError("an order names every channel from 0 on exactly once")
        return self

    @cached_property
    def plan(self) -> _Plan:
        ones = np.ones(len(self.order), np.float32)
        return _Plan(ones, ones, _none(), np.array(self.order, np.int64))


class ChannelTransform(_Step):
    """Rescale, then rotate, then permute; None: that step is absent. At least one of them is there, all of one size."""

    rescale: Rescale | None = None
    rotate: Rotate | None = None
    permute: Permute | None = None

    @model_validator(mode="after")
    def _of_one_size(self) -> Self:
        if len({step.plan.to_weight.size for step in self.steps}) != 1:
            raise ValueError("a transform has at least one step, and all of them the same number of channels")
        return self

    @property
    def steps(self) -> tuple[_Step, ...]:
        """Return the steps that are there, in the order in which they are applied."""
        return tuple(s for s in (self.rescale, self.rotate, self.permute) if s is not None)

    @cached_property
    def plan(self) -> _Plan:
        """All gains come before the rotation and the order after it: one pass over a row does everything."""
        plans = [step.plan for step in self.steps]
        to_weight, to_input = np.ones((2, plans[0].to_weight.size))
        for plan in plans:
            to_weight *= plan.to_weight
            to_input *= plan.to_input
        blocks = _none() if self.rotate is None else self.rotate.plan.blocks
        order = _none() if self.permute is None else self.permute.plan.order
        return _Plan(_f32(to_weight), _f32(to_input), blocks, order)


def derive(spec: Transform, w: F32, sizes: ChannelSizes, row_bounds: I64) -> ChannelTransform:
    """Return what ``spec`` comes to for one matrix: a pure function of its weights, its calibration and its row tiles.

    w: (N, K) float32. sizes: the matrix's moments. row_bounds: (row tiles + 1,), `mapping.TileMap.row_bounds`.
    Raises BadInput for sizes that do not fit, and for a spec without steps.
    """
    inputs = w.shape[1]
    largest, power = (np.asarray(v, np.float64) for v in (sizes.max_abs, sizes.second_moment))
    if largest.shape != (inputs,) or power.shape != (inputs,) or row_bounds[-1] != inputs:
        raise BadInput(
            "transform",
            got=(largest.shape, power.shape, int(row_bounds[-1])),
            why=f"the matrix has {inputs} inputs, so it takes as many moments and tiles that cover as many",
            do="give the moments and the tiles of this matrix",
        )
    rescale = rotate = permute = None
    by_max = spec.size_from == "max"
    size = largest if by_max else np.sqrt(power)
    if spec.rescale_lambda is not None:
        of_w = np.abs(w).max(axis=0) if by_max else np.sqrt(np.mean(np.square(w, dtype=np.float64), axis=0))
        rescale = rescale_of(size, of_w, spec.rescale_lambda)
        size = size / np.array(rescale.scale)
    if spec.rotate is not None:
        rotate = rotate_of(inputs, spec.rotate_block, spec.rotate_seed)
    if spec.permute is not None:
        permute = permute_of(size if rotate is None else sizes_after(rotate, size), row_bounds, spec.permute)
    if rescale is None and rotate is None and permute is None:
        raise BadInput("transform", why="it has no steps", do="add rescale_lambda, rotate or permute")
    return ChannelTransform(rescale=rescale, rotate=rotate, permute=permute)


def rescale_of(x_size: npt.ArrayLike, w_size: npt.ArrayLike, lambda_: float) -> Rescale:
    """s_k = x_k^L / w_k^(1-L) of channel sizes (K,) each, as NORA does; sizes are floored at FLOOR · the largest."""
    x, w = (_floor_sizes(np.asarray(size, np.float64)) for size in (x_size, w_size))
    scale = x**lambda_ / w ** (1 - lambda_)
    return Rescale(scale=tuple(np.clip(scale, 1e-15, 1e15).astype(np.float32).tolist()))


def rotate_of(inputs: int, block: int | None = None, seed: int = 0) -> Rotate:
    """Return the rotation of so many channels; block None: see `Transform.rotate_block`."""
    if block is None:
        divides = inputs & -inputs
        block = divides if divides >= SMALLEST_BLOCK else 1 << (inputs.bit_length() - 1)
    return Rotate(inputs=inputs, block=block, seed=seed)


def signs(inputs: int, seed: int) -> F32:
    """Return ±1 (K,) float32: bit k & 31 of word (k >> 5) & 3 of Philox call k >> 7, set for −1."""
    calls = -(-inputs // 128)
    counter = np.zeros((calls, 4), np.uint32)
    counter[:, 0], counter[:, 3] = np.arange(calls), site_word(Stream.ROTATION, 0)
    words = philox4x32(counter, key_of(seed)).reshape(-1, 1)
    bits = (words >> np.arange(32, dtype=np.uint32) & np.uint32(1)).reshape(-1)[:inputs]
    return np.where(bits == 1, np.float32(-1), np.float32(1))


def sizes_after(rotate: Rotate, size: F64) -> F64:
    """Return the sizes (K,) of rotated channels: root mean squares over their blocks, as for uncorrelated channels."""
    blocks = rotate.plan.blocks
    lengths = np.diff(blocks)
    return np.asarray(np.sqrt(np.repeat(np.add.reduceat(size**2, blocks[:-1]) / lengths, lengths)))


def permute_of(size: npt.ArrayLike, row_bounds: I64, how: Literal["group", "spread"]) -> Permute:
    """Return which channel lies in which row tile, by channel sizes (K,); within a tile they keep the model's order.

    group: the least Σ over row tiles of (largest size)², which is what the DACs' rounding is proportional to where each
    tile has a range: channels by falling size, the highest tiles first, so that few tiles have a large one. spread:
    tiles with about equal Σ size², so that none saturates its ADC: by falling size, each channel to the tile with the
    least so far a row among those with room.
    """
    sizes = np.asarray(size, np.float64)
    falling = np.argsort(-sizes, kind="stable")
    room = np.diff(row_bounds)
    tile = np.empty(sizes.size, np.int64)
    if how == "group":
        highest_first = np.argsort(-room, kind="stable")
        tile[falling] = np.repeat(highest_first, room[highest_first])
    else:
        height, power = room.astype(np.float64), np.zeros(room.size)
        left = room.copy()
        for channel in falling:
            tile[channel] = t = int(np.argmin(np.where(left > 0, power / height, np.inf)))
            power[t] += sizes[channel] ** 2
            left[t] -= 1
    return Permute(order=tuple(np.argsort(tile, kind="stable").tolist()))


def _floor_sizes(size: F64) -> F64:
    largest = float(size.max(initial=0))
    if not np.isfinite(largest):
        raise BadInput(
            "channel sizes", got=largest, why="a scale needs finite ones", do="mend the checkpoint"
        )
    return np.maximum(size, FLOOR * largest) if largest > 0 else np.ones_like(size)


def _f32(values: npt.NDArray[np.floating]) -> F32:
    return np.ascontiguousarray(values, dtype=np.float32)


def _none() -> I64:
    return np.empty(0, np.int64)


def _apply_plan(plan: _Plan, gain: F32, rows: F32, what: str) -> F32:
    inputs = gain.size
    if rows.ndim != 2 or rows.shape[1] != inputs:
        raise BadInput(
            what, got=rows.shape, why=f"this transform takes (rows, {inputs})", do="give that many channels"
        )
    source = np.ascontiguousarray(rows, dtype=np.float32)
    out = np.empty(source.shape, np.float32)

    def block(first: int, last: int) -> None:
        transform_rows(source, gain, plan.blocks, plan.order, first, last, out)

    run_blocks(block, len(source), max(1, BLOCK_VALUES // inputs))
    return out
