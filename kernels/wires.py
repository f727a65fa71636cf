"""An array of cells between resistive wires, reduced to the conductances between its terminals.

Star-mesh transform: eliminating a node with edges c_1 … c_n adds c_i·c_j / Σc to the edge between every two of its
neighbours. Nothing is ever subtracted, so every conductance keeps its relative accuracy however small the wires'
resistance is against the cells' (Grassmann, Taksar & Heyman, Oper. Res. 33, 1107, 1985). With only the terminals left,
the edge between a driver and a sense amplifier is their entry of G_eff: terminals are held at their voltages, so
the edges among drivers or among senses carry nothing that is sensed. The order comes from `wires_plan`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.parallel import num_threads, run_blocks
from aimc_sim.kernels.wires_plan import COL_WIRE, ROW_WIRE, plan
from aimc_sim.kernels.wires_vector import (
    LANES,
    ROW_VECTORS,
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    multiply_lanes,
    multiply_row,
    multiply_tile,
    sum_row,
)

Floats = npt.NDArray[Any]
PANEL = 32  # nodes that are eliminated before the rest of a merge is updated
TILES_PER_BLOCK = 8  # of one thread before it takes the next: they share scratch memory


def effective_conductance_reference(
    g: F64, row_ohm: F64, col_ohm: F64, both_driven: bool, both_sensed: bool
) -> F64:
    """Compute G_eff (rows, cols) by nodal analysis with a dense solve: the readable formula, for small arrays.

    g: (rows, cols) siemens. row_ohm: (cols + 1,) resistance of the segment left of each column, the last one right of
    the last. col_ohm: (rows + 1,) above each row, the last one below the last. All above 0 here. Returns siemens.
    """
    rows, cols = g.shape
    word, bit = np.arange(2 * g.size).reshape(2, rows, cols)
    node = np.zeros((2 * g.size,) * 2)
    source = np.zeros((2 * g.size, rows))

    def connect(a: Any, b: Any, siemens: Any) -> None:
        for x, y, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
            np.add.at(node, (x, y), np.broadcast_to(sign * siemens, np.shape(a)))

    connect(word, bit, g)
    connect(word[:, :-1], word[:, 1:], 1 / row_ohm[1:-1])
    connect(bit[:-1], bit[1:], 1 / col_ohm[1:-1, None])
    for column in [0, -1] if both_driven else [0]:
        node[word[:, column], word[:, column]] += 1 / row_ohm[column]
        source[word[:, column], np.arange(rows)] += 1 / row_ohm[column]
    for row in [-1, 0] if both_sensed else [-1]:
        node[bit[row], bit[row]] += 1 / col_ohm[row]
    volts = np.linalg.solve(node, source)
    sensed = volts[bit[-1]] / col_ohm[-1]
    return np.asarray((sensed + volts[bit[0]] / col_ohm[0] if both_sensed else sensed).T)


def effective_conductances(
    g: Floats, row_ohm: F64, col_ohm: F64, both_driven: bool, both_sensed: bool
) -> Floats:
    """Compute G_eff of many arrays (tiles, rows, cols), computed in g's precision: float32 or float64.

    Resistances as in `effective_conductance_reference`, 0 included. Threads share the tiles; each is computed alone.
    """
    tiles, rows, cols = g.shape
    steps = plan(rows, cols, both_driven, both_sensed)
    least = float(np.finfo(g.dtype).eps) / (16 * max(rows, cols) ** 2)
    out = np.empty_like(g)

    def block(first: int, last: int) -> None:
        slots, stars = (np.empty((size, LANES), g.dtype) for size in (steps.slots, steps.degree + 1))
        store = np.empty(steps.store, g.dtype)
        front = np.empty((steps.front + TILE_ROWS) * _pitch(steps.front), g.dtype)
        for tile in range(first, last):
            _reduce(
                g[tile], row_ohm, col_ohm, least, both_driven, both_sensed,
                steps.programs, steps.edge_start, steps.edges, steps.pair_start, steps.pairs, steps.initial,
                steps.leaves, steps.batches, steps.merges, slots, stars, store, front, out[tile])  # fmt: skip

    run_blocks(block, tiles, max(1, min(TILES_PER_BLOCK, tiles // num_threads())))
    return out


def scratch(rows: int, cols: int, both_driven: bool, both_sensed: bool) -> int:
    """Return the numbers that a thread needs beside the arrays themselves."""
    steps = plan(rows, cols, both_driven, both_sensed)
    return steps.store + int(_pitch(steps.front)) * (steps.front + TILE_ROWS)


@njit
def _pitch(nodes: Any) -> Any:
    """Numbers from one row of a front to the next: whole vectors, and room for those that run over its end."""
    return (nodes + 15) // 16 * 16 + ROW_VECTORS * VECTOR_BYTES // 4


@njit
def _reduce(
    g: Any, row_ohm: Any, col_ohm: Any, least: Any, both_driven: Any, both_sensed: Any, programs: Any, edge_start: Any,
    edges: Any, pair_start: Any, pairs: Any, initial: Any, leaves: Any, batches: Any, merges: Any, slots: Any,
    stars: Any, store: Any, front: Any, out: Any,
) -> None:  # fmt: skip
    """G_eff of one array into ``out``; slots, stars, store and front are scratch.

    Resistances below ``least``, in units of about 1/max(g), count as ``least``: less than rounding, and never 0.
    """
    rows, cols = g.shape
    largest = 0.0
    for i in range(rows):
        for j in range(cols):
            largest = max(largest, np.float64(g[i, j]))
    if largest == 0.0:
        out[:] = 0
        return
    unit = 2.0 ** np.round(np.log2(largest))  # a power of two: no rounding, and no under- or overflow
    cells = np.empty_like(g)
    for i in range(rows):
        for j in range(cols):
            cells[i, j] = g[i, j] / unit
    row_wires, col_wires = np.empty(cols + 1, g.dtype), np.empty(rows + 1, g.dtype)
    for j in range(cols + 1):
        row_wires[j] = 1.0 / max(row_ohm[j] * unit, least)
    for i in range(rows + 1):
        col_wires[i] = 1.0 / max(col_ohm[i] * unit, least)
    for batch in range(batches.shape[0]):
        program, first, count = batches[batch]
        _eliminate_leaves(
            cells, row_wires, col_wires, programs[program], edge_start, edges, pair_start, pairs, initial,
            leaves[first : first + count], slots, stars, store)  # fmt: skip
    ports = np.array([rows, rows * both_driven, cols * both_sensed, cols])
    _merge_all(merges, ports, store, front)
    _read_terminals(store, merges[-1, 3] if merges.shape[0] else 0, ports, unit, out)


@njit
def _eliminate_leaves(
    cells: Any, row_wires: Any, col_wires: Any, program: Any, edge_start: Any, edges: Any, pair_start: Any, pairs: Any,
    initial: Any, leaves: Any, c: Any, star: Any, store: Any,
) -> None:  # fmt: skip
    """Up to LANES leaves of one program side by side, each to the edges between its ports, in ``store``.

    c: (slots, LANES) edges. star: (edges of a pivot + 1, LANES): c_i / Σc, and Σc in front.
    """
    count = leaves.shape[0]
    c[: program[4]] = 0
    for e in range(program[2], program[3]):
        slot, kind, row, col = initial[e]
        for lane in range(LANES):
            leaf = leaves[min(lane, count - 1)]  # idle lanes repeat the last leaf
            i, j = leaf[0] + row, leaf[1] + col
            if kind == ROW_WIRE:
                c[slot, lane] += row_wires[j]
            elif kind == COL_WIRE:
                c[slot, lane] += col_wires[i]
            else:
                c[slot, lane] += cells[i, j]
    for pivot in range(program[0], program[1]):
        first, last, at = edge_start[pivot], edge_start[pivot + 1], pair_start[pivot]
        total = star[0]
        total[:] = 0
        for e in range(first, last):
            edge = c[edges[e]]
            for lane in range(LANES):
                total[lane] += edge[lane]
        for e in range(first, last):
            edge, share = c[edges[e]], star[e - first + 1]
            for lane in range(LANES):
                share[lane] = edge[lane] / total[lane]
        for e in range(first, last):
            for other in range(e - first + 2, last - first + 1):
                multiply_lanes(c, pairs[at], edges[e], star, other)
                at += 1
    for lane in range(count):
        place = leaves[lane, 2]
        for k in range(program[5]):
            store[place + k] = c[k, lane]


@njit
def _merge_all(merges: Any, terminals: Any, store: Any, front: Any) -> None:
    """Blocks two by two, in the plan's order; the last merge leaves the terminals (4,) L, R, T and B."""
    starts, onto = np.empty((2, 4), np.int64), np.empty((2, 4), np.int64)
    for m in range(merges.shape[0]):
        above, place = merges[m, 0], merges[m, 3]
        ports = merges[m, 4:].reshape(2, 4)
        shared = ports[0, 3] if above else ports[0, 1]
        nodes = ports.sum() - shared
        at = shared  # the front: shared nodes, then L, R, T and B of the first block and of the second
        for x in range(4):
            for block in range(2):
                starts[block, x] = ports[block, :x].sum()
                # the first block's B (one above the other) or R is the second's T or L
                if x == ((3 - block) if above else (1 - block)):
                    onto[block, x] = 0
                else:
                    onto[block, x] = at
                    at += ports[block, x]
        pitch = _pitch(nodes)
        flat = front[: (nodes + TILE_ROWS) * pitch]
        f = flat.reshape(nodes + TILE_ROWS, pitch)
        for i in range(nodes):
            f[i, i:] = 0
        f[nodes:] = 0
        for block in range(2):
            _add_block(f, store, merges[m, 1 + block], starts[block], ports[block], onto[block])
        final = m == merges.shape[0] - 1
        rows = shared + terminals[0] + terminals[1] if final else nodes
        _eliminate_front(flat, f, pitch, nodes, shared, rows, rows if final else shared)
        for i in range(shared, nodes):
            factors, row = store[place : place + nodes - i - 1], f[i, i + 1 : nodes]
            for t in range(factors.size):
                factors[t] = row[t]
            place += factors.size


