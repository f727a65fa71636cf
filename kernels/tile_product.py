"""A product through the tiles of a matrix, DAC to digital sum, in compiled regions that all threads share.

A region is a C function: threads enter it without Python. In the first they take blocks of tokens until all inputs are
codes, in the second pairs of panels until all outputs are there. A panel's sums of 32 tokens stay in the first-level
cache until the ADC has read them. No sum crosses a thread, so results do not depend on their number.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from aimc_sim.kernels import amx, multiply_add
from aimc_sim.kernels._jit import cfunc, njit
from aimc_sim.kernels.adc import (
    adc_row,
    noisy_adc_row,
    noisy_non_ideal_adc_row,
    noisy_sar_adc_row,
    non_ideal_adc_row,
    sar_adc_row,
)
from aimc_sim.kernels.converters import dac
from aimc_sim.kernels.elementary import add32
from aimc_sim.kernels.memory import copy_16, fetch_add, pointer, whole_registers
from aimc_sim.kernels.multiply_add import BLOCK, SUMS_PLANE, SUMS_ROW
from aimc_sim.kernels.panels import PANEL, PLANE_BYTES
from aimc_sim.kernels.read_noise import GROUPS, draw
from aimc_sim.kernels.reads import LARGEST, inl_codes, noise_weights, part_codes

PLAIN, VNNI, AMX = 0, 1, 2  # engines
NAMES = ("plain", "avx512-vnni", "amx")
AMX_FROM = 3  # tokens from which the matrix unit beats vector registers
WEIGHT_PLANES = 2
PAIR = 2  # panels whose 64 columns share their draws of read noise
_SUMS = SUMS_PLANE // 4  # int32

_plain4, _vnni4 = multiply_add.sums_of(4, 2)
_, _vnni6 = multiply_add.sums_of(6, 2)
_plain1, _vnni1 = multiply_add.sums_of(1, 2)
_plain4_one, _vnni4_one = multiply_add.sums_of(4, 1)
_, _vnni6_one = multiply_add.sums_of(6, 1)
_plain1_one, _vnni1_one = multiply_add.sums_of(1, 1)
_amx_32_left, _amx_32_right = amx.sums_of(2, (0, 128), 2), amx.sums_of(2, (64, 192), 2)
_amx_16 = amx.sums_of(1, (0, 64, 128, 192), 2)
_amx_32_one = amx.sums_of(2, (0, 64), 1)


class Job(ctypes.Structure):
    """A job is what a region works on: addresses and numbers, all 64 bits wide."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "x out codes squares beta sums row_ids scratch scratch_size "  # of one product
            "counters "  # int64, zero at the start
            "panels steps inverse scale noise_scale floor offset curve bow "  # of the matrix
            "weights constant capacitors inl "
            "bounds starts quads palette input_range "
            "tokens rows cols tiles dac_max_code adc_max_code adc_lowest adc_bits reads parted parts slice_bits "
            "noise_kind per_tile noisy non_ideal site first_pair key0 key1 "
            "panel_count engine held dac_block token_block panel_block"
        ).split()
    ]


class Scratch(NamedTuple):
    """Scratch is what one thread holds: of one block of tokens and one panel,
    but ``y`` of all its tokens and a pair of panels.
    """

    sums: Any  # int32 [plane][token of BLOCK][32]
    variance: Any  # int32 [token of BLOCK][part][32]
    words: Any  # (4, BLOCK·16) uint32
    z: Any  # (4, BLOCK·16) float32
    row: Any  # (32,) float32: normals of one token
    y: Any  # (tokens, 64) float32: outputs; rows of their own array would all fall on the same few cache lines


_DRAWS = BLOCK * GROUPS
SCRATCH_FIXED = 4 * (2 * WEIGHT_PLANES * _SUMS + 2 * 4 * _DRAWS + PANEL) + amx.PALETTE_BYTES  # all but y
Y_ROW = 4 * PAIR * PANEL  # bytes of one token's row of y


RECORD = numba.from_dtype(np.dtype(Job))
CONVERTED, MULTIPLIED, ENTERED, COUNTERS = 0, 8, 16, 24  # int64 counters, each in a cache line of its own


@njit
def _array(address: Any, shape: Any, dtype: Any) -> Any:
    return numba.carray(pointer(address), shape, dtype)


