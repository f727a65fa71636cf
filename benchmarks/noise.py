"""How fast is the noise, and what does it cost to program a chip?

Rivals: torch.randn for the normals; for programming, drift and 1/f noise the figure published for aihwkit is 21 and 26
million weights a second on two cores (its own step each), with 546 MiB of scratch for a layer of 64 MiB.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.chip.blocks import Block
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.hardware import Hardware
from aimc_sim.kernels import normal
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.parallel import run_blocks
from aimc_sim.randomness import key_of
from benchmarks.harness import Row, main, median_seconds, side_by_side
from benchmarks.tile_product import gaussian

NORMALS, SIDE = 1 << 24, 2048
BLOCK = 1 << 16
SMALLEST = {"NORMALS": 1 << 12, "SIDE": 256}
GOAL_RATE = 8 / (
    1 / 21 + 1 / 26
)  # M weights/s: eight times aihwkit's programming and drift, one after the other


class Nowhere:
    """A sink that keeps nothing."""

    needs_total = False

    def keep(self, block: Block) -> None:
        """Let a block go."""


@njit
def _normals(start: Any, stop: Any, k0: Any, k1: Any, words: Any, lanes: Any, out: Any) -> None:
    for at in range(start, stop, normal.CHUNK):
        n = min(normal.CHUNK, stop - at)
        normal.fill_normals(out[at : at + n], at, n, np.uint32(0), np.uint32(1), np.uint32(2), np.uint32(3), k0, k1,
                            words, lanes)  # fmt: skip


@njit
def _words(start: Any, stop: Any, k0: Any, k1: Any, words: Any, out: Any) -> None:
    """The words of the same cells, each where its normal would go."""
    for at in range(start, stop, normal.CHUNK):
        normal.words_of_groups(
            np.uint32(at >> 2), normal.GROUPS, np.uint32(1), np.uint32(2), np.uint32(3), k0, k1, words
        )
        for block in range(normal.GROUPS // 16):
            for lane in range(4):
                row = at + (block << 6) + (lane << 4)
                for i in range(min(16, stop - row)):
                    out[row + i] = words[lane, (block << 4) + i]


def measure() -> tuple[list[Row], None]:
    """Nanoseconds a normal and a weight."""
    import torch

    key, out, bare = key_of(1), np.empty(NORMALS, np.float32), np.empty(NORMALS, np.uint32)
    held = torch.empty(NORMALS)

    def scratch() -> tuple[Any, Any]:
        return np.empty((4, normal.GROUPS), np.uint32), np.empty((4, normal.GROUPS), np.float32)

    def normals() -> None:
        run_blocks(lambda a, b: _normals(a, b, key[0], key[1], *scratch(), out), NORMALS, BLOCK)

    def words() -> None:
        run_blocks(lambda a, b: _words(a, b, key[0], key[1], scratch()[0], bare), NORMALS, BLOCK)

    against = side_by_side(normals, words)
    torchs = side_by_side(normals, lambda: held.normal_(), repeats=5)
    rows = [
        Row(f"normals, {NORMALS >> 20} M float32", against.a_s / NORMALS * 1e9, "ns each", 1.2),
        Row("normals against bare Philox words", against.ratio, "times", 2.0),
        Row("normals against torch.randn", torchs.ratio, "times"),
    ]
    w = gaussian((SIDE, SIDE), 3)
    for name, t_s in (("programming alone", 0.0), ("programming, drift and 1/f noise", 86_400.0)):
        hardware = Hardware.load(
            {"device": {"base": "pcm-hermes-2", **({} if t_s else {"flicker": False})}, "tile": {"rows": 256}}
        )
        cells = CellMatrix(w, hardware, seed=1, t_s=t_s).arrays[0]
        seconds = median_seconds(lambda: cells.program_into(Nowhere()))  # noqa: B023
        rows.append(
            Row(f"{name}, two devices a weight", seconds / w.size * 1e9, "ns a weight", 10.0 if t_s else None)
        )
        rows.append(
            Row("    rate", w.size / seconds / 1e6, "M weights/s", GOAL_RATE if t_s else None, at_least=True)
        )
    return rows, None


if __name__ == "__main__":
    main(__doc__.splitlines()[0] if __doc__ else "", measure)
