"""From matrices to tiles: how many, how full, and how many conversions a multiply-accumulate takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64, I64
from aimc_sim.errors import BadInput


def tiles(
    shapes: Iterable[Any], rows: npt.ArrayLike, cols: npt.ArrayLike, columns_per_weight: npt.ArrayLike = 1
) -> tuple[Any, Any]:
    """Count the tiles of all matrices, ceil(K/R)·ceil(N·s/C) each, and the share of their cells that holds weights.

    shapes: (K, N) or (K, N, copies), inputs before outputs, or objects with ``rows``, ``cols`` and perhaps ``count``;
    rows, cols: of a tile, numbers or arrays (a sweep); columns_per_weight: s, slices, twice that for column pairs.
    Returns int and float for numbers, arrays of the broadcast shape otherwise.

    >>> from aimc_sim import sizing
    >>> sizing.tiles([(576, 1536), (1536, 576)], rows=256, cols=256)
    (36, 0.75)
    """
    table = np.array([_shape(shape) for shape in shapes], np.int64).reshape(-1, 3)
    r, c, s = (_whole(what, value) for what, value in
               (("rows", rows), ("cols", cols), ("columns_per_weight", columns_per_weight)))  # fmt: skip
    r, c, s = np.broadcast_arrays(r, c, s)
    k, n, count = table.T
    needed = (-(-k // r[..., None]) * -(-(n * s[..., None]) // c[..., None]) * count).sum(-1)
    cells = (k * n * count).sum() * s
    share = cells / np.maximum(needed * r * c, 1)
    return (int(needed), float(share)) if needed.ndim == 0 else (needed, share)


def conversions_per_mac(
    weight_bits: npt.ArrayLike, cell_bits: npt.ArrayLike, input_bits: npt.ArrayLike, dac_bits: npt.ArrayLike,
    rows: npt.ArrayLike,
) -> F64:  # fmt: skip
    """Count conversions per multiply-accumulate: (weight bits / cell bits)·(input bits / DAC bits)/rows, whole slices;
    exactly 1 for ISAAC (16, 2, 16, 1, 128).

    >>> from aimc_sim import sizing
    >>> float(sizing.conversions_per_mac(16, 2, 16, 1, 128))
    1.0
    """
    w, cell, x, dac, r = (
        np.asarray(value, np.float64) for value in (weight_bits, cell_bits, input_bits, dac_bits, rows)
    )
    return np.asarray(np.ceil(w / cell) * np.ceil(x / dac) / r, np.float64)


def _shape(shape: Any) -> tuple[int, int, int]:
    if hasattr(shape, "rows"):
        return int(shape.rows), int(shape.cols), int(getattr(shape, "count", 1))
    extents = tuple(int(extent) for extent in shape)
    if len(extents) not in (2, 3) or min(extents) < 1:
        raise BadInput(
            "shapes",
            got=shape,
            why="a matrix is (K, N), inputs and outputs, or (K, N, copies)",
            do="give positive whole numbers",
        )
    return extents[0], extents[1], extents[2] if len(extents) == 3 else 1


def _whole(what: str, value: npt.ArrayLike) -> I64:
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or (array < 1).any():
        raise BadInput(
            what, got=value, why="tiles have whole rows and columns", do="use whole numbers of at least 1"
        )
    return array.astype(np.int64)
