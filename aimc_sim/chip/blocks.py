"""Cells on their way from an array to what holds them: some columns at a time, while they are in cache.

An array pushes blocks, perhaps from several threads, into a `Sink`; what holds for whole columns (the weight at full
scale, the drift compensation) comes as `Scales` when all blocks are through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from aimc_sim.aliases import F32, I64
from aimc_sim.chip.mapping import TileMap


@dataclass(frozen=True)
class Block:
    """A block holds columns first … last-1 of an array; of two devices a polarity, their mean."""

    first: int
    last: int
    effective: F32  # (n, K) (G⁺ - G⁻)/span
    total: F32  # (n, K) (G⁺ + G⁻)/g_max, or (n, 0) where the sink has no use for it


class Sink(Protocol):
    """A sink takes the blocks of an array, each once, in any order, and may write to their memory."""

    @property
    def needs_total(self) -> bool:
        """Return whether blocks must bring `Block.total`."""

    def keep(self, block: Block) -> None:
        """Take one block."""


class Readouts(NamedTuple):
    """Readouts are what an array says of its columns, all (row tiles, N)."""

    full_scale: F32  # the weight that g_max stands for
    before: I64  # Σ|readout| at programming, in `cells.READOUT_UNIT`; 0 where nothing asks for it
    after: I64  # … and when the compensation was last read out

    def factors(self, tile_map: TileMap, per_tile: bool) -> F32:
        """Return α (row tiles, N): Σ|readout| at programming over that later, a tile or a column;
        1 where nothing is read.
        """
        before, after, alpha = self.before, self.after, np.ones(self.before.shape, np.float32)
        if per_tile:
            starts, tile = tile_map.col_bounds[:-1], tile_map.column_tile
            before, after = (np.add.reduceat(sums, starts, axis=1)[:, tile] for sums in (before, after))
        np.divide(before, after, out=alpha, where=after > 0, casting="unsafe")
        return alpha


class Scales(NamedTuple):
    """Scales are factors of an array's columns, both (row tiles, N) float32."""

    full_scale: F32  # the weight that g_max stands for
    alpha: F32  # drift compensation


class Whole:
    """This sink holds an array as one matrix."""

    def __init__(self, outputs: int, inputs: int, *, needs_total: bool) -> None:
        self.needs_total = needs_total
        self.effective = np.empty((outputs, inputs), np.float32)
        self.total = np.empty((outputs, inputs if needs_total else 0), np.float32)

    def keep(self, block: Block) -> None:
        """Copy one block to its place."""
        self.effective[block.first : block.last] = block.effective
        self.total[block.first : block.last] = block.total


class Each:
    """This sink hands every block to several, none of which may write to it."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    @property
    def needs_total(self) -> bool:
        """Return whether one of them needs it."""
        return any(sink.needs_total for sink in self._sinks)

    def keep(self, block: Block) -> None:
        """Hand one block on."""
        for sink in self._sinks:
            sink.keep(block)
