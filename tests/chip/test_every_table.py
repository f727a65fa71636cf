"""Every table of a hardware beside every other: switching one changes what the physics says, and nothing else.

A formula that is right may be called with the wrong thing, or not at all. So each row of `ROWS` switches one table, and
says which parts of a matrix in its tiles that changes; the test does so beside every other row, and compares bits.
"""

from __future__ import annotations

import pytest

from aimc_sim import Hardware
from aimc_sim.spec import Spec
from helpers.bench import Bench, laid
from helpers.every_table import ALWAYS, ROWS, expected, pairs, refuses
from helpers.tables import switches_of


@pytest.mark.parametrize("name", ROWS)
def test_switching_a_table_changes_what_the_physics_says(name: str, bench: Bench) -> None:
    row, wrong = ROWS[name], {}
    for beside, without in pairs(row):
        switched = laid(without, row.other)
        together = bench.goes_together(without) and bench.goes_together(switched)
        assert together != refuses(name, beside), beside
        if together:
            before, after = bench.at(without), bench.at(switched)
            changed, right = after.differs_from(before), expected(row, after.hardware)
            if changed != right:
                wrong[beside] = f"more {sorted(changed - right)}, less {sorted(right - changed)}"
    assert wrong == {}


def test_every_table_of_a_hardware_has_a_row() -> None:
    assert switches_of(Hardware) == {row.table for row in ROWS.values()} | set(ALWAYS)


class Crosstalk(Spec):
    ohm: float = 0.0


class Denser(Hardware):
    crosstalk: Crosstalk | None = None


def test_a_table_that_nobody_lists_is_noticed() -> None:
    assert switches_of(Denser) - {row.table for row in ROWS.values()} - set(ALWAYS) == {"crosstalk"}
