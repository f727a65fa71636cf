"""Devices from measurements: a CSV of cells, or Python functions, put on a grid as piecewise-linear laws."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aimc_sim.devices.effects import AgedLaw, Programming
from aimc_sim.devices.laws import Law
from aimc_sim.devices.model import Device
from aimc_sim.errors import BadInput
from aimc_sim.files import reading

COLUMNS = ("conductance_us", "mean_error_us", "sigma_us")
GRID = 65  # points on which a function is tabulated, from g_min to g_max


def from_csv(path: str | Path, name: str | None = None) -> Device:
    r"""Make a device from a table of measurements, any age its own rows.

    Columns: ``conductance_us`` (target, µS, rising within an age), ``mean_error_us``, ``sigma_us`` (≥ 0) and, if the
    cells were measured at a known age, ``age_s``. Between the points the statistics are straight lines; between ages
    they are interpolated in ln t; outside the measured conductances and ages they are refused. Time 0 means the first
    reading.

    >>> import tempfile, pathlib
    >>> from aimc_sim import devices
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "cells.csv"
    >>> _ = file.write_text("conductance_us,mean_error_us,sigma_us\n0,0,0.3\n10,0.1,0.6\n20,0.2,0.5\n")
    >>> devices.from_csv(file).g_max_us
    20.0
    """
    path = Path(path)
    ages = _read(path)
    grid = np.unique(np.concatenate([[row[0] for row in rows] for rows in ages.values()]))
    low, high = float(grid[0]), float(grid[-1])
    laws = []
    for age, rows in sorted(ages.items()):
        g, error, sigma = np.array(rows).T
        if g[0] != low or g[-1] != high:
            raise BadInput(
                f"{path}: conductance_us at age {age:g} s",
                got=(float(g[0]), float(g[-1])),
                why=f"other ages cover {low:g} to {high:g} µS",
                do="measure every age over the same range",
            )
        laws.append(
            AgedLaw(
                age_s=age,
                sigma=Law.through(grid, np.interp(grid, g, sigma), of="g_us"),
                shift=Law.through(grid, np.interp(grid, g, error), of="g_us"),
            )
        )
    first, last = laws[0].age_s, laws[-1].age_s
    return Device(
        name=name or path.stem, description=f"Measured: {path.name}", source=path.name,
        g_min_us=low, g_max_us=high, programming=Programming(by_age=tuple(laws)),
        t_min_s=first, t_max_s=last,
    )  # fmt: skip


def from_functions(
    name: str,
    g_max_us: float,
    sigma_us: Callable[[float], float],
    mean_error_us: Callable[[float], float] = lambda g_us: 0.0,
    g_min_us: float = 0.0,
    source: str = "",
) -> Device:
    """Make a device from functions of the target conductance in µS, tabulated at 65 even points from g_min to g_max.

    >>> from aimc_sim import devices
    >>> mine = devices.from_functions("mine", 25.0, sigma_us=lambda g: 0.3 + 0.02 * g)
    >>> mine.programming.sigma.of
    'g_us'
    """
    if not 0 <= g_min_us < g_max_us < math.inf:
        raise BadInput(
            "g_max_us",
            got=g_max_us,
            why=f"conductances run from g_min_us = {g_min_us} up to it",
            do="give 0 <= g_min_us < g_max_us",
        )
    grid = np.linspace(g_min_us, g_max_us, GRID)
    laws = {}
    for what, function in (("sigma", sigma_us), ("shift", mean_error_us)):
        values = np.array([float(function(float(g))) for g in grid])
        wrong = ~np.isfinite(values) | ((values < 0) & (what == "sigma"))
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise BadInput(
                f"{what} of device {name!r} at {grid[i]:g} µS",
                got=float(values[i]),
                why="it must be finite, and σ not negative",
                do="mend the function",
            )
        laws[what] = Law.through(grid, values, of="g_us")
    return Device(
        name=name,
        source=source,
        g_min_us=g_min_us,
        g_max_us=g_max_us,
        t_max_s=0.0,
        programming=Programming(sigma=laws["sigma"], shift=laws["shift"]),
    )


def _read(path: Path) -> dict[float, list[tuple[float, float, float]]]:
    with (
        reading(path, "file of measurements", kind="a CSV file", mend="save it as UTF-8 with commas"),
        path.open(newline="", encoding="utf-8-sig") as file,
    ):
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise BadInput(
                f"{path}: header",
                got=",".join(header),
                why=f"column {missing[0]!r} is missing",
                do=f"start the file with {','.join(COLUMNS)} and, if measured, age_s",
            )
        ages: dict[float, list[tuple[float, float, float]]] = {}
        for number, row in enumerate(reader, start=2):
            g, error, sigma, age = (
                _number(path, number, column, row.get(column)) for column in (*COLUMNS, "age_s")
            )
            rows = ages.setdefault(age, [])
            if g < 0 or (rows and g <= rows[-1][0]):
                raise BadInput(
                    f"{path}, line {number}: conductance_us",
                    got=g,
                    why="conductances are at least 0 and rise from row to row within an age",
                    do="sort the rows and merge repeated conductances",
                )
            if sigma < 0 or age < 0:
                column, value = ("sigma_us", sigma) if sigma < 0 else ("age_s", age)
                raise BadInput(
                    f"{path}, line {number}: {column}",
                    got=value,
                    why="it cannot be negative",
                    do="correct the value",
                )
            if g + error < 0:
                raise BadInput(
                    f"{path}, line {number}: mean_error_us",
                    got=error,
                    why=f"the mean conductance would be {g + error:g} µS, and none is below 0",
                    do="correct the value; it is the measured mean minus the target",
                )
            rows.append((g, error, sigma))
    if not ages or any(len(rows) < 2 for rows in ages.values()):
        raise BadInput(f"{path}", why="every age needs at least two conductances", do="add measurements")
    return ages


def _number(path: Path, line: int, column: str, text: str | None) -> float:
    if column == "age_s" and not text:
        return 0.0
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(
            f"{path}, line {line}: {column}",
            got=text,
            why="it is not a finite number",
            do="write plain numbers such as 12.5",
        )
    return value
