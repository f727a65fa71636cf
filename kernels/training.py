"""Training kernels: weight noise under stream TRAINING, input and output quantisers, and what their gradients need.

Weights arrive as w (N, K) float32, one output column a row, and inputs as x (B, K) float32. Every compiled pass has
its readable NumPy formula beside it. Noise of a cell is named as in `aimc_sim.randomness`: word 1 the column, word 2
the training step; `kernels.triton.training` draws the same bits. Equations: Büchel et al., NeurIPS 2025
(arXiv 2505.09663). Arithmetic is float32 in the order written here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from aimc_sim.aliases import F32, F64
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.cells import column_max_reference
from aimc_sim.kernels.converters import (
    code_of,
    codes_per_unit,
    codes_per_unit_reference,
    quantise_reference,
    unclipped_code,
)
from aimc_sim.kernels.elementary import log_uniform, peak_of, sincos_turn
from aimc_sim.kernels.memory import whole_registers
from aimc_sim.kernels.normal import CHUNK, GROUPS, MINUS_TWO, normals, words_of_groups

ZERO, ONE, INFINITY = np.float32(0), np.float32(1), np.float32(np.inf)


def normals_of_cells(n: int, k: int, event: int, site: int, key: npt.NDArray[np.uint32]) -> F32:
    """Return (n, k) float32: the normal of every cell, named by column, row and the counter words 2 and 3."""
    rows, groups = np.arange(k), (k + 63) // 64 * 16
    counter = np.empty((n, groups, 4), np.uint32)
    counter[:, :, 0], counter[:, :, 1] = np.arange(groups), np.arange(n)[:, None]
    counter[:, :, 2], counter[:, :, 3] = event, site
    drawn = normals(counter.reshape(-1, 4), key).reshape(n, groups, 4)
    return drawn[:, (rows >> 6) << 4 | (rows & 15), (rows >> 4) & 3]


def noisy_weights_reference(
    w: F32, bounds: npt.NDArray[np.int64], gamma: float, event: int, site: int, key: npt.NDArray[np.uint32]
) -> F32:
    """Return w + (γ·max|column|)·z, (N, K), the maximum over the column's rows in each row tile.

    bounds: (tiles + 1,); event: counter word 2; site: counter word 3; key: (2,).
    """
    z = normals_of_cells(w.shape[0], w.shape[1], event, site, key)
    sigma = np.float32(gamma) * column_max_reference(w, bounds)
    return np.asarray(w + np.repeat(sigma.T, np.diff(bounds), axis=1) * z)


def fake_quantise_reference(w: F32, max_code: int) -> F32:
    """Return the weights on 2·max_code + 1 steps a channel: rint(w·(n/max))·(max/n), n = max_code;
    a channel of zeros stays.
    """
    return on_steps_reference(w, np.abs(w).max(axis=1, keepdims=True), max_code)


def on_steps_reference(w: F32, peak: F32, max_code: int) -> F32:
    """Return rint(w·(n/peak))·(peak/n), n = max_code, for weights within ±peak."""
    codes = quantise_reference(w * codes_per_unit_reference(max_code, peak), max_code)
    return np.asarray(codes * (peak / np.float32(max_code)))


def range_gradient_reference(
    g: F64, x: F64, beta: float, decay: float, unclipped: float
) -> tuple[F64, float]:
    """Return gradients of clamp(x, ±β) for g = ∂L/∂(clamped x): to x, and the published one to β.

    To x: g where -β ≤ x ≤ β, else 0. To β: β·(Σ_{x≥β} min(g, 0) - Σ_{x≤-β} max(g, 0)), and decay·β more where a
    larger share than ``unclipped`` of x lies inside ±β.
    """
    over, under = x >= beta, x <= -beta
    to_range = beta * (np.minimum(g[over], 0).sum() - np.maximum(g[under], 0).sum())
    if x.size and 1.0 - (over | under).sum() / x.size > unclipped:
        to_range += decay * beta
    return np.where(np.abs(x) > beta, 0.0, g), float(to_range)


@njit
def column_peaks(w: Any, bounds: Any, first: Any, last: Any, peaks: Any) -> None:
    """max |w| of columns first … last-1 in each row tile, into peaks (tiles, N); NaN where one is."""
    for column in range(first, last):
        for t in range(bounds.size - 1):
            peaks[t, column] = peak_of(w[column, bounds[t] : bounds[t + 1]])


@intrinsic
def _prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at an address, to be read soon."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, near, data = (ir.Constant(word, value) for value in (0, 3, 1))
        builder.call(function, [builder.inttoptr(args[0], byte), read, near, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit
def _normal(words: Any, row: Any) -> Any:
    """The normal of one row of what ``words`` begin with."""
    pair, group = (row >> 5 & 1) << 1, (row >> 6) << 4 | (row & 15)
    sine, cosine = sincos_turn(words[pair + 1, group])
    return np.sqrt(MINUS_TWO * log_uniform(words[pair, group])) * (sine if row >> 4 & 1 else cosine)


@njit
def add_noise(
    w: Any, column_0: Any, row_0: Any, a: Any, b: Any, first: Any, last: Any, sigma: Any, event: Any, site: Any,
    k0: Any, k1: Any, out: Any, at: Any,
) -> None:  # fmt: skip
    """out[:, at …] = w + sigma·z for rows a … b-1 of columns first … last-1 of the matrix, column ``first`` in out[0].

    w: a part of the matrix that begins at (column_0, row_0), and may be ``out`` itself; sigma: (N,) of each column.
    """
    whole_registers()
    words = np.empty((4, GROUPS), np.uint32)
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    begin = (a >> 6) << 6  # normals come in units of 64 rows
    for column in range(first, last):
        s, c1 = sigma[column], np.uint32(column)
        source, target = w[column - column_0], out[column - first]
        for start in range(begin, b, CHUNK):
            n = min(CHUNK, b - start)
            if column + 1 < last:  # short pieces of long rows: the processor does not see the next one coming
                ahead = w[column + 1 - column_0].ctypes.data + 4 * (max(start, a) - row_0)
                for line in range(0, 4 * n, 64):
                    _prefetch(ahead + line)
            words_of_groups(np.uint32(start >> 2), ((n + 63) >> 6) << 4, c1, event, site, k0, k1, words)
            done = 0
            # whole blocks of 64 rows: here, where it is plain that ``words`` is nobody else's memory
            if start >= a:
                done = (n >> 6) << 6
                old, new = (
                    source[start - row_0 : start + n - row_0],
                    target[at + start - a : at + start + n - a],
                )
                for block in range(n >> 6):
                    row, group = block << 6, block << 4
                    for i in range(16):
                        r = np.sqrt(MINUS_TWO * log_uniform(w0[group + i]))
                        sine, cosine = sincos_turn(w1[group + i])
                        q = np.sqrt(MINUS_TWO * log_uniform(w2[group + i]))
                        sine_2, cosine_2 = sincos_turn(w3[group + i])
                        new[row + i] = old[row + i] + s * (r * cosine)
                        new[row + 16 + i] = old[row + 16 + i] + s * (r * sine)
                        new[row + 32 + i] = old[row + 32 + i] + s * (q * cosine_2)
                        new[row + 48 + i] = old[row + 48 + i] + s * (q * sine_2)
            for row in range(max(start + done, a), start + n):
                target[at + row - a] = source[row - row_0] + s * _normal(words, row - start)


@njit
def block_peaks(w: Any, first: Any, peaks: Any) -> None:
    """peaks (N,) of columns first … raised to max |w| of w (n, rows)."""
    for j in range(w.shape[0]):
        peak = peak_of(w[j])
        if not peak <= peaks[first + j]:
            peaks[first + j] = peak


@njit
def fake_quantise(
    w: Any, column_0: Any, row_0: Any, a: Any, b: Any, first: Any, last: Any, peaks: Any, max_code: Any, out: Any
) -> None:  # fmt: skip
    """out (last-first, b-a), which may be w: weights on the steps of their channel; peaks (N,): max |w| of channels."""
    whole_registers()
    n = np.float32(max_code)
    for column in range(first, last):
        peak = peaks[column]
        per_unit, step = codes_per_unit(n, peak), peak / n
        source, target = w[column - column_0, a - row_0 : b - row_0], out[column - first]
        for i in range(b - a):
            target[i] = unclipped_code(source[i], per_unit) * step


@njit
def scale_rows(w: Any, a: Any, b: Any, factor: Any, first: Any, out: Any) -> None:
    """out[:, a:b] = w[:, a:b]·factor[first …]: effective weights in the unit of the weights."""
    whole_registers()
    for j in range(out.shape[0]):
        source, target, f = w[j, a:b], out[j, a:b], factor[first + j]
        for i in range(b - a):
            target[i] = source[i] * f


@njit
def token_ranges(x: Any, bounds: Any, per_tile: Any, first: Any, last: Any, beta: Any) -> None:
    """Dynamic ranges: beta (tiles, B), max |x| of each token in each tile or over the whole input."""
    for b in range(first, last):
        whole = ZERO if per_tile else peak_of(x[b])
        for t in range(bounds.size - 1):
            beta[t, b] = peak_of(x[b, bounds[t] : bounds[t + 1]]) if per_tile else whole


@njit
def dac(
    x: Any, a: Any, b: Any, beta: Any, max_code: Any, values: Any, first: Any, last: Any, out: Any, at: Any
) -> None:  # fmt: skip
    """Codes of x[:, a:b] under beta (B,) into out[:, at …] float32, or with ``values`` code·(β/n).

    code = clamp(rint(x·(n/β)), ±n); NaN stays. Where β is (next to) 0 every code is 0.
    """
    whole_registers()
    n = np.float32(max_code)
    for token in range(first, last):
        scale = codes_per_unit(n, beta[token]) if beta[token] < INFINITY else np.float32(np.nan)
        step = beta[token] / n if values else ONE
        source, target = x[token, a:b], out[token, at : at + b - a]
        if token + 1 < last:
            ahead = x[token + 1].ctypes.data + 4 * a
            for line in range(0, 4 * (b - a), 64):
                _prefetch(ahead + line)
        for i in range(b - a):
            target[i] = code_of(source[i], scale, -n, n) * step


@njit
def adc(
    value: Any, inverse: Any, scale: Any, beta: Any, max_code: Any, first_token: Any, last_token: Any, first: Any,
    add: Any, y: Any, bits: Any,
) -> Any:  # fmt: skip
    """Outputs of tokens first_token … last_token-1 from sums ``value`` (B, n) of columns first …; how many saturated.

    y (B, N) = (add: y +) (code·scale)·β with code = clamp(rint(value·inverse), ±max_code); without an ADC (max_code 0)
    code = value. inverse, scale: (n,); beta (B,). bits (B, ⌈N/8⌉) uint8: bit j & 7 of byte j >> 3 is set where column
    j saturated, others untouched; with no bytes nothing is noted. ``first``: a multiple of 8. value may be y's part.
    """
    whole_registers()
    n, size, total = np.float32(max_code), value.shape[1], np.int64(0)
    codes = np.empty(size, np.float32)
    for token in range(first_token, last_token):
        sums, gain, out = value[token], beta[token], y[token, first : first + size]
        if add and token + 2 < last_token:
            ahead = y[token + 2].ctypes.data + 4 * first
            for line in range(0, 4 * size, 64):
                _prefetch(ahead + line)
        if max_code == 0:
            codes[:] = sums
        else:
            for j in range(size):
                codes[j] = unclipped_code(sums[j], inverse[j])
            if not peak_of(codes) <= n:
                for j in range(size):
                    code = codes[j]
                    if abs(code) > n:
                        total += 1
                        codes[j] = n if code > n else -n
                        if bits.shape[1] > 0:
                            bits[token, (first + j) >> 3] |= np.uint8(1 << (j & 7))
        if add:
            for j in range(size):
                out[j] += (codes[j] * scale[j]) * gain
        else:
            for j in range(size):
                out[j] = (codes[j] * scale[j]) * gain
    return total


@njit
def mask_saturated(g: Any, bits: Any, first: Any, last: Any) -> None:
    """g (B, last-first), the columns from first on: 0 where the bit of the column is set, in place."""
    for token in range(g.shape[0]):
        for byte in range(first >> 3, (last + 7) >> 3):
            if bits[token, byte] != 0:  # few are
                for j in range(max(8 * byte, first), min(8 * byte + 8, last)):
                    if bits[token, byte] >> np.uint8(j & 7) & np.uint8(1):
                        g[token, j - first] = ZERO


@njit
def swap_saturated(g: Any, bits: Any, others: Any) -> None:
    """g (B, N), where the bit of the column is set, changes places with others (n,), in order; twice is not at all."""
    at = 0
    for token in range(bits.shape[0]):
        for byte in range(bits.shape[1]):
            if bits[token, byte] != 0:  # few are
                for j in range(8 * byte, min(8 * byte + 8, g.shape[1])):
                    if bits[token, byte] >> np.uint8(j & 7) & np.uint8(1):
                        others[at], g[token, j] = g[token, j], others[at]
                        at += 1


@njit
def input_gradient(
    x: Any, bounds: Any, beta: Any, first: Any, last: Any, g: Any, pull: Any, clipped: Any
) -> None:
    """g (B, K) set to 0 where |x| > β, in place; what the range's gradient needs of tokens first … last-1.

    beta, pull, clipped: (tiles, …). pull (tiles, B) float64: Σ_{x≥β} min(g, 0) - Σ_{x≤-β} max(g, 0); clipped (tiles, B)
    int32: how many have |x| ≥ β.
    """
    whole_registers()
    for token in range(first, last):
        for t in range(bounds.size - 1):
            limit, count = beta[t], np.int32(0)
            row = x[token, bounds[t] : bounds[t + 1]]
            for i in range(row.size):
                count += np.int32(1) if abs(row[i]) >= limit else np.int32(0)
            clipped[t, token], total = count, 0.0
            if count > 0:
                slope = g[token, bounds[t] : bounds[t + 1]]
                for i in range(row.size):
                    if abs(row[i]) >= limit:
                        if row[i] > ZERO:
                            total += min(np.float64(slope[i]), 0.0)
                        else:
                            total -= max(np.float64(slope[i]), 0.0)
                        if abs(row[i]) > limit:
                            slope[i] = ZERO
            pull[t, token] = total