@njit
def weight_sums(engine: Any, w: Any, q: Any, stride: Any, quads: Any, rows: Any, out: Any) -> None:
    """Sums of both planes of a panel for ``rows`` ≤ BLOCK tokens; out [plane][token][32] int32. All addresses."""
    if engine == AMX and rows >= AMX_FROM:
        steps = (quads + 15) >> 4
        if rows > amx.TOKENS:
            _amx_32_left(w, q, stride, steps, out)
            _amx_32_right(w, q, stride, steps, out)
        else:
            _amx_16(w, q, stride, steps, out)
        return
    done = 0
    while done < rows:
        at, to, left = q + done * stride, out + done * SUMS_ROW, rows - done
        if engine == PLAIN and left >= 4:
            _plain4(w, at, stride, quads, to)
            done += 4
        elif engine == PLAIN:
            _plain1(w, at, stride, quads, to)
            done += 1
        elif left >= 6 and left != 8:
            _vnni6(w, at, stride, quads, to)
            done += 6
        elif left >= 4:
            _vnni4(w, at, stride, quads, to)
            done += 4
        else:
            _vnni1(w, at, stride, quads, to)
            done += 1


@njit
def plane_sums(engine: Any, w: Any, q: Any, stride: Any, quads: Any, rows: Any, out: Any) -> None:
    """The same of panels with one plane."""
    if engine == AMX and rows >= AMX_FROM:
        _amx_32_one(w, q, stride, (quads + 15) >> 4, out)
        return
    done = 0
    while done < rows:
        at, to, left = q + done * stride, out + done * SUMS_ROW, rows - done
        if engine == PLAIN and left >= 4:
            _plain4_one(w, at, stride, quads, to)
            done += 4
        elif engine == PLAIN:
            _plain1_one(w, at, stride, quads, to)
            done += 1
        elif left >= 6 and left != 8:
            _vnni6_one(w, at, stride, quads, to)
            done += 6
        elif left >= 4:
            _vnni4_one(w, at, stride, quads, to)
            done += 4
        else:
            _vnni1_one(w, at, stride, quads, to)
            done += 1


@njit
def _convert(job: Any, first: Any, last: Any) -> None:
    """Convert tokens first … last-1; their slices, where bits are read one after the other; m(q) for read noise."""
    tiles, reads = job.tiles, job.reads
    x = _array(job.x, (job.tokens, job.rows), np.float32)
    bounds, starts = _array(job.bounds, tiles + 1, np.int64), _array(job.starts, tiles + 1, np.int64)
    codes = _array(job.codes, job.held * starts[tiles], np.int8)
    beta = _array(job.beta, (job.tokens, tiles), np.float32)
    sums = _array(job.sums, (job.tokens * reads, tiles), np.int32)
    if job.input_range != 0:
        beta[first:last] = _array(job.input_range, tiles, np.float32)
    dac(x, bounds, starts, job.dac_max_code, job.input_range == 0, job.per_tile != 0, first, last, codes, job.held,
        reads, beta, sums)  # fmt: skip
    for t in range(tiles):
        width, size = starts[t + 1] - starts[t], bounds[t + 1] - bounds[t]
        base = job.held * starts[t]
        if job.parted != 0:
            for b in range(first, last):
                part_codes(codes, base + b * reads * width, width, size, job.parts, job.slice_bits, reads,
                           job.dac_max_code, sums[b * reads : (b + 1) * reads, t])  # fmt: skip
        if job.inl != 0:
            table = _array(job.inl, 2 * LARGEST + 1, np.int8)
            for row in range(first * reads, last * reads):
                sums[row, t] = add32(sums[row, t], inl_codes(codes, base + row * width, size, table))
        if job.steps != 0:
            squares = _array(job.squares, 2 * job.held * starts[tiles], np.int8)
            for row in range(first * reads, last * reads):
                at = base + row * width
                noise_weights(codes[at : at + width], job.noise_kind, job.dac_max_code, job.slice_bits,
                              squares[2 * at : 2 * (at + width)])  # fmt: skip


