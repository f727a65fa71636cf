"""One small matrix on a chip under any tables of hardware, and which parts of it have other bits than before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim import BadInput, Hardware, WeightFile, program
from aimc_sim.chip.state import ChipState
from aimc_sim.execute import dac_inputs, tile_matmul
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.weightfile import MatrixInfo, Moments
from aimc_sim.weightfile.writer import WeightFileWriter
from helpers import gaussian

DAY = 86_400.0
W, X = gaussian((40, 64), 1), gaussian((6, 64), 2)
Tables = Mapping[str, Any]
MAP = "matrix,row,column,polarity,state\na,3,5,+,high\na,40,30,-,low\na,9,,,dead_row\n"


def write_two(path: Path) -> WeightFile:
    """Write a weight file with W twice, as matrices a and b."""
    with WeightFileWriter(path) as writer:
        size = np.abs(gaussian((1, 64), 5))[0]
        for name in "ab":
            writer.add_tensor(f"{name}.weight", W, "float32")
            writer.add_moments(name, Moments(size, 0 * size, size**2))
        writer.set_matrices(tuple(
            MatrixInfo(name, i, 64, 40, "float32", "out_in", False, "up", f"{name}.weight")
            for i, name in enumerate("ab")
        ))  # fmt: skip
        return writer.finish()


class Bench:
    """Programs matrix a of the file under tables of hardware, once each, and compares what comes out."""

    def __init__(self, weight_file: WeightFile, folder: Path) -> None:
        self._file, self._map = weight_file, folder / "map.csv"
        self._map.write_text(MAP, encoding="utf-8")
        self._known: dict[str, State | None] = {}

    def at(self, tables: Tables, t_s: float = DAY, cycle: int = 0) -> State:
        """The matrix under these tables. Raises BadInput where they do not go together."""
        key = json.dumps([tables, t_s, cycle], sort_keys=True)
        if key not in self._known:
            try:
                self._known[key] = self._programmed(tables, t_s, cycle)
            except BadInput:
                self._known[key] = None
        found = self._known[key]
        if found is None:
            raise BadInput("tables", why="they do not go together", do="ask `goes_together` first")
        return found

    def goes_together(self, *tables: Tables) -> bool:
        """Whether a hardware may have all of these."""
        try:
            self.at(laid(*tables))
        except BadInput:
            return False
        return True

    def _programmed(self, tables: Tables, t_s: float, cycle: int) -> State:
        faults = tables.get("faults")
        if faults and "map" in faults:
            tables = laid(tables, {"faults": {"map": str(self._map)}})
        hardware = Hardware.load(tables)
        chip = replace(program(self._file, 4, hardware), programming_cycle=cycle)
        return State(chip.at(t_s))


class State:
    """What a chip holds of matrix a at a time."""

    def __init__(self, chip: ChipState) -> None:
        matrix = chip.matrix("a")
        self.hardware, self.cells, self.tiles = chip.chip.hardware, matrix.effective_weights(), matrix.tiles()
        self.column_tile = matrix.tile_map.column_tile
        self.every = (self.tiles, *self.tiles.parts)
        quiet = [replace(part, noise=None, parts=()) for part in self.every]
        self.product = tile_matmul(X, replace(quiet[0], parts=tuple(quiet[1:])))

    @cached_property
    def parts(self) -> dict[str, bytes]:
        """The bits of each of `PARTS`."""
        one = self.every
        return {
            "inputs": bits(dac_inputs(X, self.tiles)[0], self.tiles.dac_max_code, *self.tiles.reads),
            "cells": bits(self.cells),
            "currents": bits(*(array for part in one for array in (part.panels, part.inverse))),
            "adc": bits(*(item for part in one for item in (
                part.adc_max_code, part.adc_unsigned, part.capacitors, part.dac_inl, *_curve(part)))),
            "digital": bits(*(array for part in one for array in (part.scale, part.constant))),
            "noise": bits(*(item for part in one for item in (part.noise or ()))),
            "product": bits(self.product),
        }  # fmt: skip

    def differs_from(self, other: State) -> set[str]:
        """Which parts have other bits."""
        return {name for name, said in self.parts.items() if said != other.parts[name]}


def _curve(tiles: TiledMatrix) -> tuple[Any, ...]:
    """What ADCs add to their signal; nothing where all of it is zero."""
    curve = tiles.adc_curve
    # −0 is 0 here
    return () if curve is None or not any(part.any() for part in curve) else tuple(part + 0 for part in curve)


def bits(*items: Any) -> bytes:
    """Return what arrays and plain values are, bit for bit."""
    return b"|".join(
        item.tobytes() if isinstance(item, np.ndarray) else repr(item).encode() for item in items
    )


def laid(*tables: Tables) -> dict[str, Any]:
    """Tables laid over one another, the last on top; ``False`` stays what it is."""
    out: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            old = out.get(key)
            out[key] = laid(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def clash(one: Any, other: Any) -> bool:
    """Whether two tables give one field two values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return any(clash(one[key], other[key]) for key in one.keys() & other.keys())
    return bool(one != other)
