"""Currents of single input vectors through an array with resistive wires: preconditioned conjugate gradients.

Between cell currents and wires alternate two easy problems: with the bit lines' voltages given, every word line is a
ladder of its own, and the other way round. Eliminating the word lines leaves S·v = (T_bit − G·T_word⁻¹·G)·v = b for
the bit lines; T_bit preconditions it: the eigenvalues lie between 1 − (loss along words × loss along bits) and 1, and
ten to twenty steps do. Ladders are solved as Norton sources, without a subtraction and down to a resistance of 0.

It shares nothing with `wires`, which it checks, and is the faster of the two for few vectors on a large array. Every
vector runs alone until its own relative residual is small: neither its scale nor its company matters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aimc_sim.aliases import F64, I64
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.parallel import run_blocks


def currents(
    g: F64,
    volts: F64,
    row_ohm: F64,
    col_ohm: F64,
    both_driven: bool,
    both_sensed: bool,
    tolerance: float,
    steps: int,
) -> tuple[F64, I64]:
    """Return the sensed currents (vectors, cols) for volts (vectors, rows) on the word lines of g (rows, cols).

    Resistances as in `wires.effective_conductance_reference`; 0 is allowed, except for a far end that is a terminal.
    tolerance: of the residual in the norm of T_bit⁻¹, relative to that of b. Also returns the steps that each vector
    took; ``steps`` + 1 where it did not get there.
    """
    out = np.empty((volts.shape[0], g.shape[1]))
    taken = np.empty(volts.shape[0], np.int64)
    words = _ladders(g, row_ohm[:-1], row_ohm[-1] if both_driven else np.inf)
    # bit lines are ladders too, seen from the sense amplifier: rows in reverse
    bits = _ladders(np.ascontiguousarray(g[::-1].T), col_ohm[:0:-1], col_ohm[0] if both_sensed else np.inf)

    def block(first: int, last: int) -> None:
        for vector in range(first, last):
            taken[vector] = _solve(
                g, volts[vector], row_ohm[:-1], row_ohm[-1], both_driven, words,
                col_ohm[:0:-1], col_ohm[0], both_sensed, bits, tolerance, steps, out[vector])  # fmt: skip

    run_blocks(block, volts.shape[0], 1)
    return out, taken


@njit
def _ladders(g: Any, ohm: Any, far_ohm: Any) -> Any:
    """(2, lines, nodes): admittance towards the far end, and the share of a Norton source that passes each segment.

    g: (lines, nodes) to ground. ohm: (nodes,) of the segment before each node; the far end through far_ohm or open.
    """
    lines, nodes = g.shape
    out = np.empty((2, lines, nodes))
    for line in range(lines):
        admittance = 1 / far_ohm
        for k in range(nodes - 1, -1, -1):
            admittance += g[line, k]
            out[0, line, k] = admittance
            out[1, line, k] = 1 / (1 + ohm[k] * admittance)
            admittance *= out[1, line, k]
    return out


@njit
def _ladder(source: Any, near: Any, far: Any, ohm: Any, share: Any, x: Any) -> Any:
    """Voltages x (nodes,) of one ladder: currents ``source`` (nodes,) into its nodes, ``near`` volts at its terminal,
    ``far`` amperes into its last node. Returns what flows out of a near terminal at 0 V. source and x may be one."""
    s = far
    for k in range(share.size - 1, -1, -1):
        s += source[k]
        x[k] = s
        s *= share[k]
    before = near
    for k in range(share.size):
        before = (before + ohm[k] * x[k]) * share[k]
        x[k] = before
    return s


@njit
def _words_after_bits(
    g: Any, p: Any, volts: Any, ohm: Any, far_ohm: Any, both: Any, words: Any, x: Any
) -> None:
    """x = G·u, for the word lines' voltages u that follow from p, the bit lines', and from the drivers'."""
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            x[i, j] = g[i, j] * p[i, j]
        _ladder(x[i], volts[i], volts[i] / far_ohm if both else 0.0, ohm, words[1, i], x[i])
        for j in range(g.shape[1]):
            x[i, j] *= g[i, j]


@njit
def _bits(source: Any, ohm: Any, far_ohm: Any, both: Any, bits: Any, line: Any, x: Any, sensed: Any) -> None:
    """x = T_bit⁻¹·source, all (rows, cols), and the sensed currents (cols,); line (rows,) is scratch."""
    rows, cols = source.shape
    for j in range(cols):
        for i in range(rows):
            line[i] = source[rows - 1 - i, j]
        sensed[j] = _ladder(line, 0.0, 0.0, ohm, bits[1, j], line)
        if both:
            sensed[j] += line[rows - 1] / far_ohm
        for i in range(rows):
            x[rows - 1 - i, j] = line[i]


@njit
def _dot(a: Any, b: Any) -> Any:
    total = 0.0
    for i in range(a.shape[0]):
        part = 0.0
        for j in range(a.shape[1]):
            part += a[i, j] * b[i, j]
        total += part
    return total


@njit
def _solve(
    g: Any, volts: Any, row_ohm: Any, right_ohm: Any, both_driven: Any, words: Any, col_ohm: Any, top_ohm: Any,
    both_sensed: Any, bits: Any, tolerance: Any, steps: Any, out: Any,
) -> Any:  # fmt: skip
    """One vector; returns the steps taken. q is kept as T_bit·p, so T_bit is never multiplied by."""
    rest, z, x, w, nothing = (
        np.empty_like(g),
        np.empty_like(g),
        np.zeros_like(g),
        np.empty_like(g),
        np.zeros_like(volts),
    )
    line, sensed = np.empty(g.shape[0]), np.empty(g.shape[1])
    _words_after_bits(g, x, volts, row_ohm, right_ohm, both_driven, words, rest)
    _bits(rest, col_ohm, top_ohm, both_sensed, bits, line, z, sensed)
    p, q = z.copy(), rest.copy()
    error = _dot(rest, z)
    enough, taken = tolerance * tolerance * error, 0
    while error > enough and taken <= steps:
        _words_after_bits(g, p, nothing, row_ohm, right_ohm, both_driven, words, w)
        for i in range(g.shape[0]):
            for j in range(g.shape[1]):
                w[i, j] = q[i, j] - w[i, j]
        length = error / _dot(p, w)
        for i in range(g.shape[0]):
            for j in range(g.shape[1]):
                x[i, j] += length * p[i, j]
                rest[i, j] -= length * w[i, j]
        _bits(rest, col_ohm, top_ohm, both_sensed, bits, line, z, sensed)
        before, error = error, _dot(rest, z)
        for i in range(g.shape[0]):
            for j in range(g.shape[1]):
                p[i, j] = z[i, j] + error / before * p[i, j]
                q[i, j] = rest[i, j] + error / before * q[i, j]
        taken += 1
    # one more exchange between the lines: it damps the error again, and the currents need no difference of voltages
    _words_after_bits(g, x, volts, row_ohm, right_ohm, both_driven, words, w)
    _bits(w, col_ohm, top_ohm, both_sensed, bits, line, z, out)
    return taken