@njit
def _multiply(job: Any, pair: Any, first: Any, last: Any, scratch: Any) -> None:
    """Take tokens first … last-1 through one pair of panels:
    sums, ADC, digital sum over row tiles and reads in order.
    """
    tiles, cols, reads = job.tiles, job.cols, job.reads
    quads = _array(job.quads, tiles + 1, np.int64)
    starts = _array(job.starts, tiles + 1, np.int64)
    row_ids = _array(job.row_ids, job.tokens, np.int64)
    panels = min(PAIR, job.panel_count - pair * PAIR)
    y = scratch.y
    y[: last - first] = np.float32(0)
    for t in range(tiles):
        width, depth = starts[t + 1] - starts[t], quads[t + 1] - quads[t]
        for row in range(first * reads, last * reads, BLOCK):
            count = min(BLOCK, last * reads - row)
            q = job.held * starts[t] + row * width
            if job.noisy != 0:
                draw(row_ids, row, count, reads, job.first_pair + pair, t, job.site, np.uint32(job.key0),
                     np.uint32(job.key1), scratch.words, scratch.z)  # fmt: skip
            for p in range(panels):
                panel = pair * PAIR + p
                at = panel * quads[tiles] + quads[t]
                weight_sums(job.engine, job.panels + at * WEIGHT_PLANES * PLANE_BYTES, job.codes + q, width, depth,
                            count, scratch.sums.ctypes.data)  # fmt: skip
                if job.steps != 0:
                    for half in range(0, count, BLOCK // 2):
                        plane_sums(job.engine, job.steps + at * PLANE_BYTES, job.squares + 2 * (q + half * width),
                                   width, depth, 2 * min(BLOCK // 2, count - half),
                                   scratch.variance.ctypes.data + half * 2 * SUMS_ROW)  # fmt: skip
                to = y.ctypes.data - first * Y_ROW + p * SUMS_ROW
                _convert_back(job, panel, t, row, count, to, scratch)
        if job.constant != 0:
            _take_off(job, pair, t, first, last, y)
    column = pair * PAIR * PANEL
    width = min(PAIR * PANEL, cols - column)
    for i in range(last - first):
        out = _array(job.out + 4 * ((first + i) * cols + column), width, np.float32)
        for j in range(width):
            out[j] = y[i, j]


@njit
def _take_off(job: Any, pair: Any, t: Any, first: Any, last: Any, y: Any) -> None:
    """Take off what the constant of offset codes added to the outputs of row tile t."""
    beta = _array(job.beta, (job.tokens, job.tiles), np.float32)
    panels = min(PAIR, job.panel_count - pair * PAIR)
    at = 4 * PANEL * (t * job.panel_count + pair * PAIR)
    constant = _array(job.constant + at, panels * PANEL, np.float32)
    scale = _array(job.scale + at, panels * PANEL, np.float32)
    for i in range(last - first):
        for j in range(constant.size):
            y[i, j] -= (constant[j] * scale[j]) * beta[first + i, t]


@njit
def _convert_back(job: Any, panel: Any, t: Any, first: Any, count: Any, y: Any, scratch: Any) -> None:
    """Convert one panel's columns by the ADC for ``count`` rows, sums in ``scratch``,
    added to their tokens' rows at ``y``.
    """
    tiles, reads = job.tiles, job.reads
    beta = _array(job.beta, job.tokens * tiles, np.float32)
    code_sums = _array(job.sums, job.tokens * reads * tiles, np.int32)
    at = 4 * PANEL * (t * job.panel_count + panel)
    inverse, scale, spread = job.inverse + at, job.scale + at, job.noise_scale + at
    offset, curve, bow = job.offset + at, job.curve + at, job.bow + at
    lowest, highest = np.float32(job.adc_lowest), np.float32(job.adc_max_code)
    floor = _array(job.floor, 1, np.float32)[0]
    stride, bits = 4 * PANEL * job.panel_count, job.adc_bits
    capacitors = job.capacitors + bits * t * stride + 4 * PANEL * panel
    base = np.float32(job.adc_lowest - 1 if job.adc_lowest < 0 else 0) - np.float32(0.5)
    weights = _array(job.weights, reads, np.float32)
    high, variance, z = scratch.sums.ctypes.data, scratch.variance.ctypes.data, scratch.row.ctypes.data
    token, read = first // reads, first % reads
    for i in range(count):
        shift = np.int32(np.int32(128) * code_sums[(first + i) * tiles + t])
        gain = beta[token * tiles + t] * weights[read]
        h, to = high + i * SUMS_ROW, y + token * Y_ROW
        low, v = h + SUMS_PLANE, variance + 2 * i * SUMS_ROW
        read += 1
        if read == reads:
            token, read = token + 1, 0
        if job.noisy != 0:
            _gather(scratch.z, panel, i, scratch.row)
        if job.capacitors != 0 and job.noisy == 0:
            sar_adc_row(h, low, shift, gain, inverse, scale, lowest, highest, to, 0, 0, 0, 0, floor,
                        offset, curve, bow, capacitors, stride, bits, base)  # fmt: skip
        elif job.capacitors != 0:
            noisy_sar_adc_row(h, low, shift, gain, inverse, scale, lowest, highest, to, v, v + SUMS_ROW, spread, z,
                              floor, offset, curve, bow, capacitors, stride, bits, base)  # fmt: skip
        elif job.noisy == 0 and job.non_ideal == 0:
            adc_row(h, low, shift, gain, inverse, scale, lowest, highest, to, 0, 0, 0, 0, floor,
                    0, 0, 0, 0, 0, 0, floor)  # fmt: skip
        elif job.noisy == 0:
            non_ideal_adc_row(h, low, shift, gain, inverse, scale, lowest, highest, to, 0, 0, 0, 0, floor,
                              offset, curve, bow, 0, 0, 0, floor)  # fmt: skip
        elif job.non_ideal == 0:
            noisy_adc_row(h, low, shift, gain, inverse, scale, lowest, highest, to, v, v + SUMS_ROW, spread, z, floor,
                          0, 0, 0, 0, 0, 0, floor)  # fmt: skip
        else:
            noisy_non_ideal_adc_row(h, low, shift, gain, inverse, scale, lowest, highest, to, v, v + SUMS_ROW, spread,
                                    z, floor, offset, curve, bow, 0, 0, 0, floor)  # fmt: skip


@njit
def _gather(z: Any, panel: Any, token: Any, row: Any) -> None:
    """Gather the 32 normals of a panel's columns for one token of a block, as `read_noise.draw` leaves them."""
    lane, to = 2 * (panel % PAIR), row.ctypes.data
    for half in range(2):
        copy_16(to + half * 4 * GROUPS, z.ctypes.data + 4 * ((lane + half) * z.shape[1] + token * GROUPS))


@njit
def _convert_all(job: Any) -> None:
    """Do what every thread does first: take the next block of tokens, until all are codes."""
    whole_registers()
    blocks = (job.tokens + job.dac_block - 1) // job.dac_block
    while True:
        ticket = fetch_add(job.counters + 8 * CONVERTED, 1)
        if ticket >= blocks:
            break
        first = ticket * job.dac_block
        _convert(job, first, min(job.tokens, first + job.dac_block))


@njit
def _multiply_all(job: Any) -> None:
    """Do what every thread does then: take the next pairs of panels and block of tokens,
    until all outputs are there.
    """
    whole_registers()
    at = job.scratch + fetch_add(job.counters + 8 * ENTERED, 1) * job.scratch_size
    sums, planes = at, at + 4 * WEIGHT_PLANES * _SUMS
    words = planes + 4 * WEIGHT_PLANES * _SUMS
    z = words + 4 * 4 * _DRAWS
    row = z + 4 * 4 * _DRAWS
    palette = row + 4 * PANEL
    scratch = Scratch(
        _array(sums, WEIGHT_PLANES * _SUMS, np.int32),
        _array(planes, WEIGHT_PLANES * _SUMS, np.int32),
        _array(words, (4, _DRAWS), np.uint32),
        _array(z, (4, _DRAWS), np.float32),
        _array(row, PANEL, np.float32),
        _array(palette + amx.PALETTE_BYTES, (job.token_block, PAIR * PANEL), np.float32),
    )
    if job.noisy != 0:
        scratch.variance[:] = 0  # of the cells, where only the ADC is noisy
    if job.engine == AMX:
        amx.configure(job.palette, palette)
    pairs = (job.panel_count + PAIR - 1) // PAIR
    groups = (pairs + job.panel_block - 1) // job.panel_block
    token_blocks = (job.tokens + job.token_block - 1) // job.token_block
    while True:
        ticket = fetch_add(job.counters + 8 * MULTIPLIED, 1)
        if ticket >= groups * token_blocks:
            break
        first = ticket // groups * job.token_block
        last = min(job.tokens, first + job.token_block)
        start = ticket % groups * job.panel_block
        for pair in range(start, min(pairs, start + job.panel_block)):
            _multiply(job, pair, first, last, scratch)
    if job.engine == AMX:
        amx.restore(palette)


def _convert_entry(p: Any) -> None:
    _convert_all(numba.carray(p, 1)[0])


def _multiply_entry(p: Any) -> None:
    _multiply_all(numba.carray(p, 1)[0])


@lru_cache(maxsize=1)
def regions() -> tuple[Any, Any]:
    """Return the compiled regions, DAC and the rest: C functions of the address of a `Job`."""
    kind = types.void(types.CPointer(RECORD))
    return cfunc(kind, _convert_entry), cfunc(kind, _multiply_entry)
