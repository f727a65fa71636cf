"""IR drop: what the resistance of the wires makes of the cells' conductances.

Cells sit where word lines (rows) and bit lines (columns) cross. Word line i is driven at column 0 through one segment
of ``r_row_ohm``, bit line j is sensed at virtual ground below the last row through one segment of ``r_col_ohm``; the
far ends are open. With linear cells and voltage inputs the currents are I = G_eff·V exactly, for one G_eff per state of
the cells, so a product afterwards costs what it cost before. Not exact with nonlinear cells or input-gated ones.

Conductances in µS, resistances in ohms, per segment between two cells. Drift and faults come first, wires after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F32, F64
from aimc_sim.errors import BadInput
from aimc_sim.kernels import wires as kernel
from aimc_sim.kernels import wires_gradient

__all__ = [
    "SpotCheck", "column_currents", "differential_effective_conductance", "differential_effective_conductance_fast",
    "effective_conductance", "effective_conductance_fast", "fluctuating_conductance", "pair_columns", "split_columns",
    "spot_check",
]  # fmt: skip

Drive = Literal["left", "right", "both"]
Sense = Literal["bottom", "top", "both"]
Layout = Literal["interleaved", "side_by_side"]

MAX_OHM, MAX_US = 1e15, 1e12  # far beyond any wire and any cell, far from overflow
MAX_SCRATCH = 1 << 29  # numbers that the elimination of one array may take (4096 × 4096 cells: 3.7e8)
# Error of the fast model in units of the tile's largest G_eff, per row and column and for two lines more. Measured: at
# most half of it, for arrays of equal cells, whose roundings all go one way; a tenth for tiles of SmolLM2.
FAST_BOUND_PER_LINE = 2.0**-23
_TOLERANCE, _STEPS = 1e-12, 10_000  # of `column_currents`


@dataclass(frozen=True)
class SpotCheck:
    """A spot check compares fast results with exact ones. Errors in units of the tile's largest exact G_eff.

    >>> from aimc_sim.wires import SpotCheck
    >>> SpotCheck(tiles=(0,), worst=1e-6, bound=1e-5).holds
    True
    """

    tiles: tuple[int, ...]  # that were computed exactly
    worst: float  # largest error of an entry of theirs
    bound: float  # what the fast model promises

    @property
    def holds(self) -> bool:
        """Return whether every entry checked lies within the bound."""
        return self.worst <= self.bound


@dataclass(frozen=True)
class Network:
    """A network has checked terminals and segments; flips bring any one-sided array to left drive and bottom sense."""

    row_ohm: float
    col_ohm: float
    drive: Drive
    sense: Sense
    driver_ohm: float
    sense_ohm: float

    def __post_init__(self) -> None:
        for name in ("row_ohm", "col_ohm", "driver_ohm", "sense_ohm"):
            value = getattr(self, name)
            number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
            if not (number and 0 <= value <= MAX_OHM):
                raise BadInput(
                    f"r_{name}",
                    got=value,
                    why=f"a resistance is a number of ohms from 0 to {MAX_OHM:g}",
                    do="give ohms per segment between two cells; 0 is an ideal wire",
                )
        _one_of("drive", self.drive, ("left", "right", "both"))
        _one_of("sense", self.sense, ("bottom", "top", "both"))

    @property
    def ideal(self) -> bool:
        return not (self.row_ohm or self.col_ohm or self.driver_ohm or self.sense_ohm)

    def flip(self, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows = slice(None, None, -1 if self.sense == "top" else 1)
        cols = slice(None, None, -1 if self.drive == "right" else 1)
        return cells[..., rows, cols]

    def segments(self, rows: int, cols: int) -> tuple[F64, F64]:
        """Return the megohms of a word line's segments (cols + 1,) and of a bit line's (rows + 1,),
        terminals included.
        """
        row, col = np.full(cols + 1, float(self.row_ohm)), np.full(rows + 1, float(self.col_ohm))
        row[[0, -1]] += self.driver_ohm
        col[[0, -1]] += self.sense_ohm
        return row * 1e-6, col * 1e-6

    def reduce(self, cells: npt.NDArray[Any], dtype: type[np.floating[Any]]) -> npt.NDArray[Any]:
        """Compute G_eff (…, rows, cols) µS of checked cells, in the precision of dtype."""
        rows, cols = cells.shape[-2:]
        if self.ideal:
            return cells.astype(dtype)
        ends = self.drive == "both", self.sense == "both"
        # every terminal is a node of the last merge: known without a plan, which takes a while for huge arrays
        if (rows + cols) ** 2 > MAX_SCRATCH or kernel.scratch(rows, cols, *ends) > MAX_SCRATCH:
            raise BadInput(
                "g_us",
                got=cells.shape,
                why=f"one array of {rows} × {cols} cells takes more than {MAX_SCRATCH >> 27} GB of scratch",
                do="cut it into tiles, or use column_currents for single input vectors",
            )
        stack = np.ascontiguousarray(self.flip(cells), dtype).reshape(-1, rows, cols)
        out = kernel.effective_conductances(stack, *self.segments(rows, cols), *ends)
        return np.ascontiguousarray(self.flip(out.reshape(cells.shape)))


def effective_conductance(
    g_us: npt.ArrayLike, r_row_ohm: float, r_col_ohm: float, *, drive: Drive = "left", sense: Sense = "bottom",
    r_driver_ohm: float = 0.0, r_sense_ohm: float = 0.0,
) -> F64:  # fmt: skip
    """Compute G_eff (rows, cols) float64 µS of cells g_us (rows, cols) µS between resistive wires; I = G_effᵀ·V.

    g_us may have tiles in front: (…, rows, cols), each computed alone, on all threads. drive: the end of the word lines
    that is driven, or both ends with the same voltage; sense: the end of the bit lines whose current counts, or the sum
    of both. r_driver_ohm and r_sense_ohm come in series with the first segment at each driven and sensed end.

    Exact: star-mesh elimination in float64, without subtractions, agrees with a sparse nodal solve to about 1e-13.
    Raises BadInput for conductances and resistances that are negative or not finite, and for too large an array.

    >>> from aimc_sim.wires import effective_conductance
    >>> float(effective_conductance([[10.0]], 1000.0, 1000.0)[0, 0])  # 10 µS behind 2 kΩ: 1/(1/10 + 0.002) µS
    9.803921...
    """
    network = Network(r_row_ohm, r_col_ohm, drive, sense, r_driver_ohm, r_sense_ohm)
    return network.reduce(checked_cells(g_us, "g_us"), np.float64)


def effective_conductance_fast(
    g_us: npt.ArrayLike, r_row_ohm: float, r_col_ohm: float, *, drive: Drive = "left", sense: Sense = "bottom",
    r_driver_ohm: float = 0.0, r_sense_ohm: float = 0.0,
) -> tuple[F32, F64]:  # fmt: skip
    """Compute G_eff (…, rows, cols) float32 µS and a bound (…,) µS: no entry of a tile is farther from the exact one.

    The same elimination in float32: no physics is left out, the error is rounding only. The bound is
    2⁻²³·(rows + cols + 2) of the tile's largest G_eff (256 × 512: 9.2e-5): measured with a margin of two or more, not
    proven, so check some tiles with `spot_check`. Arguments and errors as for `effective_conductance`.

    >>> from aimc_sim.wires import effective_conductance_fast
    >>> effective, bound = effective_conductance_fast([[10.0, 5.0], [2.0, 1.0]], 1.0, 1.0)
    >>> effective.shape, bool(bound < 1e-5)
    ((2, 2), True)
    """
    network = Network(r_row_ohm, r_col_ohm, drive, sense, r_driver_ohm, r_sense_ohm)
    effective = network.reduce(checked_cells(g_us, "g_us"), np.float32)
    return effective, _bound(effective.shape) * effective.max(axis=(-2, -1)).astype(np.float64)


def differential_effective_conductance(
    g_plus_us: npt.ArrayLike, g_minus_us: npt.ArrayLike, r_row_ohm: float, r_col_ohm: float, *,
    layout: Layout = "interleaved", drive: Drive = "left", sense: Sense = "bottom", r_driver_ohm: float = 0.0,
    r_sense_ohm: float = 0.0,
) -> tuple[F64, F64]:  # fmt: skip
    """Compute G_eff⁺ and G_eff⁻, (…, rows, cols) float64 µS each, of column pairs that share their word lines.

    layout: ``interleaved``, 0⁺ 0⁻ 1⁺ 1⁻ …, or ``side_by_side``, all positive columns (nearer the left), then all
    negative ones. Either way an array of 2·cols bit lines. The rest as for `effective_conductance`.

    >>> from aimc_sim.wires import differential_effective_conductance
    >>> plus, minus = differential_effective_conductance([[10.0]], [[5.0]], 1.0, 1.0)
    >>> plus.shape == minus.shape == (1, 1)
    True
    """
    cells = pair_columns(g_plus_us, g_minus_us, layout)
    effective = effective_conductance(
        cells, r_row_ohm, r_col_ohm, drive=drive, sense=sense, r_driver_ohm=r_driver_ohm, r_sense_ohm=r_sense_ohm
    )  # fmt: skip
    return split_columns(effective, layout)


def differential_effective_conductance_fast(
    g_plus_us: npt.ArrayLike, g_minus_us: npt.ArrayLike, r_row_ohm: float, r_col_ohm: float, *,
    layout: Layout = "interleaved", drive: Drive = "left", sense: Sense = "bottom", r_driver_ohm: float = 0.0,
    r_sense_ohm: float = 0.0,
) -> tuple[F32, F32, F64]:  # fmt: skip
    """Compute `differential_effective_conductance` by the fast model: G_eff⁺ and G_eff⁻ float32, bound (…,) µS.

    >>> from aimc_sim.wires import differential_effective_conductance_fast
    >>> [part.dtype.name for part in differential_effective_conductance_fast([[10.0]], [[5.0]], 1.0, 1.0)]
    ['float32', 'float32', 'float64']
    """
    cells = pair_columns(g_plus_us, g_minus_us, layout)
    effective, bound = effective_conductance_fast(
        cells, r_row_ohm, r_col_ohm, drive=drive, sense=sense, r_driver_ohm=r_driver_ohm, r_sense_ohm=r_sense_ohm
    )  # fmt: skip
    return *split_columns(effective, layout), bound


def pair_columns(g_plus_us: npt.ArrayLike, g_minus_us: npt.ArrayLike, layout: Layout) -> npt.NDArray[Any]:
    """Put pairs of columns (…, rows, cols) together into one array (…, rows, 2·cols).

    >>> from aimc_sim.wires import pair_columns
    >>> pair_columns([[1.0, 2.0]], [[3.0, 4.0]], "interleaved").tolist()
    [[1.0, 3.0, 2.0, 4.0]]
    """
    _one_of("layout", layout, ("interleaved", "side_by_side"))
    plus, minus = checked_cells(g_plus_us, "g_plus_us"), checked_cells(g_minus_us, "g_minus_us")
    if plus.shape != minus.shape:
        raise BadInput(
            "g_minus_us",
            got=minus.shape,
            why=f"its positive twin is {plus.shape}",
            do="give one negative cell for every positive one",
        )
    if layout == "side_by_side":
        return np.concatenate([plus, minus], axis=-1)
    return np.stack([plus, minus], axis=-1).reshape(*plus.shape[:-1], -1)


def split_columns(array: npt.NDArray[Any], layout: Layout) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Take apart what `pair_columns` put together: positive and negative columns, (…, rows, cols) each.

    >>> from aimc_sim.wires import pair_columns, split_columns
    >>> plus, minus = split_columns(pair_columns([[1.0, 2.0]], [[3.0, 4.0]], "interleaved"), "interleaved")
    >>> plus.tolist()
    [[1.0, 2.0]]
    """
    if layout == "side_by_side":
        half = array.shape[-1] // 2
        return np.ascontiguousarray(array[..., :half]), np.ascontiguousarray(array[..., half:])
    return np.ascontiguousarray(array[..., ::2]), np.ascontiguousarray(array[..., 1::2])


