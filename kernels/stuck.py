"""Cells that are stuck for good: by rate, drawn from their words, and by a fault map, listed column by column.

d and sites are `kernels.conductance`'s DeviceTables and SiteKeys. The references are the readable formulas.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F32, U32
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.normal import CHUNK, GROUPS, words_of_groups


def stuck_reference(g: F32, d: Any, word: U32) -> F32:
    """The lowest words make a cell stuck at g_min, the highest one stuck at g_max, whatever was programmed."""
    wide = word.astype(np.int64)
    at_high = np.where(wide >= (1 << 32) - d.stuck_high, d.g_min + d.span, g)
    return np.asarray(np.where(wide < d.stuck_low, d.g_min, at_high), np.float32)


def listed_reference(g: F32, d: Any, sites: Any, plane: int) -> F32:
    """The cells that a fault map names are stuck, whatever was programmed or drawn."""
    g = g.copy()
    for column in range(min(g.shape[0], sites.listed_ends.size - 1)):
        for row, polarity, high in sites.listed[sites.listed_ends[column] : sites.listed_ends[column + 1]]:
            if polarity == plane:
                g[column, row] = d.g_min + d.span if high else d.g_min
    return g


@njit
def stick(
    d: Any, start: Any, n: Any, c0: Any, c1: Any, c3: Any, k0: Any, k1: Any, words: Any, states: Any, plane: Any
) -> None:  # fmt: skip
    """Cells of rows start … start+n-1 that are stuck, in each of the states (2, CHUNK)."""
    words_of_groups(
        np.uint32(c0 + np.uint32(start >> 2)), ((n + 63) >> 6) << 4, c1, np.uint32(0), c3, k0, k1, words
    )
    low, high = np.int64(d.stuck_low), np.int64(1 << 32) - np.int64(d.stuck_high)
    for i in range(n):
        word = np.int64(words[(i >> 4) & 3, (i >> 6 << 4) | (i & 15)])
        if word < low or word >= high:
            for state in states:
                state[plane, i] = d.g_min if word < low else d.g_min + d.span


@njit
def stick_listed(d: Any, sites: Any, column: Any, start: Any, n: Any, plane: Any, states: Any) -> None:
    """Cells of rows start … start+n-1 that the fault map names, in each of the states (2, CHUNK)."""
    if column + 1 < sites.listed_ends.size:
        for at in range(sites.listed_ends[column], sites.listed_ends[column + 1]):
            i = sites.listed[at, 0] - start
            if sites.listed[at, 1] == plane and i >= 0 and i < n:
                for state in states:
                    state[plane, i] = d.g_min + d.span if sites.listed[at, 2] != 0 else d.g_min


@njit
def stuck_states(d: Any, sites: Any, first: Any, last: Any, rows: Any, out: Any) -> None:
    """What a test finds in columns first … last-1: out (2, last-first, rows) int8, 0 sound, 1 at g_min, 2 at g_max."""
    words = np.empty((4, GROUPS), np.uint32)
    k0, k1 = sites.key[0], sites.key[1]
    low, high = np.int64(d.stuck_low), np.int64(1 << 32) - np.int64(d.stuck_high)
    for column in range(first, last):
        name = sites.names[column] if sites.names.size else np.uint32(column)
        for plane in range(2):
            state = out[plane, column - first]
            state[:] = 0
            if d.stuck_low > 0 or d.stuck_high > 0:
                for start in range(0, rows, CHUNK):
                    n = min(CHUNK, rows - start)
                    words_of_groups(np.uint32(start >> 2), ((n + 63) >> 6) << 4, name, np.uint32(0),
                                    sites.fault[plane], k0, k1, words)  # fmt: skip
                    for i in range(n):
                        word = np.int64(words[(i >> 4) & 3, (i >> 6 << 4) | (i & 15)])
                        if word < low:
                            state[start + i] = 1
                        elif word >= high:
                            state[start + i] = 2
        if column + 1 < sites.listed_ends.size:
            for at in range(sites.listed_ends[column], sites.listed_ends[column + 1]):
                out[sites.listed[at, 1], column - first, sites.listed[at, 0]] = 1 + sites.listed[at, 2]


@njit
def moving_costs(ratio: Any, states: Any, dead: Any, out: Any) -> None:
    """out (n, m): Σ over rows of the squared error that known faults cause when weights ratio[j] (n, K), relative to
    their full scale, are written into column p, states (2, m, K); a dead column loses all of them."""
    n, m, k = ratio.shape[0], states.shape[1], ratio.shape[1]
    out[:] = 0.0
    for p in range(m):
        if dead[p]:
            for j in range(n):
                for i in range(k):
                    out[j, p] += np.float64(ratio[j, i]) ** 2
            continue
        for i in range(k):
            plus, minus = states[0, p, i], states[1, p, i]
            if plus != 0 or minus != 0:
                for j in range(n):
                    r = np.float64(ratio[j, i])
                    error = 0.0
                    if plus != 0:
                        error += np.float64(plus - 1) - max(r, 0.0)
                    if minus != 0:
                        error -= np.float64(minus - 1) - max(-r, 0.0)
                    out[j, p] += error * error
