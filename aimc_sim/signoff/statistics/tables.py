"""What is given to the statistics, checked: tables of scores, references, weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput

Floats = npt.NDArray[np.float64]


def table_of(scores: npt.ArrayLike) -> Floats:
    table = numbers_of("scores", scores)
    if table.ndim != 2 or table.size == 0:
        raise BadInput(
            "scores",
            got=table.shape,
            why="a study has one row a chip and one column an item",
            do="give an array (chips, items) with at least one of each",
        )
    if not np.all(np.isfinite(table)):
        chip, item = (int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise BadInput(
            f"scores[{chip}, {item}]",
            got=float(table[chip, item]),
            why="a score must be finite",
            do="score that chip again",
        )
    return table


def numbers_of(what: str, values: npt.ArrayLike) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(what, why=f"it is no table of numbers ({error})", do="give one row a chip") from None


def reference_of(reference: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    values = numbers_of("reference", reference)
    if not np.all(np.isfinite(values)):
        raise BadInput(
            "reference",
            got=float(values[~np.isfinite(values)].flat[0]),
            why="a score must be finite",
            do="score the reference again",
        )
    if values.shape not in ((), shape[1:], shape):
        raise BadInput(
            "reference",
            got=values.shape,
            why=f"the scores have shape {shape}",
            do=f"give one number, {shape[1:]} or {shape}",
        )
    return values


def shares_of(weights: npt.ArrayLike | None, items: int) -> Floats:
    """Scale weights (items,) to a mean of 1."""
    if weights is None:
        return np.ones(items)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (items,) or not np.all(np.isfinite(values)) or not np.all(values > 0):
        raise BadInput(
            "weights",
            got=values.tolist(),
            why=f"there are {items} items",
            do="give one positive number an item",
        )
    return np.asarray(values / values.mean())


def bounds_of(table: Floats, difference: bool) -> tuple[float, float]:
    low, high = (-1.0 if difference else 0.0), 1.0
    if table.min() < low or table.max() > high:
        raise BadInput(
            "marks",
            got=float(table.min() if table.min() < low else table.max()),
            why=f"marks lie between 0 and 1, and what is given between {low:g} and 1",
            do="leave marks=True out for scores of another kind",
        )
    return low, high