def fluctuating_conductance(g_us: npt.NDArray[Any], g_eff_us: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Compute G_eff²/G (…) µS: what read noise sees of cells g_us (…) µS through wires; 0 where there is no
    conductance.

    A cell's fluctuation δG reaches its bit line as δG·(G_eff/G)·V, so a variance proportional to G becomes one that is
    proportional to G_eff²/G. First order, and without what other rows' currents take from the cell's voltage: the σ of
    a column is never too small by more than rounding, and too large by less than its share of lost current says
    (docs/how-to/wires.md; measured by ``python -m benchmarks.wires_noise``).

    >>> import numpy as np
    >>> from aimc_sim.wires import fluctuating_conductance
    >>> fluctuating_conductance(np.float64([10.0, 0.0]), np.float64([8.0, 0.0])).tolist()
    [6.4, 0.0]
    """
    share = np.divide(g_eff_us, g_us, out=np.zeros_like(g_eff_us), where=g_us > 0)
    return np.asarray(g_eff_us * np.minimum(share, 1))


def column_currents(
    g_us: npt.ArrayLike, volts: npt.ArrayLike, r_row_ohm: float, r_col_ohm: float, *, drive: Drive = "left",
    sense: Sense = "bottom", r_driver_ohm: float = 0.0, r_sense_ohm: float = 0.0,
) -> F64:  # fmt: skip
    """Compute the currents (…, cols) float64 µA of one array g_us (rows, cols) µS for inputs volts (…, rows), without
    G_eff.

    Preconditioned conjugate gradients, every vector alone, until its residual is 1e-12 of its own start; about 1e-13
    from the elimination, by a method that shares nothing with it. Pays for few vectors on a large array.
    Raises BadInput as `effective_conductance`, and where the wires lose so much that 10,000 steps do not do.

    >>> from aimc_sim.wires import column_currents
    >>> currents = column_currents([[10.0], [5.0]], [1.0, 1.0], 1.0, 1.0)
    >>> currents.shape, bool(14.99 < currents[0] < 15)
    ((1,), True)
    """
    network = Network(r_row_ohm, r_col_ohm, drive, sense, r_driver_ohm, r_sense_ohm)
    cells, inputs = checked_cells(g_us, "g_us"), _numbers(volts, "volts")
    if cells.ndim != 2 or inputs.shape[-1:] != cells.shape[:1]:
        raise BadInput(
            "volts",
            got=inputs.shape,
            why=f"the array is {cells.shape}, and every one of its rows needs a voltage",
            do="give one array (rows, cols) and inputs (…, rows)",
        )
    flipped = np.ascontiguousarray(network.flip(cells), np.float64)
    vectors = inputs.reshape(-1, inputs.shape[-1])[:, :: -1 if sense == "top" else 1]
    row, col = network.segments(*cells.shape)
    # a far terminal enters as a source of current, so it needs a resistance: one that is less than rounding
    least = 2.0**-60 / max(float(cells.max()), 1e-300)
    row[-1], col[0] = max(row[-1], least), max(col[0], least)
    out, steps = wires_gradient.currents(
        flipped, np.ascontiguousarray(vectors, np.float64), row, col, drive == "both", sense == "both",
        _TOLERANCE, _STEPS)  # fmt: skip
    if (steps > _STEPS).any():
        raise BadInput(
            "r_row_ohm, r_col_ohm",
            got=(r_row_ohm, r_col_ohm),
            why=f"the wires lose so much that {_STEPS:,} steps leave an error",
            do="use effective_conductance",
        )
    return np.ascontiguousarray(out[:, :: -1 if drive == "right" else 1]).reshape(*inputs.shape[:-1], -1)


def spot_check(
    g_us: npt.ArrayLike, g_eff_us: npt.ArrayLike, r_row_ohm: float, r_col_ohm: float, *, tiles: int = 8,
    drive: Drive = "left", sense: Sense = "bottom", r_driver_ohm: float = 0.0, r_sense_ohm: float = 0.0,
) -> SpotCheck:  # fmt: skip
    """Check fast results g_eff_us (tiles, rows, cols) µS of cells g_us against exact ones: ``tiles`` of them, evenly
    spread.

    For column pairs, give what `pair_columns` makes of the cells and of the results.

    >>> from aimc_sim.wires import effective_conductance_fast, spot_check
    >>> cells = [[[10.0, 5.0], [2.0, 1.0]]]
    >>> spot_check(cells, effective_conductance_fast(cells, 1.0, 1.0)[0], 1.0, 1.0).holds
    True
    """
    cells, fast = checked_cells(g_us, "g_us"), _numbers(g_eff_us, "g_eff_us")
    if cells.shape != fast.shape or cells.ndim != 3:
        raise BadInput(
            "g_eff_us",
            got=fast.shape,
            why=f"the cells are {cells.shape}",
            do="give both as (tiles, rows, cols)",
        )
    if type(tiles) is not int or tiles < 1:
        raise BadInput(
            "tiles", got=tiles, why="a check needs one tile or more", do="give a whole number of at least 1"
        )
    chosen = np.unique(np.linspace(0, len(cells) - 1, min(tiles, len(cells))).round().astype(np.int64))
    exact = effective_conductance(
        cells[chosen], r_row_ohm, r_col_ohm, drive=drive, sense=sense, r_driver_ohm=r_driver_ohm,
        r_sense_ohm=r_sense_ohm)  # fmt: skip
    error, largest = (np.abs(x).max(axis=(1, 2)) for x in (fast[chosen] - exact, exact))
    worst = float(np.divide(error, largest, out=error.copy(), where=largest > 0).max())
    return SpotCheck(tuple(chosen.tolist()), worst, _bound(cells.shape))


def _bound(shape: tuple[int, ...]) -> float:
    return FAST_BOUND_PER_LINE * (shape[-2] + shape[-1] + 2)


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(name, got=value, why="there is no such choice", do=f"use one of {', '.join(known)}")


def _numbers(value: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """Return finite real numbers, float32 as they are, everything else as float64."""
    try:
        array = np.asarray(value)
        if array.dtype != np.float32:
            array = array.astype(np.float64, casting="safe" if array.dtype.kind in "biu" else "same_kind")
    except (TypeError, ValueError):
        raise BadInput(
            name, got=type(value).__name__, why="it does not hold real numbers", do="give an array"
        ) from None
    if array.size == 0 or not np.isfinite(array).all():
        raise BadInput(
            name,
            got=array.shape,
            why="it is empty or holds NaN or infinity",
            do="give at least one number, and finite ones",
        )
    return array


def checked_cells(value: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    array = _numbers(value, name)
    if array.ndim < 2:
        raise BadInput(name, got=array.shape, why="cells form rows and columns", do="give (rows, cols) µS")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > MAX_US:
        raise BadInput(
            name,
            got=low if low < 0 else high,
            why=f"a conductance is a number of µS from 0 to {MAX_US:g}",
            do="give the two columns of a pair, not their difference" if low < 0 else "give microsiemens",
        )
    return array