@njit
def _add_block(f: Any, store: Any, place: Any, starts: Any, ports: Any, onto: Any) -> None:
    """Add the edges of a block to the front f; ports of kind x are its nodes onto[x], onto[x] + 1, …"""
    count = ports.sum()
    for x in range(4):
        for a in range(starts[x], starts[x] + ports[x]):
            row = onto[x] + a - starts[x]
            for y in range(x, 4):
                b = max(a + 1, starts[y])
                edges = store[place + b - a - 1 : place + starts[y] + ports[y] - a - 1]
                col = onto[y] + b - starts[y]
                if col > row:
                    upper = f[row, col : col + edges.size]
                    for t in range(edges.size):
                        upper[t] += edges[t]
                else:  # shared nodes come first in the front
                    for t in range(edges.size):
                        f[col + t, row] += edges[t]
            place += count - a - 1


@njit
def _eliminate_front(
    flat: Any, f: Any, pitch: Any, nodes: Any, shared: Any, rows: Any, first_col: Any
) -> None:
    """Star-mesh transforms of the first ``shared`` nodes of f, whose upper triangle holds the edges.

    Of what is left only rows < ``rows`` and columns ≥ ``first_col`` are brought up to date. Row k of an eliminated node
    becomes c_k / √Σc: the products of two of its entries are what the edges gain.
    """
    width = VECTOR_BYTES // f.itemsize
    for panel in range(0, shared, PANEL):
        end = min(shared, panel + PANEL)
        for k in range(panel, end):
            if k > panel:
                for j in range(k + 1, nodes, ROW_VECTORS * width):
                    multiply_row(flat, pitch, k, j, panel, k)
            row = f[k, k + 1 : nodes]
            scale = 1 / np.sqrt(sum_row(flat, k * pitch + k + 1, k * pitch + nodes))
            for t in range(row.size):
                row[t] *= scale
        for i in range(end, rows, TILE_ROWS):
            for j in range(i if i < shared else max(i, first_col), nodes, TILE_VECTORS * width):
                multiply_tile(flat, pitch, i, j, panel, end)


@njit
def _read_terminals(store: Any, place: Any, ports: Any, unit: Any, out: Any) -> None:
    """Edges from every driver (L and R) to every sense (T and B), added up line by line."""
    count, drivers = ports.sum(), ports[0] + ports[1]
    out[:] = 0
    for a in range(drivers):
        row = out[a % ports[0]]
        for b in range(drivers, count):
            row[(b - drivers) % ports[3]] += store[place + b - a - 1] * unit
        place += count - a - 1
