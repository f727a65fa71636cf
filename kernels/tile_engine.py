"""Which engine multiplies panels on this machine, and the product that Python calls.

An engine is used only after a known-answer test with extreme and random operands. All give the same integers.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, I8, I16, I64, U8, U32
from aimc_sim.kernels import amx, multiply_add, tile_product
from aimc_sim.kernels._jit import njit
from aimc_sim.kernels.multiply_add import BLOCK
from aimc_sim.kernels.panels import (
    MAX_TILE_ROWS,
    PANEL,
    PLANE_BYTES,
    SLACK,
    empty_panels,
    pack_grid,
    pack_plane,
    panel_count,
    quad_starts,
)  # fmt: skip
from aimc_sim.kernels.parallel import num_threads, run_region
from aimc_sim.kernels.philox import philox4x32
from aimc_sim.kernels.reads import OFFSET, SIGNED, SQUARE, inl_table, part_weights
from aimc_sim.kernels.tile_product import (
    AMX,
    COUNTERS,
    NAMES,
    PAIR,
    PLAIN,
    SCRATCH_FIXED,
    VNNI,
    Y_ROW,
    Job,
)  # fmt: skip

CODE_ROWS = amx.ROWS  # codes of a tile are filled up to such a number with zeros
TOKEN_BLOCK = 512  # tokens of one piece of work: their codes stay in the second-level cache
WORTH_A_THREAD = 1 << 18  # products below which waking a second thread costs more than it saves
PIECES = 4  # of work for every thread, so that a slower one does not keep the others waiting
CONVERT_AT_ONCE = 1 << 14  # inputs that one thread converts at a time


def code_starts(bounds: I64) -> I64:
    """Return (tiles + 1,) where the codes of each row tile start, per token held."""
    return np.concatenate([[0], np.cumsum(-(-np.diff(bounds) // CODE_ROWS) * CODE_ROWS)]).astype(np.int64)


def _lines(size: int) -> int:
    """Return a number of bytes, filled up to whole cache lines."""
    return -(-size // 64) * 64


class _Lent:
    """A lender holds the buffers of one product: they grow to what the largest needs, and are then only reused."""

    def __init__(self) -> None:
        self._counters, self._bytes = np.zeros(COUNTERS, np.int64), np.empty(0, np.int8)
        self.counters, self._start, self.size = self._counters.ctypes.data, 0, -1

    def take(self, size: int) -> int:
        """Return the address of ``size`` bytes, on a cache line, and counters at zero."""
        if self.size < size:
            self._bytes = np.empty(size + 64, np.int8)
            self._start, self.size = _lines(self._bytes.ctypes.data), size
        ctypes.memset(self.counters, 0, 8 * COUNTERS)
        return self._start


class _Plan(NamedTuple):
    """A plan says how a product of so many tokens is shared out, and where its buffers lie in what it is lent."""

    job: Job
    size: int
    squares: int
    beta: int
    sums: int
    scratch: int
    threads: int
    converting: int  # threads


KEPT = 1 << 26  # bytes of a buffer that is kept for the next product
PLANS = 64  # numbers of tokens for which a matrix remembers its plan


_spare: list[_Lent] = []


def _widen(values: F32 | None, cols: int) -> F32 | None:
    """Return values (tiles, N) filled up with zeros to whole panels."""
    if values is None or values.shape[1] == cols:
        return values
    return np.pad(values, ((0, 0), (0, cols - values.shape[1])))


class Noise(NamedTuple):
    """Noise is what is fresh in every product: √(scale·Σ steps·q² + floor)·z in codes, drawn by row id,
    tile and column.
    """

    key: U32  # (2,)
    site: int  # counter word 3
    steps: U8 | None = None  # panels of one plane; None: the cells are quiet
    scale: F32 | None = None  # (tiles, N)
    floor: float = 0.0  # variance of every conversion, codes²
    first_column: int = 0  # of the whole matrix, where these are some of its columns; a multiple of 64


class Reads(NamedTuple):
    """Reads say how a code is read: so many times, in parts (`reads`), each converted; bits of a slice;
    m(q) of read noise.
    """

    times: int = 1
    slice_bits: int = 0
    noise_kind: int = SQUARE
    parts: int = SIGNED

    @property
    def weights(self) -> F32:
        """Return (times,) by what the conversion of each part is multiplied."""
        return part_weights(self.parts, self.slice_bits, self.times)


AT_ONCE = Reads()


class AdcCurve(NamedTuple):
    """An ADC curve is what an ADC makes of a signal s in codes, column by column:
    s + offset, then s + s·(curve - bow·s²).
    """

    offset: F32  # (tiles, N)
    curve: F32  # (tiles, N)
    bow: F32  # (tiles, N)


def _check(
    bounds: I64, panels: U8, inverse: F32, scale: F32, dac_max_code: int, adc_max_code: int, input_range: F32 | None,
    noise: Noise | None, extra: dict[str, F32], capacitors: F32 | None, depth: int, unsigned: bool,
) -> None:  # fmt: skip
    """Raises ValueError for arrays that do not fit each other: compiled code trusts their addresses."""
    tiles, cols = scale.shape

    def need(what: str, array: npt.NDArray[Any], dtype: type, *shape: int) -> None:
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{what} must be {np.dtype(dtype)} {shape}, not {array.dtype} {array.shape}")

    need("bounds", bounds, np.int64, tiles + 1)
    if bounds[0] != 0 or (np.diff(bounds) < 1).any() or int(np.diff(bounds).max()) * depth > MAX_TILE_ROWS:
        raise ValueError(f"bounds must rise from 0 in steps of 1 to {MAX_TILE_ROWS // depth}, not {bounds}")
    if not 1 <= dac_max_code <= 127 or adc_max_code < 0:
        raise ValueError(
            f"dac_max_code is 1 to 127 and adc_max_code not negative, not {dac_max_code} and {adc_max_code}"
        )
    planes = panel_count(cols) * int(quad_starts(depth * bounds)[-1]) * PLANE_BYTES
    need("panels", panels, np.uint8, 2 * planes + SLACK)
    for what, values in {"inverse": inverse, "scale": scale, **extra}.items():
        need(what, values, np.float32, tiles, cols)
    if input_range is not None:
        need("input_range", input_range, np.float32, tiles)
    if capacitors is not None:
        bits = (adc_max_code if unsigned else 2 * adc_max_code).bit_length()
        need("capacitors", capacitors, np.float32, tiles, bits, cols)
    if noise is not None and noise.first_column % (PAIR * PANEL):
        raise ValueError(f"noise.first_column must be a multiple of {PAIR * PANEL}, not {noise.first_column}")
    if noise is not None and noise.steps is not None:
        need("noise.steps", noise.steps, np.uint8, planes + SLACK)
    if noise is not None and noise.scale is not None:
        need("noise.scale", noise.scale, np.float32, tiles, cols)


class TileProduct:
    """A tile product multiplies by one matrix in panels: ``product(x, out)``.

    bounds (tiles + 1,) int64: row tiles; panels: uint8, two planes (`panels.pack_grid`); inverse, scale (tiles, N)
    float32; dac_max_code, adc_max_code: largest codes (adc_max_code 0: no ADC); input_range (tiles,) float32 or None:
    max |x| of each token, per tile or of the whole input. unsigned: ADC codes from 0 on instead of ±adc_max_code;
    capacitors (tiles, bits, N): of a SAR. constant (tiles, N): codes taken off after the last read. dac_inl: every row
    tile has its rows twice in ``panels``, the second time for the codes that `reads.inl_table` makes. using: an
    engine's number instead of the fastest.
    """

    def __init__(
        self, bounds: I64, panels: U8, inverse: F32, scale: F32, *, dac_max_code: int, adc_max_code: int,
        input_range: F32 | None = None, per_tile: bool = True, noise: Noise | None = None,
        curve: AdcCurve | None = None, reads: Reads = AT_ONCE, unsigned: bool = False,
        capacitors: F32 | None = None, constant: F32 | None = None, dac_inl: bool = False, using: int | None = None,
    ) -> None:  # fmt: skip
        tiles, cols = scale.shape
        if capacitors is not None and curve is None:
            curve = AdcCurve(*(np.zeros(scale.shape, np.float32) for _ in AdcCurve._fields))
        extra = {} if curve is None else curve._asdict()
        extra |= {} if constant is None else {"constant": constant}
        depth = 2 if dac_inl else 1
        _check(bounds, panels, inverse, scale, dac_max_code, adc_max_code, input_range, noise, extra, capacitors, depth,
               unsigned)  # fmt: skip
        if using is not None and using not in available():
            raise ValueError(f"this machine has no engine {using}: choose one of {available()}")
        self.reads = reads.times
        self._plans: dict[tuple[int, int], _Plan] = {}
        key, site, steps, noise_scale, floor, first_column = noise or Noise(np.zeros(2, np.uint32), 0)
        self.squares = steps is not None
        if noise_scale is None and noise is not None:
            noise_scale = np.zeros(scale.shape, np.float32)
        self.starts, self.quads = code_starts(depth * bounds), quad_starts(depth * bounds)
        arrays = {
            "panels": panels,
            "steps": steps,
            "floor": np.array([floor], np.float32),
            "bounds": np.ascontiguousarray(bounds, np.int64),
            "starts": self.starts,
            "quads": self.quads,
            "input_range": input_range,
            "palette": amx.configuration(),
            "weights": reads.weights,
            "inl": inl_table(dac_max_code) if dac_inl else None,
        }
        per_column = {"inverse": inverse, "scale": scale, "noise_scale": noise_scale, **extra}
        if capacitors is not None:
            per_column["capacitors"] = capacitors.reshape(-1, cols)
        whole = panel_count(cols) * PANEL
        arrays |= {name: _widen(values, whole) for name, values in per_column.items()}
        self._kept = {name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}
        addresses = {name: a.ctypes.data for name, a in self._kept.items()}
        self.pairs = -(-panel_count(cols) // PAIR)
        self.rows, self.cols, self.tiles = int(bounds[-1]), cols, tiles
        self._job = Job(
            **addresses, rows=self.rows, cols=cols, tiles=tiles, dac_max_code=dac_max_code, adc_max_code=adc_max_code,
            adc_lowest=0 if unsigned else -adc_max_code, adc_bits=0 if capacitors is None else capacitors.shape[1],
            per_tile=per_tile, noisy=noise is not None, non_ideal=curve is not None,
            site=site, first_pair=first_column // (PAIR * PANEL), key0=int(key[0]), key1=int(key[1]),
            panel_count=panel_count(cols),
            reads=reads.times, parted=reads.times > 1 or reads.parts == OFFSET, parts=reads.parts,
            slice_bits=reads.slice_bits, noise_kind=reads.noise_kind,
            engine=number() if using is None else using,
        )  # fmt: skip

    def __reduce__(self) -> Any:
        """Refuse to be pickled: it holds addresses, which mean nothing in a copy.
        Copy the arrays that it was made of.
        """
        raise TypeError("a TileProduct cannot be copied or pickled: make another from its arrays")

    def __call__(self, x: F32, out: F32, row_ids: I64 | None = None) -> None:
        """x (B, K) through the tiles into out (B, N), float32 and C-ordered; row_ids (B,) int64 for read noise."""
        self.run(x.shape[0], x.ctypes.data, out.ctypes.data, 0 if row_ids is None else row_ids.ctypes.data)

    def run(self, tokens: int, x: int, out: int, row_ids: int = 0) -> None:
        """The same with addresses."""
        if not tokens:
            return
        try:
            lent = _spare.pop()
        except IndexError:
            lent = _Lent()
        try:
            self._run(lent, tokens, x, out, row_ids)
        finally:
            if lent.size <= KEPT:
                _spare.append(lent)

    def _run(self, lent: _Lent, tokens: int, x: int, out: int, row_ids: int) -> None:
        threads = num_threads() if tokens * self.rows * self.cols >= WORTH_A_THREAD else 1
        plan = self._plans.get((tokens, threads)) or self._make_plan(tokens, threads)
        job, at = Job.from_buffer_copy(plan.job), lent.take(plan.size)
        job.codes, job.squares, job.beta = at, at + plan.squares, at + plan.beta
        job.sums, job.scratch, job.counters = at + plan.sums, at + plan.scratch, lent.counters
        job.x, job.out, job.row_ids = x, out, row_ids
        convert, multiply = tile_product.regions()
        address = ctypes.addressof(job)
        run_region(convert, address, plan.converting)
        run_region(multiply, address, threads)

    def _make_plan(self, tokens: int, threads: int) -> _Plan:
        job = Job.from_buffer_copy(self._job)
        rows = tokens * self.reads
        job.tokens, job.held = tokens, -(-rows // BLOCK) * BLOCK
        if self.reads > 1:  # a block of tokens may then begin in the middle of a block of rows
            job.held += BLOCK
        job.token_block = min(tokens, max(1, TOKEN_BLOCK // self.reads))
        if rows > TOKEN_BLOCK // 4 and self.pairs * -(-rows // TOKEN_BLOCK) < PIECES * threads:
            job.token_block = max(1, TOKEN_BLOCK // 4 // self.reads)
        job.scratch_size = _lines(SCRATCH_FIXED + job.token_block * Y_ROW)
        job.dac_block = max(1, min(-(-tokens // threads), CONVERT_AT_ONCE // self.rows))
        pieces = self.pairs * -(-tokens // job.token_block)
        job.panel_block = max(1, min(self.pairs, pieces // (PIECES * threads)))
        codes, per_tile = job.held * int(self.starts[-1]), _lines(rows * self.tiles * 4)
        beta = codes * (3 if self.squares else 1)
        scratch = beta + 2 * per_tile
        converting = threads if tokens * self.rows > CONVERT_AT_ONCE else 1
        size = scratch + threads * job.scratch_size
        if len(self._plans) >= PLANS:
            self._plans.clear()
        plan = _Plan(job, size, codes, beta, beta + per_tile, scratch, threads, converting)
        self._plans[tokens, threads] = plan
        return plan


def name() -> str:
    """Return the engine in words: ``amx``, ``avx512-vnni`` or ``plain``."""
    return NAMES[number()]


@lru_cache(maxsize=1)
def number() -> int:
    """Return the fastest engine that this machine has and that passes the known-answer test."""
    return next(engine for engine in available() if engine == PLAIN or passes(engine))


def available() -> list[int]:
    """Return the engines of this machine, the fastest first."""
    vnni = [VNNI] if multiply_add.HAS_VNNI else []
    return ([AMX] if amx.permitted() and vnni else []) + vnni + [PLAIN]


def passes(engine: int) -> bool:
    """Return whether an engine gives the exact integers on extreme operands, random ones, and awkward shapes."""
    for rows, k in ((1, 3), (3, 64), (4, 257), (16, 516), (32, 1100)):
        counter = np.zeros((64 * k, 4), np.uint32)
        counter[:, 0] = np.arange(counter.shape[0])
        noise = philox4x32(counter, np.array([rows, k], np.uint32)).view(np.int8).ravel()
        codes = np.maximum(noise[: rows * k], np.int8(-127)).reshape(rows, k)
        grid = noise[32 * k :].view(np.int16)[: PANEL * k].reshape(PANEL, k)
        pairs = [(codes, grid)]
        for q, w in ((127, 32767), (127, -32767), (-127, 32767), (-127, -32768), (127, 255), (-127, -256)):
            pairs.append((np.full_like(codes, q), np.full_like(grid, w)))
        if not all(_exact(engine, *pair) for pair in pairs):
            return False
    return True


def _exact(engine: int, codes: I8, grid: I16) -> bool:
    rows, k = codes.shape
    bounds = np.array([0, k], np.int64)
    quads, width = quad_starts(bounds), int(code_starts(bounds)[-1])
    panels, plane = empty_panels(PANEL, bounds, 2), empty_panels(PANEL, bounds, 1)
    pack_grid(grid, bounds, quads, 0, panels)
    low = (grid & 255).astype(np.uint8)
    pack_plane(low, bounds, quads, 0, plane)
    padded = np.zeros((BLOCK, width), np.int8)
    padded[:rows, :k] = codes
    out, one = np.empty((2, BLOCK, PANEL), np.int32), np.empty((BLOCK, PANEL), np.int32)
    palette = amx.configuration()
    _products(
        engine, palette.ctypes.data, panels.ctypes.data, plane.ctypes.data, padded.ctypes.data, width,
        int(quads[-1]), rows, out.ctypes.data, one.ctypes.data,
    )  # fmt: skip
    wide = codes.astype(np.int64)
    expected_low = wide @ low.astype(np.int64).T
    expected_high = wide @ ((grid.astype(np.int64) >> 8) + 128).T
    return (
        np.array_equal(out[0, :rows], expected_high)
        and np.array_equal(out[1, :rows], expected_low)
        and np.array_equal(one[:rows], expected_low)
    )


@njit
def _products(
    engine: Any, palette: Any, panels: Any, plane: Any, codes: Any, width: Any, quads: Any, rows: Any, out: Any,
    one: Any,
) -> None:  # fmt: skip
    before = np.zeros(64, np.uint8)
    if engine == AMX:
        amx.configure(palette, before.ctypes.data)
    tile_product.weight_sums(engine, panels, codes, width, quads, rows, out)
    tile_product.plane_sums(engine, plane, codes, width, quads, rows, one)
    if engine == AMX:
        amx.restore(before.ctypes.data)
