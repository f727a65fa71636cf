"""Sinks that hold a whole array, and that hand its blocks to several."""

from __future__ import annotations

import numpy as np
import pytest

from aimc_sim.chip.blocks import Block, Each, Whole
from aimc_sim.testing import assert_bits
from helpers import gaussian

EFFECTIVE, TOTAL = gaussian((7, 5), 1), gaussian((7, 5), 2)


def blocks(with_total: bool = True) -> list[Block]:
    """Columns 0 to 6 in three blocks, as threads may bring them: not in order."""
    return [
        Block(a, b, EFFECTIVE[a:b].copy(), TOTAL[a:b, : 5 if with_total else 0].copy())
        for a, b in ((4, 7), (0, 1), (1, 4))
    ]


class Notes:
    """A sink that writes down who was given what."""

    def __init__(self, name: str, seen: list[tuple[str, Block]], needs_total: bool = False) -> None:
        self.name, self.seen, self.needs_total = name, seen, needs_total

    def keep(self, block: Block) -> None:
        self.seen.append((self.name, block))


@pytest.mark.parametrize("needs_total", [True, False])
def test_a_whole_puts_every_block_in_its_place(needs_total: bool) -> None:
    whole = Whole(7, 5, needs_total=needs_total)
    assert whole.needs_total is needs_total
    brought = blocks(needs_total)
    for block in brought:
        whole.keep(block)
        block.effective[:] = np.nan  # the array uses its memory again
        block.total[:] = np.nan
    assert_bits(whole.effective, EFFECTIVE)
    assert_bits(whole.total, TOTAL if needs_total else TOTAL[:, :0])


def test_each_hands_every_block_to_every_sink_as_it_is() -> None:
    seen: list[tuple[str, Block]] = []
    each, brought = Each([Notes("a", seen), Notes("b", seen)]), blocks()
    for block in brought:
        each.keep(block)
    assert [name for name, _ in seen] == ["a", "b"] * 3
    assert all(block is brought[i // 2] for i, (_, block) in enumerate(seen))


@pytest.mark.parametrize("needs", [[], [False], [False, False], [True, False], [False, True], [True, True]])
def test_each_asks_for_totals_if_one_of_them_does(needs: list[bool]) -> None:
    assert Each([Notes("", [], need) for need in needs]).needs_total is any(needs)
