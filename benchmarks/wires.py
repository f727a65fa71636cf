"""What do exact wires cost? G_eff of one tile, of column pairs, of every tile of a model, exact and fast.

    python -m benchmarks.wires [WEIGHTS] [--json]

Truth: a sparse LU of the nodal equations. Rival: one iterative solve per input vector, and not a slow one. Goals, on 2
free cores: 256 × 256 cells in 0.4 s, 512 × 512 in 5 s; the pairs of SmolLM2 (134.5 M weights, 2,052 full tiles of
256 × 256 weights, each 256 × 512 cells) in 15 minutes exact and 60 s fast. "CPU" is the time of all threads, which a
busy machine does not stretch as it does seconds. With WEIGHTS, a file of aimc-sim export, every tile of it is computed
exactly and fast.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from aimc_sim import WeightFile, wires
from aimc_sim.chip.mapping import tile_map
from aimc_sim.hardware import Tile
from aimc_sim.kernels.parallel import num_threads
from benchmarks.harness import Row, command_line, machine, show, side_by_side

F64 = npt.NDArray[np.float64]
G_MAX_US, SEGMENT_OHM = 20.7, 4.8  # r/R_min = 1e-4
FULL_TILES = 2052  # of SmolLM2, counted in weights
BATCH = 8
SIDES = (256, 512)  # of the exact arrays, and of what a row of G_eff and a pair of tiles are compared on
SIDE, LU_SIDE, ROWS_SIDE = 256, 64, 128
REPEATS = 7
SMALLEST = {"BATCH": 1, "SIDES": (8, 16), "SIDE": 16, "LU_SIDE": 8, "ROWS_SIDE": 8, "REPEATS": 1}


def cells(*shape: int) -> F64:
    """µS, evenly spread over [0.01, 1]·g_max without a visible order."""
    count = int(np.prod(shape))
    return np.asarray(G_MAX_US * (0.01 + 0.99 * (np.arange(count) * 0.6180339887498949 % 1.0)).reshape(shape))


def timed(call: Callable[[], object], repeats: int = 7) -> tuple[float, float]:
    """Median seconds and median CPU seconds after a warm-up."""
    call()
    walls, cpus = [], []
    for _ in range(min(repeats, REPEATS)):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def nodal(g: F64, ohm: float) -> F64:
    """G_eff µS by a sparse LU of the nodal equations, every row driven in turn."""
    rows, cols = g.shape
    word, bit = np.arange(2 * g.size).reshape(2, rows, cols)
    wire = 1e6 / ohm
    edges: list[tuple[Any, Any, Any]] = [
        (word, bit, g),
        (word[:, :-1], word[:, 1:], wire),
        (bit[:-1], bit[1:], wire),
    ]
    parts = [(a, b, s * c) for x, y, c in edges for a, b, s in ((x, x, 1), (y, y, 1), (x, y, -1), (y, x, -1))]
    parts += [(word[:, 0], word[:, 0], wire), (bit[-1], bit[-1], wire)]
    a, b, us = (
        np.concatenate([np.broadcast_to(p[k], np.shape(p[0])).ravel() for p in parts]) for k in range(3)
    )
    source = np.zeros((2 * g.size, rows))
    source[word[:, 0], np.arange(rows)] = wire
    volts = splu(coo_matrix((us, (a, b)), shape=(2 * g.size,) * 2).tocsc()).solve(source)
    return np.asarray((volts[bit[-1]] * wire).T)


def measure() -> list[Row]:
    """Every figure that needs no weights."""
    ohm = SEGMENT_OHM
    rows = []
    for side, goal in zip(SIDES, (0.4, 5.0), strict=True):
        g = cells(side, side)
        wall, cpu = timed(lambda: wires.effective_conductance(g, ohm, ohm))  # noqa: B023
        rows += [
            Row(f"{side} × {side} cells, exact", wall, "s", goal),
            Row("    CPU", cpu, "s"),
        ]
        both, _ = timed(lambda: wires.effective_conductance(g, ohm, ohm, drive="both", sense="both"))  # noqa: B023
        rows.append(Row("    both ends driven and sensed", both, "s"))
    g = cells(LU_SIDE, LU_SIDE)
    apart = np.abs(wires.effective_conductance(g, ohm, ohm) / nodal(g, ohm) - 1).max()
    rows.append(
        Row(
            f"{LU_SIDE} × {LU_SIDE} cells, largest relative difference from a sparse LU",
            float(apart),
            "",
            1e-9,
        )
    )
    g = cells(ROWS_SIDE, ROWS_SIDE)
    pair = side_by_side(
        lambda: wires.column_currents(g, np.eye(ROWS_SIDE), ohm, ohm),
        lambda: wires.effective_conductance(g, ohm, ohm),
        repeats=5,
    )
    rows.append(Row(f"{ROWS_SIDE} × {ROWS_SIDE} cells, speed over row by row", pair.ratio, "times"))
    g, volts = cells(SIDE, SIDE), np.cos(np.arange(float(SIDE)))
    one, _ = timed(lambda: wires.column_currents(g, volts, ohm, ohm))
    currents, product = (
        wires.column_currents(g, volts, ohm, ohm),
        volts @ wires.effective_conductance(g, ohm, ohm),
    )
    error = float(np.abs(currents - product).max() / np.abs(product).max())
    rows += [
        Row(f"{SIDE} × {SIDE}, one input vector by conjugate gradients", one * 1e3, "ms"),
        Row("    relative difference from the elimination", error, "", 1e-9),
    ]
    plus, minus = cells(2, BATCH, SIDE, SIDE)
    models = (
        ("exact", wires.differential_effective_conductance, 900.0),
        ("fast", wires.differential_effective_conductance_fast, 60.0),
    )
    for name, model, goal in models:
        wall, cpu = timed(lambda: model(plus, minus, ohm, ohm), repeats=5)  # noqa: B023
        rows += [
            Row(
                f"{SIDE} × {SIDE} pairs ({SIDE} × {2 * SIDE} cells), {name}, each of {BATCH}",
                wall / BATCH * 1e3,
                "ms",
            ),
            Row("    CPU", cpu / BATCH * 1e3, "ms"),
            Row("    × 2,052, a SmolLM2", wall / BATCH * FULL_TILES, "s", goal),
            Row(
                f"    the same from CPU time on {num_threads()} free cores",
                cpu / BATCH * FULL_TILES / num_threads(),
                "s",
            ),
        ]
    return [*rows, *_errors([(plus, minus)], ohm)]


def measure_weights(path: Path) -> list[Row]:
    """Every tile of a weight file at 256 × 256, cells at their targets: seconds, and errors against the bound."""
    file = WeightFile(path)
    groups: dict[tuple[int, ...], list[tuple[F64, F64]]] = defaultdict(list)
    rows: list[Row] = []
    spent, worst, tiles = np.zeros((2, 2)), [], 0
    for info in file.matrices:
        w = np.asarray(file.weight(info.name), np.float64)
        cut = tile_map(w.shape[1], w.shape[0], Tile(rows=256, cols=256))
        for a, b in zip(cut.row_bounds, cut.row_bounds[1:], strict=False):
            part = w[:, a:b].T
            part = part / np.maximum(np.abs(part).max(axis=0), 1e-30) * G_MAX_US
            for c, d in zip(cut.col_bounds, cut.col_bounds[1:], strict=False):
                tile = part[:, c:d]
                groups[tile.shape].append((np.maximum(tile, 0), np.maximum(-tile, 0)))
        for shape in list(groups):
            if len(groups[shape]) >= 4 * BATCH or info is file.matrices[-1]:
                plus, minus = (np.stack(side) for side in zip(*groups.pop(shape), strict=True))
                tiles += len(plus)
                start = time.perf_counter(), time.process_time()
                wires.differential_effective_conductance_fast(plus, minus, SEGMENT_OHM, SEGMENT_OHM)
                middle = time.perf_counter(), time.process_time()
                wires.differential_effective_conductance(plus, minus, SEGMENT_OHM, SEGMENT_OHM)
                end = time.perf_counter(), time.process_time()
                spent += np.subtract([middle, end], [start, middle])
                worst.append(_errors([(plus, minus)], SEGMENT_OHM)[0].value)
    for k, (name, goal) in enumerate((("fast", 60.0), ("exact", 900.0))):
        rows += [
            Row(f"{tiles} tiles, {name}", float(spent[k, 0]), "s", goal),
            Row("    CPU", float(spent[k, 1]), "s"),
        ]
    return [*rows, Row("fast, largest error of any entry over its bound", max(worst), "", 1.0)]


def _errors(tiles: Sequence[tuple[F64, F64]], ohm: float) -> list[Row]:
    """How much of the fast model's bound its errors take."""
    worst = 0.0
    for plus, minus in tiles:
        exact = np.stack(wires.differential_effective_conductance(plus, minus, ohm, ohm))
        *fast, bound = wires.differential_effective_conductance_fast(plus, minus, ohm, ohm)
        worst = max(worst, float((np.abs(np.stack(fast) - exact).max(axis=(0, 2, 3)) / bound).max()))
    return [Row("    fast, largest error over the bound", worst, "", 1.0)]


def main() -> None:
    parser = command_line((__doc__ or "").splitlines()[0], globals())
    parser.add_argument("weights", nargs="?", type=Path, help="a weight file: every tile of it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    rows = measure_weights(options.weights) if options.weights else measure()
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(machine())
        show((__doc__ or "").splitlines()[0], rows)


if __name__ == "__main__":
    main()
