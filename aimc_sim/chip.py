"""A chip: a weight file programmed under one hardware and one seed, and what its tiles hold at any time.

A chip is a pure function of (weight file, hardware, seed): nothing about it is stored, and asking for its layers or
times in another order, from another process or with other threads gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from aimc_sim.cell_matrix import CellMatrix, MatrixRange, Ranges
from aimc_sim.execute import TiledMatrix
from aimc_sim.hardware import Hardware
from aimc_sim.randomness import event_word, key_of
from aimc_sim.spec import canonical_json
from aimc_sim.weightfile import WeightFile


@dataclass(frozen=True)
class Chip:
    """One programmed chip. `aimc_sim.program` makes it."""

    weight_file: WeightFile
    hardware: Hardware
    seed: int
    ranges: Ranges
    epoch: int = 0  # programming cycle: programming again draws anew

    def __post_init__(self) -> None:
        key_of(self.seed)
        event_word(self.epoch, "epoch")

    @property
    def id(self) -> str:
        """What the chip is a function of, as one text: equal ids, equal chips."""
        return canonical_json(
            {
                "weights": self.weight_file.id,
                "hardware": self.hardware.id,
                "seed": self.seed,
                "epoch": self.epoch,
            }
        )

    def at(self, t_s: float, session: int = 0) -> ChipState:
        """The chip t_s seconds after programming, as one inference session sees it (1/f noise is frozen in a session).

        Raises BadInput for a time before programming or beyond the range of the device's data.
        """
        self.hardware.check_time(t_s)
        event_word(session)
        return ChipState(self, float(t_s), session)


@dataclass(frozen=True)
class ChipState:
    """A chip at one time: cells drifted, noise frozen, drift compensated."""

    chip: Chip
    t_s: float
    session: int = 0

    def matrix(self, name: str) -> CellMatrix:
        """One matrix in its cells: conductances, effective weights, tiles. Raises BadInput for an unknown name."""
        chip = self.chip
        info = chip.weight_file.matrix(name)
        return CellMatrix(
            chip.weight_file.weight(name), chip.hardware, chip.seed, self.t_s, info.ordinal, chip.epoch, self.session,
            chip.ranges.get(name, MatrixRange()), name)  # fmt: skip

    def tiles(self, name: str) -> TiledMatrix:
        """The matrix as `execute.tile_matmul` reads it."""
        return self.matrix(name).tiles()
