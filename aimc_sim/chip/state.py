"""A chip: a weight file programmed under one hardware and one seed, and what its tiles hold at any time.

A chip is a pure function of (weight file, hardware, seed): nothing about it is stored, and asking for its layers or
times in another order, from another process or with other threads gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.chip.ranges import MatrixRange, Ranges, ranges_id
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.transform import choose_transform
from aimc_sim.identity import canonical_json
from aimc_sim.randomness import event_word, key_of
from aimc_sim.renames import renamed_arguments
from aimc_sim.tiles.channel_transform import ChannelTransform, derive
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.units import parse_duration
from aimc_sim.weightfile import MatrixInfo, WeightFile


def channel_transform(
    weight_file: WeightFile, matrix: MatrixInfo, hardware: Hardware, w: npt.NDArray[np.float32]
) -> ChannelTransform | None:
    """Return what the hardware does to the input channels of a matrix w (N, K) before mapping; None: nothing."""
    spec = choose_transform(hardware.transform or (), matrix.name, matrix.role)
    if spec is None:
        return None
    bounds = tile_map(matrix.rows, matrix.cols, hardware.tile).row_bounds
    return derive(spec, w, weight_file.moments(matrix.name), bounds)


@dataclass(frozen=True, eq=False)
class Chip:
    """A chip is one programmed chip. `aimc_sim.program` makes it. Chips are equal when their ids are.

    >>> import aimc_sim
    >>> chip = aimc_sim.program("model.h5", seed=7)
    >>> chip == aimc_sim.program("model.h5", seed=7), chip == aimc_sim.program("model.h5", seed=8)
    (True, False)
    """

    weight_file: WeightFile
    hardware: Hardware
    seed: int
    ranges: Ranges = field(repr=False)
    programming_cycle: int = 0  # programming again draws anew

    def __post_init__(self) -> None:
        key_of(self.seed)
        event_word(self.programming_cycle, "programming_cycle")

    @cached_property
    def ranges_id(self) -> str:
        """Return which converter ranges it uses; empty where the hardware needs none."""
        return ranges_id(self.ranges)

    @cached_property
    def id(self) -> str:
        """Return what the chip is a function of, as one text: equal ids, equal chips."""
        return canonical_json(
            {
                "weights": self.weight_file.id,
                "hardware": self.hardware.id,
                "ranges": self.ranges_id,
                "seed": int(self.seed),
                "epoch": int(self.programming_cycle),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chip) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        names = f"{self.weight_file.path.name}, {self.hardware.name}"
        return f"Chip({names}, seed={self.seed}, programming_cycle={self.programming_cycle})"

    @renamed_arguments(t_s="time")
    def at(self, time: float | str, session: int = 0) -> ChipState:
        """Age the chip: its state at a time since programming (seconds, or "1d"), as one inference session sees it.

        session: which draw of the 1/f noise, which is frozen in it.

        Raises BadInput for a time before programming or beyond the range of the device's data.
        """
        seconds = parse_duration(time)
        self.hardware.check_time(seconds)
        event_word(session)
        return ChipState(self, seconds, session)


@dataclass(frozen=True)
class ChipState:
    """A chip state is a chip at one time: cells drifted, noise frozen, drift compensated.

    >>> import aimc_sim
    >>> state = aimc_sim.program("model.h5", seed=7).at("1d")
    >>> state.t_s
    86400.0
    """

    chip: Chip
    t_s: float
    session: int = 0

    def matrix(self, name: str) -> CellMatrix:
        """Return one matrix in its cells: conductances, effective weights, tiles.
        Raises BadInput for an unknown name.
        """
        chip = self.chip
        info, w = chip.weight_file.matrix(name), chip.weight_file.weight(name)
        hardware = chip.hardware.of_matrix(name)
        transform = channel_transform(chip.weight_file, info, hardware, w)
        if transform is not None:
            w = transform.apply_weight(w)
        return CellMatrix(
            w, hardware, chip.seed, self.t_s, info.ordinal, chip.programming_cycle, self.session,
            chip.ranges.get(name, MatrixRange()), name, transform)  # fmt: skip

    def tiles(self, name: str) -> TiledMatrix:
        """Return the matrix as `execute.tile_matmul` reads it."""
        tiles = self.matrix(name).tiles()
        self.chip.weight_file.release(name)  # tiles hold all of it: the file need not stay in memory as well
        return tiles

    def pieces(self, name: str, multiple: int) -> tuple[tuple[int, int], ...]:
        """Outputs (first, last) of a matrix that `piece` can program apart: whole column tiles, cut at multiples of
        ``multiple``, itself one of 64, as often as that can be; all of them at once where columns share more than a
        tile, or where the product's last bits depend on the columns beside."""
        info, hardware = self.chip.weight_file.matrix(name), self.chip.hardware.of_matrix(name)
        whole = ((0, info.cols),)
        transformed = choose_transform(hardware.transform or (), name, info.role) is not None
        if transformed or not outputs_stand_alone(hardware):
            return whole
        bounds = tile_map(info.rows, info.cols, hardware.tile).col_bounds
        if bounds.size == 2 and hardware.tile.cols is None:
            cuts = [*range(0, info.cols, multiple), info.cols]
        elif hardware.tile.cols is not None and hardware.tile.split == "filled":
            cuts = [int(at) for at in bounds if at % multiple == 0 or at == info.cols]
        else:
            return whole
        return tuple(zip(cuts[:-1], cuts[1:], strict=True))

    def piece(self, name: str, first: int, last: int) -> TiledMatrix:
        """Return the tiles of outputs first … last-1, one of `pieces`:
        bit for bit what those of the whole matrix compute.
        """
        chip = self.chip
        info = chip.weight_file.matrix(name)
        if (first, last) == (0, info.cols):
            return self.tiles(name)
        w, hardware = chip.weight_file.weight(name, slice(first, last)), chip.hardware.of_matrix(name)
        ranges = chip.ranges.get(name, MatrixRange())
        if ranges.full_scale is not None:
            tile = tile_map(info.rows, info.cols, hardware.tile).column_tile
            ranges = replace(
                ranges, full_scale=ranges.full_scale[..., int(tile[first]) : int(tile[last - 1]) + 1]
            )
        tiles = CellMatrix(
            w, hardware, chip.seed, self.t_s, info.ordinal, chip.programming_cycle, self.session, ranges, name,
            first_output=first).tiles()  # fmt: skip
        chip.weight_file.release(name)
        return tiles


def outputs_stand_alone(hardware: Hardware) -> bool:
    """Return whether columns of a matrix have nothing in common beyond their tile,
    and products in tiles are integers.
    """
    shared = (hardware.faults, hardware.repair, hardware.variation, hardware.dac and hardware.dac.errors,
              hardware.adc and hardware.adc.errors)  # fmt: skip
    policy, untiled = hardware.compensation, hardware.tile.cols is None
    by_tile = (
        (policy is not None and policy.per == "tile") or hardware.weights.scale == "tile" or hardware.wires
    )
    return (
        hardware.uses_integers
        and all(part is None for part in shared)
        and hardware.weights.pair == "differential"
        and not (policy is not None and policy.per == "affine")
        and not (untiled and by_tile)
    )
