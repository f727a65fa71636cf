"""One weight matrix in the cells of one chip: programmed, drifted, read as tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from aimc_sim.aliases import F32
from aimc_sim.chip import compensation, mapping
from aimc_sim.chip.array import CellArray, check_finite
from aimc_sim.chip.blocks import Block, Each, Whole
from aimc_sim.chip.columns import ConvertedColumns
from aimc_sim.chip.fault_sites import mapped_faults
from aimc_sim.chip.mapping import TileMap, tile_map
from aimc_sim.chip.ranges import NO_RANGES, MatrixRange
from aimc_sim.chip.repair import RepairedArray, repair_array
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.kernels.cells import Cells
from aimc_sim.tiles.channel_transform import ChannelTransform
from aimc_sim.tiles.matrix import TiledMatrix

SIGNS: tuple[Literal[-1, 0, 1], ...] = (1, -1)  # the two columns of a pair …
WHOLE: tuple[Literal[-1, 0, 1], ...] = (0,)  # … or the pair


@dataclass(frozen=True)
class CellMatrix:
    """A cell matrix is a matrix w (N, K) float32 (out × in) in the cells of the chip that ``seed`` names, at one time.

    ordinal: which matrix of the model it is, a part of its cells' names. programming_cycle: how often it has been
    programmed before. session: which draw of the frozen 1/f noise. ranges: converter ranges, where the hardware needs
    them.
    Raises BadInput for weights that are not finite or not a matrix, and for a time that the device does not cover.

    >>> import numpy as np
    >>> from aimc_sim import Hardware
    >>> from aimc_sim.chip import CellMatrix
    >>> hardware = Hardware.load({"device": "pcm-hermes-2", "tile": {"rows": 256}})
    >>> CellMatrix(np.float32([[0.5, -0.25, 1.0]]), hardware, seed=7, t_s=86400.0).effective_weights().shape
    (1, 3)
    """

    w: F32
    hardware: Hardware
    seed: int
    t_s: float = 0.0
    ordinal: int = 0
    programming_cycle: int = 0
    session: int = 0
    ranges: MatrixRange = NO_RANGES
    name: str = "matrix"
    transform: ChannelTransform | None = None  # that w went through already, and its inputs have to
    first_output: int = 0  # of the whole matrix, where w is some of its outputs: see `ChipState.pieces`

    def __post_init__(self) -> None:
        if self.w.ndim != 2 or self.w.dtype != np.float32 or 0 in self.w.shape:
            raise BadInput(
                f"weights of {self.name}",
                got=(self.w.shape, str(self.w.dtype)),
                why="a crossbar holds a matrix",
                do="give (outputs, inputs) float32",
            )
        self.hardware.check_time(self.t_s)

    @cached_property
    def tile_map(self) -> TileMap:
        """Return where the matrix is cut into tiles."""
        return tile_map(self.w.shape[1], self.w.shape[0], self.hardware.tile)

    @cached_property
    def _mapped(self) -> tuple[list[CellArray | RepairedArray], F32 | None]:
        """Return the arrays that hold the matrix, and its scales where they are not each array's own."""
        cycles, age_s = self.hardware.age(self.t_s)
        with np.errstate(invalid="ignore"):  # what is not finite is refused below
            targets, scales = mapping.arrays(self.w, self.tile_map, self.hardware.weights)
        if scales is not None:
            check_finite(scales, self.name)
        names = None
        if self.first_output:
            names = np.arange(self.first_output, self.first_output + self.w.shape[0], dtype=np.uint32)
        faults = mapped_faults(self.hardware, self.tile_map, self.name)
        plain = [
            CellArray(
                array, self.hardware, self.tile_map, self.seed, self.ordinal, self.programming_cycle + cycles, age_s,
                self.session, self.name, faults, names,
            )
            for array in targets
        ]  # fmt: skip
        return [repair_array(array) for array in plain], scales

    @property
    def arrays(self) -> list[CellArray | RepairedArray]:
        """Return the arrays that hold the matrix: one, or one a slice, least significant first; so for every copy."""
        return self._mapped[0]

    def cells(self, columns: int | None = None) -> Cells:
        """Return the conductances and effective weights of the first ``columns`` columns (None: all), by the readable
        formula.

        ``programmed`` and ``now`` are (polarities, N, K) µS, the positive one first; ``effective`` is (N, K). Of the
        first array and of the first device a polarity, without wires.
        """
        return self.arrays[0].reference(columns)

    def effective_weights(self) -> F32:
        """Return (N, K) float32: every weight as its cells hold it now,
        relative to the weight that full scale stands for.
        """
        if len(self.arrays) > 1:
            return self._combine_arrays(self.arrays, compensated=False, with_total=False).effective
        array, whole = self.arrays[0], Whole(*self.w.shape, needs_total=False)
        array.program_into(whole)
        whole.effective *= np.float32(array.targets.significance)
        return whole.effective

    def _combine_arrays(
        self, arrays: Sequence[CellArray | RepairedArray], *, compensated: bool, with_total: bool
    ) -> Block:
        """Return all columns of arrays added with their significance: effective in full-scale weights, total
        Σ significance²·(G⁺ + G⁻)/g_max, which read noise follows."""
        effective = np.zeros(self.w.shape, np.float64)
        noise = np.zeros((self.w.shape[0], self.w.shape[1] if with_total else 0), np.float64)
        heights = np.diff(self.tile_map.row_bounds)
        for array in arrays:
            whole = Whole(*self.w.shape, needs_total=with_total)
            alpha = array.program_into(whole).alpha
            factor = array.targets.significance * (alpha if compensated else np.ones_like(alpha)).astype(
                np.float64
            )
            by_row = np.repeat(factor, heights, axis=0).T
            effective += whole.effective * by_row
            if with_total:
                noise += whole.total * by_row**2
        return Block(0, self.w.shape[0], effective.astype(np.float32), noise.astype(np.float32))

    def tiles(self) -> TiledMatrix:
        """Return the matrix as `execute.tile_matmul` reads it."""
        policy = self.hardware.compensation
        if policy is not None and policy.per == "affine":
            bounds = self.tile_map.col_bounds
            tiles = compensation.affine_tiles(
                self.hardware, self.t_s, self.programming_cycle, self.ordinal, bounds, self._read_as
            )
        else:
            tiles = self.tiles_as_read()
        return self._name_outputs(tiles) if self.first_output else tiles

    def _read_as(self, hardware: Hardware, t_s: float, programming_cycle: int) -> TiledMatrix:
        return replace(self, hardware=hardware, t_s=t_s, programming_cycle=programming_cycle).tiles_as_read()

    def _name_outputs(self, tiles: TiledMatrix) -> TiledMatrix:
        """Return the tiles of some outputs, whose read noise has the names that it has in the whole matrix."""
        noise = tiles.noise and tiles.noise._replace(first_column=self.first_output)
        return replace(tiles, noise=noise, parts=tuple(self._name_outputs(part) for part in tiles.parts))

    def tiles_as_read(self) -> TiledMatrix:
        """Return the tiles without an affine compensation, which needs such tiles of three times."""
        weights = self.hardware.weights
        arrays, scales = self._mapped
        parts: list[TiledMatrix] = []
        if weights.slices > 1 and (self.hardware.adc is None or weights.slice_sum == "analog"):
            assert scales is not None
            for copy in range(weights.copies or 1):
                columns, first = self._columns(copy, copy), copy * weights.slices
                slices = arrays[first : first + weights.slices]
                columns.keep(self._combine_arrays(slices, compensated=True, with_total=columns.needs_total))
                parts.append(columns.finish(scales.astype(np.float64)))
            return self._add_parts(parts)
        apart = self.hardware.adc is not None and weights.subtract == "digital"
        for array in arrays:
            signs, slice_ = SIGNS if apart else WHOLE, array.targets.slice
            copy = slice_ // weights.slices
            sinks = [self._columns(len(parts) + i, copy, sign, slice_) for i, sign in enumerate(signs)]
            full_scale, alpha = array.program_into(Each(sinks) if apart else sinks[0])
            factor = alpha.astype(np.float64) * array.targets.significance
            gain = np.asarray((full_scale if scales is None else scales) * factor, np.float64)
            parts += [columns.finish(gain) for columns in sinks]
        return self._add_parts(parts)

    def _add_parts(self, parts: list[TiledMatrix]) -> TiledMatrix:
        first, *others = parts
        return replace(first, transform=self.transform, parts=tuple(others))

    def _columns(
        self, part: int, copy: int, polarity: Literal[-1, 0, 1] = 0, slice_: int | None = None
    ) -> ConvertedColumns:
        """slice_: whose columns they are; None: those of all slices of the copy, converted once."""
        mapped = self.arrays[0].faults
        if mapped is not None:
            mapped = mapped.of_copy(copy, self.hardware.weights.slices)
        if mapped is not None and slice_ is not None:
            mapped = mapped.of_slice(slice_)
        return ConvertedColumns(
            self.hardware,
            self.tile_map,
            self.ordinal,
            self.seed,
            self.ranges,
            self.name,
            part,
            polarity,
            copy,
            self.arrays[0].lines,
            mapped,
        )
