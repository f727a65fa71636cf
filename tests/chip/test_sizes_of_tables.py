"""How much a table changes, wherever that is exact, beside every other table; and what changes nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from aimc_sim.execute import dac_inputs
from aimc_sim.testing import assert_bits
from helpers.bench import DAY, Bench, State, Tables, X, clash, laid
from helpers.every_table import BASE, REFRESH_S, ROWS


def beside(bench: Bench, *tables: Tables, without: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `BASE` with every row that goes with all of these tables; ``without``: rows that are left out."""
    left_out = {name.strip() for name in without.split(",")}
    assert left_out <= {*ROWS, ""}
    for name, row in ROWS.items():
        there = laid(row.beside or {}, row.other)
        base = laid(BASE, there)
        if name in left_out or any(clash(there, table) for table in tables):
            continue
        new = [laid(base, table) for table in tables]
        if base not in new and all(bench.goes_together(each) for each in (base, *new)):
            yield name, base


NOTHING: dict[str, tuple[Tables, str]] = {  # what it says, and beside what it says something
    "DACs without errors": ({"dac": {"errors": {}}}, ""),
    "ADCs without errors": ({"adc": {"errors": {}}}, "no ADC"),
    "a SAR without errors": ({"adc": {"kind": "sar"}}, "no ADC"),
    "a ramp without errors": ({"adc": {"kind": "ramp"}}, "no ADC, ADC gains"),
    "weights as they are": ({"weights": {}}, ""),
    "no faults": ({"faults": {}}, ""),
    "a repair without faults": (
        {"faults": {}, "repair": {"spare_columns": 2, "remap": "assign"}},
        "stuck cells, dead columns, fault map, wires",  # spare columns make a tile's rows longer
    ),
    "dies all alike": ({"variation": {}}, ""),
    "the temperature of the data": ({"temperature": {}}, ""),
    "a refresh that is yet to come": ({"refresh": {"every_s": 2 * DAY}}, ""),
    "a compensation that is yet to be read out": (
        {"compensation": {"every_s": 2 * DAY}}, "temperature, factor a tile, factor a column, affine compensation",
    ),
    "data of verification that nothing asks for": (
        {"device": {"programming": {"verify": {"iterations": [5, 20], "sigma_ratio": [1.3, 0.8], "source": "a test"}}}},
        "",
    ),
    "a transform of another matrix": (
        {"transform": {"rotate": "hadamard", "matrices": ["b"]}}, "rotation, permutation",
    ),
    "one copy": ({"placement": {"special": [{"matrices": ["a"], "copies": 1}]}}, "copies"),
    "a device each": ({"placement": {"special": [{"matrices": ["a"], "devices": 1}]}}, "two devices"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_a_table_that_says_nothing_changes_no_bit(name: str, bench: Bench) -> None:
    tables, without = NOTHING[name]
    changed = {
        row: differs
        for row, base in beside(bench, tables, without=without)
        if (differs := bench.at(laid(base, tables)).differs_from(bench.at(base)))
    }
    assert changed == {}


@pytest.mark.parametrize(
    ("tables", "without"),
    [
        ({"device": {"drift": False}}, ""),
        ({"compensation": {"per": "tile"}}, "temperature"),
        ({"compensation": {"per": "column"}}, "temperature"),
        ({"compensation": {"per": "affine"}}, "temperature"),
        ({"refresh": {"every_s": REFRESH_S}}, ""),
        ({"temperature": {"storage_c": 60.0}}, ""),
        ({"variation": {"nu_sigma": 0.02}}, ""),
    ],
)
def test_what_acts_on_drift_changes_no_bit_of_a_chip_just_programmed(
    tables: Tables, without: str, bench: Bench
) -> None:
    changed = {
        row: differs
        for row, base in beside(bench, tables, without=without)
        if (differs := bench.at(laid(base, tables), 0.0).differs_from(bench.at(base, 0.0)))
    }
    assert changed == {}


def same_but(one: State, other: State, *parts: str) -> None:
    """Only these parts may differ."""
    assert one.differs_from(other) <= set(parts)


def of_refresh(base: dict[str, Any], bench: Bench) -> None:
    """A chip that was programmed again is one of the next cycle, as old as its cells."""
    refreshed = bench.at(laid(base, {"refresh": {"every_s": REFRESH_S}}))
    same_but(refreshed, bench.at(base, DAY - REFRESH_S, cycle=1))


def of_read_noise(base: dict[str, Any], bench: Bench) -> None:
    """Twice the deviation is four times the variance."""
    one, two = (bench.at(laid(base, {"read_noise": {"sigma": sigma}})) for sigma in (0.03125, 0.0625))
    same_but(one, two, "noise")
    for a, b in zip(one.every, two.every, strict=True):
        assert a.noise is not None
        assert b.noise is not None
        assert_bits(b.noise.steps, a.noise.steps)
        assert_bits(b.noise.scale, 4 * a.noise.scale)


def of_supply(base: dict[str, Any], bench: Bench) -> None:
    """At half the voltage cells are what they are, currents are half and the variance of their noise a quarter."""
    noisy = laid(base, {"read_noise": {"sigma": 0.05}})
    noisy = noisy if bench.goes_together(noisy) else base
    full, half = bench.at(noisy), bench.at(laid(noisy, {"variation": {"supply_droop": 0.5}}))
    same_but(full, half, "currents", "noise", "product", "adc", "digital")
    for a, b in zip(full.every, half.every, strict=True):
        assert_bits(b.panels, a.panels)
        assert_bits(b.inverse, a.inverse / np.float32(2))
        if a.noise is not None and a.noise.scale is not None:
            assert b.noise is not None
            assert_bits(b.noise.steps, a.noise.steps)
            assert_bits(b.noise.scale, a.noise.scale / np.float32(4))


def of_copies(base: dict[str, Any], bench: Bench) -> None:
    """The first of two copies is the matrix held once, and counts half; the other is another draw."""
    once, twice = bench.at(base), bench.at(laid(base, {"weights": {"copies": 2}}))
    count = len(once.every)
    assert len(twice.every) == 2 * count
    for alone, first, second in zip(once.every, twice.every[:count], twice.every[count:], strict=True):
        assert_bits(first.panels, alone.panels)
        assert_bits(first.inverse, alone.inverse)
        assert_bits(first.scale, alone.scale / np.float32(2))
        assert (second.panels != alone.panels).any()


def of_special(base: dict[str, Any], bench: Bench) -> None:
    """Held otherwise by name or with all others: the same."""
    named = bench.at(laid(base, {"placement": {"special": [{"matrices": ["a"], "copies": 2}]}}))
    same_but(named, bench.at(laid(base, {"weights": {"copies": 2}})))


def of_dead_columns(base: dict[str, Any], bench: Bench) -> None:
    """Where all columns are dead nothing comes out."""
    dead = bench.at(laid(base, {"faults": {"dead_column_rate": 1.0}}))
    assert not dead.product.any()


def of_adc(base: dict[str, Any], bench: Bench) -> None:
    """An ADC that does not clip is off by half a code at most, in every conversion."""
    coarse, exact = bench.at(base), bench.at(laid(base, {"adc": False}))
    beta = dac_inputs(X, coarse.tiles)[1].astype(np.float64)
    bound = sum(beta @ np.abs(part.scale).astype(np.float64) / 2 for part in coarse.every)
    off = np.abs(coarse.product.astype(np.float64) - exact.product)
    assert (off <= 1.0001 * bound).all()
    assert off.max() > 0.1 * bound.max()


def of_wires(base: dict[str, Any], bench: Bench) -> None:
    """Wires take currents away."""
    through = bench.at(laid(base, {"wires": {"r_row_ohm": 2.0, "r_col_ohm": 3.0}}))
    assert np.abs(through.cells).sum() < np.abs(bench.at(base).cells).sum()


def of_factors(base: dict[str, Any], bench: Bench) -> None:
    """Cells that drift carry less, so the factor that makes up for it is above 1."""
    for per in ("tile", "column"):
        held, bare = bench.at(laid(base, {"compensation": {"per": per}})), bench.at(base)
        same_but(held, bare, "digital", "product")
        for a, b in zip(held.every, bare.every, strict=True):
            alive = b.scale != 0
            assert (a.scale[alive] / b.scale[alive] > 1).all()


AFFINE = "affine compensation"
SIZES: dict[str, tuple[Callable[[dict[str, Any], Bench], None], Tables, str]] = {
    "refresh": (of_refresh, {"refresh": {"every_s": REFRESH_S}}, ""),
    "read noise": (of_read_noise, {"read_noise": {"sigma": 0.03125}}, ""),
    "supply": (of_supply, {"variation": {"supply_droop": 0.5}}, ""),
    "copies": (of_copies, {"weights": {"copies": 2}}, "this matrix is special"),
    "special": (of_special, {"weights": {"copies": 2}}, "this matrix is special, another matrix is special"),
    "dead columns": (of_dead_columns, {"faults": {"dead_column_rate": 1.0}}, ""),
    # Affine compensation is read through the ADC.
    "ADC": (of_adc, {"adc": False}, f"ADC gains, ADC offsets, ADC noise, single columns, {AFFINE}"),
    "wires": (of_wires, {"wires": {"r_row_ohm": 2.0, "r_col_ohm": 3.0}}, ""),
    "factors": (of_factors, {"compensation": {"per": "tile"}}, "without drift, temperature, factor a tile"),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_exact_beside_every_other_table(name: str, bench: Bench) -> None:
    law, tables, without = SIZES[name]
    wrong, count = {}, 0
    for row, base in beside(bench, tables, without=without):
        count += 1
        try:
            law(base, bench)
        except AssertionError as error:
            wrong[row] = str(error).splitlines()[:3]
    assert wrong == {}
    assert count >= 20


def test_two_devices_have_half_the_read_noise_of_one_beside_every_other_table(bench: Bench) -> None:
    """Of exact cells, whose mean is one cell; stuck ones and currents in wires are those of each device."""
    two = {"weights": {"devices": 2}}
    apart = "stuck cells, fault map, repair, wires"
    of_device = [name for name, row in ROWS.items() if row.table.startswith("device.")]
    for name, base in beside(bench, two, without=", ".join([apart, *of_device])):
        ideal = laid({**base, "device": "ideal"}, {"read_noise": {"sigma": 0.05}, "weights": {"bits": 8}})
        if not (bench.goes_together(ideal) and bench.goes_together(laid(ideal, two))):
            continue
        one, both = bench.at(ideal), bench.at(laid(ideal, two))
        assert both.differs_from(one) == {"noise"}, name
        for a, b in zip(one.every, both.every, strict=True):
            assert_bits(b.noise.steps, a.noise.steps)
            assert_bits(b.noise.scale, a.noise.scale / np.float32(2))
