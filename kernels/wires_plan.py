"""The order in which an array of cells is eliminated: nested dissection, worked out once for a shape.

The array is cut in two across its longer side, again and again, down to leaves of at most 8 × 8 cells. To the outside a
block shows only its ports: where its word lines enter (L) and leave (R), and where its bit lines begin (T) and end (B),
numbered in this order. A leaf becomes a list of star-mesh transforms; two blocks side by side become one by eliminating
the ports they share. That takes about N³ operations for N × N cells (George, SIAM J. Numer. Anal. 10, 345, 1973), where
elimination line by line takes N⁴.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aimc_sim.aliases import I64
from aimc_sim.kernels.wires_vector import LANES

LEAF = 8  # cells a side: below it, lists of transforms beat dense algebra (4 and 12 are slower)
ROW_WIRE, COL_WIRE, CELL = 0, 1, 2  # what an edge of a leaf is
# how lines end at a block's right or top: they go on, at a terminal, in nothing
CUT, TERMINAL, OPEN = 0, 1, 2
Ports = tuple[int, int, int, int]  # number of L, R, T and B
Program = tuple[list[list[int]], list[list[int]], list[list[int]], int, int]


@dataclass(frozen=True)
class Plan:
    """A plan is what `wires` follows. Every table is int64; a place counts numbers from the start of the store."""

    programs: I64  # (programs, 6): first and last pivot, first and last initial edge, slots, port pairs
    edge_start: I64  # (pivots + 1,) where in ``edges`` a pivot's begin
    edges: I64  # slots of the edges from a pivot to the nodes that are left
    pair_start: I64  # (pivots + 1,) where in ``pairs`` a pivot's begin
    pairs: I64  # slots of the edges between every two of those nodes
    initial: I64  # (edges, 4): slot, kind, row and column in the leaf, or index of the wire segment
    leaves: I64  # (leaves, 3): first row, first column, place of the result
    batches: I64  # (batches, 3): program, first leaf, number of leaves
    # (merges, 12): 1 for one above the other, places of both blocks and of the result, ports of both
    merges: I64
    slots: int  # of the largest program
    degree: int  # most edges of a pivot
    store: int  # numbers that all results take
    front: int  # most nodes in a merge


def pairs_of(nodes: int) -> int:
    """Return the edges of a complete graph."""
    return nodes * (nodes - 1) // 2


@lru_cache(maxsize=32)
def plan(rows: int, cols: int, both_driven: bool, both_sensed: bool) -> Plan:
    """Plan for rows × cols cells, driven at the left (and right), sensed at the bottom (and top)."""
    row_cuts, col_cuts = _cuts(rows), _cuts(cols)
    shapes: dict[tuple[int, int, int, int], int] = {}  # of leaves: rows, columns, ends at right and top
    leaves: list[tuple[int, int, int, int]] = []  # program, first row, first column, place
    merges: list[tuple[int, ...]] = []
    leaf_store = merge_store = 0

    def visit(r0: int, r1: int, c0: int, c1: int, stack: int) -> tuple[int, Ports]:
        """Plan leaves r0 … r1-1 by c0 … c1-1, results from ``stack`` on; their place (a leaf: -1 - place), ports."""
        nonlocal leaf_store, merge_store
        height, width = row_cuts[r1] - row_cuts[r0], col_cuts[c1] - col_cuts[c0]
        right = CUT if c1 < len(col_cuts) - 1 else TERMINAL if both_driven else OPEN
        top = CUT if r0 else TERMINAL if both_sensed else OPEN
        ports = (height, height * (right != OPEN), width * (top != OPEN), width)
        if r1 - r0 == c1 - c0 == 1:
            program = shapes.setdefault((height, width, right, top), len(shapes))
            leaves.append((program, row_cuts[r0], col_cuts[c0], leaf_store))
            leaf_store += pairs_of(sum(ports))
            return -1 - leaves[-1][3], ports
        above = c1 - c0 == 1 or (r1 - r0 > 1 and height > width)
        cut = (r0 + r1) // 2 if above else (c0 + c1) // 2
        one, ports_one = visit(r0, cut if above else r1, c0, c1 if above else cut, stack)
        free = stack if one < 0 else stack + pairs_of(sum(ports_one))
        two, ports_two = visit(cut if above else r0, r1, c0 if above else cut, c1, free)
        merges.append((int(above), one, two, stack, *ports_one, *ports_two))
        merge_store = max(merge_store, stack + pairs_of(sum(ports)))
        return stack, ports

    visit(0, len(row_cuts) - 1, 0, len(col_cuts) - 1, 0)
    table = np.array(merges, np.int64).reshape(-1, 12)
    table[:, 3] += leaf_store
    places = table[:, 1:3]
    table[:, 1:3] = np.where(places < 0, -1 - places, leaf_store + places)
    by_program = np.array(sorted(leaves, key=lambda leaf: leaf[0]), np.int64)
    batches = []
    for program in range(len(shapes)):
        first, last = np.searchsorted(by_program[:, 0], [program, program + 1]).tolist()
        batches += [(program, start, min(LANES, last - start)) for start in range(first, last, LANES)]
    programs = [_program(*shape) for shape in shapes]
    return Plan(
        *_tables(programs),
        leaves=np.ascontiguousarray(by_program[:, 1:]),
        batches=np.array(batches, np.int64),
        merges=table,
        slots=max(program[3] for program in programs),
        degree=max((len(edges) for program in programs for edges in program[0]), default=0),
        store=leaf_store + merge_store,
        front=int(
            (table[:, 4:].sum(axis=1) - np.where(table[:, 0], table[:, 7], table[:, 5])).max(initial=0)
        ),
    )


def _cuts(length: int) -> list[int]:
    parts = -(-length // LEAF)
    return [length * part // parts for part in range(parts + 1)]


@lru_cache(maxsize=64)
def _program(rows: int, cols: int, right: int, top: int) -> Program:
    """Return star-mesh transforms that leave the ports of a leaf, least connected node first.

    Slots of a pivot's edges, slots of its pairs, initial edges, number of slots, of port pairs (they come first).
    """
    names: dict[tuple[str, int, int], int] = {}

    def node(kind: str, i: int, j: int) -> int:
        return names.setdefault((kind, i, j), len(names))

    for i in range(rows):
        node("L", i, 0)
    for i in range(rows * (right != OPEN)):
        node(*(("R", i, 0) if right == TERMINAL else ("u", i, cols - 1)))
    for j in range(cols * (top != OPEN)):
        node("T" if top == TERMINAL else "v", 0, j)
    for j in range(cols):
        node("B", 0, j)
    ports = len(names)
    edges: list[tuple[int, int, int, int, int]] = []  # two nodes, kind, row, column
    for i in range(rows):
        for j in range(cols):
            u, v = node("u", i, j), node("v", i, j)
            edges.append((node("u", i, j - 1) if j else node("L", i, 0), u, ROW_WIRE, i, j))
            edges.append((v, node("v", i + 1, j) if i + 1 < rows else node("B", 0, j), COL_WIRE, i + 1, j))
            edges.append((u, v, CELL, i, j))
    if right == TERMINAL:
        edges += [(node("u", i, cols - 1), node("R", i, 0), ROW_WIRE, i, cols) for i in range(rows)]
    if top == TERMINAL:
        edges += [(node("T", 0, j), node("v", 0, j), COL_WIRE, 0, j) for j in range(cols)]

    slots = {pair: k for k, pair in enumerate((a, b) for a in range(ports) for b in range(a + 1, ports))}
    around: list[set[int]] = [set() for _ in names]

    def slot(a: int, b: int) -> int:
        around[a].add(b)
        around[b].add(a)
        return slots.setdefault((min(a, b), max(a, b)), len(slots))

    initial = [[slot(a, b), *what] for a, b, *what in edges]
    inner = set(range(ports, len(names)))
    pivot_edges, pivot_pairs = [], []
    while inner:
        pivot = min(inner, key=lambda k: (len(around[k]), k))
        inner.remove(pivot)
        near = sorted(around[pivot])
        pivot_edges.append([slot(pivot, k) for k in near])
        for k in near:
            around[k].discard(pivot)
        pivot_pairs.append([slot(a, b) for at, a in enumerate(near) for b in near[at + 1 :]])
    return pivot_edges, pivot_pairs, initial, len(slots), pairs_of(ports)


def _tables(programs: list[Program]) -> tuple[I64, I64, I64, I64, I64, I64]:
    rows: list[list[int]] = []
    edge_start, edges, pair_start, pairs, initial = [0], list[int](), [0], list[int](), list[list[int]]()
    for pivot_edges, pivot_pairs, first, slots, port_pairs in programs:
        pivot, edge = len(edge_start) - 1, len(initial)
        rows.append([pivot, pivot + len(pivot_edges), edge, edge + len(first), slots, port_pairs])
        for some, others in zip(pivot_edges, pivot_pairs, strict=True):
            edges += some
            pairs += others
            edge_start.append(len(edges))
            pair_start.append(len(pairs))
        initial += first
    tables = (rows, edge_start, edges, pair_start, pairs, initial)
    a, b, c, d, e, f = (np.array(table, np.int64) for table in tables)
    return a, b, c, d, e, f
